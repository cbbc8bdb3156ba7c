"""HalfCheetah: run forward on two legs in the plane; an episode ends by the clock only.

Reward: forward velocity, less a cost of control. After Gymnasium's HalfCheetah-v5; the task is of
Wawrzynski, A cat-like robot real-time learning to run (2009).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from delegate.envs.mujoco.locomotion import (
    LocomotionSettings,
    Planar,
    normal_velocity_noise,
    squares,
)
from delegate.envs.mujoco.task import Info


class HalfCheetahSettings(LocomotionSettings):
    """env: {id: HalfCheetah-v5, ctrl_cost_weight: 0.1}"""

    xml_file: str = "half_cheetah.xml"
    frame_skip: int = Field(5, ge=1, le=10_000)
    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 0.1


class HalfCheetah(Planar):
    """See the module."""

    id = "HalfCheetah-v5"
    settings_type = HalfCheetahSettings
    camera: ClassVar = {"trackbodyid": 1, "distance": 4.0}

    def draw(
        self, generator: np.random.Generator, row: int, placement: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """See Task."""
        return normal_velocity_noise(self, generator, self.settings.reset_noise_scale)

    def outcome(
        self, before: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Info]:
        """See Task."""
        velocity = self.forward_velocity(before)
        forward = self.settings.forward_reward_weight * velocity
        cost = self.settings.ctrl_cost_weight * squares(action)
        info = self.begin_info()
        info["x_velocity"] = velocity
        info["reward_forward"] = forward
        info["reward_ctrl"] = -cost
        return forward - cost, np.zeros(self.rows, bool), info
