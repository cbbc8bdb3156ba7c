"""PointMaze: push a point mass to a goal in a maze, by default a U.

Reward: 1 at the goal, else 0. After Gymnasium-Robotics' PointMaze_UMaze-v3; the task is D4RL's
maze2d (Fu and others, 2020).
"""

from __future__ import annotations

from typing import Any, ClassVar

import mujoco
import numpy as np
from pydantic import Field

from delegate.envs.mujoco.maze import GoalRows, Maze, MazeSettings
from delegate.envs.mujoco.random_rows import RandomRows
from delegate.envs.mujoco.task import Info, Task, TaskSettings

SCALING, HEIGHT = 1, 0.4
FASTEST = 5.0
"""velocities are cut off here before each step (m/s)"""


class PointMazeSettings(MazeSettings, TaskSettings):
    """env: {id: PointMaze_UMaze-v3, reward_type: dense}"""

    xml_file: str = "point_mass.xml"
    frame_skip: int = Field(1, ge=1, le=10_000)
    max_episode_steps: int = Field(300, ge=1, le=2**31 - 1)


class PointMaze(Task):
    """See the module. saved: see GoalRows"""

    id = "PointMaze_UMaze-v3"
    settings_type = PointMazeSettings
    camera: ClassVar = {"distance": 8.8, "elevation": -70.0}

    def __init__(self, settings: Any, rows: int, threads: int) -> None:
        self.maze = Maze(settings.maze_map, SCALING, HEIGHT)
        super().__init__(settings, rows, threads)
        self.goals = GoalRows(self.maze, settings, rows)
        self.saved |= self.goals.saved

    def load(self) -> mujoco.MjModel:
        """See Task."""
        return self.maze.build(self.model_path())

    def observation_space(self) -> Any:
        """See Task."""
        return self.goals.space(self.model.nq + self.model.nv)

    def observe(self, rows: np.ndarray | slice) -> dict[str, np.ndarray]:
        """observation float64 [n, 4]: place and velocity; achieved_goal, desired_goal [n, 2]."""
        place = self.qpos[rows]
        return {
            "observation": np.concatenate((place, self.qvel[rows]), axis=1),
            "achieved_goal": place[:, :2].copy(),
            "desired_goal": self.goals.saved["goal"][rows].copy(),
        }

    def draw(
        self, generator: np.random.Generator, row: int, placement: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """See Task."""
        qpos = self.init_qpos.copy()
        qpos[:2] = self.goals.draw(generator, row, placement)
        return qpos, self.init_qvel

    def placement(self, options: dict[str, Any]) -> Any:
        """See Task."""
        return self.goals.placement(options)

    def advance(self, rows: np.ndarray | None, action: np.ndarray) -> dict[int, str]:
        """See Task."""
        chosen = np.arange(self.rows) if rows is None else rows
        self.physics.forward(chosen, np.clip(self.qvel[chosen], -FASTEST, FASTEST))
        return super().advance(rows, action)

    def keep(self, rows: np.ndarray | slice) -> None:
        """See Task."""
        self.goals.show(rows)

    def outcome(
        self, before: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Info]:
        """See Task."""
        reward, terminated, success = self.goals.outcome(self.qpos[:, :2])
        return reward, terminated, {"success": success}

    def follow(self, moved: np.ndarray, random: RandomRows) -> None:
        """See Task."""
        self.goals.follow(moved, self.qpos[:, :2], random)

    def begin_info(self) -> Info:
        """Whether an episode begins at its goal."""
        return self.goals.success_info(self.qpos[:, :2])

    def sites(self, saved: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See Task."""
        return {"target": saved["goal"]}
