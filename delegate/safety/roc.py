"""ROC curves of many bootstrap resamples at once, and every number read off them.

A curve is kept as counts per training seed, so that one matrix product gives the curve of any
resample of seeds. scikit-learn gives the same numbers for one curve and is the tests' oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from delegate.safety.intervals import Statistic, divide

CurveStatistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""true and false positives float [R, T + 1], from none to all -> float [R]"""

CHUNK = 4_000_000
"""numbers held at once while resampling (count)"""


@dataclass(frozen=True)
class Curve:
    """How many positives and negatives of each seed score at or above each threshold.

    threshold: float64 [T] distinct scores, highest first
    true, false: float64 [seeds, T] counts · unscored: how many had no score and are left out
    """

    threshold: np.ndarray
    true: np.ndarray
    false: np.ndarray
    unscored: int

    @property
    def positives(self) -> int:
        """Scored positives."""
        return int(self.true[:, -1].sum()) if self.true.size else 0

    @property
    def negatives(self) -> int:
        """Scored negatives."""
        return int(self.false[:, -1].sum()) if self.false.size else 0

    @property
    def tied(self) -> bool:
        """Do all share one score, so that they cannot be ranked?"""
        return len(self.threshold) == 1

    def statistic(self, of: CurveStatistic) -> Statistic:
        """`of` for any weights of the seeds, a few resamples at a time."""

        def statistic(weights: np.ndarray) -> np.ndarray:
            rows = max(1, CHUNK // max(1, len(self.threshold)))
            parts = [weights[i : i + rows] for i in range(0, len(weights), rows)]
            return np.concatenate(
                [of(_from_zero(part @ self.true), _from_zero(part @ self.false)) for part in parts]
            )

        return statistic

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """The corners of the pooled curve: false and true positive rates, from 0 to 1."""
        true = _from_zero(self.true.sum(axis=0, keepdims=True))[0]
        false = _from_zero(self.false.sum(axis=0, keepdims=True))[0]
        rise = np.diff(true), np.diff(false)
        straight = rise[0][:-1] * rise[1][1:] == rise[0][1:] * rise[1][:-1]
        corner = np.concatenate([[True], ~straight, [True]])
        return false[corner] / false[-1], true[corner] / true[-1]


def curve(score: np.ndarray, positive: np.ndarray, seed: np.ndarray, seeds: int) -> Curve:
    """The curve of scores [N], higher = more suspicious; NaN is no score and takes no rank.

    positive: bool [N] · seed: int [N] 0 to seeds - 1
    """
    scored = ~np.isnan(score)
    threshold, place = np.unique(-score[scored], return_inverse=True)
    counts = np.zeros((2, seeds, len(threshold)))
    np.add.at(counts, (positive[scored].astype(int), seed[scored], place), 1)
    false, true = counts.cumsum(axis=2)
    return Curve(-threshold, true, false, int((~scored).sum()))


def auroc(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """P(a positive scores above a negative), ties counting half; NaN if either is missing."""
    area = (np.diff(false) * (true[:, 1:] + true[:, :-1])).sum(axis=1) / 2
    return divide(area, true[:, -1] * false[:, -1])


def aupr(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Average precision: precision at each threshold, weighted by the recall it adds."""
    precision = divide(true[:, 1:], true[:, 1:] + false[:, 1:])
    precision = np.where(np.isnan(precision), 0.0, precision)
    return divide((np.diff(true) * precision).sum(axis=1), true[:, -1])


def fpr_at_tpr(least: float) -> CurveStatistic:
    """The smallest false positive rate at which the true positive rate is at least `least`."""

    def statistic(true: np.ndarray, false: np.ndarray) -> np.ndarray:
        enough = true >= least * true[:, -1:] - 1e-9
        first = enough.argmax(axis=1)
        value = divide(false[np.arange(len(false)), first], false[:, -1])
        return np.where(true[:, -1] > 0, value, np.nan)

    return statistic


def tpr_at_fpr(most: float) -> CurveStatistic:
    """The largest true positive rate at which the false positive rate is at most `most`.

    Only thresholds that can be set count: nothing is interpolated.
    """

    def statistic(true: np.ndarray, false: np.ndarray) -> np.ndarray:
        allowed = (false <= most * false[:, -1:] + 1e-9).sum(axis=1) - 1
        value = divide(true[np.arange(len(true)), allowed], true[:, -1])
        return np.where(false[:, -1] > 0, value, np.nan)

    return statistic


def partial_auroc(most: float) -> CurveStatistic:
    """Area up to false positive rate `most`, standardised after McClish (1989): chance gives
    0.5 and a perfect ranking 1. scikit-learn's `roc_auc_score(max_fpr=most)`.
    """

    def statistic(true: np.ndarray, false: np.ndarray) -> np.ndarray:
        fpr, tpr = divide(false, false[:, -1:]), divide(true, true[:, -1:])
        width = np.clip(fpr[:, 1:], None, most) - np.clip(fpr[:, :-1], None, most)
        slope = divide(np.diff(tpr), np.diff(fpr))
        slope = np.where(np.isnan(slope), 0.0, slope)
        area = (width * (tpr[:, :-1] + slope * width / 2)).sum(axis=1)
        least = most**2 / 2
        return (1 + (area - least) / (most - least)) / 2

    return statistic


def _from_zero(counts: np.ndarray) -> np.ndarray:
    """The curve with its beginning, where the threshold is above every score."""
    return np.concatenate([np.zeros((len(counts), 1)), counts], axis=1)
