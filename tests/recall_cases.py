"""Learned models of every kind, small, each with transitions to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from gymnasium.spaces import Box, Discrete

from delegate.recall import LearnedBacktrackingModel, Transitions

ACTIONS = Box(-1, 1, (2,))
STATES = Box(-np.inf, np.inf, (3,))
SMALL: dict[str, Any] = {"hidden": (8, 8)}


def vectors(count: int = 64, seed: int = 0, **extra: int) -> Transitions:
    """Transitions of STATES and ACTIONS; `extra` gives the sizes of goals and layouts."""
    rng = np.random.default_rng(seed)
    state = rng.normal(3, 2, (count, 3))
    action = rng.uniform(-1, 1, (count, 2))
    more = {name: rng.normal(size=(count, size)) for name, size in extra.items()}
    return Transitions(state, action, state + 0.1 * rng.normal(size=(count, 3)), **more)


def cells(count: int = 64, seed: int = 0) -> Transitions:
    """Steps to the left or right in a corridor of 6."""
    rng = np.random.default_rng(seed)
    state, action = rng.integers(6, size=count), rng.integers(2, size=count)
    return Transitions(state, action, np.clip(state + 2 * action - 1, 0, 5))


CASES = {
    "vectors": (STATES, ACTIONS, {}, vectors()),
    "deviations of one": (STATES, ACTIONS, {"learn_action_variance": False}, vectors()),
    "mixture": (STATES, ACTIONS, {"components": 3}, vectors()),
    "ensemble": (STATES, ACTIONS, {"members": 3, "components": 2}, vectors()),
    "goal and layout": (
        STATES,
        ACTIONS,
        {"goal_size": 2, "layout_size": 4},
        vectors(goal=2, layout=4),
    ),
    "discrete": (Discrete(6), Discrete(2), {"members": 2}, cells()),
    "grid": (Discrete(6), Discrete(2), {"grid": (1, 6)}, cells()),
}
EVERY_CASE = pytest.mark.parametrize("case", CASES)


def made(case: str, **settings: Any) -> tuple[LearnedBacktrackingModel, Transitions]:
    states, actions, own, seen = CASES[case]
    return LearnedBacktrackingModel(states, actions, **{**SMALL, **own, **settings}), seen


def tamper(path: Path, changed: dict[str, torch.Tensor]) -> None:
    """Put other tensors into a saved file, and leave the rest as it is."""
    with safetensors.safe_open(path, "pt") as file:  # type: ignore[no-untyped-call]
        metadata = file.metadata()
    safetensors.torch.save_file({**safetensors.torch.load_file(path), **changed}, path, metadata)


def fingerprint(model: LearnedBacktrackingModel) -> bytes:
    """All that learning changes, the random stream too."""
    return b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())


def weights(model: LearnedBacktrackingModel) -> bytes:
    """The same, without the random stream."""
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "rng"}
    return b"".join(tensor.numpy().tobytes() for tensor in state.values())
