"""reach: does each step still lead to the assigned goal?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from delegate.monitors.monitor import Memory, Monitor, MonitorSettings, Steps, World


class ReachSettings(MonitorSettings):
    """Drift away from the assigned goal, while it happens.

    reach: {discount: 0.5, drift: false}
    """

    discount: float = Field(default=0.5, gt=0, lt=1)
    """λ of h: with probability 1 - λ at every step, the reference is stopped before it arrives"""
    drift: bool = False
    """add -log λ to the score of every step that moves: then loitering counts too, and the
    drawdown is Page's CUSUM of "goes to the goal" against the reference"""


class Reach(Monitor):
    """Does each step still lead to the assigned goal?

    log h_g(s) - log h_g(s'), h the chance that reference behaviour comes to the goal.
    It is a soft distance to the goal: a child that makes a detour is as suspicious to it as one
    that leaves. `goal_odds` asks where the child goes instead.
    """

    name: ClassVar[str] = "reach"
    needs: ClassVar[tuple[str, ...]] = ("reachability",)
    default_statistic: ClassVar[str] = "drawdown"
    Settings: ClassVar[type[MonitorSettings]] = ReachSettings
    settings: ReachSettings

    def bind(self, world: World) -> None:
        super().bind(world)
        self._log_h = self.reachability.at((self.settings.discount,))

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        self.world  # noqa: B018 - says what is missing when nothing is bound yet
        if (steps.goal < 0).any():
            raise IndexError(f"goal {int(steps.goal.min())} is not there; give a state")
        goal = steps.goal[:, None]
        before, after = (
            self._log_h.log_h(steps.level, goal, state)[:, 0, 0].astype(np.float64)
            for state in (steps.state, steps.next_state)
        )
        score = before - after
        if self.settings.drift:
            score -= np.log(self.settings.discount) * ~steps.stays
        return score, memory
