"""Mazes of square cells: their walls in the model, and the goals one is sent to.

After Gymnasium-Robotics, whose mazes go back to D4RL (Fu and others, 2020).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium
import mujoco
import numpy as np
from pydantic import BaseModel, Field

from delegate.envs.mujoco.random_rows import RandomRows
from delegate.envs.mujoco.task import Info, box, lengths

WALL, EMPTY, RESET, GOAL, BOTH = 1, 0, "r", "g", "c"

Cell = Literal[0, 1, "r", "g", "c"]
Map = Annotated[tuple[Annotated[tuple[Cell, ...], Field(strict=False)], ...], Field(strict=False)]

U_MAZE: tuple[tuple[Cell, ...], ...] = (
    (1, 1, 1, 1, 1),
    (1, 0, 0, 0, 1),
    (1, 1, 1, 0, 1),
    (1, 0, 0, 0, 1),
    (1, 1, 1, 1, 1),
)

NEAR = 0.45
"""a goal is reached within this distance (m)"""


class MazeSettings(BaseModel):
    """What every maze can be told, beside the settings of the body in it."""

    maze_map: Map = U_MAZE
    """rows of cells: 1 wall, 0 empty, "r" episodes begin here, "g" goals, "c" both; in a maze
    without letters, every empty cell is both"""
    reward_type: Literal["sparse", "dense"] = "sparse"
    """sparse: 1 at the goal, else 0; dense: exp(-distance)"""
    continuing_task: bool = True
    """whether an episode goes on when the goal is reached"""
    reset_target: bool = False
    """in a continuing task: whether a goal that is reached moves elsewhere"""
    position_noise_range: float = Field(0.25, ge=0, le=0.5)
    """goals and beginnings lie within this of a cell's middle, in x and y (cells)"""


class Maze:
    """The cells of a maze, and where they lie.

    scaling: side of a cell (m) · height: of the walls (cells)
    goals, starts: float64 [n, 2], middles of the cells in which episodes may end or begin (m)
    """

    def __init__(self, cells: Any, scaling: float, height: float) -> None:
        self.cells = cells
        self.scaling = scaling
        self.height = height
        self.rows, self.columns = len(cells), len(cells[0])
        if any(len(row) != self.columns for row in cells):
            raise ValueError("maze_map: the rows differ in length; give one cell a column")
        self._center = np.array([self.columns / 2 * scaling, self.rows / 2 * scaling])
        marked: dict[Any, list[np.ndarray]] = {EMPTY: [], RESET: [], GOAL: [], BOTH: []}
        for cell, kind in self._kinds():
            if kind != WALL:
                marked[kind].append(self.position(cell))
        both = marked[BOTH]
        goals, starts = marked[GOAL], marked[RESET]
        if not (goals or starts or both):
            both = marked[EMPTY]
        elif not (starts or both):
            starts = marked[EMPTY]
        elif not (goals or both):
            goals = marked[EMPTY]
        self.goals = np.array(goals + both).reshape(-1, 2)
        self.starts = np.array(starts + both).reshape(-1, 2)
        apart = np.abs(self.goals[:, None] - self.starts[None]).max(axis=2) > scaling / 2
        if not len(self.goals) or not apart.any(axis=1).all():
            raise ValueError("maze_map: every goal needs another cell to begin in; add empty cells")

    def position(self, cell: Any) -> np.ndarray:
        """The middle of a cell (row, column). float64 [2] (m)"""
        x = (cell[1] + 0.5) * self.scaling - self._center[0]
        y = self._center[1] - (cell[0] + 0.5) * self.scaling
        return np.array([x, y])

    def cell(self, positions: np.ndarray) -> np.ndarray:
        """The cells (row, column) that those positions [n, 2] lie in. int64 [n, 2]"""
        row = np.floor((self._center[1] - positions[:, 1]) / self.scaling)
        column = np.floor((positions[:, 0] + self._center[0]) / self.scaling)
        return np.stack([row, column], axis=1).astype(np.int64)

    def nearest(self, positions: np.ndarray, clearance: float) -> np.ndarray:
        """The positions [n, 2], those outside the maze or in reach of a wall moved to the nearest
        that is not: in x or in y, every wall is further away than the clearance (m).

        Raises ValueError if there is no such position.
        """
        low, high = self._room(clearance)
        if not len(low):
            raise ValueError(
                f"maze_map: no open cell has {clearance:.3g} m free about its middle, which the "
                "body needs; put open cells together"
            )
        free = np.clip(positions[:, None], low, high)
        distance = np.linalg.norm(free - positions[:, None], axis=2)
        return free[np.arange(len(positions)), distance.argmin(axis=1)]

    def _room(self, clearance: float) -> tuple[np.ndarray, np.ndarray]:
        """Boxes that together are all that is further from walls: low, high, float64 [n, 2] (m)."""
        is_open = np.array([[kind != WALL for kind in row] for row in self.cells])
        sides = ((1, 1), (1, 2), (2, 1), (2, 2))  # nearer walls than that are met in one of these
        corners = [
            (self.position((i + height - 1, j)), self.position((i, j + width - 1)))
            for height, width in sides
            for i in range(self.rows - height + 1)
            for j in range(self.columns - width + 1)
            if is_open[i : i + height, j : j + width].all()
        ]
        middles = np.array(corners).reshape(-1, 2, 2)
        low = middles[:, 0] - self.scaling / 2 + clearance
        high = middles[:, 1] + self.scaling / 2 - clearance
        fits = (low <= high).all(axis=1)
        return low[fits], high[fits]

    def build(self, body: Path) -> mujoco.MjModel:
        """The model of a body in this maze."""
        tree = ET.parse(body)
        world = tree.find(".//worldbody")
        if world is None:
            raise ValueError(f"{body}: no worldbody to put walls into")
        half, middle = 0.5 * self.scaling, self.height / 2 * self.scaling
        for cell, kind in self._kinds():
            if kind == WALL:
                x, y = self.position(cell).tolist()
                wall = {
                    "name": f"block_{cell[0]}_{cell[1]}",
                    "type": "box",
                    "pos": f"{x} {y} {middle}",
                    "size": f"{half} {half} {middle}",
                    "contype": "1",
                    "conaffinity": "1",
                    "rgba": "0.7 0.5 0.3 1.0",
                }
                ET.SubElement(world, "geom", wall)
        target = {"name": "target", "pos": f"0 0 {middle}", "size": f"{0.2 * self.scaling}"}
        ET.SubElement(world, "site", {**target, "type": "sphere", "rgba": "1 0 0 0.7"})
        return mujoco.MjModel.from_xml_string(ET.tostring(tree.getroot(), encoding="unicode"))

    def _kinds(self) -> list[tuple[tuple[int, int], Any]]:
        return [((i, j), kind) for i, row in enumerate(self.cells) for j, kind in enumerate(row)]


class GoalRows:
    """The goals of B rows in a maze: drawn, observed, rewarded.

    saved: goal float64 [B, 2], the one observed; where goals move, also next_goal, which the next
    step is rewarded for
    """

    def __init__(self, maze: Maze, settings: Any, rows: int) -> None:
        self.maze = maze
        self.settings = settings
        self.saved = {"goal": np.zeros((rows, 2))}
        self.moving = settings.continuing_task and settings.reset_target and len(maze.goals) > 1
        if self.moving:
            self.saved["next_goal"] = np.zeros((rows, 2))

    def space(self, observation: int) -> gymnasium.spaces.Dict:
        """The observation space of one row. observation: size of what the body observes"""
        return gymnasium.spaces.Dict(
            {
                "observation": box(observation),
                "achieved_goal": box(2),
                "desired_goal": box(2),
            }
        )

    def draw(self, generator: np.random.Generator, row: int, cells: Any) -> np.ndarray:
        """Draw that row's goal, and where it begins. cells: of `placement`; returns float64 [2]"""
        goal_cell, reset_cell = cells or (None, None)
        if goal_cell is None:
            goal = self._draw_goal(generator)
        else:
            goal = self._noisy(generator, self.maze.position(goal_cell[row]))
        for name in self.saved:
            self.saved[name][row] = goal
        if reset_cell is not None:
            return self._noisy(generator, self.maze.position(reset_cell[row]))
        start = goal
        while np.linalg.norm(start - goal) <= 0.5 * self.maze.scaling:
            start = self.maze.starts[generator.integers(low=0, high=len(self.maze.starts))]
        return self._noisy(generator, start)

    def placement(self, options: dict[str, Any]) -> Any:
        """The cells of `goal_cell` and `reset_cell`: (row, column), for all rows or int [B, 2]."""
        if unknown := sorted(set(options) - {"goal_cell", "reset_cell"}):
            raise ValueError(
                f"reset option {unknown[0]!r} is not known; "
                "give 'reset_mask', 'goal_cell' or 'reset_cell'"
            )
        return self._cells("goal_cell", options), self._cells("reset_cell", options)

    def show(self, rows: np.ndarray | slice) -> None:
        """Observe and reward the goal that was chosen after the last step."""
        if self.moving:
            self.saved["goal"][rows] = self.saved["next_goal"][rows]

    def outcome(self, achieved: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reward float64 [B], terminated bool [B], success bool [B] at those positions [B, 2]."""
        offset = achieved - self.saved["goal"]
        # Gymnasium-Robotics measures both ways, and they differ in the last bit
        distance = np.linalg.norm(offset, axis=-1)
        success = lengths(offset) <= NEAR
        dense = self.settings.reward_type == "dense"
        reward = np.exp(-distance) if dense else (distance <= NEAR).astype(np.float64)
        ends = not self.settings.continuing_task
        return reward, success.copy() if ends else np.zeros_like(success), success

    def success_info(self, achieved: np.ndarray) -> Info:
        """Whether the goal is reached at those positions [B, 2]."""
        return {"success": lengths(achieved - self.saved["goal"]) <= NEAR}

    def follow(self, moved: np.ndarray, achieved: np.ndarray, random: RandomRows) -> None:
        """Choose another goal where one was reached."""
        if not self.moving:
            return
        reached = moved & (lengths(achieved - self.saved["goal"]) <= NEAR)
        for row in np.flatnonzero(reached).tolist():
            generator, goal = random.generator(row), self.saved["goal"][row]
            while np.linalg.norm(achieved[row] - goal) <= NEAR:
                goal = self._draw_goal(generator)
            self.saved["next_goal"][row] = goal

    def _draw_goal(self, generator: np.random.Generator) -> np.ndarray:
        goals = self.maze.goals
        return self._noisy(generator, goals[generator.integers(low=0, high=len(goals))])

    def _noisy(self, generator: np.random.Generator, position: np.ndarray) -> np.ndarray:
        most = self.settings.position_noise_range
        x = generator.uniform(low=-most, high=most) * self.maze.scaling
        y = generator.uniform(low=-most, high=most) * self.maze.scaling
        return position + np.array([x, y])

    def _cells(self, name: str, options: dict[str, Any]) -> np.ndarray | None:
        given = options.get(name)
        if given is None:
            return None
        rows = len(self.saved["goal"])
        cells = np.asarray(given)
        if cells.dtype.kind not in "iu" or cells.shape not in ((2,), (rows, 2)):
            raise ValueError(
                f"{name} is {cells.dtype} {cells.shape}; give (row, column), or one a row of the "
                f"batch, ({rows}, 2)"
            )
        cells = np.broadcast_to(cells, (rows, 2))
        for row, (i, j) in enumerate(cells.tolist()):
            inside = 0 <= i < self.maze.rows and 0 <= j < self.maze.columns
            if not inside or self.maze.cells[i][j] == WALL:
                raise ValueError(
                    f"row {row}: {name} ({i}, {j}) is {'a wall' if inside else 'outside'}; "
                    f"give an open cell of the {self.maze.rows}x{self.maze.columns} maze"
                )
        return cells
