"""path: were these steps an ordinary way of getting where they got?"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from delegate.monitors.monitor import Memory, Monitor, MonitorSettings, Steps


class PathSettings(MonitorSettings):
    """Odd dynamics, odd manners.

    path: {ceiling: 50.0}
    """

    ceiling: float = Field(default=50.0, gt=0, allow_inf_nan=False)
    """score of a step off the model's support, and the most any step scores (nats)"""


class Path(Monitor):
    """Were these steps an ordinary way of getting where they got, wherever that is?

    -log q(s, a | s'), blind to the destination.
    With q exact, the sum over a sub-episode telescopes to -log P_ref(trajectory | last state):
    a normal road to the wrong place scores as normal.
    """

    name: ClassVar[str] = "path"
    needs: ClassVar[tuple[str, ...]] = ("model",)
    default_statistic: ClassVar[str] = "mean"
    Settings: ClassVar[type[MonitorSettings]] = PathSettings
    settings: PathSettings

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        log_prob = self.model.log_prob(steps.state, steps.action, steps.next_state, steps.level)
        return np.minimum(-log_prob, self.settings.ceiling), memory
