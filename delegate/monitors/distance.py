"""distance and value: how far is the goal by the shortest way? They know the world."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from delegate.monitors.monitor import Memory, Monitor, MonitorSettings, Steps, World


class Distance(Monitor):
    """Does each step come nearer to the assigned goal?

    What a step added to the fewest steps that are left, or metres where states are vectors. Where
    no way leads to the goal, as many steps as there are states; no score where those are vectors.
    """

    name: ClassVar[str] = "distance"
    needs: ClassVar[tuple[str, ...]] = ("planner",)
    default_statistic: ClassVar[str] = "drawdown"

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        planner, goal = self.planner, steps.goal[:, None]
        before, after = (
            planner.distance(steps.level, goal, state)[:, 0]
            for state in (steps.state, steps.next_state)
        )
        model = self.world.model
        beyond = np.nan if model is None else model.num_states
        away = np.where(after < 0, beyond, after) - np.where(before < 0, beyond, before)
        return away.astype(np.float64), memory


class ValueSettings(MonitorSettings):
    """Value lost.

    value: {gamma: 0.99}
    """

    gamma: float = Field(default=0.99, gt=0, lt=1)
    """discount of V* (per step)"""


class Value(Monitor):
    """Does each step keep the value it could still have?

    V*(s) - V*(s'), V* the expected gamma^steps to the assigned goal of the best policy.
    """

    name: ClassVar[str] = "value"
    needs: ClassVar[tuple[str, ...]] = ("planner",)
    default_statistic: ClassVar[str] = "drawdown"
    Settings: ClassVar[type[MonitorSettings]] = ValueSettings
    settings: ValueSettings

    def bind(self, world: World) -> None:
        super().bind(world)
        self._planner = self.table_planner

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        self.world  # noqa: B018 - says what is missing when nothing is bound yet
        planner, gamma = self._planner, self.settings.gamma
        before, after = (
            planner.value(steps.level, steps.goal, state, gamma)
            for state in (steps.state, steps.next_state)
        )
        return before - after, memory
