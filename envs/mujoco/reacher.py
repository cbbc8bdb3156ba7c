"""Reacher: bring the tip of a two-joint arm to a target; an episode ends by the clock only.

Reward: minus the distance of the tip from the target, less a cost of control. After Gymnasium's
Reacher-v5.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from delegate.envs.mujoco.task import Info, Task, TaskSettings, box, lengths, squares

REACH = 0.2
"""targets lie within this distance of the arm's foot (m)"""


class ReacherSettings(TaskSettings):
    """env: {id: Reacher-v5, reward_control_weight: 1.0}"""

    xml_file: str = "reacher.xml"
    frame_skip: int = Field(2, ge=1, le=10_000)
    max_episode_steps: int = Field(50, ge=1, le=2**31 - 1)
    reward_dist_weight: float = 1.0
    """cost of a metre's distance from the target (1)"""
    reward_control_weight: float = 1.0
    """cost of a squared unit of control (1)"""


class Reacher(Task):
    """See the module.

    saved: target_offset float64 [B, 3], the fingertip less the target (m)
    """

    id = "Reacher-v5"
    settings_type = ReacherSettings
    camera: ClassVar = {"trackbodyid": 0}

    def __init__(self, settings: Any, rows: int, threads: int) -> None:
        super().__init__(settings, rows, threads)
        self._fingertip = self.model.body("fingertip").id
        self._target = self.model.body("target").id
        self.saved["target_offset"] = np.zeros((rows, 3))

    @property
    def fields(self) -> tuple[str, ...]:
        """See Task."""
        return ("xpos",)

    def observation_space(self) -> Any:
        """See Task."""
        return box(10)

    def observe(self, rows: np.ndarray | slice) -> np.ndarray:
        """Cosine and sine of the joints, target, joint velocities, offset. float64 [n, 10]"""
        angles = self.qpos[rows, :2]
        return np.concatenate(
            (
                np.cos(angles),
                np.sin(angles),
                self.qpos[rows, 2:],
                self.qvel[rows, :2],
                self.saved["target_offset"][rows, :2],
            ),
            axis=1,
        )

    def keep(self, rows: np.ndarray | slice) -> None:
        """See Task."""
        position = self.physics.field("xpos")
        offset = position[rows, self._fingertip] - position[rows, self._target]
        self.saved["target_offset"][rows] = offset

    def draw(
        self, generator: np.random.Generator, row: int, placement: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """See Task."""
        qpos = generator.uniform(low=-0.1, high=0.1, size=self.model.nq) + self.init_qpos
        while True:
            goal = generator.uniform(low=-REACH, high=REACH, size=2)
            if np.linalg.norm(goal) < REACH:
                break
        qpos[-2:] = goal
        qvel = self.init_qvel + generator.uniform(low=-0.005, high=0.005, size=self.model.nv)
        qvel[-2:] = 0
        return qpos, qvel

    def outcome(
        self, before: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Info]:
        """See Task."""
        distance = lengths(self.saved["target_offset"])
        reward_dist = -distance * self.settings.reward_dist_weight
        reward_ctrl = -squares(action) * self.settings.reward_control_weight
        info = {"reward_dist": reward_dist, "reward_ctrl": reward_ctrl}
        return reward_dist + reward_ctrl, np.zeros(self.rows, bool), info

    def begin_info(self) -> Info:
        """Nothing."""
        return {}
