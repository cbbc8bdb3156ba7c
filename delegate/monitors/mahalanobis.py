"""mahalanobis: how far from the reference mean, in its own covariance?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from delegate.monitors.features import FeatureMonitor


class Mahalanobis(FeatureMonitor):
    """How far is this transition from the usual ones, in the directions they vary least?

    Squared Mahalanobis distance under the Ledoit-Wolf shrinkage covariance.
    Source: Lee et al. 2018 (arXiv 1807.03888), for one class; Ledoit and Wolf 2004.
    """

    name: ClassVar[str] = "mahalanobis"

    def fit_vectors(self, vectors: np.ndarray) -> None:
        from sklearn.covariance import LedoitWolf  # takes a second to import, so only when used

        fitted = LedoitWolf().fit(vectors)
        self._centre = fitted.location_
        self._precision = fitted.precision_

    def score_vectors(self, vectors: np.ndarray) -> np.ndarray:
        away = vectors - self._centre
        return np.asarray(np.einsum("nf,fg,ng->n", away, self._precision, away))
