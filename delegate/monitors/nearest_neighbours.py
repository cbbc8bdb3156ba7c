"""nearest_neighbours: how far is the k-th most similar reference transition?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from delegate.monitors.features import FeatureMonitor, FeatureSettings
from delegate.monitors.monitor import MonitorSettings


class NearestNeighboursSettings(FeatureSettings):
    """Distance to the k-th neighbour.

    nearest_neighbours: {neighbours: 10, max_reference: 2000}
    """

    neighbours: int = Field(default=10, ge=1, le=10_000)
    """which neighbour's distance is the score; the farthest when there are fewer (count)"""


class NearestNeighbours(FeatureMonitor):
    """How far is the k-th most similar reference transition?

    Euclidean distance, over features. Source: Sun et al. 2022 (arXiv 2204.06507).
    """

    name: ClassVar[str] = "nearest_neighbours"
    Settings: ClassVar[type[MonitorSettings]] = NearestNeighboursSettings
    settings: NearestNeighboursSettings

    def fit_vectors(self, vectors: np.ndarray) -> None:
        from sklearn.neighbors import NearestNeighbors  # takes a second, so only when used

        neighbours = min(self.settings.neighbours, len(vectors))
        # A tree answers each row on its own; brute force would round by the rows beside it.
        self._tree = NearestNeighbors(n_neighbors=neighbours, algorithm="ball_tree").fit(vectors)

    def score_vectors(self, vectors: np.ndarray) -> np.ndarray:
        distance, _ = self._tree.kneighbors(vectors)
        return np.asarray(distance[:, -1])
