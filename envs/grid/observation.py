"""What is seen of a grid world: channels by policies, features by monitors, pictures by people."""

from __future__ import annotations

import numpy as np

from delegate.bank import NOMINAL
from delegate.envs.grid.level import Level
from delegate.envs.grid.rules import GridState
from delegate.envs.levels import concatenate

TILE = 16
"""pixels along one cell"""

PALETTE = np.array(
    [
        (245, 243, 238),  # open
        (62, 66, 75),  # wall
        (214, 96, 77),  # trap
        (171, 171, 235),  # proxy cell
        (240, 196, 60),  # intended goal
        (44, 123, 182),  # agent
    ],
    dtype=np.uint8,
)
SYMBOLS = ".#xPGA"
"""open, wall, trap, proxy cell, intended goal, agent"""


class BooleanObservation:
    """The channels of every row, bool [B, H, W, C].

    What is fixed in a level is drawn once for the whole bank; a step only moves the agent's bit.
    """

    def __init__(self, level: Level, channels: tuple[str, ...], rows: int) -> None:
        self._scenes = draw_scenes(level, channels)
        self._channels = len(channels)
        self.array = np.zeros((rows, *self._scenes.shape[1:]), dtype=bool)
        self._flat = self.array.reshape(-1)
        stride = level.num_cells * len(channels)
        self._first: np.ndarray = np.arange(rows) * stride + channels.index("agent")
        self._drawn = self._first.copy()

    def move(self, state: GridState) -> None:
        """Follow the agents of all rows to where they stand now."""
        self._flat[self._drawn] = False
        self._drawn = self._first + state.cell * np.int64(self._channels)
        self._flat[self._drawn] = True

    def move_rows(self, rows: np.ndarray, state: GridState) -> None:
        """Follow the agents of those rows. rows: int [n] · state: of those n"""
        self._flat[self._drawn[rows]] = False
        self._drawn[rows] = self._first[rows] + state.cell * np.int64(self._channels)
        self._flat[self._drawn[rows]] = True

    def rebuild(self, state: GridState, rows: np.ndarray) -> None:
        """Draw those rows from the state alone. rows: int [n]"""
        self.array[rows] = self._scenes[state.level[rows]]
        self._drawn[rows] = self._first[rows] + state.cell[rows] * np.int64(self._channels)
        self._flat[self._drawn[rows]] = True


def draw_scenes(level: Level, channels: tuple[str, ...]) -> np.ndarray:
    """Everything but the agent, for each level of the bank. bool [L, H, W, C]"""
    scenes = np.zeros((*level.walls.shape, len(channels)), dtype=bool)
    for index, channel in enumerate(channels):
        if channel in ("walls", "traps"):
            scenes[..., index] = getattr(level, channel)
        elif channel == "goal":
            flat = scenes[..., index].reshape(level.count, -1)
            flat[np.arange(level.count), level.goal] = True
            scenes[..., index] = flat.reshape(level.walls.shape)
    return scenes


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


_AROUND = np.array(
    [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0)]
)


def draw_cells(level: Level, index: int, agent: int) -> np.ndarray:
    """What stands on each cell: 0 open, 1 wall, 2 trap, 3 proxy, 4 goal, 5 agent. int [H, W]"""
    cells = np.where(level.traps[index], 2, level.walls[index].astype(np.int64)).reshape(-1)
    if level.proxy_goal[index] >= 0:
        cells[level.proxy_goal[index]] = 3
    cells[level.goal[index]] = 4
    cells[agent] = 5
    return cells.reshape(level.height, level.width)


def draw_rgb(level: Level, index: int, agent: int) -> np.ndarray:
    """uint8 [H * TILE, W * TILE, 3]"""
    tiles = PALETTE[draw_cells(level, index, agent)]
    return tiles.repeat(TILE, axis=0).repeat(TILE, axis=1)


def draw_ansi(level: Level, index: int, agent: int) -> str:
    """One line a row of the grid."""
    cells = draw_cells(level, index, agent)
    return "\n".join("".join(SYMBOLS[cell] for cell in row) for row in cells)


def read_levels(*pictures: str) -> Level:
    """The bank drawn in those pictures, the reverse of `draw_ansi`.

    Each needs one A (the start) and one G; P is optional, and B stands for goal and proxy in
    one cell. Seeds are numbered from 0, kinds nominal.
    Raises ValueError naming the picture and what it lacks.
    """
    banks = [_read_level(number, picture) for number, picture in enumerate(pictures)]
    return concatenate(*banks)


def _read_level(number: int, picture: str) -> Level:
    lines = [line.strip() for line in picture.strip().splitlines()]
    grid = np.array([list(line) for line in lines if len(line) == len(lines[0])])
    if len(grid) != len(lines) or not np.isin(grid, list(SYMBOLS + "B")).all():
        raise ValueError(f"picture {number}: give lines of one length made of {SYMBOLS}B")
    flat = grid.reshape(-1)
    place = {}
    for name, symbols in (("start", "A"), ("goal", "GB"), ("proxy_goal", "PB")):
        cells = np.flatnonzero(np.isin(flat, list(symbols)))
        if len(cells) > 1 or (len(cells) == 0 and name != "proxy_goal"):
            raise ValueError(f"picture {number}: has {len(cells)} cells {symbols[0]}; give one")
        place[name] = np.array([cells[0] if len(cells) else -1])
    return Level(
        walls=(grid == "#")[None],
        traps=(grid == "x")[None],
        **place,
        seed=np.array([number]),
        kind=np.array([NOMINAL]),
    )
