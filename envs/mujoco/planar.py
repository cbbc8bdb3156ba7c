"""The walkers in the x-z plane: HalfCheetah, Hopper and Walker2d.

HalfCheetah: run forward on two legs; an episode ends by the clock only. Reward: forward velocity,
less a cost of control. After Gymnasium's HalfCheetah-v5; the task is of Wawrzynski, A cat-like
robot real-time learning to run (2009).

Hopper: hop forward on one leg; falling ends the episode. Reward: forward velocity and a bonus for
being upright, less a cost of control. After Gymnasium's Hopper-v5; the task is of Erez, Tassa and
Todorov, Infinite-horizon model predictive control for periodic tasks with contacts (2011).

Walker2d: the same on two legs. After Gymnasium's Walker2d-v5, which follows its Hopper.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from delegate.envs.mujoco.physics import Layout
from delegate.envs.mujoco.task import (
    Info,
    LocomotionSettings,
    Range,
    Task,
    box,
    normal_velocity_noise,
    squares,
    uniform_noise,
)


class Planar(Task):
    """A walker in the x-z plane that is rewarded for moving along x."""

    settings: Any

    def observation_space(self) -> Any:
        """qpos without x, then qvel."""
        return box(self.model.nq + self.model.nv - self._skipped)

    @property
    def _skipped(self) -> int:
        return int(self.settings.exclude_current_positions_from_observation)

    def observe(self, rows: np.ndarray | slice) -> np.ndarray:
        """float64 [n, nq + nv - 1]"""
        return np.concatenate((self.qpos[rows, self._skipped :], self.velocity(rows)), axis=1)

    def velocity(self, rows: np.ndarray | slice) -> np.ndarray:
        """The observed velocity. float64 [n, nv]"""
        return self.qvel[rows]

    def forward_velocity(self, before: np.ndarray) -> np.ndarray:
        """Mean velocity along x in the step. float64 [B]"""
        return (self.qpos[:, 0] - before) / self.dt

    def begin_info(self) -> Info:
        """The position along x."""
        return {"x_position": self.qpos[:, 0].copy()}


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


class UprightSettings(LocomotionSettings):
    """What the tasks in which one can fall in the plane can be told."""

    frame_skip: int = Field(4, ge=1, le=10_000)
    ctrl_cost_weight: float = 1e-3
    healthy_reward: float = 1.0
    """reward for each step that ends upright (1)"""
    terminate_when_unhealthy: bool = True
    healthy_z_range: Range
    """heights of the torso that count as upright (m)"""
    healthy_angle_range: Range
    """angles of the torso that count as upright (rad)"""
    reset_noise_scale: float = 5e-3


class HopperSettings(UprightSettings):
    """env: {id: Hopper-v5, healthy_z_range: [0.7, .inf]}"""

    xml_file: str = "hopper.xml"
    healthy_state_range: Range = (-100.0, 100.0)
    """positions and velocities, but x and z, that count as healthy (m, rad, and per second)"""
    healthy_z_range: Range = (0.7, float("inf"))
    healthy_angle_range: Range = (-0.2, 0.2)


class Upright(Planar):
    """A planar walker that must not fall."""

    camera: ClassVar = {
        "trackbodyid": 2,
        "distance": 4.0,
        "lookat": (0.0, 0.0, 1.15),
        "elevation": -20.0,
    }

    def __init__(self, settings: Any, rows: int, threads: int) -> None:
        super().__init__(settings, rows, threads)
        self._low, self._high = np.array([settings.healthy_z_range, settings.healthy_angle_range]).T
        self._watched = self.qpos[:, 1:3]

    def velocity(self, rows: np.ndarray | slice) -> np.ndarray:
        """The velocity, cut off at 10. float64 [n, nv]"""
        return self.qvel[rows].clip(-10, 10)

    def draw(
        self, generator: np.random.Generator, row: int, placement: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """See Task."""
        return uniform_noise(self, generator, self.settings.reset_noise_scale)

    def healthy(self) -> np.ndarray:
        """Whether each row is upright. bool [B]"""
        within = (self._low < self._watched) & (self._watched < self._high)
        every = np.count_nonzero(within) == within.size
        return np.ones(self.rows, bool) if every else within.all(axis=1)

    def outcome(
        self, before: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Info]:
        """See Task."""
        settings = self.settings
        velocity = self.forward_velocity(before)
        healthy = self.healthy()
        forward = settings.forward_reward_weight * velocity
        survive = healthy * settings.healthy_reward
        cost = settings.ctrl_cost_weight * squares(action)
        info = self.begin_info()
        info["x_velocity"] = velocity
        info["reward_forward"] = forward
        info["reward_ctrl"] = -cost
        info["reward_survive"] = survive
        terminated = ~healthy if settings.terminate_when_unhealthy else np.zeros(self.rows, bool)
        return forward + survive - cost, terminated, info

    def begin_info(self) -> Info:
        """The position along x, and how far the torso is above where it began."""
        return {
            "x_position": self.qpos[:, 0].copy(),
            "z_distance_from_origin": self.qpos[:, 1] - self.init_qpos[1],
        }


class Hopper(Upright):
    """See the module."""

    id = "Hopper-v5"
    settings_type = HopperSettings
    camera: ClassVar = {**Upright.camera, "distance": 3.0}

    def __init__(self, settings: Any, rows: int, threads: int) -> None:
        """Beside the torso's height and angle, all but x must move within reason."""
        super().__init__(settings, rows, threads)
        layout = Layout(self.model)
        least, most = settings.healthy_state_range
        self._watched = self.physics.state[:, layout.qpos.start + 1 : layout.qvel.stop]
        low, high = self._low, self._high
        self._low, self._high = (np.full(self._watched.shape[1], end) for end in (least, most))
        self._low[:2] = low[0], max(low[1], least)
        self._high[:2] = high[0], min(high[1], most)


class Walker2dSettings(UprightSettings):
    """env: {id: Walker2d-v5, healthy_angle_range: [-1.0, 1.0]}"""

    xml_file: str = "walker2d_v5.xml"
    healthy_z_range: Range = (0.8, 2.0)
    healthy_angle_range: Range = (-1.0, 1.0)


class Walker2d(Upright):
    """See the module."""

    id = "Walker2d-v5"
    settings_type = Walker2dSettings
