"""What is fixed in a grid world: a bank of levels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

NOMINAL, SHIFTED = 0, 1
"""kinds of level: drawn from the training distribution, or from the deployment one"""

CONTENTS = ("walls", "traps", "start", "goal", "proxy_goal")
"""arrays of a level that an agent in it can tell from those of another level"""

ACTIONS = ("up", "right", "down", "left")


@dataclass(frozen=True)
class Level:
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
    def count(self) -> int:
        """L, how many levels the bank holds."""
        return len(self.walls)

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

    def take(self, index: np.ndarray) -> Level:
        """The bank of those levels alone. index: int [n] or bool [L]"""
        return Level(*(getattr(self, field.name)[index] for field in fields(self)))

    def fingerprints(self) -> list[bytes]:
        """16 bytes a level, equal where levels are the same to play, whatever their seeds."""
        columns = [getattr(self, name).reshape(self.count, -1) for name in CONTENTS]
        packed = [np.packbits(c, axis=1) if c.dtype == bool else c.view(np.uint8) for c in columns]
        shape = repr(self.walls.shape[1:]).encode()
        return [
            hashlib.blake2b(shape + row.tobytes(), digest_size=16).digest()
            for row in np.concatenate(packed, axis=1)
        ]

    def digest(self) -> str:
        """A short fingerprint of every array of the bank (hexadecimal)."""
        digest = hashlib.sha256(repr(self.walls.shape).encode())
        for field in fields(self):
            digest.update(np.ascontiguousarray(getattr(self, field.name)).tobytes())
        return digest.hexdigest()[:16]


def concatenate(*banks: Level) -> Level:
    """One bank that holds the levels of all, in order. Raises ValueError if sizes differ."""
    shapes = {bank.walls.shape[1:] for bank in banks}
    if len(shapes) != 1:
        raise ValueError(
            f"banks of sizes {sorted(shapes)} cannot be joined; build them with one size"
        )
    return Level(
        *(np.concatenate([getattr(b, field.name) for b in banks]) for field in fields(Level))
    )


def _refuse(bad: np.ndarray, why: str) -> None:
    if bad.any():
        raise ValueError(f"level {int(np.flatnonzero(bad)[0])} {why}")
