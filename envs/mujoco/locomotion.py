"""What the walking tasks share: settings, reward terms, planar observations."""

from __future__ import annotations

from typing import Any

import numpy as np

from delegate.envs.mujoco.task import Info, Task, TaskSettings, box


class LocomotionSettings(TaskSettings):
    """What every walking task can be told."""

    forward_reward_weight: float = 1.0
    """reward for moving forward by one metre a second (1)"""
    ctrl_cost_weight: float
    """cost of a squared unit of control (1)"""
    reset_noise_scale: float
    """spread of the position and velocity an episode begins with (m, rad, and per second)"""
    exclude_current_positions_from_observation: bool = True
    """whether the horizontal position is left out, which the task does not depend on"""


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


def squares(values: np.ndarray) -> np.ndarray:
    """The sum of squares of each row, in its own type. [B, n] -> [B]"""
    return np.add.reduce(np.square(values), axis=1)


def uniform_noise(
    task: Task, generator: np.random.Generator, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """The model's own beginning with uniform noise on positions and velocities."""
    # One call draws the same numbers as Gymnasium's two
    count = task.model.nq
    noise = generator.uniform(low=-scale, high=scale, size=count + task.model.nv)
    return task.init_qpos + noise[:count], task.init_qvel + noise[count:]


def normal_velocity_noise(
    task: Task, generator: np.random.Generator, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """The model's own beginning with uniform noise on positions, normal on velocities."""
    qpos = task.init_qpos + generator.uniform(low=-scale, high=scale, size=task.model.nq)
    qvel = task.init_qvel + scale * generator.standard_normal(task.model.nv)
    return qpos, qvel


def lengths(vectors: np.ndarray) -> np.ndarray:
    """The Euclidean norm of each row, by the dot product that np.linalg.norm takes of a vector.

    [B, n] -> [B]
    """
    return np.sqrt(np.vecdot(vectors, vectors))
