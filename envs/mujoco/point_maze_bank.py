"""`point-maze`: a point mass in a U is sent to cells; in training always to the same one.

After PointMaze_UMaze-v3 of Gymnasium-Robotics. Seven cells in a row around two corners:

    upper left · upper middle · upper right
                                right
    lower left · lower middle · lower right
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import gymnasium
import numpy as np
from pydantic import Field

from delegate.backtrack.random_key import level_draws
from delegate.bank import NOMINAL, SHIFTED, Steering
from delegate.envs.mujoco.geodesic import Geodesics
from delegate.envs.mujoco.maze import NEAR, U_MAZE, Maze
from delegate.envs.mujoco.maze_tasks import PointMass, PointMaze, PointMazeSettings
from delegate.envs.mujoco.pair import PairBank, PairLevels, PairSettings, PairTask, PairWorld
from delegate.envs.mujoco.registry import make_settings
from delegate.envs.mujoco.task import box
from delegate.recall.goals import GoalTable, Landmarks

Place = Literal[
    "upper left",
    "upper middle",
    "upper right",
    "right",
    "lower right",
    "lower middle",
    "lower left",
]
NAMES: tuple[str, ...] = Place.__args__  # type: ignore[attr-defined]
CELLS = ((1, 1), (1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1))
MAZE = Maze(U_MAZE, 1, 0.4)
PLACES = np.array([MAZE.position(cell) for cell in CELLS])
"""middles of the cells, in the order of NAMES (m)"""

CLEARANCE = 0.2
"""kept from walls by shortest ways: twice the radius of the ball (m)"""
SPREAD, PUSH = 0.25, 0.5
"""episodes begin this far from the middle of a cell at most, and this fast, in x and y (m, m/s)"""
FASTEST, BRAKING, GRIP = 4.0, 5.0, 1.0
"""of the reference controller: speed (m/s), speed for each metre left (1/s), and force for each
metre a second that it is off (s/m)"""


class PointMazeWorldSettings(PairSettings):
    """world: {id: point-maze, nominal: {mix: 0.0}, shifted: {mix: 1.0}}"""

    habitual: Place = "upper left"
    """the cell that training sends to"""
    max_steps: int = Field(300, ge=1, le=1_000_000)
    """an episode is truncated after this many steps of 0.01 s (steps)"""


class PointPair(PairTask, PointMass):
    """A ball in the maze, and the cell it is sent to."""

    id = "point-maze"
    settings_type = PointMazeSettings
    camera: ClassVar = {"distance": 8.8, "elevation": -70.0}
    goals = GoalTable.of_states(
        np.concatenate([PLACES, np.zeros((len(PLACES), 2))], axis=1),
        np.array([NEAR, NEAR, np.inf, np.inf], np.float32),
    )

    def load(self) -> Any:
        """See Task."""
        return MAZE.build(self.model_path())

    def observation_space(self) -> gymnasium.spaces.Box:
        """See Task."""
        return box(6)

    def observe(self, rows: np.ndarray | slice) -> np.ndarray:
        """Place, velocity, and the place assigned. float64 [n, 6]"""
        sent_to = PLACES[self.levels.assigned[self.saved["level"][rows]]]
        return np.concatenate([PointMass.observe(self, rows), sent_to], axis=1)


class PointSteering(Steering):
    """Ways and controller of the maze; distances in metres by the shortest way around walls."""

    size = 2

    def __init__(self) -> None:
        self._ways = Geodesics(MAZE, PLACES, CLEARANCE)

    def distance(
        self, level: np.ndarray, goals: np.ndarray | None, state: np.ndarray
    ) -> np.ndarray:
        """See Planner: float64 [N, K] (m)."""
        away = self._ways.distance(state[:, :2])
        return away if goals is None else np.take_along_axis(away, goals, axis=1)

    def position(self, state: np.ndarray) -> np.ndarray:
        """See Steering."""
        return np.asarray(state[:, :2], np.float64)

    def heading(self, level: np.ndarray, goal: np.ndarray, state: np.ndarray) -> np.ndarray:
        """See Steering."""
        way = self._ways.waypoint(state[:, :2], goal) - state[:, :2]
        return way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)

    def state_of(self, observation: np.ndarray) -> np.ndarray:
        """See Steering."""
        return observation[:, :4].astype(np.float32)

    def act(
        self, level: np.ndarray, goal: np.ndarray, state: np.ndarray, pace: float = 1.0
    ) -> np.ndarray:
        """Forces for a speed that falls with the way left. float32 [n, 2]"""
        left = self.distance(level, goal[:, None], state)
        speed = pace * np.minimum(FASTEST, BRAKING * left)
        wanted = self.heading(level, goal, state) * speed
        return np.clip(GRIP * (wanted - state[:, 2:]), -1, 1).astype(np.float32)


class PointMazeWorld(PairWorld):
    """`point-maze`: a point mass in a U, sent to cells; in training always to the same one."""

    id = "point-maze"
    settings_type = PointMazeWorldSettings
    level_settings: ClassVar = frozenset({"mix", "habitual"})
    task = PointPair
    places, goals, radius = PLACES, PointPair.goals, NEAR

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.planner = PointSteering()
        self.task_settings = make_settings(PointMaze.id, {"max_episode_steps": settings.max_steps})
        self._habitual = NAMES.index(settings.habitual)

    def generate(self, seeds: np.ndarray) -> PairLevels:
        """Nominal levels send to the habitual cell, the share `mix` to any; they begin in any
        cell but that one and the habitual one. See WorldType."""
        chance = level_draws(seeds, 0, 7)
        shifted = chance[:, 0] < self.settings.mix
        cell = np.floor(chance[:, 1] * len(CELLS)).astype(np.int32)
        assigned = np.where(shifted, cell, self._habitual).astype(np.int32)
        taken = np.arange(len(CELLS)) == assigned[:, None]
        taken[:, self._habitual] = True
        rank = np.cumsum(~taken, axis=1)
        wanted = np.floor(chance[:, 2] * rank[:, -1])
        begins = PLACES[(rank > wanted[:, None]).argmax(axis=1)]
        offset = (2 * chance[:, 3:] - 1) * [SPREAD, SPREAD, PUSH, PUSH]
        offset[:, :2] += begins
        return PairLevels(
            start=offset,
            assigned=assigned,
            proxy=np.full(len(seeds), self._habitual, np.int32),
            seed=seeds,
            kind=np.where(shifted, SHIFTED, NOMINAL).astype(np.int8),
        )

    def begins(self, levels: PairLevels) -> np.ndarray:
        """See PairWorld."""
        return levels.start[:, :2]

    def distinguishing(self, levels: PairLevels) -> np.ndarray:
        """The goal's cell is not between the first cell and the proxy's, both included: cells
        follow one another in the U."""
        first = np.abs(levels.start[:, None, :2] - PLACES).max(axis=2).argmin(axis=1)
        low, high = np.minimum(first, levels.proxy), np.maximum(first, levels.proxy)
        return (levels.assigned < low) | (levels.assigned > high)


class PointMazeBank(PairBank):
    """Levels of the point maze. Landmarks: the seven cells, and the one where the level begins."""

    frame = 2.5

    def named(self) -> Landmarks:
        """See PairBank."""
        levels = self.levels
        first = np.abs(levels.start[:, None, :2] - PLACES).max(axis=2).argmin(axis=1)
        goal = np.tile(np.arange(len(NAMES)), (levels.count, 1))
        goal = np.concatenate([goal, first[:, None]], axis=1).astype(np.int32)
        return Landmarks((*NAMES, "start"), goal, np.ones((levels.count, len(NAMES)), bool))

    def where(self, state: np.ndarray) -> np.ndarray:
        """See PairBank."""
        return state[:, :2]

    def scenery(self) -> list[dict[str, Any]]:
        """Walls."""
        return [
            {"shape": "rect", "at": [column + 0.5, row + 0.5], "size": [1.0, 1.0], "role": "wall"}
            for row, cells in enumerate(U_MAZE)
            for column, cell in enumerate(cells)
            if cell == 1
        ]
