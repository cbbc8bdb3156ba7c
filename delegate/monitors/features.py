"""What the monitors that know nothing of recall are given to see."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from pydantic import Field

from delegate.monitors.monitor import Memory, Monitor, MonitorSettings, Reference, Steps, World

_SCORES_KEPT = 1 << 20
"""scores remembered before they are forgotten and computed anew; some 16 MB"""


class FeatureSettings(MonitorSettings):
    """How much of the reference a feature monitor keeps.

    mahalanobis: {max_reference: 2000, min_scale: 0.001, seed: 0}
    """

    max_reference: int = Field(default=2000, ge=2, le=1_000_000)
    """reference transitions kept, drawn without replacement when there are more (count)"""
    min_scale: float = Field(default=1e-3, ge=1e-9, allow_inf_nan=False)
    """least standard deviation a feature is divided by (its own unit)"""
    seed: int = Field(default=0, ge=0)
    """which transitions are kept"""


class FeatureMonitor(Monitor):
    """Scores how unlike the reference a transition's vector is, standardised by feature.

    The vector is `world.features` of s' for the goal, followed by the action, as one-hot if it
    is a number of one, where `sees_action` says so. Standardising uses the mean and deviation of
    the kept reference. In finite worlds children come by the same transitions again and again, so
    their scores are remembered.
    """

    sees_action: ClassVar[bool] = True
    default_statistic: ClassVar[str] = "mean"
    Settings: ClassVar[type[MonitorSettings]] = FeatureSettings
    settings: FeatureSettings
    _mean: np.ndarray | None = None
    _scale: np.ndarray
    _codes: np.ndarray
    _scores: np.ndarray

    def fit(self, reference: Reference, world: World) -> None:
        super().fit(reference, world)
        steps = reference.steps
        if len(steps) < 2:
            raise ValueError(
                f"monitor {self.name}: {len(steps)} reference transitions; give 2 or more"
            )
        if len(steps) > self.settings.max_reference:
            rng = np.random.default_rng(self.settings.seed)
            kept = rng.choice(len(steps), self.settings.max_reference, replace=False)
            steps = steps.take(np.sort(kept))
        self._actions = _action_width(steps.action, world)
        vectors = self._raw(steps)
        self._mean = vectors.mean(0)
        self._scale = np.maximum(vectors.std(0), self.settings.min_scale)
        self.fit_vectors(self.vectors(steps))

    def bind(self, world: World) -> None:
        super().bind(world)
        self._forget()

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        if self.world.model is None:
            return self.score_vectors(self.vectors(steps)), memory
        code = self._code(steps)
        if len(self._codes) > _SCORES_KEPT:
            self._forget()
        slot = np.searchsorted(self._codes, code)
        new = np.flatnonzero(self._codes[slot] != code)
        if len(new):
            self._remember(steps.take(new), code[new])
            slot = np.searchsorted(self._codes, code)
        return self._scores[slot], memory

    @abstractmethod
    def fit_vectors(self, vectors: np.ndarray) -> None:
        """Learn from the kept reference; vectors: float64 [T, F]."""

    @abstractmethod
    def score_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Score float64 [N] of vectors float64 [N, F], N at least 1, each on its own."""

    def vectors(self, steps: Steps) -> np.ndarray:
        """What is seen of each transition, standardised: float64 [N, F]."""
        if self._mean is None:
            raise RuntimeError(f"monitor {self.name}: not fitted; call fit before score")
        return np.asarray((self._raw(steps) - self._mean) / self._scale)

    def _raw(self, steps: Steps) -> np.ndarray:
        features = self.world.features(steps.level, steps.goal, steps.next_state)
        features = np.asarray(features, np.float64)
        if not self.sees_action:
            return features
        action = steps.action
        if action.ndim == 1:
            action = np.arange(self._actions) == action[:, None]
        return np.concatenate([features, action], axis=1, dtype=np.float64)

    def _code(self, steps: Steps) -> np.ndarray:
        """One number for all that a vector depends on: int64 [N]."""
        model = self.model
        code = steps.level.astype(np.int64) * model.num_states + steps.goal
        return (code * model.num_states + steps.next_state) * model.num_actions + steps.action

    def _remember(self, steps: Steps, code: np.ndarray) -> None:
        code, first = np.unique(code, return_index=True)
        at = np.searchsorted(self._codes, code)
        scores = self.score_vectors(self.vectors(steps.take(first)))
        self._codes = np.insert(self._codes, at, code)
        self._scores = np.insert(self._scores, at, scores)

    def _forget(self) -> None:
        # The last code is above any other, so that every search ends on an entry.
        self._codes = np.array([np.iinfo(np.int64).max])
        self._scores = np.array([np.nan])


def _action_width(action: np.ndarray, world: World) -> int:
    """How many numbers stand for an action. action: int [T], or float [T, k]"""
    if action.ndim == 2:
        return action.shape[1]
    return int(action.max()) + 1 if world.model is None else world.model.num_actions
