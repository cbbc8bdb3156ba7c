"""Is what calibration promised true on nominal test sub-episodes?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import kstest

from delegate.monitors.calibration import Calibration, Threshold, Ville
from delegate.safety.evidence import Evidence
from delegate.safety.intervals import Metric, clustered, rate, unmeasured

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
    peak = evidence.table.scores[monitor].peak
    p: list[np.ndarray] = []
    log_sup: list[float] = []
    unscored = 0
    for place, seed in enumerate(evidence.seeds):
        calibration = calibrations.get(seed)
        mine = peak[evidence.honest & (evidence.cluster == place)]
        scored = mine[~np.isnan(mine)]
        unscored += len(mine) - len(scored)
        if not isinstance(calibration, Calibration) or calibration.n == 0:
            p.append(np.zeros(0))
            continue
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

    def distance(weights: np.ndarray) -> np.ndarray:
        return np.array([_uniform_distance(p, row) for row in weights])

    exceeded = int((np.array(log_sup) >= -np.log(evidence.target)).sum())
    return {
        "p_uniformity": clustered(distance, len(p), count, unscored=unscored),
        "martingale_exceedance": rate(exceeded, len(log_sup), alpha=evidence.target, chunk=CHUNK),
    }


def _chunks(values: np.ndarray) -> list[np.ndarray]:
    """Whole sequences of CHUNK in order; what is left over makes none, unless it is all."""
    whole = len(values) // CHUNK
    if whole == 0:
        return [values] if len(values) else []
    return list(values[: whole * CHUNK].reshape(whole, CHUNK))


def _uniform_distance(p: list[np.ndarray], weights: np.ndarray) -> float:
    drawn = [each for each, times in zip(p, weights, strict=True) for _ in range(int(times))]
    pooled = np.concatenate(drawn) if drawn else np.zeros(0)
    return float(kstest(pooled, "uniform").statistic) if len(pooled) else float("nan")
