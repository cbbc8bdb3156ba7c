"""A whole arm: children are watched by goal_odds on Corner and taken back, tables written; one
core."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from delegate import run as engine
from delegate import store
from delegate.bench.grid import one_core
from delegate.bench.timing import Figure
from delegate.delegation.runtime import Delegation
from delegate.run.names import SHIPPED
from delegate.scenario import LevelsSection, Scenario
from delegate.trial import Laboratory, Trial

SCENARIO, ARM, MONITOR = "corner.yaml", "rollback", "goal_odds"
TAIL = 0.9
"""share of the rows after whose end the rest is called the tail"""
MIB = 2**20


def delegation_figures(rounds: int, rows: int = 2_048) -> dict[str, Any]:
    """Environment steps a second of that arm, and what it holds in memory.

    rows: levels, half of each distribution
    running: until nine tenths of the rows have ended · tail: from there on
    tables: seconds to make the tables and their files when all have ended
    first: seconds of the first play, in which h is tabulated for every level
    """
    with one_core():
        plan = _plan(rows // 2)
        laboratory = Laboratory(plan, engine.Source(plan), 0)
        start = time.perf_counter()
        laboratory.play(Trial(ARM, 0))
        first = time.perf_counter() - start
        played = [_played(laboratory) for _ in range(max(1, rounds))]
    last = played[-1]
    reachability = laboratory.monitors[MONITOR].reachability
    return {
        "scenario": plan.name,
        "arm": ARM,
        "rows": rows,
        "steps": last["steps"],
        "seconds_first": first,
        **{
            name: Figure.of([each[name] for each in played])
            for name in ("running", "tail", "whole", "seconds_tables")
        },
        "mib": {
            "tables_of_h": getattr(reachability, "nbytes", 0) / MIB,
            "kept_to_go_back": last["saves"] / MIB,
            "log": last["log"] / MIB,
        },
    }


def _plan(levels: int) -> Scenario:
    plan = engine.load_scenario(Path(SHIPPED) / SCENARIO)
    return plan.model_copy(
        update={
            "levels": LevelsSection(train=100, calibrate=1, test=levels),
            "monitors": {MONITOR: plan.monitors[MONITOR]},
            "arms": {ARM: plan.arms[ARM]},
        }
    )


def _played(laboratory: Laboratory) -> dict[str, Any]:
    """One play of the arm, timed: steps a second, seconds, bytes."""
    times: list[float] = []
    ended: list[int] = []
    steps: list[int] = []
    start = time.perf_counter()

    def on_tick(over: int, _: int) -> None:
        times.append(time.perf_counter() - start)
        ended.append(over)
        steps.append(played.steps)

    played: Delegation = laboratory.delegation(ARM)
    start = time.perf_counter()
    played.run(on_tick)
    written = time.perf_counter()
    files = {name: store.pack(table) for name, table in laboratory.tables(played).items()}
    files["events.jsonl"] = played.log.to_jsonl().encode()
    seconds_tables = time.perf_counter() - written
    cut = int(np.searchsorted(ended, TAIL * len(played.live)))
    tail = max(steps[-1] - steps[cut], 1) / max(times[-1] - times[cut], 1e-9)
    return {
        "steps": steps[-1],
        "running": steps[cut] / times[cut],
        "tail": tail,
        "whole": steps[-1] / (times[-1] + seconds_tables),
        "seconds_tables": seconds_tables,
        "saves": played.episodes.saves.nbytes,
        "log": sum(column.nbytes for column in played.steps_table().values())
        + sum(column.nbytes for column in played.watch_table().values()),
    }
