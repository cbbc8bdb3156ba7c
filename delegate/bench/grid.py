"""The grid worlds beside the same rules as a plain Python loop; one core, random actions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from delegate.bench.timing import Figure, Run, ratios, speeds

ROWS = (1, 64, 2048)
OBSERVATIONS = ("boolean", "integer")
WORLD, SIZE = "Corner", 13


def grid_figures(
    make: Callable[..., Any], plain: Callable[..., Any], rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """Steps a second of each kind of observation, plain loop first (rows 0).

    make: (id, rows, **settings) -> world · plain: the same without rows, as a plain loop
    """
    found = []
    with one_core():
        for kind in OBSERVATIONS:
            runs = {0: _plain_run(plain(WORLD, size=SIZE, observation=kind))}
            for rows in ROWS:
                runs[rows] = _batch_run(make(WORLD, rows, size=SIZE, observation=kind))
            measured = speeds({str(rows): run for rows, run in runs.items()}, rounds, seconds)
            found += [
                {
                    "world": WORLD,
                    "size": SIZE,
                    "observation": kind,
                    "rows": rows,
                    "steps_per_second": Figure.of(measured[str(rows)]),
                    "ratio_to_plain": ratios(measured[str(rows)], measured["0"]),
                }
                for rows in runs
            ]
    return found


def _plain_run(env: Any) -> Run:
    actions = np.random.default_rng(0).integers(0, 4, 4096).tolist()

    def run(calls: int) -> tuple[int, float]:
        env.reset(seed=0)
        ended = 0
        start = time.perf_counter()
        for call in range(calls):
            _, _, terminated, truncated, _ = env.step(actions[call % 4096])
            ended += terminated or truncated
        return calls - ended, time.perf_counter() - start

    return run


def _batch_run(env: Any) -> Run:
    actions = np.random.default_rng(0).integers(0, 4, (256, env.num_envs))

    def run(calls: int) -> tuple[int, float]:
        env.reset(seed=0)
        ended = 0
        start = time.perf_counter()
        for call in range(calls):
            _, _, terminated, truncated, _ = env.step(actions[call % 256])
            ended += int(np.count_nonzero(terminated | truncated))
        return calls * env.num_envs - ended, time.perf_counter() - start

    return run


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread on one processor, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)
