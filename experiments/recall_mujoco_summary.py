"""From the records of the study of recalled traces on MuJoCo to its tables and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from curves import Scores, draw, gain, interval, panel_of, shown

Record = dict[str, Any]
THRESHOLD = 0.75
"""of what the algorithm alone returns at the end"""
LASTING = 5
"""bins whose mean is compared with it"""
CROWDED = 7
"""arms a panel can show"""


def returns(record: Record) -> np.ndarray:
    """Mean return of the episodes of training in each bin; of the bin before where none ended,
    and of the first with any before that. float [BINS]"""
    values = np.array([np.nan if v is None else v for v in record["curve"]["return"]], float)
    there = np.flatnonzero(np.isfinite(values))
    last = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), there[0]))
    return values[last]


def scores(record: Record) -> dict[str, float]:
    """What is measured of a run.

    area: mean of the curve · end: mean of its last tenth · mean, sampled: returns of the trained
    policy's mean action and of samples · seconds: of training, the processor's · added: share of
    time that recall added to the rest
    """
    curve = returns(record)
    share = record["recall"].get("time_share_at_end", [0.0])[0]
    return {
        "area": float(curve.mean()),
        "end": float(curve[-len(curve) // 10 :].mean()),
        "mean": record["end"]["mean"],
        "sampled": record["end"]["sampled"],
        "seconds": record["seconds"],
        "added": share / (1 - share),
    }


def reached(record: Record, threshold: float, alone: float) -> dict[str, float]:
    """Whether the mean of some bins in a row came to the threshold (1 or 0), and the steps and the
    seconds until then; those of the whole run if never.

    alone: seconds of a whole run without recall. The seconds are those at that pace, and what
    recall added: runs of different hours are not of one speed.
    """
    curve = returns(record)
    means = np.lib.stride_tricks.sliding_window_view(curve, LASTING).mean(axis=1)
    there = bool((means >= threshold).any())
    share = (int((means >= threshold).argmax()) + LASTING) / len(curve) if there else 1.0
    seconds = alone * share * (1 + scores(record)["added"])
    return {"reached": there, "steps": record["run"]["steps"] * share, "seconds": seconds}


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Per algorithm and task, and arm: every score over the seeds, the differences to the
    algorithm alone, paired by seed, and steps and seconds to a common threshold."""
    found: dict[str, Any] = {}
    for place in sorted({_place(record) for record in records}):
        here = [record for record in records if _place(record) == place]
        runs: dict[str, list[Record]] = {}
        for record in here:
            runs.setdefault(record["run"]["arm"]["name"], []).append(record)
        arms = {name: _scores(own) for name, own in runs.items()}
        plain = arms.get("none", {})
        ends, alone = (
            interval([told[what] for told in plain.values()])["value"] if plain else None
            for what in ("end", "seconds")
        )
        threshold = None if ends is None or ends <= 0 else THRESHOLD * ends
        entries = {name: _entry(mine, plain) for name, mine in arms.items()}
        if threshold is not None and alone is not None:
            for name, own in runs.items():
                entries[name] |= _way_there([reached(run, threshold, alone) for run in own])
        found[" ".join(place)] = {"threshold": threshold, "arms": entries}
    return found


def _place(record: Record) -> tuple[str, str]:
    return record["run"]["algorithm"], record["run"]["task"]


def _scores(runs: Sequence[Record]) -> Scores:
    return {record["run"]["seed"]: scores(record) for record in runs}


def _entry(mine: Scores, plain: Scores) -> dict[str, Any]:
    entry: dict[str, Any] = {"seeds": list(mine)}
    for what in next(iter(mine.values())):
        entry[what] = interval([told[what] for told in mine.values()])
    for what in ("area", "end", "mean", "sampled"):
        if gained := gain(mine, plain, what):
            entry[f"{what}_minus_none"] = gained
    return entry


def _way_there(told: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Of what `reached` says of each run."""
    ways = {f"{what}_to_threshold": [each[what] for each in told] for what in ("steps", "seconds")}
    count = sum(each["reached"] for each in told)
    return {"reached": count, **{name: interval(values) for name, values in ways.items()}}


def together(records: Sequence[Record]) -> dict[str, Any]:
    """Per algorithm and arm, over all its tasks: gains in area on the algorithm alone, paired by
    seed, in units of what that comes to; resampled within each task."""
    found: dict[str, Any] = {}
    for algorithm in sorted({record["run"]["algorithm"] for record in records}):
        own = [record for record in records if record["run"]["algorithm"] == algorithm]
        gains: dict[str, dict[str, list[float]]] = {}
        for place, told in summary(own).items():
            for name, entry in told["arms"].items():
                if "area_minus_none" in entry:
                    scale = abs(told["arms"]["none"]["area"]["value"])
                    gained = entry["area_minus_none"]["per_seed"]
                    gains.setdefault(name, {})[place] = [each / scale for each in gained]
        found[algorithm] = {
            name: {
                "tasks": list(tasks),
                "gain": interval(
                    [gain for each in tasks.values() for gain in each],
                    [task for task, each in tasks.items() for _ in each],
                ),
            }
            for name, tasks in gains.items()
        }
    return found


def table_together(found: dict[str, Any]) -> str:
    """What `together` found in Markdown."""
    lines = ["| algorithm | arm | tasks | gain in area, of that alone |", "|---|---|---|---|"]
    for algorithm, arms in found.items():
        for name, entry in arms.items():
            cells = algorithm, name, str(len(entry["tasks"])), shown(entry["gain"], 2)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def table(found: dict[str, Any]) -> str:
    """The summary in Markdown."""
    lines = [
        "| algorithm, task | arm | seeds | area | against none | last tenth | against none "
        "| steps to threshold | seeds that come to it | seconds to it | time added |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for place, told in found.items():
        for name, entry in told["arms"].items():
            count = len(entry["seeds"])
            cells = (
                shown(entry["area"]),
                shown(entry.get("area_minus_none")),
                shown(entry["end"]),
                shown(entry.get("end_minus_none")),
                shown(entry.get("steps_to_threshold")),
                f"{entry['reached']} of {count}" if "reached" in entry else "–",
                shown(entry.get("seconds_to_threshold")),
                f"{entry['added']['value']:.0%}",
            )
            lines.append(f"| {place} | {name} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figure(records: Sequence[Record], path: Path) -> None:
    """Return over environment steps, a panel for each algorithm and task; a second one for the
    lengths of traces where one would be crowded."""
    panels = []
    for place in sorted({_place(record) for record in records}):
        here = [record for record in records if _place(record) == place]
        names = list(dict.fromkeys(record["run"]["arm"]["name"] for record in here))
        lengths = [name for name in names if name.startswith("length")]
        parts = {"": names}
        if len(names) > CROWDED:
            others = [name for name in names if name not in lengths]
            parts = {"": others, ", lengths": ["none", "recall", *lengths]}
        panels += [
            panel_of(
                ", ".join(place) + title,
                "return of training episodes",
                [record for record in here if record["run"]["arm"]["name"] in shown_here],
                returns,
            )
            for title, shown_here in parts.items()
        ]
    draw(panels, path, columns=2)
