"""How fast the grid worlds step: the plain Python loop first, then the batched world.

One core, random actions drawn beforehand, episodes restart by themselves (NEXT_STEP). Each figure
is the median of `--repeats` runs taken in turn, so that a slow moment hits all of them alike. A
call that only restarts an ended row is not counted as a step of it.

python experiments/bench_grid.py [--world Corner] [--size 13] [--repeats 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import envs
from envs.grid import PlainGrid

ROWS = (1, 64, 2048)
OBSERVATIONS = ("boolean", "integer")


@dataclass(frozen=True)
class Measurement:
    """One line of the table; rows 0 stands for the plain loop."""

    observation: str
    rows: int
    steps_per_second: float
    slowest: float
    fastest: float
    ratio_to_plain: float


def plain_runner(world: str, size: int, observation: str, seconds: float) -> Callable[[], float]:
    """A function that runs one plain loop for about that long and returns steps per second."""
    rules_env = envs.make(world, 1, size=size)
    env = PlainGrid(rules_env.rules, rules_env.levels, observation=observation)
    actions = np.random.default_rng(0).integers(0, 4, 100_000).tolist()

    def run(steps: int) -> tuple[int, float]:
        env.reset(seed=0)
        ended = 0
        start = time.perf_counter()
        for action in actions[:steps]:
            _, _, terminated, truncated, _ = env.step(action)
            ended += terminated or truncated
        return steps - ended, time.perf_counter() - start

    return _paced(run, 1, len(actions), seconds)


def batched_runner(
    world: str, size: int, observation: str, rows: int, seconds: float
) -> Callable[[], float]:
    """The same for a batch of rows."""
    env = envs.make(world, rows, size=size, observation=observation)
    actions = np.random.default_rng(0).integers(0, 4, (max(64, 2**20 // rows), rows))

    def run(steps: int) -> tuple[int, float]:
        env.reset(seed=0)
        ended = 0
        start = time.perf_counter()
        for action in actions[:steps]:
            _, _, terminated, truncated, _ = env.step(action)
            ended += int(np.count_nonzero(terminated | truncated))
        return steps * rows - ended, time.perf_counter() - start

    return _paced(run, 1, len(actions), seconds)


def _paced(
    run: Callable[[int], tuple[int, float]], first: int, limit: int, seconds: float
) -> Callable[[], float]:
    steps, elapsed = first, 0.0
    while elapsed < seconds / 4 and steps < limit:
        steps = min(limit, steps * 4)
        _, elapsed = run(steps)
    steps = max(1, min(limit, int(steps * seconds / elapsed)))

    def measure() -> float:
        done, spent = run(steps)
        return done / spent

    return measure


def measure(world: str, size: int, repeats: int, seconds: float) -> list[Measurement]:
    """Every figure of the table, plain loop first, measured in turn."""
    found = []
    for observation in OBSERVATIONS:
        runners = {0: plain_runner(world, size, observation, seconds)}
        for rows in ROWS:
            runners[rows] = batched_runner(world, size, observation, rows, seconds)
        speeds: dict[int, list[float]] = {rows: [] for rows in runners}
        for _ in range(repeats):
            for rows, runner in runners.items():
                speeds[rows].append(runner())
        plain = statistics.median(speeds[0])
        for rows, values in speeds.items():
            median = statistics.median(values)
            found.append(
                Measurement(observation, rows, median, min(values), max(values), median / plain)
            )
    return found


def main() -> None:
    """Measure, print the table, and write it where `--json` says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", default="Corner", choices=envs.ids())
    parser.add_argument("--size", type=int, default=13, help="side of the grid (cells)")
    parser.add_argument("--repeats", type=int, default=5, help="runs per figure (count)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a run (seconds)")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    arguments = parser.parse_args()
    if arguments.repeats < 1 or not 0 < arguments.seconds <= 60:
        parser.error("give --repeats of 1 or more and --seconds up to 60")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    try:
        found = measure(arguments.world, arguments.size, arguments.repeats, arguments.seconds)
    except ValueError as error:
        parser.error(str(error))
    print(f"{arguments.world} {arguments.size}x{arguments.size}, one core, random actions")
    print(f"{'observation':<12}{'':<14}{'steps/s':>12}  {'slowest-fastest':>25}{'ratio':>9}")
    for line in found:
        name = "plain loop" if line.rows == 0 else f"{line.rows} row{'s' * (line.rows > 1)}"
        spread = f"{line.slowest:,.0f}-{line.fastest:,.0f}"
        print(
            f"{line.observation:<12}{name:<14}{line.steps_per_second:>12,.0f}  {spread:>25}"
            f"{line.ratio_to_plain:>8.2f}x"
        )
    if arguments.json:
        record = {
            "world": arguments.world,
            "size": arguments.size,
            "repeats": arguments.repeats,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "machine": platform.machine(),
            "figures": [asdict(line) for line in found],
        }
        arguments.json.write_text(json.dumps(record, indent=2) + "\n")
        print(f"written to {arguments.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
