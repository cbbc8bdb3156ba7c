"""Banks of the grid worlds: goals are cells, and everything about them is known exactly."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from delegate.bank import Bank, Returns, Solution
from delegate.envs.grid.facts import LevelFacts
from delegate.envs.grid.landmarks import landmarks
from delegate.envs.grid.level import Level
from delegate.envs.grid.rules import Rules
from delegate.envs.grid.solvers import distances
from delegate.envs.grid.vector import GridVectorEnv
from delegate.planner import TablePlanner
from delegate.recall.goals import GoalTable
from delegate.recall.table import TransitionTable


class GridBank(Bank):
    """The levels of one grid world, one a row. States are cells, and so are goals.

    options: of the batch: observation, copy, render_mode
    """

    env: GridVectorEnv
    planner: TablePlanner

    def __init__(self, rules: Rules, levels: Level, **options: Any) -> None:
        disabled = AutoresetMode.DISABLED
        self.env = GridVectorEnv(
            rules, levels, levels.count, autoreset_mode=disabled, assign="in_order", **options
        )
        self.rules, self.levels = rules, levels
        self.split, self.seed = levels.kind, levels.seed
        self.goals = GoalTable.of_states(np.arange(levels.num_cells))
        self.assigned, self.proxy = levels.goal, levels.proxy_goal
        self.landmarks = landmarks(rules, levels)
        self.solution = GridSolution(self.env)
        self.planner = TablePlanner(self.table(), self.landmarks.places)

    @cached_property
    def _table(self) -> TransitionTable:
        return self.env.transition_table(endings=False)

    def table(self) -> TransitionTable:
        """See Bank."""
        return self._table

    def layout(self, level: np.ndarray) -> np.ndarray:
        """Walls, cell by cell: float32 [n, S]. Traps, goal and start are not shown."""
        return self.levels.walls[level].reshape(len(level), -1).astype(np.float32)

    def model_settings(self) -> Mapping[str, Any]:
        """The cells' layout, so that what is learned holds for other walls."""
        levels = self.levels
        return {"grid": (levels.height, levels.width), "layout_size": levels.num_cells}

    def features(self, level: np.ndarray, goal: np.ndarray, state: np.ndarray) -> np.ndarray:
        """See observation.cell_features."""
        return self.env.features(level, goal, state)

    def columns(self) -> dict[str, np.ndarray]:
        """walls bool [L, H, W] · start int32 · optimal_return, proxy_optimal_return, random_return
        float64 · optimal_steps, proxy_steps, goal_distance int32 (steps from the goal to the proxy
        cell, -1 where there is none) · distinguishing bool · landmark_goals int32 [L, M]"""
        levels, facts = self.levels, self.env.facts()
        away = distances(levels.walls, np.maximum(self.proxy, 0))
        away = away[np.arange(levels.count), self.assigned]
        return {
            "walls": levels.walls,
            "start": levels.start,
            "optimal_return": facts.optimal_return,
            "proxy_optimal_return": facts.proxy_optimal_return,
            "random_return": facts.random_return,
            "optimal_steps": facts.optimal_steps,
            "proxy_steps": facts.proxy_steps,
            "goal_distance": np.where(self.proxy >= 0, away, -1).astype(np.int32),
            "distinguishing": self.solution.distinguishing,
            "landmark_goals": self.landmarks.goal,
        }

    def drawing(self, level: int) -> Mapping[str, Any]:
        """See Bank; units are cells."""
        levels = self.levels
        cells: dict[str, Any] = {
            "wall": np.flatnonzero(levels.walls[level]),
            "trap": np.flatnonzero(levels.traps[level]),
            "start": levels.start[[level]],
            "proxy": self.proxy[[level]],
            "goal": self.assigned[[level]],
        }
        return {
            "size": [levels.width, levels.height],
            "shapes": [
                {
                    "shape": "circle" if role == "start" else "rect",
                    "at": at,
                    "size": [0.5, 0.5] if role == "start" else [1.0, 1.0],
                    "role": role,
                }
                for role, found in cells.items()
                for at in self.places(found[found >= 0]).tolist()
            ],
        }

    def places(self, state: np.ndarray) -> np.ndarray:
        """The middles of cells. state: int [n]"""
        row, column = np.divmod(state, self.levels.width)
        return np.stack([column + 0.5, row + 0.5], axis=1).astype(np.float32)


class GridSolution(Solution):
    """Solved by tables, when something is first asked that needs it."""

    kind = "exact"

    def __init__(self, env: GridVectorEnv) -> None:
        self._env = env
        self.distinguishing = env.rules.distinguishing(env.levels)

    @property
    def _facts(self) -> LevelFacts:
        return self._env.facts()

    def returns(self) -> Returns:
        """Optimal returns, exactly."""
        facts = self._facts
        known = facts.optimal_return, facts.proxy_optimal_return, facts.random_return
        return Returns(*known, error=np.zeros((3, len(facts.optimal_return))))

    def diverged(self, level: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Where optimal actions are disjoint; at the proxy cell, where the goal lies elsewhere."""
        return self._facts.divergent[level, state]
