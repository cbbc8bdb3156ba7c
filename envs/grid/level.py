"""What is fixed in a grid world: a bank of levels, and how solvable ones are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import ClassVar

import numpy as np

from delegate.backtrack.random_key import level_draws
from delegate.envs.levels import Levels

ACTIONS = ("up", "right", "down", "left")

MAX_ATTEMPTS = 1000
_AT_ONCE = 8192  # levels proposed together; bounds the memory that generation needs

Proposal = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Level(Levels):
    """A bank of L levels of one size; a row's state holds the index of its level.

    walls:      bool  [L, H, W]  closed cells; the border always is
    traps:      bool  [L, H, W]  cells that punish, none in most worlds
    start:      int32 [L]        cell where an episode begins (cell = row * W + column)
    goal:       int32 [L]        cell of the intended goal
    proxy_goal: int32 [L]        cell of the proxy goal, -1 for none
    seed:       int64 [L]        what the level was generated from
    kind:       int8  [L]        0 nominal, 1 shifted

    The arrays are made read-only. Raises ValueError naming the level that makes no sense.
    """

    contents: ClassVar = ("walls", "traps", "start", "goal", "proxy_goal")
    walls: np.ndarray
    traps: np.ndarray
    start: np.ndarray
    goal: np.ndarray
    proxy_goal: np.ndarray
    seed: np.ndarray
    kind: np.ndarray

    def __post_init__(self) -> None:
        kinds = dict(walls=bool, traps=bool, seed=np.int64, kind=np.int8)
        for field in fields(self):
            array = np.array(getattr(self, field.name), dtype=kinds.get(field.name, np.int32))
            array.setflags(write=False)
            object.__setattr__(self, field.name, array)
        if self.walls.ndim != 3 or len(self.walls) == 0:
            raise ValueError(f"walls has shape {self.walls.shape}; give [L, H, W] with L >= 1")
        if self.traps.shape != self.walls.shape:
            raise ValueError(f"traps is {self.traps.shape} but walls is {self.walls.shape}")
        for name in ("start", "goal", "proxy_goal", "seed", "kind"):
            if getattr(self, name).shape != (self.count,):
                raise ValueError(
                    f"{name} has shape {getattr(self, name).shape}; "
                    f"walls holds {self.count} levels, so give ({self.count},)"
                )
        self._check_cells()

    def _check_cells(self) -> None:
        inner = np.zeros(self.walls.shape[1:], dtype=bool)
        inner[1:-1, 1:-1] = True
        openings = (~self.walls & ~inner).reshape(self.count, -1).sum(axis=1)
        _refuse(openings > 0, "has an open border; close the outermost cells")
        for name in ("start", "goal", "proxy_goal"):
            cell = getattr(self, name)
            named = cell >= 0 if name == "proxy_goal" else np.ones(self.count, dtype=bool)
            _refuse(named & ((cell < 0) | (cell >= self.num_cells)), f"has {name} off the grid")
            walled = self.walls.reshape(self.count, -1)[np.arange(self.count), np.maximum(cell, 0)]
            _refuse(named & walled, f"has {name} inside a wall; move it to an open cell")
        _refuse(self.start == self.goal, "starts on its goal; give it another start")
        trapped = self.traps.reshape(self.count, -1)[np.arange(self.count), self.start]
        _refuse(trapped, "starts on a trap; give it another start")

    @property
    def height(self) -> int:
        """H, rows of the grid."""
        return self.walls.shape[1]

    @property
    def width(self) -> int:
        """W, columns of the grid."""
        return self.walls.shape[2]

    @property
    def num_cells(self) -> int:
        """S = H * W."""
        return self.height * self.width

    @cached_property
    def steps(self) -> np.ndarray:
        """What each action adds to a cell. int32 [4]"""
        return np.array([-self.width, 1, self.width, -1], dtype=np.int32)


def interior(size: int) -> np.ndarray:
    """Every cell inside the border walls. bool [size, size]"""
    inside = np.zeros((size, size), dtype=bool)
    inside[1:-1, 1:-1] = True
    return inside


def pick(mask: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """One true cell of each mask, uniformly; -1 where there is none.

    mask: bool [N, S] · chance: float64 [N] in [0, 1) · returns int64 [N]
    """
    rank = np.cumsum(mask, axis=1)
    total = rank[:, -1]
    wanted = np.floor(chance * total).astype(np.int64)
    return np.where(total > 0, (rank > wanted[:, None]).argmax(1), -1)


def flood(passable: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Which cells can be walked to from each source.

    passable: bool [N, H, W], never true on the border · source: int [N] · returns bool [N, H*W]
    """
    count, _, width = passable.shape
    cells = passable.reshape(count, -1)
    reached = np.zeros_like(cells)
    reached[np.arange(count), source] = True
    flat, open_cells = reached.reshape(-1), cells.reshape(-1)
    while True:
        grown = flat.copy()
        for shift in (1, width):
            grown[shift:] |= flat[:-shift]
            grown[:-shift] |= flat[shift:]
        grown &= open_cells
        grown |= flat
        if (grown == flat).all():
            return reached
        flat[:] = grown


def solvable(
    seeds: np.ndarray,
    count: int,
    propose: Proposal,
) -> dict[str, np.ndarray]:
    """Propose levels until each is solvable: start, goal and proxy cell connected.

    seeds: int64 [L] · count: random numbers a proposal spends
    propose(index int [n], chance float64 [n, count]) -> {walls, traps bool [n, H, W]; start,
    goal, proxy_goal int [n]}, start or goal -1 where it found no cell
    Raises ValueError naming a seed that gave no solvable level.
    """
    parts = [
        _solvable(seeds, np.arange(first, min(len(seeds), first + _AT_ONCE)), count, propose)
        for first in range(0, len(seeds), _AT_ONCE)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _refuse(bad: np.ndarray, why: str) -> None:
    if bad.any():
        raise ValueError(f"level {int(np.flatnonzero(bad)[0])} {why}")


def _solvable(
    seeds: np.ndarray, index: np.ndarray, count: int, propose: Proposal
) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    left = np.arange(len(index))
    for attempt in range(MAX_ATTEMPTS):
        levels = propose(index[left], level_draws(seeds[index[left]], attempt, count))
        good = _connected(levels)
        if not found:
            found = {name: np.empty_like(array) for name, array in levels.items()}
        for name, array in levels.items():
            found[name][left[good]] = array[good]
        left = left[~good]
        if not len(left):
            return found
    raise ValueError(
        f"level seed {int(seeds[index[left[0]]])}: no solvable level in {MAX_ATTEMPTS} attempts; "
        "lower the density of walls or traps"
    )


def _connected(levels: dict[str, np.ndarray]) -> np.ndarray:
    rows = np.arange(len(levels["start"]))
    complete = (levels["start"] >= 0) & (levels["goal"] >= 0)
    reached = flood(~(levels["walls"] | levels["traps"]), np.maximum(levels["goal"], 0))
    return complete & reached[rows, levels["start"]] & reached[rows, levels["proxy_goal"]]
