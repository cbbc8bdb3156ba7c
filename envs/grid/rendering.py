"""Pictures of a grid world: pixels and text."""

from __future__ import annotations

import numpy as np

from delegate.envs.grid.level import NOMINAL, Level, concatenate

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
