"""Traces of the policy through a forward model, as Dyna has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from delegate.recall.algorithms import Learner
from delegate.recall.forward import ForwardModel
from delegate.recall.imitation import RecallConfig
from delegate.recall.targets import Ends, given, most
from delegate.recall.traces import Traces
from delegate.recall.trajectories import Steps


def imagine(
    model: ForwardModel,
    learner: Learner,
    steps: Steps,
    config: RecallConfig,
    rng: np.random.Generator,
) -> tuple[Ends, Traces]:
    """Of traces from remembered states, those that end where the critic expects most: the same
    share as of the remembered states in which traces may end.

    returns where they end, as far as is known, and the traces
    """
    tries = max(1, round(config.count / config.targets))
    start = steps.transitions.state[rng.integers(len(steps), size=tries)]
    with _own_stream(rng, learner.model):
        traces = model.sample_traces(
            start, learner.act, config.length, 1, rng=rng, mean_changes=config.mean_changes
        )
    ends = traces.states[:, 0]
    kept = most(learner.value(ends), config.count / len(ends))
    return given(ends[kept], steps, learner.original.space), traces.take(kept)


@contextmanager
def _own_stream(rng: np.random.Generator, model: Any) -> Iterator[None]:
    """What draws meanwhile from global random numbers, or from those of the space of actions, as
    DQN does, does not change what comes after."""
    before, device = np.random.get_state(), model.device
    draws = model.action_space.np_random.bit_generator
    of_space = draws.state
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        seed = int(rng.integers(2**32))
        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)
            draws.state = of_space
