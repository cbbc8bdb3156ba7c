"""What it costs to be able to go back: saving, restoring, recording; and what copying costs."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from delegate.backtrack import StatefulVectorEnv, VectorBacktrack
from delegate.bench.peers import ACTIONS, batch_run, uniform
from delegate.bench.timing import THINKING, Figure, Run, calls_for, extra, think, timed

Make = Callable[..., StatefulVectorEnv]

BLOCK = 0.03
"""seconds of one run of a pair: short, so that both meet the same machine"""
REPLAYED = 50
"""steps of the replays that show whether a copy is one"""
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


def copying_figures(make: Make, task: str, rows: int, rounds: int) -> dict[str, Any]:
    """Restoring one environment beside copy.deepcopy of Gymnasium's, in time and in truth.

    one_row: microseconds of restoring one row of the batch by a call of its own
    row_of_batch: microseconds a row of restoring them all in one call
    divergence: the largest difference between two observations after the same actions
    """
    env = make(task, rows)
    original: gymnasium.Env[Any, Any] = gymnasium.make(task)
    env.reset(seed=0)
    original.reset(seed=0)
    actions = uniform(env.single_action_space, rows, seed=2)
    for action in actions[:10]:
        env.step(action)
        original.step(action[0])
    everyone, middle = env.snapshot(), np.array([rows // 2])
    one = env.snapshot(middle)
    found: dict[str, list[float]] = {"deepcopy": [], "one_row": [], "row_of_batch": []}
    for _ in range(max(rounds, 3) * 3):
        found["deepcopy"].append(_a_call(lambda: copy.deepcopy(original), calls=1) * 1e6)
        found["one_row"].append(_a_call(lambda: env.restore(one, middle)) * 1e6)
        found["row_of_batch"].append(_a_call(lambda: env.restore(everyone)) * 1e6 / rows)
    times = {
        f"{name}_times_as_fast": Figure.of(
            [slow / fast for slow, fast in zip(found["deepcopy"], found[name], strict=True)]
        )
        for name in ("one_row", "row_of_batch")
    }
    divergence = {
        "deepcopy": _copy_divergence(original, actions[:, 0]),
        "restore": _restore_divergence(env, actions),
    }
    env.close()
    original.close()
    microseconds = {name: Figure.of(values) for name, values in found.items()}
    return {"microseconds": microseconds, **times, "divergence": divergence}


def memory_figures(make: Make, task: str, rows: int, horizon: int) -> dict[str, Any]:
    """What the history of a batch holds, at the start and after three times the horizon (MiB)."""
    world = make(task, rows, autoreset_mode=AutoresetMode.DISABLED)
    env = VectorBacktrack(world, depths=(1,), horizon=horizon, cost=1e6)
    run = backtrack_run(env, 0.0)
    start = env.progress.history.nbytes / MIB
    run(3 * horizon)
    later = env.progress.history.nbytes / MIB
    env.close()
    return {"task": task, "rows": rows, "horizon": horizon, "mib": start, "mib_later": later}


def _a_call(act: Callable[[], object], calls: int = 200) -> float:
    """Seconds a call, of the best of a few tries: the call is too short to be timed alone."""

    def several() -> None:
        for _ in range(calls):
            act()

    return min(timed(several) for _ in range(3)) / calls


def _copy_divergence(original: Any, actions: np.ndarray) -> float:
    """A deep copy and its original take the same steps."""
    copied = copy.deepcopy(original)
    differences = [0.0]
    for action in actions[:REPLAYED]:
        first, second = original.step(action), copied.step(action)
        differences.append(float(np.abs(first[0] - second[0]).max()))
        if first[2] or second[2]:
            break
    copied.close()
    return max(differences)


def _restore_divergence(env: StatefulVectorEnv, actions: np.ndarray) -> float:
    """All rows take the same steps twice from one saved moment."""
    saved = env.snapshot()
    plays = []
    for _ in range(2):
        env.restore(saved)
        plays.append(np.array([env.step(action)[0] for action in actions[:REPLAYED]]))
    return float(np.abs(plays[0] - plays[1]).max())
