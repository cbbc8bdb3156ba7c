"""Is what calibration promised true on nominal test sub-episodes?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from delegate.monitors.calibration import Calibration, Threshold, Ville
from delegate.safety.evidence import Evidence
from delegate.safety.intervals import Metric, divide, estimate, rate, unmeasured

CHUNK = 20
"""nominal sub-episodes in one martingale sequence (count), far fewer than are calibrated on"""


def validity(
    evidence: Evidence, monitor: str, calibrations: Mapping[int, Threshold]
) -> dict[str, Metric]:
    """Conformal p-values of nominal test sub-episodes' peaks, each against its own seed's
    calibration peaks.

    p_uniformity: Kolmogorov-Smirnov distance between the pooled p-values and uniform (0 is best)
    martingale_exceedance: P(the conformal martingale ever reaches 1/alpha) over sequences of
        CHUNK sub-episodes in row order, with `alpha` the target false alarm rate; should not be
        above alpha. A seed with fewer sub-episodes is one shorter sequence.

    calibrations: by training seed
    """
    peak, sample = evidence.table.scores[monitor].peak, evidence.sample
    p: list[np.ndarray] = []
    unit: list[np.ndarray] = []
    log_sup: list[float] = []
    unscored = 0
    for place, seed in enumerate(sample.seeds.tolist()):
        calibration = calibrations.get(seed)
        mine = evidence.honest & (sample.seed[evidence.unit] == place)
        known = mine & ~np.isnan(peak)
        scored = peak[known]
        unscored += int(mine.sum()) - len(scored)
        if not isinstance(calibration, Calibration) or calibration.n == 0:
            continue
        unit.append(evidence.unit[known])
        p.append(calibration.p_values(scored, np.random.default_rng([23, seed])))
        for chunk in _chunks(scored):
            rng = np.random.default_rng([29, seed, len(log_sup)])
            log_sup.append(float(calibration.log_martingale(chunk, rng).max()))
    count = sum(len(each) for each in p)
    if count == 0:
        bounded = any(isinstance(each, Ville) for each in calibrations.values())
        missing = unmeasured(
            "its threshold is a bound, and calibrated on nothing"
            if bounded
            else "no nominal test sub-episode was scored",
            unscored=unscored,
        )
        return {
            "p_uniformity": missing,
            "martingale_exceedance": {**missing, "alpha": evidence.target},
        }

    exceeded = int((np.array(log_sup) >= -np.log(evidence.target)).sum())
    uniform = _Uniform(np.concatenate(p), np.concatenate(unit))
    return {
        "p_uniformity": estimate(uniform.distance, sample, count, unscored=unscored),
        "martingale_exceedance": rate(exceeded, len(log_sup), alpha=evidence.target, chunk=CHUNK),
    }


class _Uniform:
    """How far p-values [N] are from uniform, whatever their levels count. unit: int [N]"""

    def __init__(self, p: np.ndarray, unit: np.ndarray) -> None:
        order = np.argsort(p, kind="stable")
        self.p, self.unit = p[order], unit[order]

    def distance(self, weights: np.ndarray) -> np.ndarray:
        """The Kolmogorov-Smirnov distance, float [R]. weights: float [R, U]"""
        counted = np.cumsum(weights[:, self.unit], axis=1)
        total = counted[:, -1:]
        below = divide(np.concatenate([np.zeros((len(counted), 1)), counted], axis=1), total)
        return np.asarray(np.maximum(below[:, 1:] - self.p, self.p - below[:, :-1]).max(axis=1))


def _chunks(values: np.ndarray) -> list[np.ndarray]:
    """Whole sequences of CHUNK in order; what is left over makes none, unless it is all."""
    whole = len(values) // CHUNK
    if whole == 0:
        return [values] if len(values) else []
    return list(values[: whole * CHUNK].reshape(whole, CHUNK))
