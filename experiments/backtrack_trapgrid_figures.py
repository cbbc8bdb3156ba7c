"""The figures of the trap grid experiment, from the rows of its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from curves import Line, Panel, draw

ARMS = {
    "plain": "plain Q-learning",
    "learned": "going back is learned like any action",
    "known": "what going back does is known",
    "random": "goes back at random, as often as the one above",
}
COSTS = (0.0, 0.02, 0.05, 0.2)
SHOWN = (("first_try", 0.0), ("first_try", 0.01), ("tuned", 0.0), ("tuned", 0.01))
NAMES = {"first_try": "first settings", "tuned": "tuned"}
SIZES = {8: "6×6", 10: "8×8", 12: "10×10"}
KINDS = {"online": "in training", "greedy": "greedy, never going back"}
Row = dict[str, Any]


def figures(results: list[Row], folder: Path) -> list[Path]:
    """Draw them into that folder; one whose rows are missing (a quick run) is left out."""
    drawn = []
    for name, panels in (
        ("curves", _curves(results)),
        ("map", _map(results)),
        ("cost", _cost(results)),
        ("backtracks", _backtracks(results)),
        ("noise", _noise(results)),
    ):
        if panels and all(panel.lines for panel in panels):
            path = folder / f"backtrack_trapgrid_{name}.svg"
            draw(panels, path, columns=4)
            drawn.append(path)
    return drawn


def _curves(results: list[Row]) -> list[Panel]:
    return [
        _learning(
            f"{NAMES[part]}, step cost {step_cost:g}: {KINDS[kind]}",
            _rows(results, part, _middle(step_cost), tuple(ARMS)),
            kind,
            "return / best return",
        )
        for kind in KINDS
        for part, step_cost in SHOWN
    ]


def _backtracks(results: list[Row]) -> list[Panel]:
    return [
        _learning(
            f"{NAMES[part]}, step cost {step_cost:g}",
            _rows(results, part, _middle(step_cost), ("learned", "known")),
            "backtracks_per_episode",
            "backtracks an episode",
        )
        for part, step_cost in SHOWN
    ]


def _noise(results: list[Row]) -> list[Panel]:
    def noisy(slip: float, step_cost: float) -> Callable[[Row], bool]:
        return lambda world: (world["slip"], world["step_cost"]) == (slip, step_cost)

    return [
        _learning(
            f"slip {slip:g}, step cost {step_cost:g}: {KINDS[kind]}",
            _rows(results, "noise", noisy(slip, step_cost), tuple(ARMS)),
            kind,
            "return / best return",
        )
        for kind in KINDS
        for slip in (0.1, 0.2)
        for step_cost in (0.0, 0.01)
    ]


def _map(results: list[Row]) -> list[Panel]:
    """What going back adds to the area under the return, by share of traps."""
    panels = []
    for kind in KINDS:
        for step_cost in (0.0, 0.01):
            panel = Panel(f"tuned, step cost {step_cost:g}: {KINDS[kind]}", "traps", "area gained")
            for arm in ("learned", "known"):
                for size, field in SIZES.items():
                    points = [
                        (row["world"]["trap_density"], row["differences"]["plain"][f"{kind}_area"])
                        for row in _rows(results, "tuned", lambda world: True, (arm,))
                        if (row["world"]["size"], row["world"]["step_cost"]) == (size, step_cost)
                    ]
                    if points:
                        panel.lines.append(_points(f"{arm}, {field}", points))
            panels.append(panel)
    return panels


def _cost(results: list[Row]) -> list[Panel]:
    """What a price does: do-undo loops, and seeds that end optimal."""
    panels = []
    for measure, text in (
        ("do_undo_share", "do-undo loops"),
        ("optimal", "seeds that end optimal"),
    ):
        for step_cost in (0.0, 0.01):
            panel = Panel(f"first settings, step cost {step_cost:g}", "cost of going back", text)
            for arm in ("learned", "known"):
                rows = _rows(results, "first_try", _middle(step_cost), (arm,), None)
                points = sorted(
                    ((row["cost"], row["measures"][measure]) for row in rows), key=lambda p: p[0]
                )
                if points:
                    panel.lines.append(_points(arm, points))
            panels.append(panel)
    return panels


def _middle(step_cost: float) -> Callable[[Row], bool]:
    def middle(world: Row) -> bool:
        return (world["size"], world["trap_density"], world["step_cost"]) == (10, 0.2, step_cost)

    return middle


def _rows(
    results: list[Row],
    part: str,
    wanted: Callable[[Row], bool],
    arms: Sequence[str],
    cost: float | None = 0.05,
) -> list[Row]:
    """The rows of a part in those worlds, one for each arm at that cost (None: at every cost)."""
    return [
        row
        for arm in arms
        for row in results
        if row["part"] == part
        and row["arm"] == arm
        and wanted(row["world"])
        and row["rate_of"] in (None, "known")
        and (cost is None or row["cost"] in (None, cost))
    ]


def _learning(title: str, rows: list[Row], curve: str, label: str) -> Panel:
    lines = []
    for row in rows:
        told = row["curves"][curve]
        count = len(told["value"])
        x = row["interactions"] * (np.arange(count) + 0.5) / count
        lines.append(Line(ARMS[row["arm"]], x, *_bands(told)))
    return Panel(title, "interactions", label, lines)


def _points(name: str, points: Sequence[tuple[float, Row]]) -> Line:
    x = np.array([place for place, _ in points])
    told = {key: [metric[key] for _, metric in points] for key in ("value", "low", "high")}
    return Line(name, x, *_bands(told), marks=True)


def _bands(told: Row) -> list[np.ndarray]:
    """Value, low and high; NaN where nothing was measured."""
    return [np.array(told[key], np.float64) for key in ("value", "low", "high")]
