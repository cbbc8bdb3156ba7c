"""episode_mean and episode_deviation: is what this sub-episode has seen so far unusual?"""

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
            raise ValueError(f"monitor {self.name}: no reference transitions; give 1 or more")
        _, episode, count = np.unique(
            reference.sub_episode, return_inverse=True, return_counts=True
        )
        seen = self._features(steps)
        total, squares = np.zeros((2, len(count), seen.shape[1]))
        np.add.at(total, episode, seen)
        np.add.at(squares, episode, seen**2)
        found = self._summary(total, squares, count)
        self._size = seen.shape[1]
        self._mean = found.mean(0)
        self._scale = np.maximum(found.std(0), self.settings.min_scale)

    def start(self, count: int) -> Memory:
        self._fitted()
        return {
            "total": np.zeros((count, self._size)),
            "squares": np.zeros((count, self._size)),
            "count": np.zeros(count, np.int64),
        }

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        expected, seen = self._fitted(), self._features(steps)
        total, squares = memory["total"] + seen, memory["squares"] + seen**2
        count = memory["count"] + 1
        away = (self._summary(total, squares, count) - expected) / self._scale
        after = {"total": total, "squares": squares, "count": count}
        return np.sqrt((away**2).mean(1)), after

    def _summary(self, total: np.ndarray, squares: np.ndarray, count: np.ndarray) -> np.ndarray:
        """What is compared of sums over `count` steps, float64 [N, ...]."""
        return np.asarray(total / count[:, None])

    def _fitted(self) -> np.ndarray:
        if self._mean is None:
            raise RuntimeError(f"monitor {self.name}: not fitted; call fit first")
        return self._mean

    def _features(self, steps: Steps) -> np.ndarray:
        features = self.world.features(steps.level, steps.goal, steps.next_state)
        return np.asarray(features, np.float64)


class EpisodeDeviation(EpisodeMean):
    """Is what this sub-episode has seen so far unusual, on average or in how much it varies?

    As `episode_mean`, of the mean and the standard deviation of every feature so far.
    """

    name: ClassVar[str] = "episode_deviation"

    def _summary(self, total: np.ndarray, squares: np.ndarray, count: np.ndarray) -> np.ndarray:
        mean = total / count[:, None]
        variance = np.maximum(squares / count[:, None] - mean**2, 0.0)
        return np.concatenate([mean, np.sqrt(variance)], axis=1)
