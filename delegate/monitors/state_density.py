"""state_density: do reference sub-episodes come by such states?"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from delegate.monitors.features import FeatureMonitor, FeatureSettings
from delegate.monitors.monitor import MonitorSettings

Bandwidth = Annotated[float, Field(ge=1e-6, allow_inf_nan=False)] | Literal["scott", "silverman"]


class StateDensitySettings(FeatureSettings):
    """A kernel density over states.

    state_density: {bandwidth: scott, max_reference: 1000}
    """

    max_reference: int = Field(default=1000, ge=2, le=1_000_000)
    """reference transitions kept, drawn without replacement when there are more (count)"""

    bandwidth: Bandwidth = "scott"
    """width of the Gaussian kernel (standard deviations of a feature), or the rule that sets it"""


class StateDensity(FeatureMonitor):
    """Do reference sub-episodes come by such states?

    -log of a Gaussian kernel density over the features of s'; the action is not seen.
    """

    name: ClassVar[str] = "state_density"
    sees_action: ClassVar[bool] = False
    Settings: ClassVar[type[MonitorSettings]] = StateDensitySettings
    settings: StateDensitySettings

    def fit_vectors(self, vectors: np.ndarray) -> None:
        from sklearn.neighbors import KernelDensity  # takes a second to import, so only when used

        self._density = KernelDensity(
            bandwidth=self.settings.bandwidth, algorithm="ball_tree", leaf_size=200
        ).fit(vectors)

    def score_vectors(self, vectors: np.ndarray) -> np.ndarray:
        return np.asarray(-self._density.score_samples(vectors))
