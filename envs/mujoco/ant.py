"""Ant: walk forward on four legs; an episode ends when the torso leaves its range of heights.

Reward: forward velocity and a bonus for being healthy, less a cost of control and one of contact
forces. After Gymnasium's Ant-v5; the task is of Schulman, Moritz, Levine, Jordan and Abbeel,
High-dimensional continuous control using generalized advantage estimation (2015).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from delegate.envs.mujoco.task import (
    Info,
    LocomotionSettings,
    Range,
    Task,
    box,
    lengths,
    normal_velocity_noise,
    squares,
)


class AntSettings(LocomotionSettings):
    """env: {id: Ant-v5, include_cfrc_ext_in_observation: true}"""

    xml_file: str = "ant.xml"
    frame_skip: int = Field(5, ge=1, le=10_000)
    ctrl_cost_weight: float = 0.5
    contact_cost_weight: float = 5e-4
    """cost of a squared unit of contact force (1)"""
    healthy_reward: float = 1.0
    """reward for each step that ends healthy (1)"""
    main_body: int | str = 1
    """the body whose velocity is rewarded"""
    terminate_when_unhealthy: bool = True
    healthy_z_range: Range = (0.2, 1.0)
    """heights of the torso that count as healthy (m)"""
    contact_force_range: Range = (-1.0, 1.0)
    """contact forces are cut off to this range (N, N m)"""
    reset_noise_scale: float = 0.1
    include_cfrc_ext_in_observation: bool = True


class Ant(Task):
    """See the module.

    saved: cfrc_ext float64 [B, nbody, 6] · main_body_position float64 [B, 2]
    """

    id = "Ant-v5"
    settings_type: ClassVar[type[AntSettings]] = AntSettings
    camera: ClassVar = {"trackbodyid": 1, "distance": 4.0}

    def __init__(self, settings: Any, rows: int, threads: int) -> None:
        super().__init__(settings, rows, threads)
        try:
            self._main_body = self.model.body(settings.main_body).id
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"{self.id}: main_body: {error}") from None
        self.saved["main_body_position"] = np.zeros((rows, 2))
        if self.contact_forces:
            self.saved["cfrc_ext"] = np.zeros((rows, self.model.nbody, 6))

    @property
    def fields(self) -> tuple[str, ...]:
        """See Task."""
        return ("xpos", "cfrc_ext") if self.contact_forces else ("xpos",)

    @property
    def contact_forces(self) -> bool:
        """See Task."""
        settings = self.settings
        return settings.include_cfrc_ext_in_observation or settings.contact_cost_weight != 0

    @property
    def _skipped(self) -> int:
        return 2 * self.settings.exclude_current_positions_from_observation

    def observation_space(self) -> Any:
        """See Task."""
        forces = 6 * (self.model.nbody - 1) * self.settings.include_cfrc_ext_in_observation
        return box(self.model.nq - self._skipped + self.model.nv + forces)

    def observe(self, rows: np.ndarray | slice) -> np.ndarray:
        """qpos without x and y, qvel, and the contact forces, cut off. float64 [n, 105]"""
        parts = [self.qpos[rows, self._skipped :], self.qvel[rows]]
        if self.settings.include_cfrc_ext_in_observation:
            forces = self._forces(self.saved["cfrc_ext"][rows, 1:])
            parts.append(forces.reshape(len(forces), -1))
        return np.concatenate(parts, axis=1)

    def position(self) -> np.ndarray:
        """See Task."""
        return self.saved["main_body_position"].copy()

    def keep(self, rows: np.ndarray | slice) -> None:
        """See Task."""
        position = self.physics.field("xpos")[:, self._main_body, :2]
        self.saved["main_body_position"][rows] = position[rows]
        if self.contact_forces:
            self.saved["cfrc_ext"][rows] = self.physics.field("cfrc_ext")[rows]

    def draw(
        self, generator: np.random.Generator, row: int, placement: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """See Task."""
        return normal_velocity_noise(self, generator, self.settings.reset_noise_scale)

    def outcome(
        self, before: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Info]:
        """See Task."""
        settings = self.settings
        velocity = (self.saved["main_body_position"] - before) / self.dt
        healthy = self._healthy()
        forward = velocity[:, 0] * settings.forward_reward_weight
        survive = healthy * settings.healthy_reward
        cost = settings.ctrl_cost_weight * squares(action)
        contact_cost = settings.contact_cost_weight * self._squared_forces()
        info = self.begin_info()
        info["x_velocity"] = velocity[:, 0].copy()
        info["y_velocity"] = velocity[:, 1].copy()
        info["reward_forward"] = forward
        info["reward_ctrl"] = -cost
        info["reward_contact"] = -contact_cost
        info["reward_survive"] = survive
        terminated = ~healthy if settings.terminate_when_unhealthy else np.zeros(self.rows, bool)
        return forward + survive - (cost + contact_cost), terminated, info

    def begin_info(self) -> Info:
        """The torso's place on the floor, and how far that is from the origin."""
        return {
            "x_position": self.qpos[:, 0].copy(),
            "y_position": self.qpos[:, 1].copy(),
            "distance_from_origin": lengths(self.qpos[:, :2]),
        }

    def _forces(self, raw: np.ndarray) -> np.ndarray:
        return np.clip(raw, *self.settings.contact_force_range)

    def _squared_forces(self) -> np.ndarray:
        if not self.contact_forces:
            return np.zeros(self.rows)
        return squares(self._forces(self.saved["cfrc_ext"].reshape(self.rows, -1)))

    def _healthy(self) -> np.ndarray:
        z = self.qpos[:, 2]
        least, most = self.settings.healthy_z_range
        finite = np.isfinite(self.qpos).all(axis=1) & np.isfinite(self.qvel).all(axis=1)
        return finite & (least <= z) & (z <= most)
