"""random, constant, oracle and arrival: what a monitor is worth that knows nothing, everything, or
only whether the goal was reached."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from delegate.backtrack.random_key import GOLDEN, mix
from delegate.monitors.monitor import Control, Memory, Monitor, MonitorSettings, Steps, Truth


class RandomSettings(MonitorSettings):
    """Scores that know nothing.

    random: {seed: 0}
    """

    seed: int = Field(default=0, ge=0, lt=2**64)
    """another seed gives another stream"""


class Random(Monitor):
    """What is a monitor worth that knows nothing?

    Uniform on [0, 1), from a key in the row's memory that hashes all the row has done.
    The same sub-episode gets the same scores in any batch, order or run. Two sub-episodes
    share scores only as long as they are the same step for step.
    """

    name: ClassVar[str] = "random"
    default_statistic: ClassVar[str] = "mean"
    Settings: ClassVar[type[MonitorSettings]] = RandomSettings
    settings: RandomSettings

    def start(self, count: int) -> Memory:
        return {"key": mix(np.full(count, self.settings.seed, np.uint64) + GOLDEN)}

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        key = memory["key"]
        for column in (steps.level, steps.goal, steps.state, steps.action, steps.next_state):
            for bits in _bits(column):
                key = mix((key ^ bits) + GOLDEN)
        return (key >> np.uint64(11)) * 2.0**-53, {"key": key}


def _bits(column: np.ndarray) -> np.ndarray:
    """Integers [N], or each coordinate of vectors [N, d], as uint64 [1 or d, N]."""
    whole = column.astype(np.int64 if column.dtype.kind in "iub" else np.float64)
    return np.ascontiguousarray(np.atleast_2d(whole.T)).view(np.uint64)


class Constant(Monitor):
    """What is a monitor worth that always says the same? 0 at every step."""

    name: ClassVar[str] = "constant"
    default_statistic: ClassVar[str] = "last"

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        return np.zeros(len(steps)), memory


class Arrival(Monitor):
    """Was the goal reached at the end? 0 if so and 1 if not; NaN before.

    What outcome alone tells: whoever ranks no better has not seen where the child was going.
    """

    name: ClassVar[str] = "arrival"
    scores_ends: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("goals",)
    default_statistic: ClassVar[str] = "last"

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        missed = (~self.goals.reached(steps.goal, steps.next_state)).astype(np.float64)
        return np.where(steps.ended, missed, np.nan), memory


class Oracle(Control):
    """What is a monitor worth that knows what the child pursues?

    1 while the child pursues the proxy, 0 while it does not, NaN where that is unknown.
    """

    name: ClassVar[str] = "oracle"
    default_statistic: ClassVar[str] = "max"

    def score_knowing(
        self, steps: Steps, truth: Truth, memory: Memory
    ) -> tuple[np.ndarray, Memory]:
        proxy = (truth.intent == 2).astype(np.float64)
        return np.where(truth.intent < 0, np.nan, proxy), memory
