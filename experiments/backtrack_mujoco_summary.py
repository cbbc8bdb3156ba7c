"""From the records of the PPO study to its table and its figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from curves import Line, area, draw, interval, shown

MODES = ("off", "on")
Record = dict[str, Any]


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Per task and arm: area under the evaluation curve and return at the end, off and on, with
    the difference to `none` paired by seed; the latter also for sampled actions."""
    found: dict[str, Any] = {}
    for task in dict.fromkeys(_task(r) for r in records):
        of_task = [r for r in records if _task(r) == task]
        plain = {r["run"]["seed"]: scores(r, "off") for r in of_task if _arm(r) == "none"}
        arms = dict.fromkeys(_arm(r) for r in of_task)
        found[task] = {
            name: _entry([r for r in of_task if _arm(r) == name], plain) for name in arms
        }
    return found


def scores(record: Record, mode: str) -> dict[str, float]:
    """Area under the curve (mean return over interactions), and returns at the end."""
    returns = np.array([point[mode]["return"] for point in record["curve"]])
    return {
        "area": area(_interactions(record), returns),
        "final": float(returns[-1]),
        "sampled": record["sampled"][mode]["return"],
    }


def _entry(runs: Sequence[Record], plain: dict[int, dict[str, float]]) -> dict[str, Any]:
    entry: dict[str, Any] = {"seeds": [r["run"]["seed"] for r in runs]}
    for mode in MODES:
        values = {r["run"]["seed"]: scores(r, mode) for r in runs if mode in r["sampled"]}
        for what in ("area", "final", "sampled") if values else ():
            entry[f"{what}_{mode}"] = interval([v[what] for v in values.values()])
            shared = [seed for seed in values if seed in plain]
            if shared and _arm(runs[0]) != "none":
                gain = [values[seed][what] - plain[seed][what] for seed in shared]
                entry[f"{what}_{mode}_minus_none"] = interval(gain)
    for name, key in (("undone_share", "undone"), ("backtrack_share", "restores")):
        entry[name] = float(
            np.mean([r["curve"][-1]["training"].get(key, 0) / r["interactions"] for r in runs])
        )
    entry["seconds"] = float(np.mean([r["seconds"] for r in runs]))
    return entry


def table(found: dict[str, Any]) -> str:
    """The table of experiments/README.md."""
    columns = {
        "area_off": "area, off",
        "area_off_minus_none": "against none",
        "final_off": "final, off",
        "final_on": "final, on",
        "sampled_off": "final, sampled, off",
        "sampled_on": "final, sampled, on",
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


def figure(records: Sequence[Record], path: Path) -> None:
    """Evaluation return without backtracking, against interactions."""
    panels: dict[str, list[Line]] = {}
    for task in dict.fromkeys(_task(r) for r in records):
        of_task = [r for r in records if _task(r) == task]
        for name in dict.fromkeys(_arm(r) for r in of_task):
            runs = [r for r in of_task if _arm(r) == name]
            seeds = [[point["off"]["return"] for point in r["curve"]] for r in runs]
            line = Line(name, _interactions(runs[0]), np.array(seeds))
            panels.setdefault(task, []).append(line)
    draw(panels, path, "interactions", "return, never going back")


def _task(record: Record) -> str:
    return str(record["run"]["task"])


def _arm(record: Record) -> str:
    return str(record["run"]["arm"]["name"])


def _interactions(record: Record) -> np.ndarray:
    return np.array([point["interactions"] for point in record["curve"]])
