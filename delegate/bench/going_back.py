"""What being able to go back adds to a step: saving, restoring, recording; and the memory held."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from delegate.backtrack import StatefulVectorEnv, VectorBacktrack
from delegate.bench.peers import ACTIONS, batch_run, uniform
from delegate.bench.timing import THINKING, Figure, Run, calls_for, extra, think

Make = Callable[..., StatefulVectorEnv]

BLOCK = 0.03
"""seconds of one run of a pair: short, so that both meet the same machine"""
MIB = 2**20


def saving_figures(make: Make, task: str, rows: int, threads: int, pairs: int) -> Figure:
    """Saving and restoring the whole batch at every step, as a share of a step."""
    bare, saved = make(task, rows, num_threads=threads), make(task, rows, num_threads=threads)
    actions = uniform(bare.single_action_space, rows)
    saved.reset(seed=0)

    def with_saving(calls: int) -> tuple[int, float]:
        ended = 0
        start = time.perf_counter()
        for call in range(calls):
            _, _, terminated, truncated, _ = saved.step(actions[call % ACTIONS])
            saved.restore(saved.snapshot())
            ended += int(np.count_nonzero(terminated | truncated))
        return calls * rows - ended, time.perf_counter() - start

    without = batch_run(bare)
    share = extra(with_saving, without, calls_for(without, BLOCK), pairs)
    bare.close()
    saved.close()
    return share


def backtrack_figures(
    make: Make,
    task: str,
    rows: int,
    threads: int,
    horizon: int,
    pairs: int,
    back: float = 0.0,
    between: float = THINKING,
) -> Figure:
    """VectorBacktrack around the task, as a share of a step that stands or was undone.

    back: the share of decisions that ask to go back; 0 leaves the price of recording, and of
    confirming the ends of episodes · between: uncounted seconds after every step, in both
    """
    bare = make(task, rows, num_threads=threads)
    world = make(task, rows, num_threads=threads, autoreset_mode=AutoresetMode.DISABLED)
    # The cost is above what any loop could save: no warning is wanted here.
    env = VectorBacktrack(world, depths=(1,), horizon=horizon, budget=1_000_000, cost=1e6)
    without = batch_run(bare, between)
    share = extra(backtrack_run(env, back, between), without, calls_for(without, BLOCK), pairs)
    bare.close()
    env.close()
    return share


def backtrack_run(env: VectorBacktrack, back: float, between: float = 0.0) -> Run:
    """Random actions of which that share asks to go back; steps are counted by the ledger."""
    actions = uniform(env.single_action_space, env.num_envs)
    asks = np.random.default_rng(1).random(actions.shape[:2]) < back
    actions[..., -1] = np.where(asks, 1, -1)
    env.reset(seed=0)

    def run(calls: int) -> tuple[int, float]:
        before = int(env.ledger.env_steps.sum())
        start, thought = time.perf_counter(), 0.0
        for call in range(calls):
            env.step(actions[call % ACTIONS])
            thought += think(between) if between else 0.0
        spent = time.perf_counter() - start - thought
        return int(env.ledger.env_steps.sum()) - before, spent

    return run


def memory_figures(make: Make, task: str, rows: int, horizon: int) -> dict[str, Any]:
    """What the history of a batch holds, at the start and after three times the horizon (MiB)."""
    world = make(task, rows, autoreset_mode=AutoresetMode.DISABLED)
    env = VectorBacktrack(world, depths=(1,), horizon=horizon, cost=1e6)
    run = backtrack_run(env, 0.0)
    start = env.path.history.nbytes / MIB
    run(3 * horizon)
    later = env.path.history.nbytes / MIB
    env.close()
    return {"task": task, "rows": rows, "horizon": horizon, "mib": start, "mib_later": later}
