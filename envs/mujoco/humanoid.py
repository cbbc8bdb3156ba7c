"""Humanoid: walk forward on two legs without falling.

Reward: forward velocity of the centre of mass and a bonus for being upright, less a cost of
control and one of contact forces. After Gymnasium's Humanoid-v5; the task is of Tassa, Erez and
Todorov, Synthesis and stabilization of complex behaviors through online trajectory optimization
(2012).
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
    squares,
    uniform_noise,
)

ROOT = 6
"""degrees of freedom of the free root joint, which no actuator drives"""


class HumanoidSettings(LocomotionSettings):
    """env: {id: Humanoid-v5, include_cinert_in_observation: true}"""

    xml_file: str = "humanoid.xml"
    frame_skip: int = Field(5, ge=1, le=10_000)
    forward_reward_weight: float = 1.25
    ctrl_cost_weight: float = 0.1
    contact_cost_weight: float = 5e-7
    """cost of a squared unit of contact force (1)"""
    contact_cost_range: Range = (float("-inf"), 10.0)
    """the cost of contact forces is cut off to this range (1)"""
    healthy_reward: float = 5.0
    """reward for each step that ends upright (1)"""
    terminate_when_unhealthy: bool = True
    healthy_z_range: Range = (1.0, 2.0)
    """heights of the torso that count as upright (m)"""
    reset_noise_scale: float = 1e-2
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True


class Humanoid(Task):
    """See the module.

    saved: mass_center float64 [B, 2] · ten_length, ten_velocity float64 [B, tendons]
    and of those observed: cinert [B, nbody, 10], cvel [B, nbody, 6], qfrc_actuator [B, nv],
    cfrc_ext [B, nbody, 6] (always, as it is rewarded)
    """

    id = "Humanoid-v5"
    settings_type = HumanoidSettings
    camera: ClassVar = {
        "trackbodyid": 1,
        "distance": 4.0,
        "lookat": (0.0, 0.0, 2.0),
        "elevation": -20.0,
    }

    def __init__(self, settings: Any, rows: int, threads: int) -> None:
        super().__init__(settings, rows, threads)
        self._mass = self.model.body_mass.sum()
        self.saved["mass_center"] = np.zeros((rows, 2))
        for name in self._kept:
            self.saved[name] = np.zeros_like(self.physics.field(name))

    @property
    def _observed(self) -> tuple[str, ...]:
        names = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")
        return tuple(
            name for name in names if getattr(self.settings, f"include_{name}_in_observation")
        )

    @property
    def _kept(self) -> tuple[str, ...]:
        return (*dict.fromkeys((*self._observed, "cfrc_ext")), "ten_length", "ten_velocity")

    @property
    def fields(self) -> tuple[str, ...]:
        """See Task."""
        return ("xipos", *self._kept)

    @property
    def contact_forces(self) -> bool:
        """See Task."""
        return True

    @property
    def _skipped(self) -> int:
        return 2 * self.settings.exclude_current_positions_from_observation

    def observation_space(self) -> Any:
        """See Task."""
        bodies = self.model.nbody - 1
        sizes = {
            "cinert": 10 * bodies,
            "cvel": 6 * bodies,
            "qfrc_actuator": self.model.nv - ROOT,
            "cfrc_ext": 6 * bodies,
        }
        size = self.model.nq - self._skipped + self.model.nv
        return box(size + sum(sizes[name] for name in self._observed))

    def observe(self, rows: np.ndarray | slice) -> np.ndarray:
        """qpos without x and y, qvel, and what the settings include. float64 [n, 348]"""
        parts = [self.qpos[rows, self._skipped :], self.qvel[rows]]
        for name in self._observed:
            part = self.saved[name][rows, ROOT if name == "qfrc_actuator" else 1 :]
            parts.append(part.reshape(len(part), -1))
        return np.concatenate(parts, axis=1)

    def position(self) -> np.ndarray:
        """See Task."""
        return self.saved["mass_center"].copy()

    def keep(self, rows: np.ndarray | slice) -> None:
        """See Task."""
        weighted = np.einsum("b,nbj->nj", self.model.body_mass, self.physics.field("xipos")[rows])
        self.saved["mass_center"][rows] = (weighted / self._mass)[:, :2]
        for name in self._kept:
            self.saved[name][rows] = self.physics.field(name)[rows]

    def draw(
        self, generator: np.random.Generator, row: int, placement: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """See Task."""
        return uniform_noise(self, generator, self.settings.reset_noise_scale)

    def outcome(
        self, before: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Info]:
        """See Task."""
        settings = self.settings
        velocity = (self.saved["mass_center"] - before) / self.dt
        z = self.qpos[:, 2]
        least, most = settings.healthy_z_range
        healthy = (least < z) & (z < most)
        forward = settings.forward_reward_weight * velocity[:, 0]
        survive = healthy * settings.healthy_reward
        cost = settings.ctrl_cost_weight * squares(self.ctrl)
        forces = self.saved["cfrc_ext"].reshape(self.rows, -1)
        contact_cost = settings.contact_cost_weight * squares(forces)
        contact_cost = np.clip(contact_cost, *settings.contact_cost_range)
        info = self.begin_info()
        info["x_velocity"] = velocity[:, 0].copy()
        info["y_velocity"] = velocity[:, 1].copy()
        info["reward_survive"] = survive
        info["reward_forward"] = forward
        info["reward_ctrl"] = -cost
        info["reward_contact"] = -contact_cost
        terminated = ~healthy if settings.terminate_when_unhealthy else np.zeros(self.rows, bool)
        return forward + survive - (cost + contact_cost), terminated, info

    def begin_info(self) -> Info:
        """The root's place on the floor, how far that is from the origin, and the tendons."""
        return {
            "x_position": self.qpos[:, 0].copy(),
            "y_position": self.qpos[:, 1].copy(),
            "tendon_length": self.saved["ten_length"].copy(),
            "tendon_velocity": self.saved["ten_velocity"].copy(),
            "distance_from_origin": lengths(self.qpos[:, :2]),
        }
