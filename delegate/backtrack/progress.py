"""What the backtrack action itself changes, beside the world: named arrays, batch first."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from delegate.backtrack.history import RowIndex
from delegate.backtrack.observation import empty, leaves


class Progress:
    """Where each row is in its episode, and what it was last shown of going back.

    clock:       int64 [B]  decisions since reset, undone ones included; -1 before the first reset
    budget_left: int64 [B]  backtracks left in this episode
    since:       int64 [B]  steps since the last backtrack or the start
    loop_ticks:  int64 [B]  decisions spent in do-undo loops, never reset
    held:        bool  [B]  the world has ended and this decision confirms it or takes it back
    terminated:  bool  [B]  ended by the world, for good
    truncated:   bool  [B]  ended by a clock
    depth:       int64 [B]  which depth was just undone, counted from 1; 0 for none
    action:      the first action undone: int64 [B] counted from 1, 0 for none, or float [B, d]
    origin:      batch      the observation come back from, or None when it is not shown
    """

    def __init__(self, rows: int, action: np.ndarray, origin: gymnasium.Space | None) -> None:
        self.clock = np.full(rows, -1, np.int64)
        self.budget_left = np.zeros(rows, np.int64)
        self.since = np.zeros(rows, np.int64)
        self.loop_ticks = np.zeros(rows, np.int64)
        self.held = np.zeros(rows, bool)
        self.terminated = np.zeros(rows, bool)
        self.truncated = np.zeros(rows, bool)
        self.depth = np.zeros(rows, np.int64)
        self.no_action = action
        self.action = np.repeat(action[None], rows, axis=0)
        self.origin: Any = None
        if origin is not None:
            self.origin = empty(origin, rows)

    @property
    def ended(self) -> np.ndarray:
        """Waiting for a reset. bool [B]"""
        return self.terminated | self.truncated

    def begin(self, rows: np.ndarray, budget: int) -> None:
        """Those rows begin an episode. rows: int [n]"""
        self.clock[rows] = 0
        self.budget_left[rows] = budget
        self.since[rows] = 0
        for flag in (self.held, self.terminated, self.truncated):
            flag[rows] = False
        self.forget(rows)

    def forget(self, rows: RowIndex) -> None:
        """Those rows are shown nothing of the last backtrack any more."""
        if np.count_nonzero(self.depth):
            self.depth[rows] = 0
            self.action[rows] = self.no_action

    def state_arrays(self) -> dict[str, np.ndarray]:
        """The live arrays."""
        named = {
            name: getattr(self, name)
            for name in (
                "clock",
                "budget_left",
                "since",
                "loop_ticks",
                "held",
                "terminated",
                "truncated",
                "depth",
                "action",
            )
        }
        return named if self.origin is None else {**named, **leaves(self.origin, "origin")}
