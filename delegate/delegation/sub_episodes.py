"""Every sub-episode of every row, as arrays; and which of them are running."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from delegate.agents import NO_CODE, Intent


@dataclass(frozen=True)
class Totals:
    """What a path has come to, [n]: intended, proxy, true_return, proxy_return, intent."""

    intended: np.ndarray
    proxy: np.ndarray
    true_return: np.ndarray
    proxy_return: np.ndarray
    intent: np.ndarray

    def take(self, rows: np.ndarray) -> Totals:
        """Those rows alone."""
        return Totals(*(getattr(self, field.name)[rows] for field in fields(self)))


class SubEpisodes:
    """One delegation a cell: arrays [B, N], N the most delegations a row may have plus one.

    Number 0 is the episode itself; numbers grow in spawn order, so what a sub-episode
    spawned has a higher number than it.

    parent, depth, member, ordinal: int16; ordinal counts within the row and depth
    goal, budget, start_path, steps: int32 (steps: paid inside it, descendants' included)
    outcome, verdict: int8 codes, NO_CODE before · intent: int8 the most proxy-like so far
    intended, proxy: bool reached on its surviving path · alarmed, gave_up: bool
    true_return, proxy_return: float64, of its surviving path
    active: int16 [B, D + 1] the running sub-episode at each depth, -1 for none
    top: int8 [B] the deepest running depth
    count: int16 [B] numbers given so far
    """

    def __init__(self, rows: int, max_spawns: int, max_depth: int) -> None:
        shape = (rows, max_spawns + 1)
        self.parent = np.full(shape, -1, np.int16)
        self.depth = np.zeros(shape, np.int16)
        self.member = np.full(shape, -1, np.int16)
        self.ordinal = np.zeros(shape, np.int16)
        self.goal = np.zeros(shape, np.int32)
        self.budget = np.zeros(shape, np.int32)
        self.start_path = np.zeros(shape, np.int32)
        self.steps = np.zeros(shape, np.int32)
        self.outcome = np.full(shape, NO_CODE, np.int8)
        self.verdict = np.full(shape, NO_CODE, np.int8)
        self.intent = np.full(shape, Intent.UNKNOWN, np.int8)
        self.intended = np.zeros(shape, bool)
        self.proxy = np.zeros(shape, bool)
        self.alarmed = np.zeros(shape, bool)
        self.gave_up = np.zeros(shape, bool)
        self.true_return = np.zeros(shape)
        self.proxy_return = np.zeros(shape)
        self.active = np.full((rows, max_depth + 1), -1, np.int16)
        self.active[:, 0] = 0
        self.top = np.zeros(rows, np.int8)
        self.count = np.ones(rows, np.int16)
        self._born = np.zeros((rows, max_depth + 1), np.int16)

    def current(self, rows: np.ndarray) -> np.ndarray:
        """The deepest running sub-episode of those rows, int16 [n]."""
        return self.active[rows, self.top[rows]]

    def open(
        self,
        rows: np.ndarray,
        member: np.ndarray,
        goal: np.ndarray,
        budget: np.ndarray,
        path_clock: np.ndarray,
    ) -> np.ndarray:
        """A new sub-episode below the running one of each row; returns its number [n]."""
        number = self.count[rows]
        self.parent[rows, number] = self.current(rows)
        self.count[rows] += 1
        self.top[rows] += 1
        depth = self.top[rows]
        self.active[rows, depth] = number
        self.depth[rows, number] = depth
        self.ordinal[rows, number] = self._born[rows, depth]
        self._born[rows, depth] += 1
        self.member[rows, number] = member
        self.goal[rows, number] = goal
        self.budget[rows, number] = budget
        self.start_path[rows, number] = path_clock
        return number

    def close(self, rows: np.ndarray) -> None:
        """The running sub-episode of each row ends and its parent runs again."""
        self.active[rows, self.top[rows]] = -1
        self.top[rows] -= 1

    def cut(self, rows: np.ndarray, depth: np.ndarray) -> None:
        """Nothing runs at those depths or below any more."""
        for row, at in zip(rows, depth, strict=True):
            self.active[row, at:] = -1
            self.top[row] = at - 1

    def totals(self, rows: np.ndarray, number: np.ndarray) -> Totals:
        """What the paths of those sub-episodes have come to, a copy."""
        return Totals(*(getattr(self, field.name)[rows, number] for field in fields(Totals)))

    def set_totals(self, rows: np.ndarray, number: np.ndarray, totals: Totals) -> None:
        """Make them that again."""
        for field in fields(Totals):
            getattr(self, field.name)[rows, number] = getattr(totals, field.name)

    def hand_up(self, rows: np.ndarray, number: np.ndarray) -> None:
        """A committed sub-episode's path becomes part of its parent's path."""
        parent = self.parent[rows, number]
        self.intended[rows, parent] |= self.intended[rows, number]
        self.proxy[rows, parent] |= self.proxy[rows, number]
        self.true_return[rows, parent] += self.true_return[rows, number]
        self.proxy_return[rows, parent] += self.proxy_return[rows, number]
        self.intent[rows, parent] = np.maximum(self.intent[rows, parent], self.intent[rows, number])

    def running_intent(self, rows: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """What each sub-episode at that depth pursues, by itself or through what runs in it."""
        intent = np.full(len(rows), Intent.UNKNOWN, np.int8)
        for level in range(self.active.shape[1]):
            at = self.active[rows, level]
            counts = (at >= 0) & (level >= depth)
            intent = np.where(counts, np.maximum(intent, self.intent[rows, at]), intent)
        return intent.astype(np.int8)
