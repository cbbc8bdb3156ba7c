"""An environment that counts to ten, whose spaces and failures are attributes, and rows of it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TransformReward

from delegate import envs


class Spot(gymnasium.Env[Any, Any]):
    """Counts to ten. Its spaces, and what it does when it is told to fail, are attributes."""

    observation_space: Any = spaces.Box(-1, 1, (2,), np.float32)
    action_space: Any = spaces.Discrete(3)
    forbidden, difficulty, fails_at, resets_left = 0, 1, 10**6, 10**6

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if self.resets_left == 0:
            raise RuntimeError("no more episodes")
        self.resets_left -= 1
        self.clock = 0
        return self.seen(), {}

    def step(self, action: Any) -> Any:
        self.clock += 1
        if self.clock == self.fails_at:
            raise RuntimeError("it broke")
        return self.seen(), float(np.sum(action)), self.clock >= 10, False, {}

    def seen(self) -> Any:
        if isinstance(self.observation_space, spaces.Box):
            return np.full(self.observation_space.shape, self.clock / 10, np.float32)
        self.observation_space.seed(self.clock)
        return self.observation_space.sample()

    def action_masks(self) -> np.ndarray:
        return np.arange(3) != self.forbidden

    def harder(self, by: int = 1) -> int:
        self.difficulty += by
        return self.difficulty


def adapted(rows: int = 2, **attributes: Any) -> Any:
    kind = type("Spot", (Spot,), attributes)
    return envs.adapt(lambda: TransformReward(kind(), float), rows, autoreset_mode="Disabled")
