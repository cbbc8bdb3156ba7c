"""Speeds and shares on a machine that is never quite quiet: short runs in turn, and medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Run = Callable[[int], tuple[int, float]]
"""makes that many calls; returns the environment steps they took, and the seconds"""

LEAST = 1e-9
"""seconds, so that nothing is divided by zero"""


@dataclass(frozen=True)
class Figure:
    """The median of some rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """The figure of those rounds."""
        return cls(statistics.median(values), min(values), max(values))


def timed(act: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    act()
    return max(time.perf_counter() - start, LEAST)


THINKING = 100e-6
"""seconds that even a small policy takes between two steps of a batch; the threads that step
MuJoCo fall asleep sooner, and waking them is no price of what is done to the batch meanwhile"""


def think(seconds: float) -> float:
    """Keep the processor busy that long; returns the seconds it really took."""
    start = now = time.perf_counter()
    while now - start < seconds:
        now = time.perf_counter()
    return now - start


def calls_for(run: Run, seconds: float) -> int:
    """How many calls of `run` take about that long; it is warm afterwards."""
    calls, spent = 1, 0.0
    while spent < seconds / 4:
        calls *= 4
        spent = max(run(calls)[1], LEAST)
    return max(1, round(calls * seconds / spent))


def speeds(runs: Mapping[str, Run], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Environment steps a second of each, one value a round: in turn, so that a slow moment of
    the machine hits all alike."""
    calls = {name: calls_for(run, seconds) for name, run in runs.items()}
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            steps, spent = run(calls[name])
            found[name].append(steps / max(spent, LEAST))
    return found


def ratios(speeds: Sequence[float], baseline: Sequence[float]) -> Figure:
    """How many times as fast, round by round."""
    return Figure.of([one / other for one, other in zip(speeds, baseline, strict=True)])


def extra(run: Run, baseline: Run, calls: int, pairs: int) -> Figure:
    """What `run` costs more than `baseline`, as a share of a step of the latter.

    Pairs of runs of `calls` calls each, whose order alternates.
    """
    shares = []
    for pair in range(pairs):
        order = (baseline, run) if pair % 2 else (run, baseline)
        took = {one: _seconds_a_step(one(calls)) for one in order}
        shares.append(took[run] / took[baseline] - 1)
    return Figure.of(shares)


def _seconds_a_step(taken: tuple[int, float]) -> float:
    steps, spent = taken
    return max(spent, LEAST) / max(steps, 1)
