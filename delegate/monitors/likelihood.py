"""likelihood and likelihood_cusum: are these the actions of who goes to the goal?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from delegate.bank import Steering
from delegate.monitors.monitor import Memory, Monitor, MonitorSettings, Steps


class LikelihoodSettings(MonitorSettings):
    """The reference policy: shortest ways, with some moves at random.

    likelihood: {noise: 0.1}
    """

    noise: float = Field(default=0.1, gt=0, le=1)
    """share of actions that it takes at random"""
    concentration: float = Field(default=1.0, gt=0, le=100)
    """where actions are continuous: κ of the von Mises distribution of the direction of a step
    around the shortest way"""


class Likelihood(Monitor):
    """Are these the actions of somebody who goes to the assigned goal?

    -log π(a | s, g) of a policy that takes any best action, and a random one with probability
    `noise`. Where actions are continuous, -log of the density of the direction in which the body
    moved, around the shortest way. It knows the world.
    """

    name: ClassVar[str] = "likelihood"
    needs: ClassVar[tuple[str, ...]] = ("planner",)
    default_statistic: ClassVar[str] = "mean"
    Settings: ClassVar[type[MonitorSettings]] = LikelihoodSettings
    settings: LikelihoodSettings

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        if (steering := self.steering) is not None:
            turned = direction(steering, steps, steps.goal, self.settings.concentration)
            return np.log(2 * np.pi) - turned - self._against(2 * np.pi), memory
        best = self.table_planner.best(steps.level, steps.goal, steps.state)
        count, actions = best.sum(1), best.shape[1]
        chosen = best[np.arange(len(steps)), steps.action]
        noise = self.settings.noise
        aimed = np.where(count > 0, chosen / np.maximum(count, 1), 1 / actions)
        return -np.log((1 - noise) * aimed + noise / actions) - self._against(actions), memory

    def _against(self, actions: float) -> float:
        return 0.0


class LikelihoodCusum(Likelihood):
    """Since when are these no longer the actions of somebody who goes to the assigned goal?

    The log likelihood ratio of actions at random against that policy, gathered by Page's CUSUM.
    """

    name: ClassVar[str] = "likelihood_cusum"
    default_statistic: ClassVar[str] = "cusum"

    def _against(self, actions: float) -> float:
        return float(np.log(actions))


def direction(
    steering: Steering, steps: Steps, goal: np.ndarray, concentration: float
) -> np.ndarray:
    """How much likelier the direction of each step is if it heads for a goal: log ratio of a von
    Mises density around the shortest way to a uniform one. 0 for one that stays. float64 [N]

    goal: int [N]
    """
    moved = steering.position(steps.next_state) - steering.position(steps.state)
    length = np.linalg.norm(moved, axis=1)
    along = (moved * steering.heading(steps.level, goal, steps.state)).sum(1)
    turned = concentration * along / np.where(length > 0, length, 1.0)
    return np.asarray(np.where(length > 0, turned - np.log(np.i0(concentration)), 0.0))
