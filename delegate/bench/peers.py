"""A MuJoCo task stepped by Gymnasium, EnvPool and this engine, observation and reward included.

Actions are uniform and drawn beforehand; a call that only restarts an ended row is no step of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import gymnasium
import numpy as np

from delegate.bench.timing import Figure, Run, ratios, speeds, think

LOOP, SYNC, ENVPOOL, OURS = "gymnasium", "SyncVectorEnv", "envpool", "delegate"
ACTIONS = 64
"""batches of actions drawn, used in turn"""


def peer_figures(
    make: Callable[..., Any], task: str, rows: int, threads: int, rounds: int, seconds: float
) -> dict[str, Any]:
    """Steps a second of each, plain loop first, and how many times as fast this engine is."""
    single = gymnasium.make(task)
    sync = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make(task)] * rows)
    runs = {LOOP: loop_run(single), SYNC: batch_run(sync)}
    if find_spec("envpool"):
        import envpool

        pool = envpool.make(task, env_type="gymnasium", num_envs=rows, num_threads=threads, seed=0)
        runs[ENVPOOL] = pool_run(pool, rows)
    ours = make(task, rows, num_threads=threads)
    runs[OURS] = batch_run(ours)
    measured = speeds(runs, rounds, seconds)
    for env in (single, sync, ours):
        env.close()
    return {
        "steps_per_second": {name: Figure.of(values) for name, values in measured.items()},
        "times_as_fast_as": {
            name: ratios(measured[OURS], values)
            for name, values in measured.items()
            if name != OURS
        },
    }


def uniform(space: Any, rows: int, seed: int = 0) -> np.ndarray:
    """Batches of random actions of a Box. [ACTIONS, rows, d]"""
    rng = np.random.default_rng(seed)
    shape = (ACTIONS, rows, *space.shape)
    return rng.uniform(space.low, space.high, shape).astype(space.dtype)


def loop_run(env: Any) -> Run:
    """One environment, step by step, as everyone begins."""
    actions = uniform(env.action_space, 1)[:, 0]
    env.reset(seed=0)

    def run(calls: int) -> tuple[int, float]:
        start = time.perf_counter()
        for call in range(calls):
            _, _, terminated, truncated, _ = env.step(actions[call % ACTIONS])
            if terminated or truncated:
                env.reset()
        return calls, time.perf_counter() - start

    return run


def batch_run(env: Any, between: float = 0.0) -> Run:
    """A batch that restarts ended rows at their next step. between: uncounted seconds a step"""
    rows = env.num_envs
    actions = uniform(env.single_action_space, rows)
    env.reset(seed=0)
    return _stepping(env, actions, between)


def pool_run(pool: Any, rows: int) -> Run:
    """The same for EnvPool, which is seeded when it is made and has no batched action space."""
    pool.reset()
    return _stepping(pool, uniform(pool.action_space, rows))


def _stepping(env: Any, actions: np.ndarray, between: float = 0.0) -> Run:
    rows = actions.shape[1]

    def run(calls: int) -> tuple[int, float]:
        ended, thought = 0, 0.0
        start = time.perf_counter()
        for call in range(calls):
            _, _, terminated, truncated, _ = env.step(actions[call % ACTIONS])
            ended += int(np.count_nonzero(terminated | truncated))
            thought += think(between) if between else 0.0
        return calls * rows - ended, time.perf_counter() - start - thought

    return run
