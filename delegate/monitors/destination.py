"""destination: is this where sub-episodes with such a goal end?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from delegate.monitors.monitor import Memory, Monitor, MonitorSettings, Reference, Steps, World
from delegate.recall.per_goal import PerGoal


class DestinationSettings(MonitorSettings):
    """A wrong end.

    destination: {length: 128, smoothing: 0.5}
    """

    length: int = Field(default=128, ge=1, le=100_000)
    """distances told apart: 0 to length steps, and beyond"""
    smoothing: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    """reference ends imagined at every distance (count)"""


class Destination(Monitor):
    """Is this where sub-episodes with such a goal end?

    -log d_ref(s_T | g), scored at the end of the sub-episode and NaN before.
    What carries over from one level to another is how far from its goal a sub-episode ends, so
    d_ref is a smoothed histogram of the fewest steps back from g at which a recalled trace can
    stand in s_T. A distance's share is spread evenly over the states at that distance, which
    makes d_ref a probability over the states of each level.
    """

    name: ClassVar[str] = "destination"
    scores_ends: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("model",)
    default_statistic: ClassVar[str] = "last"
    Settings: ClassVar[type[MonitorSettings]] = DestinationSettings
    settings: DestinationSettings

    def fit(self, reference: Reference, world: World) -> None:
        steps = reference.steps
        if not steps.ended.any():
            raise ValueError(
                "monitor destination: no reference sub-episode has ended; give finished ones"
            )
        ends = steps.take(steps.ended)
        super().fit(reference, world)
        back = self.model.steps_back(ends.goal, self.settings.length, ends.level)
        distance = self._bin(back[np.arange(len(ends)), ends.next_state])
        counts = np.bincount(distance, minlength=self.settings.length + 2)
        self._share = counts + self.settings.smoothing

    def bind(self, world: World) -> None:
        super().bind(world)
        self._surprise = PerGoal(self._surprises, self.model.num_levels, self.model.num_states)

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        self.world  # noqa: B018 - says what is missing when nothing is bound yet
        score = np.full(len(steps), np.nan)
        if steps.ended.any():
            ends = steps.take(steps.ended)
            (score[steps.ended],) = self._surprise.at(ends.level, ends.goal, ends.next_state)
        return score, memory

    def _surprises(self, level: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """-log d_ref of every state, float64 [G, S]."""
        if not hasattr(self, "_share"):
            raise RuntimeError("monitor destination: not fitted; call fit before score")
        distance = self._bin(self.model.steps_back(goal, self.settings.length, level))
        bins = len(self._share)
        row = np.arange(len(goal))[:, None]
        states = np.bincount((row * bins + distance).ravel(), minlength=len(goal) * bins)
        states = states.reshape(len(goal), bins)
        total = (self._share * (states > 0)).sum(1, keepdims=True)
        density = (self._share / total)[row, distance] / states[row, distance]
        return np.asarray(-np.log(density))

    def _bin(self, steps_back: np.ndarray) -> np.ndarray:
        """Distances 0 to length, and length + 1 for states that no trace reaches."""
        return np.where(steps_back < 0, self.settings.length + 1, steps_back)
