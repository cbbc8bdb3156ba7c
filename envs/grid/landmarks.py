"""What a child could be after in a grid world, by name."""

from __future__ import annotations

import numpy as np

from delegate.envs.grid.level import Level, flood
from delegate.envs.grid.rules import Rules
from delegate.envs.grid.solvers import after_move, distances
from delegate.recall.goals import Landmarks

CORNERS = ("top-left corner", "top-right corner", "bottom-left corner", "bottom-right corner")


def landmarks(rules: Rules, level: Level) -> Landmarks:
    """The landmarks of a bank: the goal by its name in that world, the four corners, the start and
    the nearest dead end.

    A corner is the cell nearest to it, by rows and columns, among those that can be walked to. A
    dead end has one neighbour; it is nearest to the start, by steps, and neither start nor goal.
    Which landmark the proxy is, is not looked at.
    """
    rows = np.arange(level.count)
    places = flood(~level.walls, level.start)
    found = {rules.goal_name: level.goal}
    found |= dict(zip(CORNERS, _corners(level, places), strict=True))
    found["start"] = level.start
    open_around = after_move(level.walls, np.arange(level.num_cells)[None].repeat(level.count, 0))
    neighbours = (open_around != np.arange(level.num_cells)).sum(0)
    ends = places & (neighbours == 1)
    ends[rows, level.start] = ends[rows, level.goal] = False
    steps = distances(level.walls, level.start)
    nearest = np.where(ends, steps, np.iinfo(steps.dtype).max).argmin(1)
    found["nearest dead end"] = np.where(ends.any(1), nearest, -1)
    goal = np.stack(list(found.values()), axis=1).astype(np.int32)
    return Landmarks(tuple(found), goal, places)


def _corners(level: Level, places: np.ndarray) -> list[np.ndarray]:
    """The place nearest to each corner inside the border, the first of several: int [L] each."""
    row, column = np.divmod(np.arange(level.num_cells), level.width)
    return [
        np.where(places, abs(row - bottom) + abs(column - right), level.num_cells).argmin(1)
        for bottom in (1, level.height - 2)
        for right in (1, level.width - 2)
    ]
