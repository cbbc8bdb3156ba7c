"""From the records of the trap grid study to its rows, its tables and its figures.

Differences are paired by seed, because seed i is the same level and the same random numbers in
every arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.backtrack_trapgrid.measures import COMPARED, mean, rounded
from experiments.backtrack_trapgrid.runs import Run
from experiments.study.curves import Line, Panel, draw, shown
from experiments.study.records import Record, identity

Row = dict[str, Any]
AREAS = ("online_area", "greedy_area")


def rows(entries: Sequence[tuple[str, Run]], records: Sequence[Record]) -> list[Row]:
    """A row for each question and run: its settings, what was measured, and the differences to the
    plain arm, and to the one whose rate it takes, of that question and world."""
    of_run = {identity(Run, record["run"]): record for record in records}
    found = [
        (part, run, of_run[identity(Run, run.model_dump(mode="json"))]) for part, run in entries
    ]
    beside: dict[tuple[str, ...], dict[str, list[float]]] = {}
    for part, run, record in found:
        beside.setdefault(_place(part, run, run.arm.name), record["by_seed"])
    return [_row(part, run, record, beside) for part, run, record in found]


def _place(part: str, run: Run, name: str) -> tuple[str, ...]:
    """Where to find an arm to compare with: at the same price, but a plain one has none."""
    back = None if name == "plain" else run.arm.backtrack
    price = "" if back is None else f"{back.cost}{back.observe}"
    return part, run.world.model_dump_json(), name, price


def _row(
    part: str, run: Run, record: Record, beside: dict[tuple[str, ...], dict[str, list[float]]]
) -> Row:
    back, mine = run.arm.backtrack, record["by_seed"]
    differences = {}
    for name in ("plain", run.arm.rate_of):
        other = beside.get(_place(part, run, name)) if name else None
        if other is not None and name != run.arm.name:
            differences[name] = {
                what: mean(np.array(mine[what]) - np.array(other[what])) for what in COMPARED
            }
    return {
        "part": part,
        "world": run.world.model_dump(),
        "arm": run.arm.name,
        "rate_of": run.arm.rate_of,
        "cost": None if back is None else back.cost,
        "observe": None if back is None else list(back.observe),
        "interactions": run.interactions,
        "measures": record["measures"],
        "differences": rounded(differences),
        "curves": record["curves"],
    }


def summary(result: Sequence[Row]) -> list[Row]:
    """Of each row what its tables show."""
    found = []
    for row in result:
        near = _near(row)
        shown = (*AREAS, f"to_{near}", near, "backtracks_per_episode", "do_undo_share")
        kept = {name: value for name, value in row.items() if name != "curves"}
        kept["measures"] = {
            name: {
                key: each for key, each in row["measures"][name].items() if key != "interquartile"
            }
            for name in shown
        }
        kept["differences"] = {
            name: {area: gained[area] for area in AREAS}
            for name, gained in row["differences"].items()
        }
        found.append(kept)
    return found


def _near(row: Row) -> str:
    """How well a policy can be asked to end: where moves slip, nearly."""
    return "nearly_optimal" if row["world"]["slip"] else "optimal"


def tables(results: list[dict[str, Any]]) -> str:
    """The tables of experiments/README.md."""
    parts = []
    for part in dict.fromkeys(row["part"] for row in results):
        parts += [f"\n{part}\n", _HEAD, "|---" * (_HEAD.count("|") - 1) + "|"]
        parts += [_line(row) for row in results if row["part"] == part]
    return "\n".join(parts)


_HEAD = (
    "| field | traps | step cost | arm | area, online | against plain | area, greedy "
    "| against plain | interactions to optimal | never | optimal | backtracks an episode "
    "| do-undo |"
)


def _line(row: dict[str, Any]) -> str:
    world, measures = row["world"], row["measures"]
    field = f"{world['size'] - 2}×{world['size'] - 2}"
    traps = f"{world['trap_density']:.0%}" + ("" if world["terminal_traps"] else ", walked over")
    if world["slip"]:
        traps += f", slip {world['slip']:g}"
    arm = row["arm"] + (f" {row['rate_of']}" if row["rate_of"] else "")
    arm += "" if row["cost"] is None else f", cost {row['cost']:g}"
    arm += f", sees {row['observe'][0]}" if row["observe"] else ""
    near = _near(row)
    against = row["differences"].get("plain", {})
    cells = [
        field,
        traps,
        f"{world['step_cost']:g}",
        arm,
        shown(measures["online_area"], 3),
        shown(against.get("online_area"), 3, "+"),
        shown(measures["greedy_area"], 3),
        shown(against.get("greedy_area"), 3, "+"),
        shown(measures[f"to_{near}"]),
        str(measures[f"to_{near}"]["never"]),
        shown(measures[near], 1, percent=True),
        shown(measures["backtracks_per_episode"], 2),
        shown(measures["do_undo_share"], 1, percent=True),
    ]
    return f"| {' | '.join(cells)} |"


ARMS = {
    "plain": "plain Q-learning",
    "learned": "going back is learned like any action",
    "known": "what going back does is known",
    "random": "goes back at random, as often as the one above",
}
LEARNED = (("first_try", 0.0), ("first_try", 0.01), ("tuned", 0.0), ("tuned", 0.01))
NAMES = {"first_try": "first settings", "tuned": "tuned"}
SIZES = {8: "6×6", 10: "8×8", 12: "10×10"}
MIDDLE = {"size": 10, "trap_density": 0.2}
STEP_COSTS = (0.0, 0.01)
KINDS = {"online": "in training", "greedy": "greedy, never going back"}
PRICED = {"do_undo_share": "do-undo loops", "optimal": "seeds that end optimal"}


def figures(results: Sequence[Row], folder: Path) -> None:
    """Draw them into that folder; one whose rows are missing (a quick run) is left out."""
    drawn = {
        "curves": [
            _learning(f"{NAMES[part]}, step cost {cost:g}: {KINDS[kind]}", kind, rows)
            for kind in KINDS
            for part, cost in LEARNED
            if (rows := _rows(results, part, tuple(ARMS), step_cost=cost, **MIDDLE))
        ],
        "map": [_by_traps(results, kind, cost) for kind in KINDS for cost in STEP_COSTS],
        "cost": [_by_price(results, measure, cost) for measure in PRICED for cost in STEP_COSTS],
        "backtracks": [
            _learning(f"{NAMES[part]}, step cost {cost:g}", "backtracks_per_episode", rows)
            for part, cost in LEARNED
            if (rows := _rows(results, part, ("learned", "known"), step_cost=cost, **MIDDLE))
        ],
        "noise": [
            _learning(f"slip {slip:g}, step cost {cost:g}: {KINDS[kind]}", kind, rows)
            for kind in KINDS
            for slip in (0.1, 0.2)
            for cost in STEP_COSTS
            if (rows := _rows(results, "noise", tuple(ARMS), step_cost=cost, slip=slip))
        ],
    }
    whole = {"curves": 8, "map": 4, "cost": 4, "backtracks": 4, "noise": 8}
    for name, panels in drawn.items():
        if len(panels) == whole[name] and all(panel.lines for panel in panels):
            draw(panels, folder / f"backtrack_trapgrid_{name}.svg", columns=4)


def _by_traps(results: Sequence[Row], kind: str, step_cost: float) -> Panel:
    """What going back adds to the area under the return, by share of traps."""
    panel = Panel(f"tuned, step cost {step_cost:g}: {KINDS[kind]}", "traps", "area gained")
    for arm in ("learned", "known"):
        for size, field in SIZES.items():
            points = [
                (row["world"]["trap_density"], row["differences"]["plain"][f"{kind}_area"])
                for row in _rows(results, "tuned", (arm,), step_cost=step_cost, size=size)
            ]
            if points:
                panel.lines.append(_points(f"{arm}, {field}", points))
    return panel


def _by_price(results: Sequence[Row], measure: str, step_cost: float) -> Panel:
    """What a price does: do-undo loops, and seeds that end optimal."""
    title = f"first settings, step cost {step_cost:g}"
    panel = Panel(title, "cost of going back", PRICED[measure])
    for arm in ("learned", "known"):
        rows = _rows(results, "first_try", (arm,), None, step_cost=step_cost, **MIDDLE)
        rows.sort(key=lambda row: row["cost"])
        if points := [(row["cost"], row["measures"][measure]) for row in rows]:
            panel.lines.append(_points(arm, points))
    return panel


def _rows(
    results: Sequence[Row], part: str, arms: Sequence[str], cost: float | None = 0.05, **world: Any
) -> list[Row]:
    """The rows of a part in those worlds, one for each arm at that cost (None: at every cost)."""
    return [
        row
        for arm in arms
        for row in results
        if (row["part"], row["arm"]) == (part, arm)
        and all(row["world"][name] == value for name, value in world.items())
        and row["rate_of"] in (None, "known")
        and (cost is None or row["cost"] in (None, cost))
    ]


def _learning(title: str, curve: str, rows: Sequence[Row]) -> Panel:
    label = "backtracks an episode" if curve not in KINDS else "return / best return"
    panel = Panel(title, "interactions", label)
    for row in rows:
        count = len(row["curves"][curve]["value"])
        x = row["interactions"] * (np.arange(count) + 0.5) / count
        panel.lines.append(Line(ARMS[row["arm"]], x, **_bands(row["curves"][curve])))
    return panel


def _points(name: str, points: Sequence[tuple[float, Row]]) -> Line:
    x = np.array([place for place, _ in points])
    bands = {key: [metric[key] for _, metric in points] for key in ("value", "low", "high")}
    return Line(name, x, **_bands(bands), marks=True)


def _bands(curve: Row) -> dict[str, Any]:
    """Value, low and high; NaN where nothing was measured."""
    return {key: np.array(curve[key], np.float64) for key in ("value", "low", "high")}
