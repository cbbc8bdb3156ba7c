"""Show steps to a monitor and fold its scores: live, or of recorded sub-episodes."""

from __future__ import annotations

import numpy as np

from delegate.monitors.monitor import Control, Memory, Monitor, Reference, Steps, Truth
from delegate.monitors.statistics import ScoreNotFinite, Statistic


def advance(
    name: str,
    monitor: Monitor,
    statistic: Statistic,
    steps: Steps,
    truth: Truth | None,
    memory: Memory,
    running: Memory,
) -> tuple[np.ndarray, np.ndarray, Memory, Memory]:
    """One transition a row: its scores, the running values after it, and both new memories.

    name: whose scores these are, for the message · steps: N rows
    truth: of the child, for controls alone
    memory, running: of the monitor and of the statistic, the same N rows
    returns score float64 [N], value float64 [N], memory, running; NaN is "no score yet"
    Raises ScoreNotFinite, naming monitor and step, for a score or a value that is infinite.
    """
    score, memory = scored(monitor, steps, truth, memory)
    try:
        value, running = statistic.update(score, running)
    except ScoreNotFinite as error:
        i = error.row
        raise ScoreNotFinite(
            f"monitor {name}: {error} (step from state {steps.state[i]} by action "
            f"{steps.action[i]} to {steps.next_state[i]} on level {steps.level[i]})",
            i,
        ) from None
    return score, value, memory, running


def scored(
    monitor: Monitor, steps: Steps, truth: Truth | None, memory: Memory
) -> tuple[np.ndarray, Memory]:
    """`monitor.score`; a control is told the truth, and nobody else is.

    Raises ValueError for a control where nothing is known.
    """
    if not isinstance(monitor, Control):
        return monitor.score(steps, memory)
    if truth is None:
        raise ValueError(f"monitor {monitor.name}: nothing is known of the child; give the truth")
    return monitor.score_knowing(steps, truth, memory)


def play(
    monitor: Monitor, statistic: Statistic, recorded: Reference
) -> tuple[np.ndarray, np.ndarray]:
    """Score every transition of recorded sub-episodes, all sub-episodes side by side.

    recorded: T transitions, in time order within each sub-episode
    returns score float64 [T] and value float64 [T] of the running statistic
    Raises ScoreNotFinite as `advance` does.
    """
    order = np.argsort(recorded.sub_episode, kind="stable")
    _, first, length = np.unique(recorded.sub_episode[order], return_index=True, return_counts=True)
    score, value = np.full(len(order), np.nan), np.full(len(order), np.nan)
    memory, running = monitor.start(len(length)), statistic.start(len(length))
    for step in range(int(length.max(initial=0))):
        active = np.flatnonzero(length > step)
        at = order[first[active] + step]
        score[at], value[at], *after = advance(
            monitor.name,
            monitor,
            statistic,
            recorded.steps.take(at),
            None if recorded.truth is None else recorded.truth.take(at),
            _take(memory, active),
            _take(running, active),
        )
        for kept, new in zip((memory, running), after, strict=True):
            _put(kept, active, new)
    return score, value


def peaks(value: np.ndarray, sub_episode: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest value within each sub-episode, NaN for one that was never scored.

    value: float64 [T] · sub_episode: int [T]
    returns ids int [N] in ascending order and peaks float64 [N]
    """
    order = np.argsort(sub_episode, kind="stable")
    ids, first = np.unique(sub_episode[order], return_index=True)
    if not len(ids):
        return ids, np.empty(0)
    return ids, np.fmax.reduceat(value[order], first)


def _take(memory: Memory, rows: np.ndarray) -> Memory:
    return {name: array[rows] for name, array in memory.items()}


def _put(memory: Memory, rows: np.ndarray, new: Memory) -> None:
    for name, array in memory.items():
        array[rows] = new[name]
