"""From the records of the PPO study to its table and its figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.study.curves import Line, Panel, Scores, area, by_arm, draw, gain, intervals, shown
from experiments.study.records import Record

ENDS = ("mean_off", "mean_on", "sampled_off", "sampled_on")
BASELINES = ("none", "disabled")


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Per task and arm: area under the evaluation curve and returns at the end, with the
    differences to `none` and `disabled`, paired by seed, and what going back added at the end."""
    found: dict[str, Any] = {}
    for task in dict.fromkeys(_task(r) for r in records):
        of_task = [r for r in records if _task(r) == task]
        arms = by_arm(of_task, scores)
        baselines = {name: arms[name] for name in BASELINES if name in arms}
        found[task] = {
            name: _entry([r for r in of_task if _arm(r) == name], seeds, baselines)
            for name, seeds in arms.items()
        }
    return found


def scores(record: Record) -> dict[str, float]:
    """Area under the curve (mean return over interactions), and returns at the end."""
    returns = np.array([point["off"]["return"] for point in record["curve"]])
    ends = {mode: found["return"] for mode, found in record["end"].items()}
    found = {"area": area(_interactions(record), returns), **ends}
    for kind in ("mean", "sampled"):
        if f"{kind}_on" in ends:
            found[f"{kind}_gain"] = ends[f"{kind}_on"] - ends[f"{kind}_off"]
    return found


def _entry(runs: Sequence[Record], mine: Scores, baselines: Mapping[str, Scores]) -> dict[str, Any]:
    entry = {"seeds": list(mine), **intervals(mine)}
    for what in next(iter(mine.values())):
        for name, theirs in baselines.items():
            if gained := gain(mine, theirs, what):
                entry[f"{what}_minus_{name}"] = gained
    for name, key in (("undone_share", "undone"), ("backtrack_share", "restores")):
        entry[name] = float(
            np.mean([r["curve"][-1]["training"].get(key, 0) / r["interactions"] for r in runs])
        )
    entry["seconds"] = float(np.mean([r["seconds"] for r in runs]))
    return entry


def table(found: dict[str, Any]) -> str:
    """The table of experiments/README.md."""
    columns = {
        "area": "area",
        "area_minus_none": "against none",
        "area_minus_disabled": "against disabled",
        "mean_off": "end",
        "sampled_off": "end, sampled",
        "sampled_gain": "gained there by going back",
    }
    lines = [
        f"| task | arm | seeds | {' | '.join(columns.values())} | backtracks | undone |",
        f"|{'---|' * (len(columns) + 5)}",
    ]
    for task, arms in found.items():
        for name, entry in arms.items():
            cells = [shown(entry.get(key)) for key in columns]
            shares = f"{entry['backtrack_share']:.2%} | {entry['undone_share']:.1%}"
            lines.append(
                f"| {task} | {name} | {len(entry['seeds'])} | {' | '.join(cells)} | {shares} |"
            )
    return "\n".join(lines)


def figures(records: Sequence[Record], folder: Path, name: str) -> None:
    """Evaluation return without backtracking, against interactions."""
    panels = []
    for task in dict.fromkeys(_task(r) for r in records):
        of_task = [r for r in records if _task(r) == task]
        panel = Panel(task, "interactions", "return, never going back")
        for arm in dict.fromkeys(_arm(r) for r in of_task):
            runs = [r for r in of_task if _arm(r) == arm]
            seeds = [[point["off"]["return"] for point in r["curve"]] for r in runs]
            panel.lines.append(Line.of_seeds(arm, _interactions(runs[0]), np.array(seeds)))
        panels.append(panel)
    draw(panels, folder / f"{name}.svg")


def _task(record: Record) -> str:
    return str(record["run"]["task"])


def _arm(record: Record) -> str:
    return str(record["run"]["arm"]["name"])


def _interactions(record: Record) -> np.ndarray:
    return np.array([point["interactions"] for point in record["curve"]])
