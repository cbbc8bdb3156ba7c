"""From the measures of every seed to numbers with intervals, and to the tables people read.

Intervals are 95%, from a bootstrap over seeds; differences are paired by seed, because seed i is
the same level and the same random numbers in every arm. Shares have Clopper-Pearson intervals.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from backtrack_trapgrid_plan import Entry
from backtrack_trapgrid_runs import CHECKPOINTS, NEAR, SAME, Measured, settled

from delegate.safety.intervals import CONFIDENCE, Metric, clustered, rate, ratio, resamples

TIMES = ("final", "to_optimal", "to_nearly_optimal")
POINTS = 50
"""points of a curve (count)"""
DIGITS = 5
COMPARED = (
    "online_area",
    "greedy_area",
    "to_optimal",
    "to_nearly_optimal",
    "optimal",
    "nearly_optimal",
    "final",
)


def rows(entries: list[Entry], measured: list[Measured]) -> list[dict[str, Any]]:
    """One row of the results per entry; arms are compared within their part and world."""
    beside: dict[tuple[str, str, str], dict[str, np.ndarray]] = {}
    for entry, numbers in zip(entries, measured, strict=True):
        beside.setdefault(
            _place(entry, entry.run.arm.name), by_seed(numbers, entry.run.interactions)
        )
    return [_row(entry, numbers, beside) for entry, numbers in zip(entries, measured, strict=True)]


def by_seed(measured: Measured, interactions: int) -> dict[str, np.ndarray]:
    """What is compared, one number a seed: areas and shares are over the whole of training.

    to_nearly_optimal, like to_optimal, is in interactions, and all of them where it never settles
    """
    width = interactions // CHECKPOINTS
    return {
        "online_area": measured["online"].mean(axis=1),
        "greedy_area": measured["greedy"].mean(axis=1),
        **{
            name: measured[name].astype(np.float64)
            for name in COMPARED[2:]
            if name != "to_nearly_optimal"
        },
        "to_nearly_optimal": settled(measured["greedy"] >= 1 - NEAR - SAME) * float(width),
    }


def seed_numbers(entry: Entry, measured: Measured) -> dict[str, Any]:
    """The numbers of each seed, in the order of the seeds."""
    numbers = {
        name: rounded(value.tolist())
        for name, value in by_seed(measured, entry.run.interactions).items()
    }
    return {**_settings(entry), "first_seed": entry.run.first_seed, "by_seed": numbers}


def _place(entry: Entry, name: str) -> tuple[str, str, str]:
    backtrack = entry.run.arm.backtrack
    cost = "" if backtrack is None else f"{backtrack.cost}{backtrack.observe}"
    return entry.part, entry.run.world.model_dump_json(), f"{name} {cost}"


def _settings(entry: Entry) -> dict[str, Any]:
    arm = entry.run.arm
    return {
        "part": entry.part,
        "world": entry.run.world.model_dump(),
        "arm": arm.name,
        "rate_of": arm.rate_of,
        "cost": None if arm.backtrack is None else arm.backtrack.cost,
        "observe": None if arm.backtrack is None else list(arm.backtrack.observe),
    }


def _row(
    entry: Entry, measured: Measured, beside: dict[tuple[str, str, str], dict[str, np.ndarray]]
) -> dict[str, Any]:
    run, numbers = entry.run, by_seed(measured, entry.run.interactions)
    totals = {name: measured[name].sum(axis=1) for name in ("backtracks", "episodes")}
    interactions = np.full(run.seeds, float(run.interactions))
    measures: dict[str, Any] = {name: _mean(numbers[name]) for name in TIMES}
    for name in ("online_area", "greedy_area"):
        measures[name] = _mean(numbers[name]) | {"interquartile": _interquartile(numbers[name])}
    for name in ("optimal", "nearly_optimal"):
        measures[name] = rate(int(numbers[name].sum()), run.seeds)
    for name, reached in (("to_optimal", "optimal"), ("to_nearly_optimal", "nearly_optimal")):
        measures[name]["median"] = float(np.median(numbers[name]))
        measures[name]["never"] = int((numbers[reached] == 0).sum())
    measures["backtracks_per_episode"] = _share(totals["backtracks"], totals["episodes"])
    measures["backtrack_share"] = _share(totals["backtracks"], interactions)
    measures["undone_share"] = _share(measured["undone"], interactions)
    measures["do_undo_share"] = _mean(measured["loop_share"])
    differences = {}
    for name in ("plain", entry.run.arm.rate_of):
        other = None
        if name is not None and name != run.arm.name:
            place = ("plain ",) if name == "plain" else (_place(entry, name)[2],)
            other = beside.get((*_place(entry, name)[:2], *place))
        if other is not None:
            differences[name] = {each: _mean(numbers[each] - other[each]) for each in COMPARED}
    curves = {}
    if entry.part != "tuning":
        ones = np.ones_like(measured["online"])
        curves = {
            "online": _curve(measured["online"], ones),
            "greedy": _curve(measured["greedy"], ones),
            "backtracks_per_episode": _curve(measured["backtracks"], measured["episodes"]),
        }
    return {
        **_settings(entry),
        "learner": run.arm.learner.model_dump(),
        "seeds": run.seeds,
        "interactions": run.interactions,
        "measures": rounded(measures),
        "differences": rounded(differences),
        "curves": rounded(curves),
        "seconds": rounded(float(measured["seconds"])),
    }


def _mean(values: np.ndarray) -> Metric:
    count = len(values)
    return clustered(ratio(values.astype(np.float64), np.ones(count)), count, count)


def _share(part: np.ndarray, whole: np.ndarray) -> Metric:
    return clustered(ratio(part.astype(np.float64), whole.astype(np.float64)), len(part), len(part))


def _interquartile(values: np.ndarray) -> Metric:
    """The mean of the middle half of the seeds."""
    order = np.argsort(values)

    def statistic(weights: np.ndarray) -> np.ndarray:
        above = np.cumsum(weights[:, order], axis=1)
        total = above[:, -1:]
        inside = np.clip(above, total / 4, total * 3 / 4)
        share = np.diff(inside, axis=1, prepend=total / 4)
        return (share @ values[order]) / (total[:, 0] / 2)

    return clustered(statistic, len(values), len(values))


def _curve(part: np.ndarray, whole: np.ndarray) -> dict[str, list[float]]:
    """Sum over sum of each point, with its interval. both [B, CHECKPOINTS]"""
    shape = (len(part), POINTS, CHECKPOINTS // POINTS)
    above = part.astype(np.float64).reshape(shape).sum(axis=2)
    below = whole.astype(np.float64).reshape(shape).sum(axis=2)
    draws = resamples(len(part))
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        # where no episode ended there is nothing to average: null
        warnings.simplefilter("ignore", RuntimeWarning)
        replicates = ((draws.weights @ above) / (draws.weights @ below))[draws.draw]
        middle = above.sum(axis=0) / below.sum(axis=0)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.nanquantile(replicates, [tail, 1 - tail], axis=0)
    return {"value": middle.tolist(), "low": low.tolist(), "high": high.tolist()}


def rounded(value: Any) -> Any:
    """The same with numbers cut to what their intervals can bear; what is not finite is null."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    if isinstance(value, float):
        return round(value, DIGITS) if np.isfinite(value) else None
    return value


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
    near = "nearly_optimal" if world["slip"] else "optimal"
    against = row["differences"].get("plain", {})
    cells = [
        field,
        traps,
        f"{world['step_cost']:g}",
        arm,
        shown(measures["online_area"]),
        shown(against.get("online_area"), sign="+"),
        shown(measures["greedy_area"]),
        shown(against.get("greedy_area"), sign="+"),
        shown(measures[f"to_{near}"], digits=0),
        str(measures[f"to_{near}"]["never"]),
        shown(measures[near], percent=True),
        shown(measures["backtracks_per_episode"], digits=2),
        shown(measures["do_undo_share"], percent=True),
    ]
    return f"| {' | '.join(cells)} |"


def shown(metric: Metric | None, digits: int = 3, sign: str = "", percent: bool = False) -> str:
    """`0.42 [0.40, 0.44]`, a dash where nothing was measured."""
    if metric is None or metric["value"] is None:
        return "–"
    style = f"{sign}.1%" if percent else f"{sign}.{digits}f"
    value, low, high = (
        "–" if metric[name] is None else format(metric[name], style)
        for name in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"
