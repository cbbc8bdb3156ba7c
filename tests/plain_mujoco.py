"""One row of a MuJoCo task with Gymnasium's own environment, saved by copying the whole MjData."""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np


class PlainMujoco:
    """What the batched tasks are held against under a backtrack."""

    holes = 0

    def __init__(self, task: str, max_steps: int, seed: int) -> None:
        self.env: Any = gymnasium.make(task).unwrapped
        self.action_size = self.env.action_space.shape[0]
        self.max_steps, self.seed = max_steps, seed

    def reset(self) -> None:
        self.seen, _ = self.env.reset(seed=self.seed)
        self.seed = None  # later episodes go on with the stream
        self.clock = 0

    def step(self, action: np.ndarray) -> tuple[float, bool, bool]:
        self.seen, reward, terminated, _, _ = self.env.step(action)
        self.clock += 1
        return reward, terminated, self.clock >= self.max_steps

    def save(self) -> tuple[Any, ...]:
        copy = mujoco.MjData(self.env.model)
        mujoco.mj_copyData(copy, self.env.model, self.env.data)
        return copy, self.clock, self.seen

    def load(self, saved: tuple[Any, ...]) -> None:
        data, self.clock, self.seen = saved
        mujoco.mj_copyData(self.env.data, self.env.model, data)

    def observe(self) -> np.ndarray:
        return self.seen
