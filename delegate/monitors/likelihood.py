"""likelihood and likelihood_cusum: are these the actions of who goes to the goal?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from delegate.monitors.monitor import Memory, Monitor, MonitorSettings, Steps


class LikelihoodSettings(MonitorSettings):
    """The reference policy: shortest ways, with some moves at random.

    likelihood: {noise: 0.1}
    """

    noise: float = Field(default=0.1, gt=0, le=1)
    """share of actions that it takes at random"""


class Likelihood(Monitor):
    """Are these the actions of somebody who goes to the assigned goal?

    -log π(a | s, g) of a policy that takes any best action, and a random one with probability
    `noise`. It knows the world.
    """

    name: ClassVar[str] = "likelihood"
    needs: ClassVar[tuple[str, ...]] = ("planner",)
    default_statistic: ClassVar[str] = "mean"
    Settings: ClassVar[type[MonitorSettings]] = LikelihoodSettings
    settings: LikelihoodSettings

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        best = self.planner.best(steps.level, steps.goal, steps.state)
        count, actions = best.sum(1), best.shape[1]
        chosen = best[np.arange(len(steps)), steps.action]
        noise = self.settings.noise
        aimed = np.where(count > 0, chosen / np.maximum(count, 1), 1 / actions)
        return -np.log((1 - noise) * aimed + noise / actions) - self._against(actions), memory

    def _against(self, actions: int) -> float:
        return 0.0


class LikelihoodCusum(Likelihood):
    """Since when are these no longer the actions of somebody who goes to the assigned goal?

    The log likelihood ratio of actions at random against that policy, gathered by Page's CUSUM.
    """

    name: ClassVar[str] = "likelihood_cusum"
    default_statistic: ClassVar[str] = "cusum"

    def _against(self, actions: int) -> float:
        return float(np.log(actions))
