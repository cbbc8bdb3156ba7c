"""reach: does each step still lead to the assigned goal?"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from delegate.monitors.monitor import Memory, Monitor, MonitorSettings, Steps, World
from delegate.monitors.per_goal import PerGoal


class ReachSettings(MonitorSettings):
    """Drift away from the assigned goal, while it happens.

    reach: {form: change, length: 128, discount: 0.5, floor: -500.0}
    """

    form: Literal["change", "level"] = "change"
    """change: log B_g(s) - log B_g(s'), what this step lost; level: -log B_g(s'), how far it is"""
    length: int = Field(default=128, ge=1, le=100_000)
    """longest trace recalled from the goal (steps)"""
    discount: float = Field(default=0.5, gt=0, le=1)
    """weight of each further step back, the λ of B_g; near 1, busy places outweigh near ones"""
    floor: float = Field(default=-500.0, lt=0, allow_inf_nan=False)
    """log B_g where it is lower, or where no trace passes (nats)"""


class Reach(Monitor):
    """Does each step still lead to the assigned goal?

    -Δ log B_g(s), with B_g(s) the discounted frequency of s in traces recalled from g.
    A state that no trace passes counts as `floor`: a step from the support to it scores
    log B_g(s) - floor, a step beside it scores 0, and every score is finite.
    """

    name: ClassVar[str] = "reach"
    default_statistic: ClassVar[str] = "drawdown"
    Settings: ClassVar[type[MonitorSettings]] = ReachSettings
    settings: ReachSettings

    def bind(self, world: World) -> None:
        super().bind(world)
        self._log_b = PerGoal(self._reachability, world.model.num_levels, world.model.num_states)

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        self.world  # noqa: B018 - says what is missing when nothing is bound yet
        if self.settings.form == "level":
            (after,) = self._log_b.at(steps.level, steps.goal, steps.next_state)
            return -after, memory
        before, after = self._log_b.at(steps.level, steps.goal, steps.state, steps.next_state)
        return before - after, memory

    def _reachability(self, level: np.ndarray, goal: np.ndarray) -> np.ndarray:
        log_b = self.world.model.reachability(
            goal, self.settings.length, self.settings.discount, level
        )
        return np.maximum(log_b, self.settings.floor)
