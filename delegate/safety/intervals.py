"""What a reported number looks like, and how its 95% interval is found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.stats import binomtest, t

Metric = dict[str, Any]
"""{"value", "low", "high", "n"}, "reason" wherever a null stands, and what else the metric says"""

Statistic = Callable[[np.ndarray], np.ndarray]
"""weights float [R, seeds], how often each seed counts -> float [R], NaN where undefined"""

CONFIDENCE = 0.95
RESAMPLES = 2_000
"""bootstrap resamples of the seeds (count)"""
ONE_SEED = "an interval needs at least two training seeds"


@dataclass(frozen=True)
class Resamples:
    """Seeds drawn with replacement, each distinct draw once.

    weights: float [R, seeds] how often each seed was drawn
    draw: int [RESAMPLES] which row of `weights` each resample is
    """

    weights: np.ndarray
    draw: np.ndarray


@lru_cache(maxsize=32)
def resamples(seeds: int) -> Resamples:
    """The same resamples at every call, so that metrics of one run are comparable."""
    rng = np.random.default_rng([17, seeds])
    counts = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=RESAMPLES)
    weights, draw = np.unique(counts, axis=0, return_inverse=True)
    return Resamples(weights.astype(np.float64), draw.ravel())


def unmeasured(reason: str, n: int = 0, **more: Any) -> Metric:
    """What could not be measured: null, with the reason, never 0 or 1."""
    return {"value": None, "low": None, "high": None, "n": int(n), "reason": reason, **more}


def measured(value: float, low: float | None, high: float | None, n: int, **more: Any) -> Metric:
    """A number with its interval and the count behind it."""
    return {"value": float(value), "low": low, "high": high, "n": int(n), **more}


def rate(successes: int, n: int, reason: str = "nothing to count", **more: Any) -> Metric:
    """A share with its Clopper-Pearson interval; null with `reason` if n is 0."""
    if n == 0:
        return unmeasured(reason, **more)
    bounds = binomtest(int(successes), int(n)).proportion_ci(CONFIDENCE, method="exact")
    return measured(successes / n, float(bounds.low), float(bounds.high), n, **more)


def rate_by_seed(
    successes: np.ndarray, n: np.ndarray, reason: str = "nothing to count", **more: Any
) -> Metric:
    """A share whose seeds may differ: agents trained alike do.

    successes, n: int [seeds]; seeds without anything to count are left out
    The interval holds three: the exact one of all together (Clopper-Pearson), and t intervals over
    the seeds' shares, as they are and on the logit scale after half a success and half a failure
    more. The first alone is far too narrow where seeds differ, the last misses a skewed mean.
    """
    there = np.asarray(n) > 0
    won, tried = np.asarray(successes)[there], np.asarray(n)[there]
    if not len(tried):
        return unmeasured(reason, **more)
    metric = rate(int(won.sum()), int(tried.sum()), reason, **more)
    if len(tried) == 1:
        return {**metric, "reason": ONE_SEED}
    odds = (won + 0.5) / (tried - won + 0.5)
    low, high = _t_interval(np.log(odds))
    plain = _t_interval(won / tried)
    return {
        **metric,
        "low": float(max(0.0, min(metric["low"], 1 / (1 + np.exp(-low)), plain[0]))),
        "high": float(min(1.0, max(metric["high"], 1 / (1 + np.exp(-high)), plain[1]))),
    }


def _t_interval(values: np.ndarray) -> tuple[float, float]:
    """Of the mean of some seeds' values, with one degree of freedom less than there are."""
    half = t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean() - half), float(values.mean() + half)


def clustered(
    statistic: Statistic,
    seeds: int,
    n: int,
    reason: str = "nothing to average",
    per_seed: bool = False,
    **more: Any,
) -> Metric:
    """A number with its bootstrap interval: whole training seeds are drawn, never single
    sub-episodes or steps, because what one seed trained is correlated.

    seeds: how many · n: count behind the number · reason: why, if it is undefined
    per_seed: also list the number of each seed alone
    """
    if seeds == 0 or n == 0:
        return unmeasured(reason, n, **more)
    value = float(statistic(np.ones((1, seeds)))[0])
    if not np.isfinite(value):
        return unmeasured(reason, n, **more)
    if per_seed:
        more["per_seed"] = [
            float(each) if np.isfinite(each) else None for each in statistic(np.eye(seeds))
        ]
    if seeds == 1:
        return measured(value, None, None, n, reason=ONE_SEED, **more)
    draws = resamples(seeds)
    replicates = statistic(draws.weights)[draws.draw]
    replicates = replicates[np.isfinite(replicates)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return measured(value, float(low), float(high), n, **more)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> Statistic:
    """Sum over sum, of one total a seed [seeds]; a mean when the denominators are counts."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        return divide(weights @ numerator, weights @ denominator)

    return statistic


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """numerator / denominator, NaN where the denominator is 0."""
    blank = np.full(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)), np.nan)
    return np.divide(numerator, denominator, out=blank, where=np.asarray(denominator) != 0)


def totals(values: np.ndarray | Sequence[float], seed: np.ndarray, seeds: int) -> np.ndarray:
    """The sum of `values` [N] for each seed, float [seeds]; seed: int [N] 0 to seeds - 1."""
    return np.bincount(seed, weights=np.asarray(values, np.float64), minlength=seeds)


def mean(values: np.ndarray, seed: np.ndarray, seeds: int, **more: Any) -> Metric:
    """The mean of `values` [N] with its clustered interval."""
    counts = totals(np.ones(len(values)), seed, seeds)
    return clustered(ratio(totals(values, seed, seeds), counts), seeds, len(values), **more)
