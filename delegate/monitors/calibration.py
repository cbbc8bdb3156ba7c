"""When a value is high enough for an alarm: thresholds by rank, and by Ville's inequality."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import floor, inf, isfinite, log
from typing import Any, Literal

import numpy as np
from scipy.special import gammainc, gammaln, hyp1f1


@dataclass(frozen=True)
class Calibration:
    """An alarm threshold for a false-alarm rate per sub-episode.

    target: P(at least one alarm in a nominal sub-episode), in (0, 1)
    statistic: name of the running statistic whose peaks these are
    peaks: its highest value in each of n scored nominal sub-episodes that nothing was fitted on
    unscored: sub-episodes of the same split that never got a score; they are in no rank

    The threshold is the ceil((n + 1)(1 - target))-th smallest peak. If calibration and
    nominal sub-episodes are exchangeable, a new one peaks above it with probability at most
    `target`, and above target - 1 / (n + 1) when peaks do not tie.
    Source: split conformal prediction (Vovk, Gammerman, Shafer 2005).
    """

    target: float
    statistic: str
    peaks: tuple[float, ...]
    unscored: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            raise ValueError(f"target is {self.target}; give a rate between 0 and 1")
        if not all(isfinite(peak) for peak in self.peaks):
            raise ValueError(
                f"calibration: a peak of {self.statistic} is not finite; bound the scores, leave "
                "unscored sub-episodes out and count them in `unscored`"
            )

    @property
    def n(self) -> int:
        """Scored calibration sub-episodes."""
        return len(self.peaks)

    @cached_property
    def threshold(self) -> float:
        """Alarm strictly above this; +inf, so never, where `reason` says why."""
        # As a fraction of the decimal that was written: 0.05 * 20 is 1, not a hair more.
        above = floor((self.n + 1) * Fraction(str(self.target)))
        return self._sorted[self.n - above] if above >= 1 else inf

    @property
    def reason(self) -> str | None:
        """Why there is no finite threshold, or None when there is one."""
        if self.threshold < inf:
            return None
        needed = -floor(-1 / Fraction(str(self.target))) - 1
        return (
            f"{self.n} scored calibration sub-episodes cannot hold the false-alarm rate at "
            f"{self.target}; {needed} or more can"
        )

    def alarm(self, value: np.ndarray) -> np.ndarray:
        """Which values [N] raise an alarm, bool [N]; NaN does not."""
        return np.asarray(np.asarray(value) > self.threshold)

    def p_values(self, peaks: np.ndarray, rng: np.random.Generator | int) -> np.ndarray:
        """Conformal p-values of new peaks [N] against the calibration peaks, float64 [N].

        (peaks above + u (peaks equal + 1)) / (n + 1), u uniform from `rng`: exactly uniform for
        each nominal sub-episode, ties or not. NaN where the peak is NaN.
        """
        peaks = np.asarray(peaks, np.float64)
        u = np.random.default_rng(rng).random(len(peaks))
        low = np.searchsorted(self._sorted, peaks, "left")
        high = np.searchsorted(self._sorted, peaks, "right")
        return np.where(
            np.isnan(peaks), np.nan, (self.n - high + u * (high - low + 1)) / (self.n + 1)
        )

    def log_martingale(
        self,
        peaks: np.ndarray,
        rng: np.random.Generator | int,
        reference: Literal["fixed", "growing"] = "fixed",
    ) -> np.ndarray:
        """The conformal test martingale over new sub-episodes in order, float64 [N].

        peaks: [N] in order of time; NaN (unscored) leaves the martingale as it was
        reference: what each new peak is ranked among. "fixed": the calibration peaks only, so
            that anomalies cannot make later ones look normal. "growing": the new peaks before it
            too; then p-values are independent and P(sup >= 1 / a) <= a holds exactly.
            With "fixed" all p-values share the error of one finite sample, of order N / n nats:
            keep N well below n, or read it as a trend and not as a guarantee.
        Source: Vovk, Nouretdinov, Gammerman 2003 (power mixture).
        """
        if reference == "fixed":
            return log_power_mixture(self.p_values(peaks, rng))
        return log_power_mixture(self._growing_p_values(np.asarray(peaks, np.float64), rng))

    def _growing_p_values(self, peaks: np.ndarray, rng: np.random.Generator | int) -> np.ndarray:
        u = np.random.default_rng(rng).random(len(peaks))
        seen = self._sorted.tolist()
        p = np.full(len(peaks), np.nan)
        for i, peak in enumerate(peaks.tolist()):
            if peak == peak:
                low, high = bisect_left(seen, peak), bisect_right(seen, peak)
                p[i] = (len(seen) - high + u[i] * (high - low + 1)) / (len(seen) + 1)
                insort(seen, peak)
        return p

    @cached_property
    def _sorted(self) -> np.ndarray:
        return np.sort(np.asarray(self.peaks, np.float64))

    def to_json(self) -> dict[str, Any]:
        """What `calibration.json` holds; a threshold of +inf is null and has its reason."""
        return {
            "kind": "calibrated",
            "target": self.target,
            "threshold": self.threshold if self.threshold < inf else None,
            "reason": self.reason,
            "statistic": self.statistic,
            "peaks": list(self.peaks),
            "n": self.n,
            "unscored": self.unscored,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        """Read what `to_json` wrote; the threshold is derived anew and compared.

        Raises ValueError if the recorded threshold does not follow from the peaks.
        """
        found = cls(
            float(data["target"]),
            str(data["statistic"]),
            tuple(float(peak) for peak in data["peaks"]),
            int(data.get("unscored", 0)),
        )
        recorded = inf if data["threshold"] is None else float(data["threshold"])
        if recorded != found.threshold:
            raise ValueError(
                f"calibration: recorded threshold {recorded} does not follow from the peaks "
                f"({found.threshold}); calibrate again"
            )
        return found


@dataclass(frozen=True)
class Ville:
    """An alarm threshold for odds that are a supermartingale while a child does as it was told.

    target: α, P(at least one alarm in such a sub-episode) at most, at any time, in (0, 1)
    log_prior_odds: log odds that the score begins at
    statistic: name of the running statistic, `last` or `max`

    No data is looked at: the threshold is log_prior_odds - log α. How far the bound reaches, the
    monitor says.
    Source: Ville 1939, Étude critique de la notion de collectif.
    """

    target: float
    log_prior_odds: float
    statistic: str = "last"

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            raise ValueError(f"alpha is {self.target}; give a rate between 0 and 1")
        if self.statistic not in ("last", "max"):
            raise ValueError(
                f"statistic is {self.statistic}; a bound of the odds holds for `last` and `max`"
            )

    @property
    def threshold(self) -> float:
        """Alarm strictly above this (log odds)."""
        return self.log_prior_odds - log(self.target)

    @property
    def reason(self) -> None:
        """Why there is no finite threshold: there always is one."""
        return None

    @property
    def n(self) -> int:
        """Calibration sub-episodes: none."""
        return 0

    def alarm(self, value: np.ndarray) -> np.ndarray:
        """Which values [N] raise an alarm, bool [N]; NaN does not."""
        return np.asarray(np.asarray(value) > self.threshold)

    def to_json(self) -> dict[str, Any]:
        """What `calibration.json` holds."""
        return {
            "kind": "ville",
            "target": self.target,
            "threshold": self.threshold,
            "reason": None,
            "statistic": self.statistic,
            "log_prior_odds": self.log_prior_odds,
            "n": 0,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ville:
        """Read what `to_json` wrote; raises ValueError as `Calibration.from_json` does."""
        found = cls(float(data["target"]), float(data["log_prior_odds"]), str(data["statistic"]))
        if float(data["threshold"]) != found.threshold:
            raise ValueError(
                f"calibration: recorded threshold {data['threshold']} does not follow from alpha "
                f"({found.threshold}); run the trial again"
            )
        return found


Threshold = Calibration | Ville
"""how an alarm threshold came about"""


def threshold_from_json(data: Mapping[str, Any]) -> Threshold:
    """Read what `to_json` of either kind wrote; without a kind it is a calibration.

    Raises ValueError for another kind, and as `from_json` does.
    """
    kind = data.get("kind", "calibrated")
    if kind not in ("calibrated", "ville"):
        raise ValueError(f"calibration: kind {kind!r} is not known; it is calibrated or ville")
    return (Ville if kind == "ville" else Calibration).from_json(data)


def calibrate(peaks: np.ndarray, target: float, statistic: str) -> Calibration:
    """Calibrate on the peaks of nominal sub-episodes [N]; NaN ones are counted as unscored."""
    peaks = np.asarray(peaks, np.float64)
    scored = ~np.isnan(peaks)
    return Calibration(target, statistic, tuple(peaks[scored].tolist()), int((~scored).sum()))


def log_power_mixture(p: np.ndarray) -> np.ndarray:
    """log of the integral over ε in [0, 1] of prod_{i <= t} ε p_i^(ε - 1), for each t.

    p: p-values [N] in order; NaN leaves the value as it was · returns float64 [N]
    """
    p = np.asarray(p, np.float64)
    scored = ~np.isnan(p)
    # 1e-300 stands for a p-value of 0, which the randomised rank gives with probability 0.
    x = -np.cumsum(np.log(np.where(scored, np.maximum(p, 1e-300), 1.0)))
    a = np.cumsum(scored) + 1.0
    return _log_mixture(a, x)


def _log_mixture(a: np.ndarray, x: np.ndarray) -> np.ndarray:
    """log of the integral over ε in [0, 1] of ε^(a - 1) exp(x (1 - ε)), in closed form.

    The integral is e^x x^-a γ(a, x), and also 1F1(1; a + 1; x) / a: the first loses γ to
    underflow where x is far below a, the second overflows where x is far above.
    """
    low = x <= a
    small, large = np.where(low, x, 0.0), np.where(low, a, x)
    series = np.log(hyp1f1(1.0, a + 1.0, small)) - np.log(a)
    gamma = large - a * np.log(large) + gammaln(a) + np.log(gammainc(a, large))
    return np.where(low, series, gamma)
