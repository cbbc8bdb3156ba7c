"""From the arrays of one run, all of its seeds, to its record: numbers with intervals.

Intervals are 95%, from a bootstrap over seeds; shares have Clopper-Pearson intervals.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np

from delegate.safety.intervals import CONFIDENCE, ONE_SEED, Metric, rate, unmeasured

CHECKPOINTS = 100
SAME = 1e-9
"""returns closer than this are the same (return)"""
NEAR = 0.01
"""nearly optimal: within this share of the optimal return, for worlds with noise (ratio)"""
MEANS = ("final", "to_optimal", "to_nearly_optimal", "online_area", "greedy_area")
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
"""what there is of each seed"""
Measured = dict[str, np.ndarray]
"""by seed: online, greedy, backtracks, chances, episodes [B, CHECKPOINTS]; optimal, nearly_optimal,
final, to_optimal, undone, loop_share [B]; seconds []"""


RESAMPLES = 2_000
"""bootstrap resamples of the seeds (count)"""


@lru_cache(maxsize=8)
def resamples(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Seeds drawn with replacement, each distinct draw once: float [R, seeds] how often each was
    drawn, int [RESAMPLES] which draw each resample is. The same at every call."""
    rng = np.random.default_rng([17, seeds])
    counts = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES)
    weights, draw = np.unique(counts, axis=0, return_inverse=True)
    return weights.astype(np.float64), draw.ravel()


def recorded(measured: Measured, interactions: int) -> dict[str, Any]:
    """Measures over the seeds, curves, and what there is of each seed, in their order."""
    numbers = _by_seed(measured, interactions)
    ones = np.ones_like(measured["online"])
    curves = {
        "online": _curve(measured["online"], ones),
        "greedy": _curve(measured["greedy"], ones),
        "backtracks_per_episode": _curve(measured["backtracks"], measured["episodes"]),
    }
    found = {
        "measures": _measures(measured, numbers, interactions),
        "curves": curves,
        "by_seed": {name: values.tolist() for name, values in numbers.items()},
        "seconds": float(measured["seconds"]),
    }
    return {name: rounded(value) for name, value in found.items()}


def _by_seed(measured: Measured, interactions: int) -> dict[str, np.ndarray]:
    """What is compared, one number a seed: areas and shares are over the whole of training.

    to_nearly_optimal, like to_optimal, is in interactions, and all of them where it never settles
    """
    near = settled(measured["greedy"] >= 1 - NEAR - SAME)
    found = {
        "online_area": measured["online"].mean(axis=1),
        "greedy_area": measured["greedy"].mean(axis=1),
        "to_nearly_optimal": near * float(interactions // CHECKPOINTS),
    }
    return {
        name: found[name] if name in found else measured[name].astype(np.float64)
        for name in COMPARED
    }


def _measures(
    measured: Measured, numbers: dict[str, np.ndarray], interactions: int
) -> dict[str, Any]:
    totals = {name: measured[name].sum(axis=1) for name in ("backtracks", "episodes")}
    seeds = len(totals["episodes"])
    every = np.full(seeds, float(interactions))
    found: dict[str, Any] = {name: mean(numbers[name]) for name in MEANS}
    for name in ("optimal", "nearly_optimal"):
        found[name] = rate(int(numbers[name].sum()), seeds)
        found[f"to_{name}"]["median"] = float(np.median(numbers[f"to_{name}"]))
        found[f"to_{name}"]["never"] = int((numbers[name] == 0).sum())
    found["backtracks_per_episode"] = _share(totals["backtracks"], totals["episodes"])
    found["backtrack_share"] = _share(totals["backtracks"], every)
    found["undone_share"] = _share(measured["undone"], every)
    found["do_undo_share"] = mean(measured["loop_share"])
    return found


def settled(optimal: np.ndarray) -> np.ndarray:
    """The first checkpoint, from 1, after which all are optimal; their number if the last is not.

    optimal: bool [B, n] · returns int64 [B]
    """
    count = optimal.shape[1]
    since = (~optimal[:, ::-1]).argmax(axis=1)
    last_bad = np.where(optimal.all(axis=1), -1, count - 1 - since)
    return np.minimum(last_bad + 2, count)


def mean(values: np.ndarray) -> Metric:
    """Over seeds."""
    return _share(values, np.ones(len(values)))


def _share(part: np.ndarray, whole: np.ndarray) -> Metric:
    """Sum over sum [seeds], with a percentile bootstrap over the seeds, of which there are many."""
    seeds = len(part)
    if not seeds or not whole.sum():
        return unmeasured("nothing to average", seeds)
    value = float(part.sum() / whole.sum())
    if seeds == 1:
        return {"value": value, "low": None, "high": None, "n": seeds, "reason": ONE_SEED}
    weights, draw = resamples(seeds)
    above, below = weights @ part.astype(np.float64), weights @ whole.astype(np.float64)
    found = np.divide(above, below, out=np.full(len(above), np.nan), where=below != 0)[draw]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(found[np.isfinite(found)], [tail, 1 - tail])
    return {"value": value, "low": float(low), "high": float(high), "n": seeds}


def _curve(part: np.ndarray, whole: np.ndarray) -> dict[str, list[float]]:
    """Sum over sum of each point, with its interval. both [B, CHECKPOINTS]"""
    shape = (len(part), POINTS, CHECKPOINTS // POINTS)
    above = part.astype(np.float64).reshape(shape).sum(axis=2)
    below = whole.astype(np.float64).reshape(shape).sum(axis=2)
    weights, draw = resamples(len(part))
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        # where no episode ended there is nothing to average: null
        warnings.simplefilter("ignore", RuntimeWarning)
        replicates = ((weights @ above) / (weights @ below))[draw]
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
