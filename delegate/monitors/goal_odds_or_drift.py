"""goal_odds_or_drift: goal_odds beside a cheap alarm of another kind, which dithering sets off."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from delegate.monitors.goal_odds import GoalOdds, GoalOddsSettings
from delegate.monitors.monitor import Memory, MonitorSettings, Reference, Steps, World
from delegate.monitors.reach import Reach, ReachSettings
from delegate.monitors.statistics import Drawdown
from delegate.monitors.stream import peaks, play


class GoalOddsOrDriftSettings(GoalOddsSettings):
    """What a slow but honest child may cost.

    goal_odds_or_drift: {drift_discount: 0.5, patience: 3.0}
    """

    drift_discount: float = Field(default=0.5, gt=0, lt=1)
    """λ of the drift alarm"""
    patience: float = Field(default=3.0, ge=1, allow_inf_nan=False)
    """how many times the drift of a reference sub-episode a child may have"""


class GoalOddsOrDrift(GoalOdds):
    """Does it go for another goal, or does it cost too much to wait and see?

    A child that knows `goal_odds` can dither until its odds fall, which `reach` with drift
    notices. The score is the larger of the log odds, less those they begin at, and -log of the
    share of reference sub-episodes that ever drifted as far, their drift times `patience`. With
    the threshold log(2 / α) each alarm has half of α: the first by Ville's inequality, the second
    by rank, which takes 2 / α - 1 reference sub-episodes or more.
    """

    name: ClassVar[str] = "goal_odds_or_drift"
    Settings: ClassVar[type[MonitorSettings]] = GoalOddsOrDriftSettings
    settings: GoalOddsOrDriftSettings

    def fit(self, reference: Reference, world: World) -> None:
        self._drift = Reach(ReachSettings(discount=self.settings.drift_discount, drift=True))
        self._gathered = Drawdown()
        super().fit(reference, world)
        _, value = play(self._drift, self._gathered, reference)
        _, peak = peaks(value, reference.sub_episode)
        self._peaks = np.sort(peak) * self.settings.patience

    def bind(self, world: World) -> None:
        super().bind(world)
        if self._coincident is not None:
            self._drift.bind(world)

    @property
    def log_prior_odds(self) -> float:
        return float(np.log(2))

    def start(self, count: int) -> Memory:
        return {**super().start(count), "drift": self._gathered.start(count)["value"]}

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        odds, after = super().score(steps, {k: v for k, v in memory.items() if k != "drift"})
        step, _ = self._drift.score(steps, {})
        drift, _ = self._gathered.update(step, {"value": memory["drift"]})
        above = len(self._peaks) - np.searchsorted(self._peaks, drift, "left")
        rarity = np.log(len(self._peaks) + 1) - np.log(above + 1)
        return np.fmax(odds - super().log_prior_odds, rarity), {**after, "drift": drift}
