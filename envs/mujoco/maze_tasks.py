"""PointMaze and AntMaze: bring a point mass, or an ant, to a goal in a maze, by default a U.

Reward: 1 at the goal, else 0. After Gymnasium-Robotics' PointMaze_UMaze-v3 and AntMaze_UMaze-v5;
the tasks are D4RL's maze2d and antmaze (Fu and others, 2020).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import mujoco
import numpy as np
from pydantic import Field

from delegate.envs.mujoco.ant import Ant, AntSettings
from delegate.envs.mujoco.maze import GoalRows, Maze, MazeSettings
from delegate.envs.mujoco.random_rows import RandomRows
from delegate.envs.mujoco.task import Info, Task, TaskSettings, box

FASTEST = 5.0
"""velocities of the point mass are cut off here before each step (m/s)"""


class InMaze(Task):
    """Puts a body into a maze and sends it to goals.

    body: the task of the body alone, which is also a base class; its own reward is not paid
    scaling: side of a cell (m) · height: of the walls (cells)
    saved: see GoalRows, beside the body's
    """

    body: ClassVar[type[Task]]
    scaling: ClassVar[float]
    height: ClassVar[float]
    events = frozenset({"success"})

    def __init__(self, settings: Any, rows: int, threads: int) -> None:
        self.maze = Maze(settings.maze_map, self.scaling, self.height)
        super().__init__(settings, rows, threads)
        self.goals = GoalRows(self.maze, settings, rows)
        self.saved |= self.goals.saved

    def load(self) -> mujoco.MjModel:
        """See Task."""
        return self.maze.build(self.model_path())

    def observation_space(self) -> Any:
        """See Task."""
        seen = self.body.observation_space(self)
        assert seen.shape is not None
        return self.goals.space(seen.shape[0])

    def observe(self, rows: np.ndarray | slice) -> Any:
        """observation float64 [n, d], the body's; achieved_goal, desired_goal [n, 2]"""
        return {
            "observation": self.body.observe(self, rows),
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
        _, _, info = self.body.outcome(self, before, action)
        reward, terminated, info["success"] = self.goals.outcome(self.qpos[:, :2])
        return reward, terminated, info

    def follow(self, moved: np.ndarray, random: RandomRows) -> None:
        """See Task."""
        self.goals.follow(moved, self.qpos[:, :2], random)

    def begin_info(self) -> Info:
        """What the body gives, and whether an episode begins at its goal."""
        return {**self.body.begin_info(self), **self.goals.success_info(self.qpos[:, :2])}

    def sites(self, saved: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See Task."""
        return {"target": saved["goal"]}


class PointMass(Task):
    """A ball that is pushed about the floor."""

    def observation_space(self) -> Any:
        """See Task."""
        return box(self.model.nq + self.model.nv)

    def observe(self, rows: np.ndarray | slice) -> Any:
        """Place and velocity. float64 [n, 4]"""
        return np.concatenate((self.qpos[rows], self.qvel[rows]), axis=1)

    def advance(self, rows: np.ndarray | None, action: np.ndarray) -> dict[int, str]:
        """See Task."""
        chosen = np.arange(self.rows) if rows is None else rows
        self.physics.forward(chosen, np.clip(self.qvel[chosen], -FASTEST, FASTEST))
        return super().advance(rows, action)

    def outcome(
        self, before: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Info]:
        """Nothing is rewarded, and nothing ends."""
        return np.zeros(self.rows), np.zeros(self.rows, bool), {}

    def begin_info(self) -> Info:
        """Nothing."""
        return {}


class PointMazeSettings(MazeSettings, TaskSettings):
    """env: {id: PointMaze_UMaze-v3, reward_type: dense}"""

    xml_file: str = "point_mass.xml"
    frame_skip: int = Field(1, ge=1, le=10_000)
    max_episode_steps: int = Field(300, ge=1, le=2**31 - 1)


class PointMaze(InMaze, PointMass):
    """See the module."""

    id = "PointMaze_UMaze-v3"
    settings_type = PointMazeSettings
    camera: ClassVar = {"distance": 8.8, "elevation": -70.0}
    body, scaling, height = PointMass, 1, 0.4


class AntMazeSettings(MazeSettings, AntSettings):
    """env: {id: AntMaze_UMaze-v5, reward_type: dense}

    The ant's own rewards are in `info` only.
    """

    max_episode_steps: int = Field(700, ge=1, le=2**31 - 1)
    reset_noise_scale: float = Field(0.0, ge=0, le=0)
    """no noise but that on the place where an episode begins"""
    exclude_current_positions_from_observation: Literal[True] = True
    """the position is the achieved goal"""


class AntMaze(InMaze, Ant):
    """See the module."""

    id = "AntMaze_UMaze-v5"
    settings_type = AntMazeSettings
    camera: ClassVar = {"distance": 35.0, "elevation": -70.0, "lookat": (0.0, 0.0, 0.0)}
    body, scaling, height = Ant, 4, 0.5
