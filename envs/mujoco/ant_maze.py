"""AntMaze: walk an ant to a goal in a maze, by default a U.

Reward: 1 at the goal, else 0. After Gymnasium-Robotics' AntMaze_UMaze-v5; the task is D4RL's
antmaze (Fu and others, 2020).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import mujoco
import numpy as np
from pydantic import Field

from delegate.envs.mujoco.ant import Ant, AntSettings
from delegate.envs.mujoco.maze import GoalRows, Maze, MazeSettings
from delegate.envs.mujoco.random_rows import RandomRows
from delegate.envs.mujoco.task import Info

SCALING, HEIGHT = 4, 0.5


class AntMazeSettings(MazeSettings, AntSettings):
    """env: {id: AntMaze_UMaze-v5, reward_type: dense}

    The ant's own rewards are in `info` only.
    """

    max_episode_steps: int = Field(700, ge=1, le=2**31 - 1)
    reset_noise_scale: float = Field(0.0, ge=0, le=0)
    """no noise but that on the place where an episode begins"""
    exclude_current_positions_from_observation: Literal[True] = True
    """the position is the achieved goal"""


class AntMaze(Ant):
    """See the module. saved: see Ant and GoalRows"""

    id = "AntMaze_UMaze-v5"
    settings_type = AntMazeSettings
    camera: ClassVar = {"distance": 35.0, "elevation": -70.0, "lookat": (0.0, 0.0, 0.0)}

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
        return self.goals.space(super().observation_space().shape[0])

    def observe(self, rows: np.ndarray | slice) -> Any:
        """observation float64 [n, 105], see Ant; achieved_goal, desired_goal [n, 2]"""
        return {
            "observation": super().observe(rows),
            "achieved_goal": self.qpos[rows, :2].copy(),
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

    def keep(self, rows: np.ndarray | slice) -> None:
        """See Task."""
        super().keep(rows)
        self.goals.show(rows)

    def outcome(
        self, before: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Info]:
        """See Task."""
        _, _, info = super().outcome(before, action)
        reward, terminated, info["success"] = self.goals.outcome(self.qpos[:, :2])
        return reward, terminated, info

    def follow(self, moved: np.ndarray, random: RandomRows) -> None:
        """See Task."""
        self.goals.follow(moved, self.qpos[:, :2], random)

    def begin_info(self) -> Info:
        """What Ant gives, and whether an episode begins at its goal."""
        return {**super().begin_info(), **self.goals.success_info(self.qpos[:, :2])}

    def sites(self, saved: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See Task."""
        return {"target": saved["goal"]}
