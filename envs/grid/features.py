"""Numbers that describe where an agent stands, for monitors that compare features."""

from __future__ import annotations

import numpy as np

from delegate.envs.grid.level import Level

_AROUND = np.array(
    [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0)]
)


def cell_features(
    level: Level, index: np.ndarray, goal: np.ndarray, cell: np.ndarray, traps: bool
) -> np.ndarray:
    """float32 [N, F]: where, how far from the goal, and what is around.

    0-1    row and column of the cell, from 0 to 1 across the grid
    2-3    rows and columns to the goal, in units of the grid's side
    4-11   walls on the eight cells around, row by row from the top left
    12-19  traps on the same cells (only where the world has traps)

    index, goal, cell: int [N]
    """
    height, width = level.height, level.width
    side = np.array([height - 1, width - 1], dtype=np.float32)
    here = np.stack([cell // width, cell % width], axis=1)
    there = np.stack([goal // width, goal % width], axis=1)
    around = here[:, None, :] + _AROUND
    row = np.clip(around[..., 0], 0, height - 1)
    column = np.clip(around[..., 1], 0, width - 1)
    columns = [here / side, (there - here) / side, level.walls[index[:, None], row, column]]
    if traps:
        columns.append(level.traps[index[:, None], row, column])
    return np.concatenate(columns, axis=1, dtype=np.float32)
