"""From the records of the study of recalled traces on MuJoCo to its tables and its figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.study.curves import (
    Scores,
    by_arm,
    draw,
    filled,
    gain,
    interval,
    intervals,
    panel_of,
    shown,
)
from experiments.study.records import Record, Refused

THRESHOLD = 0.75
"""of what the algorithm alone returns at the end"""
LASTING = 5
"""bins whose mean is compared with it"""
CROWDED = 7
"""arms a panel can show"""


def returns(record: Record) -> np.ndarray:
    """Mean return of the episodes of training in each bin. float [BINS]

    Raises Refused where none ended.
    """
    curve = record["curve"]["return"]
    if all(value is None for value in curve):
        raise Refused(f"in {record['run']['steps']} steps no episode ended; ask for more --steps")
    return filled(curve)


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
    """What `by_task` and `together` find."""
    found = by_task(records)
    return {"by_task": found, "together": together(found)}


def by_task(records: Sequence[Record]) -> dict[str, Any]:
    """Per algorithm and task, and arm: every score over the seeds, the differences to the
    algorithm alone, paired by seed, and steps and seconds to a common threshold."""
    found: dict[str, Any] = {}
    for place in sorted({_place(record) for record in records}):
        here = [record for record in records if _place(record) == place]
        arms = by_arm(here, scores)
        plain = arms.get("none", {})
        alone = intervals(plain) if plain else None
        threshold = None
        if alone is not None and alone["end"]["value"] > 0:
            threshold = THRESHOLD * alone["end"]["value"]
        entries = {name: _entry(mine, plain) for name, mine in arms.items()}
        if alone is not None and threshold is not None:
            for name, entry in entries.items():
                own = [record for record in here if record["run"]["arm"]["name"] == name]
                seconds = alone["seconds"]["value"]
                entry |= _way_there([reached(run, threshold, seconds) for run in own])
        found[" ".join(place)] = {"threshold": threshold, "arms": entries}
    return found


def _place(record: Record) -> tuple[str, str]:
    return record["run"]["algorithm"], record["run"]["task"]


def _entry(mine: Scores, plain: Scores) -> dict[str, Any]:
    entry = {"seeds": list(mine), **intervals(mine)}
    for what in ("area", "end", "mean", "sampled"):
        if gained := gain(mine, plain, what):
            entry[f"{what}_minus_none"] = gained
    return entry


def _way_there(runs: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Of what `reached` says of each run."""
    ways = {f"{what}_to_threshold": [each[what] for each in runs] for what in ("steps", "seconds")}
    count = sum(each["reached"] for each in runs)
    return {"reached": count, **{name: interval(values) for name, values in ways.items()}}


def together(found: dict[str, Any]) -> dict[str, Any]:
    """Per algorithm and arm, over all its tasks: gains in area on the algorithm alone, paired by
    seed, in units of what that comes to; resampled within each task. found: by task"""
    gains: dict[str, dict[str, dict[str, list[float]]]] = {}
    for place, task in found.items():
        of_algorithm = gains.setdefault(place.split()[0], {})
        for name, entry in task["arms"].items():
            if "area_minus_none" in entry:
                scale = abs(task["arms"]["none"]["area"]["value"])
                gained = entry["area_minus_none"]["per_seed"]
                of_algorithm.setdefault(name, {})[place] = [each / scale for each in gained]
    return {
        algorithm: {
            name: {
                "tasks": list(tasks),
                "gain": interval(
                    [gain for each in tasks.values() for gain in each],
                    [task for task, each in tasks.items() for _ in each],
                ),
            }
            for name, tasks in arms.items()
        }
        for algorithm, arms in gains.items()
    }


def table(found: dict[str, Any]) -> str:
    """The summary in Markdown."""
    lines = [
        "| algorithm, task | arm | seeds | area | against none | last tenth | against none "
        "| steps to threshold | seeds that come to it | seconds to it | time added |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for place, task in found["by_task"].items():
        for name, entry in task["arms"].items():
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
    lines += ["", "| algorithm | arm | tasks | gain in area, of that alone |", "|---|---|---|---|"]
    for algorithm, arms in found["together"].items():
        for name, entry in arms.items():
            gained = shown(entry["gain"], 2)
            lines.append(f"| {algorithm} | {name} | {len(entry['tasks'])} | {gained} |")
    return "\n".join(lines)


def figures(records: Sequence[Record], folder: Path, name: str) -> None:
    """Return over environment steps, a panel for each algorithm and task; a second one for the
    lengths of traces where one would be crowded."""
    panels = []
    for place in sorted({_place(record) for record in records}):
        here = [record for record in records if _place(record) == place]
        arms = list(dict.fromkeys(record["run"]["arm"]["name"] for record in here))
        lengths = [arm for arm in arms if arm.startswith("length")]
        parts = {"": arms}
        if len(arms) > CROWDED:
            others = [arm for arm in arms if arm not in lengths]
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
    draw(panels, folder / f"{name}.svg", columns=2)
