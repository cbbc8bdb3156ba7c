"""What a reported number looks like, and how its 95% interval is found.

Seeds are clusters: what one seed trained is correlated. So every interval holds two: the one of
all levels together, as if seeds did not differ, and a t interval over the numbers of single seeds.
The first alone is too narrow where seeds differ, the second where they happen to agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import betaincinv
from scipy.stats import norm, t

Metric = dict[str, Any]
"""{"value", "low", "high", "n"}, "reason" wherever a null stands, and what else the metric says"""

Statistic = Callable[[np.ndarray], np.ndarray]
"""weights float [R, U], how often each level counts -> float [R], NaN where undefined"""

CONFIDENCE = 0.95
DRAWS = 300
"""bootstrap resamples of the levels (count)"""
ONE_SEED = "an interval needs at least two training seeds"


@dataclass(frozen=True)
class Sample:
    """Every level that a run was tested on: the units that numbers are averaged over.

    seeds: int64 [S] sorted · level: int64 [U] by what each was made from, and
    seed: int64 [U] its place in `seeds`; in order of seed and level
    """

    seeds: np.ndarray
    seed: np.ndarray
    level: np.ndarray

    @classmethod
    def of(cls, seed: np.ndarray, level: np.ndarray) -> Sample:
        """Of all pairs that occur. both: int [N]"""
        pairs = np.unique(np.stack([seed, level]).astype(np.int64), axis=1)
        seeds, place = np.unique(pairs[0], return_inverse=True)
        return cls(seeds, place, pairs[1])

    def __len__(self) -> int:
        return len(self.level)

    def unit(self, seed: np.ndarray, level: np.ndarray) -> np.ndarray:
        """The place of each pair among the units, int [N]. Raises KeyError for one that is none."""
        known = {
            pair: i
            for i, pair in enumerate(
                zip(self.seeds[self.seed].tolist(), self.level.tolist(), strict=True)
            )
        }
        pairs = zip(np.asarray(seed).tolist(), np.asarray(level).tolist(), strict=True)
        return np.array([known[pair] for pair in pairs], np.int64)

    @property
    def weights(self) -> np.ndarray:
        """How often each level counts, float64 [1 + S + DRAWS, U]: all of them once, then those of
        each seed alone, then resamples of the levels with replacement."""
        return _weights(tuple(np.bincount(self.seed, minlength=len(self.seeds)).tolist()))

    def totals(self, values: np.ndarray, unit: np.ndarray) -> np.ndarray:
        """The sum of `values` [N] for each level, float64 [U]. unit: int [N]"""
        return np.bincount(unit, weights=np.asarray(values, np.float64), minlength=len(self))

    def by_seed(self, values: np.ndarray, unit: np.ndarray) -> np.ndarray:
        """The sum of `values` [N] for each seed, float64 [S]. unit: int [N]"""
        of = self.seed[unit]
        return np.bincount(of, weights=np.asarray(values, np.float64), minlength=len(self.seeds))


@lru_cache(maxsize=4)
def _weights(levels: tuple[int, ...]) -> np.ndarray:
    """The same resamples at every call, so that metrics of one run are comparable."""
    count = sum(levels)
    alone = np.repeat(np.eye(len(levels)), levels, axis=1)
    rng = np.random.default_rng([17, count])
    drawn = rng.multinomial(count, np.full(count, 1 / max(count, 1)), size=DRAWS)
    return np.concatenate([np.ones((1, count)), alone, drawn])


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
    k, tail = int(successes), (1 - CONFIDENCE) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return measured(k / n, low, high, n, **more)


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


def share(
    true: np.ndarray,
    unit: np.ndarray,
    sample: Sample,
    reason: str = "nothing to count",
    **more: Any,
) -> Metric:
    """The share of `true` [N] among all; unit: int [N] the level of each. See `rate_by_seed`."""
    won, tried = sample.by_seed(true, unit), sample.by_seed(np.ones(len(unit)), unit)
    return rate_by_seed(won.astype(int), tried.astype(int), reason, **more)


def estimate(
    statistic: Statistic,
    sample: Sample,
    n: int,
    reason: str = "nothing to average",
    bounds: tuple[float, float] = (-np.inf, np.inf),
    per_seed: bool = False,
    test: bool = False,
    **more: Any,
) -> Metric:
    """A number with its interval: the wider of a bootstrap over levels and a t over seeds.

    n: count behind the number · reason: why, if it is undefined · bounds: of what is possible
    per_seed: also list the number of each seed alone · test: also give `p`, that it is not 0
    """
    if n == 0 or not len(sample):
        return unmeasured(reason, n, **more)
    found = np.asarray(statistic(sample.weights), np.float64)
    return summarised(found, sample, n, reason, bounds, per_seed, test, **more)


def summarised(
    found: np.ndarray,
    sample: Sample,
    n: int,
    reason: str = "nothing to average",
    bounds: tuple[float, float] = (-np.inf, np.inf),
    per_seed: bool = False,
    test: bool = False,
    **more: Any,
) -> Metric:
    """As `estimate`, of what a statistic gave for each of the sample's weights, float64 [R]."""
    seeds = len(sample.seeds)
    draws = found[1 + seeds :]
    draws = draws[np.isfinite(draws)]
    tail = (1 - CONFIDENCE) / 2
    pooled, error = (np.nan, np.nan), np.nan
    if len(draws):
        low, high = np.quantile(draws, [tail, 1 - tail])
        pooled, error = (float(low), float(high)), float(draws.std())
    of_seeds = found[1 : 1 + seeds]
    return widened(
        float(found[0]), pooled, error, of_seeds, n, reason, bounds, per_seed, test, **more
    )


def widened(
    value: float,
    pooled: tuple[float, float],
    error: float,
    seeds: np.ndarray,
    n: int,
    reason: str,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    per_seed: bool = False,
    test: bool = False,
    **more: Any,
) -> Metric:
    """A number whose interval holds that of all levels and a t interval over single seeds.

    pooled: interval of all levels · error: their standard error · seeds: the number of each
    """
    if not np.isfinite(value):
        return unmeasured(reason, n, **more)
    if per_seed:
        more["per_seed"] = [float(each) if np.isfinite(each) else None for each in seeds]
    known = seeds[np.isfinite(seeds)]
    if len(known) < 2:
        return measured(value, None, None, n, reason=ONE_SEED, **more)
    low, high = _t_interval(known)
    if test:
        more["p"] = _p_value(value, error, known)
    # The value itself lies within, whatever resampling is biased by.
    return measured(
        value,
        float(max(bounds[0], min(value, np.nanmin([low, pooled[0]])))),
        float(min(bounds[1], max(value, np.nanmax([high, pooled[1]])))),
        n,
        **more,
    )


def _p_value(value: float, error: float, seeds: np.ndarray) -> float:
    """Two-sided, that the number is 0: the larger of the two that the interval's halves give."""
    spread = seeds.std(ddof=1) / len(seeds) ** 0.5
    if value == 0 or (error == 0 and spread == 0 and seeds.mean() == 0):
        return 1.0
    over_levels = 2 * norm.sf(abs(value) / error) if error > 0 else 0.0
    over_seeds = 2 * t.sf(abs(seeds.mean()) / spread, len(seeds) - 1) if spread > 0 else 0.0
    return float(max(over_levels, over_seeds))


def _t_interval(values: np.ndarray) -> tuple[float, float]:
    """Of the mean of some seeds' values, with one degree of freedom less than there are."""
    half = t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean() - half), float(values.mean() + half)


def holm(p: Sequence[float]) -> list[float]:
    """p-values of one family, corrected so that P(any is falsely below a) <= a.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    order = np.argsort(p, kind="stable")
    stepped = np.asarray(p, np.float64)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return [float(each) for each in corrected]


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> Statistic:
    """Sum over sum, of one total a level [U]; a mean when the denominators are counts."""

    def statistic(weights: np.ndarray) -> np.ndarray:
        return divide(weights @ numerator, weights @ denominator)

    return statistic


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """numerator / denominator, NaN where the denominator is 0."""
    blank = np.full(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)), np.nan)
    return np.divide(numerator, denominator, out=blank, where=np.asarray(denominator) != 0)


def mean(values: np.ndarray, unit: np.ndarray, sample: Sample, **more: Any) -> Metric:
    """The mean of `values` [N] with its interval. unit: int [N] the level of each"""
    count = sample.totals(np.ones(len(unit)), unit)
    return estimate(ratio(sample.totals(values, unit), count), sample, len(unit), **more)
