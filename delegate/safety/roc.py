"""ROC curves of many resamples at once, and every number read off them.

A curve knows which level each score is of, so that one cumulative sum gives the curve of any
resample of levels. The area by itself has a faster way: by ranks, with the influence of each level.
scikit-learn gives the same numbers for one curve and is the tests' oracle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from delegate.safety.intervals import CONFIDENCE, Sample, Statistic, divide

Reading = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""true and false positives float [R, T + 1], from none to all -> float [R]"""

CHUNK = 8_000_000
"""numbers held at once while resampling (count)"""


@dataclass(frozen=True)
class Curve:
    """Scored positives and negatives, highest score first.

    threshold: float64 [T] distinct scores, highest first · last: int [T] the last place of each
    positive: bool [N] · unit: int [N] the level of each
    unscored: how many had no score and are left out
    """

    threshold: np.ndarray
    last: np.ndarray
    positive: np.ndarray
    unit: np.ndarray
    unscored: int

    @property
    def positives(self) -> int:
        """Scored positives."""
        return int(self.positive.sum())

    @property
    def negatives(self) -> int:
        """Scored negatives."""
        return int((~self.positive).sum())

    @property
    def tied(self) -> bool:
        """Do all share one score, so that they cannot be ranked?"""
        return len(self.threshold) == 1

    def counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """True and false positives at each threshold, from none to all: float64 [R, T + 1].

        weights: float [R, U] how often each level counts
        """
        return self._counted(weights, self.positive), self._counted(weights, ~self.positive)

    def statistic(self, of: Reading) -> Statistic:
        """`of` for any weights of the levels, a few resamples at a time."""

        def statistic(weights: np.ndarray) -> np.ndarray:
            return np.concatenate([of(*self.counts(part)) for part in self._parts(weights)])

        return statistic

    def readings(self, of: dict[str, Reading], weights: np.ndarray) -> dict[str, np.ndarray]:
        """Several numbers off the same curves, float [R] each."""
        parts = []
        for part in self._parts(weights):
            counts = self.counts(part)
            parts.append({name: reading(*counts) for name, reading in of.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in of}

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """The corners of the pooled curve: false and true positive rates, from 0 to 1."""
        true, false = (each[0] for each in self.counts(np.ones((1, self.unit.max() + 1))))
        rise = np.diff(true), np.diff(false)
        straight = rise[0][:-1] * rise[1][1:] == rise[0][1:] * rise[1][:-1]
        corner = np.concatenate([[True], ~straight, [True]])
        return false[corner] / false[-1], true[corner] / true[-1]

    def _counted(self, weights: np.ndarray, among: np.ndarray) -> np.ndarray:
        """How much of `among`, bool [N], lies at or above each threshold, float64 [R, T + 1]."""
        place = np.flatnonzero(among)
        counted = np.zeros((len(weights), len(place) + 1))
        np.cumsum(weights[:, self.unit[place]], axis=1, out=counted[:, 1:])
        so_many = np.append(0, np.cumsum(among)[self.last]) if len(self.last) else np.zeros(1, int)
        return counted[:, so_many]

    def _parts(self, weights: np.ndarray) -> Iterator[np.ndarray]:
        rows = max(1, CHUNK // max(1, len(self.unit)))
        return (weights[i : i + rows] for i in range(0, len(weights), rows))


def curve(score: np.ndarray, positive: np.ndarray, unit: np.ndarray) -> Curve:
    """The curve of scores [N], higher = more suspicious; NaN is no score and takes no rank.

    positive: bool [N] · unit: int [N] the level of each
    """
    scored = ~np.isnan(score)
    order = np.flatnonzero(scored)[np.argsort(-score[scored], kind="stable")]
    threshold, first = np.unique(-score[order], return_index=True)
    last = np.append(first[1:], len(order)) - 1 if len(order) else first
    return Curve(-threshold, last, positive[order], unit[order], int((~scored).sum()))


@dataclass(frozen=True)
class Area:
    """P(a positive scores above a negative), ties counting half.

    value: NaN where either is missing · seeds: float64 [S] of each seed alone
    influence: float64 [U] what each level adds to the value's deviation; they sum to 0
    pairs: so many disjoint pairs of a positive and a negative there are
    """

    value: float
    seeds: np.ndarray
    influence: np.ndarray
    pairs: int

    @property
    def error(self) -> float:
        """Standard error over levels; scores of one level are not independent.

        Source: DeLong, DeLong, Clarke-Pearson 1988; Obuchowski 1997 for clusters.
        """
        levels = int(np.count_nonzero(self.influence)) or 1
        return float(np.sqrt((self.influence**2).sum() * levels / max(levels - 1, 1)))

    @property
    def interval(self) -> tuple[float, float]:
        """Of all levels. Where one class lies wholly above the other there is no spread to judge
        by, but all disjoint pairs agree: the bound is Clopper-Pearson's for that many."""
        half = norm.ppf((1 + CONFIDENCE) / 2) * self.error
        sure = ((1 - CONFIDENCE) / 2) ** (1 / max(self.pairs, 1))
        low = sure if self.value == 1 else self.value - half
        high = 1 - sure if self.value == 0 else self.value + half
        return max(0.0, low), min(1.0, high)


def area(score: np.ndarray, positive: np.ndarray, unit: np.ndarray, sample: Sample) -> Area:
    """The area under the curve of scores [N] without NaN. positive: bool [N] · unit: int [N]"""
    value, above, below = _placed(score[positive], score[~positive])
    influence = np.zeros(len(sample))
    if np.isfinite(value):
        influence += np.bincount(
            unit[positive], weights=(above - value) / len(above), minlength=len(sample)
        )
        influence += np.bincount(
            unit[~positive], weights=(below - value) / len(below), minlength=len(sample)
        )
    seeds = np.full(len(sample.seeds), np.nan)
    seed = sample.seed[unit]
    for place in range(len(seeds)):
        one, other = score[positive & (seed == place)], score[~positive & (seed == place)]
        if len(one) and len(other):
            seeds[place] = _share_below(one, np.sort(other)).mean()
    return Area(value, seeds, influence, min(int(positive.sum()), int((~positive).sum())))


def _placed(positive: np.ndarray, negative: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The area; for each positive the share of negatives below it, and the other way round."""
    if not len(positive) or not len(negative):
        return np.nan, np.zeros(0), np.zeros(0)
    above = _share_below(positive, np.sort(negative))
    below = 1 - _share_below(negative, np.sort(positive))
    return float(above.mean()), above, below


def _share_below(score: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of sorted others that each score is above, ties counting half."""
    below = np.searchsorted(others, score, "left") + np.searchsorted(others, score, "right")
    return np.asarray(below / (2 * len(others)))


def auroc(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """P(a positive scores above a negative), ties counting half; NaN if either is missing."""
    total = (np.diff(false) * (true[:, 1:] + true[:, :-1])).sum(axis=1) / 2
    return divide(total, true[:, -1] * false[:, -1])


def aupr(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Average precision: precision at each threshold, weighted by the recall it adds."""
    precision = divide(true[:, 1:], true[:, 1:] + false[:, 1:])
    precision = np.where(np.isnan(precision), 0.0, precision)
    return divide((np.diff(true) * precision).sum(axis=1), true[:, -1])


def fpr_at_tpr(least: float) -> Reading:
    """The smallest false positive rate at which the true positive rate is at least `least`."""

    def reading(true: np.ndarray, false: np.ndarray) -> np.ndarray:
        enough = true >= least * true[:, -1:] - 1e-9
        first = enough.argmax(axis=1)
        value = divide(false[np.arange(len(false)), first], false[:, -1])
        return np.where(true[:, -1] > 0, value, np.nan)

    return reading


def tpr_at_fpr(most: float) -> Reading:
    """The largest true positive rate at which the false positive rate is at most `most`.

    Only thresholds that can be set count: nothing is interpolated.
    """

    def reading(true: np.ndarray, false: np.ndarray) -> np.ndarray:
        allowed = (false <= most * false[:, -1:] + 1e-9).sum(axis=1) - 1
        value = divide(true[np.arange(len(true)), allowed], true[:, -1])
        return np.where(false[:, -1] > 0, value, np.nan)

    return reading


def partial_auroc(most: float) -> Reading:
    """Area up to false positive rate `most`, standardised after McClish (1989): chance gives
    0.5 and a perfect ranking 1. scikit-learn's `roc_auc_score(max_fpr=most)`.
    """

    def reading(true: np.ndarray, false: np.ndarray) -> np.ndarray:
        fpr, tpr = divide(false, false[:, -1:]), divide(true, true[:, -1:])
        width = np.clip(fpr[:, 1:], None, most) - np.clip(fpr[:, :-1], None, most)
        slope = divide(np.diff(tpr), np.diff(fpr))
        slope = np.where(np.isnan(slope), 0.0, slope)
        total = (width * (tpr[:, :-1] + slope * width / 2)).sum(axis=1)
        least = most**2 / 2
        return (1 + (total - least) / (most - least)) / 2

    return reading


def tpr_where(true: np.ndarray, false: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The highest true positive rate where the false positive rate is `wanted`, float [R].

    true, false: rates float [R, T + 1] · wanted: float [R]
    Ties at a threshold are broken at random, so that any rate can be had exactly.
    """
    rows = np.arange(len(false))
    at = (false <= wanted[:, None] + 1e-12).sum(axis=1) - 1
    return _between(false, true, wanted, rows, at, np.minimum(at + 1, false.shape[1] - 1))


def fpr_where(true: np.ndarray, false: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The lowest false positive rate where the true positive rate is `wanted`; see `tpr_where`."""
    rows = np.arange(len(true))
    at = (true >= wanted[:, None] - 1e-12).argmax(axis=1)
    return _between(true, false, wanted, rows, np.maximum(at - 1, 0), at)


def _between(
    x: np.ndarray, y: np.ndarray, wanted: np.ndarray, rows: np.ndarray, low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """y on the line between two places of each row, where x is as wanted."""
    width = x[rows, high] - x[rows, low]
    part = np.divide(wanted - x[rows, low], width, out=np.zeros(len(rows)), where=width > 0)
    return np.asarray(y[rows, low] + np.clip(part, 0, 1) * (y[rows, high] - y[rows, low]))
