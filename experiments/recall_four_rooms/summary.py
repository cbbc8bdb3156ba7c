"""From the records of the Four Rooms study to its tables and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from delegate import envs
from experiments.study.curves import (
    Scores,
    by_arm,
    draw,
    filled,
    gain,
    intervals,
    panel_of,
    save,
    shown,
)
from experiments.study.records import Record

SOLVED = 0.9
"""share of episodes that reach the goal"""
LASTING = 3
"""bins in a row in which it is reached, for `steps_to_90`"""
FEW = 6
"""arms whose maps fit beside each other"""
BASELINES = ("actor_critic", "prioritized", "recall_random")


def success(record: Record) -> np.ndarray:
    """Share of episodes that reached the goal, in each bin. float [BINS]"""
    return filled(record["success"], before=0.0)


def scores(record: Record) -> dict[str, float]:
    """What is measured of a run.

    area: mean of the success curve · steps_to_90: environment steps until 90% of episodes reached
    the goal in three bins in a row, all steps of the run where that never was · converged: whether
    they did over its last tenth (0 or 1) · visited: places seen in the first 50,000 steps
    """
    curve, steps = success(record), record["run"]["steps"]
    bins = len(curve)
    windows = np.lib.stride_tricks.sliding_window_view(curve >= SOLVED, LASTING).all(axis=1)
    first = int(windows.argmax()) + 1 if windows.any() else bins
    return {
        "area": float(curve.mean()),
        "steps_to_90": first * steps / bins,
        "converged": float(curve[-bins // 10 :].mean() >= SOLVED),
        "visited": float(np.count_nonzero(record["visits"])),
        "seconds": float(record["seconds"]),
    }


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Per size and arm: every score over the seeds, and the gain in area on each baseline, paired
    by seed."""
    found: dict[str, Any] = {}
    for size in sorted({record["run"]["size"] for record in records}):
        of_size = [record for record in records if record["run"]["size"] == size]
        arms = by_arm(of_size, scores)
        found[str(size)] = {name: _entry(seeds, arms) for name, seeds in arms.items()}
    return found


def _entry(mine: Scores, arms: Mapping[str, Scores]) -> dict[str, Any]:
    entry = {"seeds": list(mine), **intervals(mine)}
    entry["converged"] = float(np.mean(entry["converged"]["per_seed"]))
    for name in BASELINES:
        if gained := gain(mine, arms.get(name, {})):
            entry[f"area_minus_{name}"] = gained
    return entry


def table(found: dict[str, Any]) -> str:
    """The summary in Markdown."""
    lines = [
        "| size | arm | area under the success curve | steps to 90% | seeds that converge | "
        "places seen early |",
        "|---|---|---|---|---|---|",
    ]
    for size, arms in found.items():
        for name, entry in arms.items():
            lines.append(
                f"| {size} | {name.replace('_', ' ')} | {shown(entry['area'], 2)} "
                f"| {shown(entry['steps_to_90'])} | {entry['converged']:.0%} "
                f"| {shown(entry['visited'])} |"
            )
    return "\n".join(lines)


def figures(records: Sequence[Record], folder: Path, name: str) -> None:
    """Success over environment steps, a panel a size; and, of a few arms, where the first steps
    went."""
    sizes = sorted({record["run"]["size"] for record in records})
    panels = [
        panel_of(
            f"{size} × {size}",
            "episodes that reach the goal",
            [record for record in records if record["run"]["size"] == size],
            success,
        )
        for size in sizes
    ]
    draw(panels, folder / f"{name}.svg", columns=2)
    if len({record["run"]["arm"]["name"] for record in records}) <= FEW:
        heat_maps(records, folder / f"{name}_visits.png")


def heat_maps(records: Sequence[Record], path: Path) -> None:
    """Where the first 50,000 steps went, all seeds together: a row of maps a size."""
    sizes = sorted({record["run"]["size"] for record in records})
    names = list(dict.fromkeys(record["run"]["arm"]["name"] for record in records))
    figure, axes = plt.subplots(
        len(sizes), len(names), figsize=(2.2 * len(names), 2.3 * len(sizes)), squeeze=False
    )
    for axis in axes.ravel():
        axis.set_axis_off()
    for row, size in enumerate(sizes):
        for column, name in enumerate(names):
            runs = [
                record
                for record in records
                if record["run"]["size"] == size and record["run"]["arm"]["name"] == name
            ]
            if not runs:
                continue
            visits = np.sum([record["visits"] for record in runs], axis=0).astype(float)
            walls = envs.make("FourRooms", 1, size=size, num_levels=1).levels.walls[0]
            visited = np.where(walls, np.nan, visits[: size * size].reshape(size, size))
            axes[row, column].imshow(np.log10(1 + visited), cmap="viridis", vmin=0)
            axes[row, column].set_title(f"{name.replace('_', ' ')}, {size}", fontsize=8)
    figure.tight_layout()
    save(figure, path)
