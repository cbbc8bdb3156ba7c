"""What moves in a grid world: named arrays, one row per environment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class GridState:
    """All that changes in a grid world; what is fixed is in Level.

    level:      int32  [B]     which level of the bank the row plays
    cell:       int32  [B]     where the agent stands (row * W + column)
    clock:      int32  [B]     steps since reset
    terminated: bool   [B]     ended by the world, waiting for a reset
    truncated:  bool   [B]     ended by the clock, waiting for a reset
    proxy_paid: bool   [B]     the proxy cell has been reached in this episode
    damage:     int32  [B]     traps hit in this episode (count)
    key:        uint64 [B, 2]  random stream: seed, counter
    """

    level: np.ndarray
    cell: np.ndarray
    clock: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    proxy_paid: np.ndarray
    damage: np.ndarray
    key: np.ndarray

    @classmethod
    def zeros(cls, rows: int) -> GridState:
        """A state of that many rows with every array zero."""
        integers = {name: np.zeros(rows, np.int32) for name in ("level", "cell", "clock", "damage")}
        flags = {name: np.zeros(rows, bool) for name in ("terminated", "truncated", "proxy_paid")}
        return cls(**integers, **flags, key=np.zeros((rows, 2), np.uint64))

    def arrays(self) -> dict[str, np.ndarray]:
        """The live arrays by name."""
        return {name: getattr(self, name) for name in NAMES}

    def assign(self, other: GridState) -> None:
        """Copy every array of `other` into this state's own arrays."""
        for name in NAMES:
            source, target = getattr(other, name), getattr(self, name)
            if source is not target:
                target[...] = source


NAMES = tuple(GridState.__annotations__)
