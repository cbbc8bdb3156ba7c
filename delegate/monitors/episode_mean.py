"""episode_mean: is what this sub-episode has seen so far, on average, unusual?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from delegate.monitors.monitor import Memory, Monitor, MonitorSettings, Reference, Steps, World


class EpisodeMeanSettings(MonitorSettings):
    """The mean of the observations.

    episode_mean: {min_scale: 0.001}
    """

    min_scale: float = Field(default=1e-3, ge=1e-9, allow_inf_nan=False)
    """least standard deviation a feature's mean is divided by (the feature's unit)"""


class EpisodeMean(Monitor):
    """Is what this sub-episode has seen so far, on average, unusual?

    Root mean square, over features, of the standardised distance of the mean so far.
    The mean is over `world.features` of every s' of the sub-episode so far; it is compared with
    the means of whole reference sub-episodes.
    """

    name: ClassVar[str] = "episode_mean"
    default_statistic: ClassVar[str] = "last"
    Settings: ClassVar[type[MonitorSettings]] = EpisodeMeanSettings
    settings: EpisodeMeanSettings
    _mean: np.ndarray | None = None

    def fit(self, reference: Reference, world: World) -> None:
        super().fit(reference, world)
        steps = reference.steps
        if not len(steps):
            raise ValueError("monitor episode_mean: no reference transitions; give 1 or more")
        _, episode, count = np.unique(
            reference.sub_episode, return_inverse=True, return_counts=True
        )
        total = np.zeros((len(count), self._features(steps).shape[1]))
        np.add.at(total, episode, self._features(steps))
        means = total / count[:, None]
        self._mean = means.mean(0)
        self._scale = np.maximum(means.std(0), self.settings.min_scale)

    def start(self, count: int) -> Memory:
        return {
            "total": np.zeros((count, len(self._fitted()))),
            "count": np.zeros(count, np.int64),
        }

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        expected = self._fitted()
        total = memory["total"] + self._features(steps)
        count = memory["count"] + 1
        away = (total / count[:, None] - expected) / self._scale
        return np.sqrt((away**2).mean(1)), {"total": total, "count": count}

    def _fitted(self) -> np.ndarray:
        if self._mean is None:
            raise RuntimeError("monitor episode_mean: not fitted; call fit first")
        return self._mean

    def _features(self, steps: Steps) -> np.ndarray:
        features = self.world.features(steps.level, steps.goal, steps.next_state)
        return np.asarray(features, np.float64)
