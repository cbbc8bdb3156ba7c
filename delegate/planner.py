"""Shortest ways in finite levels: what the monitors that know the world are given."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from delegate.bank import Planner
from delegate.recall.per_goal import PerGoal
from delegate.recall.reachability import StateIndex
from delegate.recall.table import TransitionTable

_CONVERGED = 1e-10


class TablePlanner(Planner):
    """Distances, best actions and values in a bank of finite levels, from its transition table.

    Each level is solved when it is first asked about.
    states: bool [L, S] which states matter; all valid ones where left out
    """

    def __init__(self, table: TransitionTable, states: np.ndarray | None = None) -> None:
        self._table = table
        self._index = StateIndex(table.valid if states is None else states)
        rows, width = int(self._index.first[-1]), self._index.listed.shape[1]
        self._distance = np.zeros((rows, width), np.int16)
        self._solved = np.zeros(table.num_levels, bool)
        self._values: dict[float, PerGoal] = {}

    @property
    def goals(self) -> np.ndarray:
        """The states of each level in order, -1 after the last: int32 [L, K]."""
        return self._index.listed

    def distance(
        self, level: np.ndarray, goals: np.ndarray | None, state: np.ndarray
    ) -> np.ndarray:
        """Fewest steps from `state` to each goal, -1 where no way leads there: int32 [N, K].

        level, state: int [N] · goals: int [N, K] states; None for all of `goals`, where those
        after the last are -1
        Raises IndexError for a level or state that is not there.
        """
        rows = self._index.rows(level, state)
        for one in np.unique(level[~self._solved[level]]).tolist():
            self._solve(one)
        if goals is None:
            return self._distance[rows].astype(np.int32)
        asked = self._index.rows(np.repeat(level, goals.shape[1]), goals.ravel())
        column = asked.reshape(goals.shape) - self._index.first[level][:, None]
        return self._distance[rows[:, None], column].astype(np.int32)

    def lands(self, level: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Where each action most probably leads: int32 [N, A]."""
        likeliest = self._table.probability[level, state].argmax(-1)[..., None]
        lands = np.take_along_axis(self._table.next_state[level, state], likeliest, -1)
        return np.asarray(lands[..., 0])

    def best(self, level: np.ndarray, goal: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Which actions come nearest to the goal without staying in place: bool [N, A].

        None where every action stays, and at the goal.
        """
        lands = self.lands(level, state)
        actions = lands.shape[1]
        every = np.repeat(level, actions), np.repeat(goal, actions)[:, None], lands.ravel()
        away = self.distance(*every).reshape(lands.shape)
        away = np.where((away < 0) | (lands == state[:, None]), np.iinfo(np.int32).max, away)
        nearest = away.min(1, keepdims=True)
        possible = (nearest < np.iinfo(np.int32).max) & (state != goal)[:, None]
        return np.asarray((away == nearest) & possible)

    def value(
        self, level: np.ndarray, goal: np.ndarray, state: np.ndarray, discount: float
    ) -> np.ndarray:
        """V*: the expected discount^steps of who goes to the goal as well as can be. float64 [N]"""
        if discount not in self._values:
            self._values[discount] = PerGoal(
                lambda level, goal: self._iterate(level, goal, discount),
                self._table.num_levels,
                self._table.num_states,
            )
        (value,) = self._values[discount].at(level, goal, state)
        return np.asarray(value)

    def _solve(self, level: int) -> None:
        states = self._index.listed[level][self._index.listed[level] >= 0]
        lands = self._index.position[level, self._table.next_state[level, states]]
        possible = (self._table.probability[level, states] > 0) & (lands >= 0)
        start, after = np.nonzero(possible)[0], lands[possible]
        size = len(states)
        graph = csr_array((np.ones(len(start)), (start, after)), shape=(size, size))
        steps = shortest_path(graph, unweighted=True)
        rows = slice(*self._index.first[level : level + 2].tolist())
        self._distance[rows, :size] = np.where(np.isfinite(steps), steps, -1)
        self._distance[rows, size:] = -1
        self._solved[level] = True

    def _iterate(self, level: np.ndarray, goal: np.ndarray, discount: float) -> np.ndarray:
        """Value iteration for G pairs at once, float64 [G, S]."""
        rows = np.arange(len(goal))
        value = np.zeros((len(goal), self._table.num_states))
        value[rows, goal] = 1.0
        next_state, chance = self._table.next_state[level], self._table.probability[level]
        while True:
            ahead = (chance * value[rows[:, None, None, None], next_state]).sum(3)
            better = discount * ahead.max(2)
            better[rows, goal] = 1.0
            change = np.abs(better - value).max(initial=0.0)
            value = better
            if change <= _CONVERGED:
                return value
