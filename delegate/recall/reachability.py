"""Reachability: how well a state leads to a goal, log h_g(s).

Reference behaviour P that is stopped with probability 1 - λ at every step comes from s to goal g
with probability h_g(s), so h_g(g) = 1. Conditioned on coming there it is Doob's transform
P_g(s' | s) = λ P(s' | s) h_g(s') / h_g(s), and the log likelihood ratio of a step under "goes to
g" against the reference is log λ + log h_g(s') - log h_g(s).

h is a statement of the backtracking model. Traces recalled from g visit s with the frequency
B_g(s) = Σ_k λ^k P(s is k steps back), and h_g(s) = B_g(s) / μ(s) up to a constant of g, μ being
the state density of the reference.
Source: Recall Traces (arXiv 1804.00379), section 2, with Bayes' rule; Doob 1957.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from delegate.recall.exact import Backward, backward_weights
from delegate.recall.table import TransitionTable

DISCOUNTS = (0.3, 0.5, 0.7, 0.85, 0.95)
"""λ over which likelihoods are averaged where nothing else is said; a child's rationality is
unknown"""

_SMALLEST = 1e-300
"""h is taken for this where it is less, or where the goal cannot be reached"""


class StateIndex:
    """Where the states of all levels stand in one table, level by level.

    states: bool [L, S] the states that belong
    listed: int32 [L, n] those of each level in order, -1 after the last
    position: int32 [L, S] where each stands among them, -1 where it does not belong
    first: int64 [L + 1] the row of each level's first state
    """

    def __init__(self, states: np.ndarray) -> None:
        self.states = np.asarray(states, bool)
        count = self.states.sum(1)
        self.first = np.concatenate([[0], np.cumsum(count)])
        self.position = np.where(self.states, np.cumsum(self.states, axis=1) - 1, -1)
        self.position = self.position.astype(np.int32)
        self.listed = np.full((len(count), int(count.max(initial=0))), -1, np.int32)
        level, state = np.nonzero(self.states)
        self.listed[level, self.position[level, state]] = state

    def rows(self, level: np.ndarray, state: np.ndarray) -> np.ndarray:
        """The row of each state, int64 [N]; level, state: int [N].

        Raises IndexError for a state or level that is not there.
        """
        for name, index, size in (
            ("level", level, self.states.shape[0]),
            ("state", state, self.states.shape[1]),
        ):
            if index.size and (index.min() < 0 or index.max() >= size):
                wrong = int(index.min()) if index.min() < 0 else int(index.max())
                raise IndexError(f"{name} {wrong} is not there; give 0 to {size - 1}")
        position = self.position[level, state]
        if position.size and position.min() < 0:
            row = int(position.argmin())
            raise IndexError(
                f"state {int(state[row])} of level {int(level[row])} is not there: it is a wall, "
                "or no way leads to it"
            )
        return self.first[level] + position


class Reachability(ABC):
    """log h_g(s) for a bank of levels, several goals and several λ at once.

    discounts: Λ of them, each in (0, 1)
    goals: int32 [L, K] the goals of each level it can be asked of, -1 after the last
    """

    discounts: tuple[float, ...]
    goals: np.ndarray

    @abstractmethod
    def log_h(self, level: np.ndarray, goals: np.ndarray | None, state: np.ndarray) -> np.ndarray:
        """log h of every goal and λ: float32 [N, K, Λ], 0 at the goal itself and negative beyond.

        level: int [N] · state: int [N] of a finite level, float [N, d] of any other
        goals: int [N, K] numbers of goals; None for all `goals` of the row's level. Where a goal
            is -1 the answer is 0 and means nothing
        Raises IndexError for a level, goal or state that is not there.
        """

    @abstractmethod
    def near(self, level: np.ndarray, goals: np.ndarray | None, goal: np.ndarray) -> np.ndarray:
        """Which of `goals` are `goal`, or one step of the reference from it: bool [N, K].

        level, goal: int [N] · goals: as in `log_h`
        """

    @abstractmethod
    def at(self, discounts: tuple[float, ...], goals: np.ndarray | None = None) -> Reachability:
        """The same for other λ and, where given, for fewer goals, int [L, K].

        Raises ValueError for a λ it cannot be asked of.
        """


class TabulatedReachability(Reachability):
    """A table of log h over the states of finite levels: the resolvent of the reference chain.

    With G = (I - λP)^-1, h_g(s) = G(s, g) / G(g, g). Each level is tabulated when it is first
    asked about; `nbytes` says what has been by now.

    states: bool [L, S] which states matter; none of them may lead to another state
    """

    def __init__(
        self,
        states: np.ndarray,
        discounts: tuple[float, ...] = DISCOUNTS,
        goals: np.ndarray | None = None,
    ) -> None:
        self._index = StateIndex(states)
        self._known: dict[tuple[tuple[float, ...], bytes], TabulatedReachability] = {}
        self._tabulate(discounts, goals)

    @abstractmethod
    def chain(self, level: int) -> np.ndarray:
        """Reference behaviour in one level: P(s' | s) as float64 [n, n], states in order."""

    def log_h(self, level: np.ndarray, goals: np.ndarray | None, state: np.ndarray) -> np.ndarray:
        rows = self._rows(level, state)
        if goals is None:
            found = self._log_h.take(rows, axis=0)
            return found.reshape(len(rows), -1, len(self.discounts))
        table = self._log_h.reshape(len(self._log_h), -1, len(self.discounts))
        column = self._columns(level, goals)
        return np.where(column[..., None] < 0, np.float32(0), table[rows[:, None], column])

    def near(self, level: np.ndarray, goals: np.ndarray | None, goal: np.ndarray) -> np.ndarray:
        rows = self._rows(level, goal)
        if goals is None:
            return self._near[rows]
        column = self._columns(level, goals)
        return np.asarray((column >= 0) & self._near[rows[:, None], column])

    def at(
        self, discounts: tuple[float, ...], goals: np.ndarray | None = None
    ) -> TabulatedReachability:
        key = (tuple(discounts), b"" if goals is None else np.asarray(goals, np.int32).tobytes())
        if key not in self._known:
            other = copy.copy(self)
            other._tabulate(discounts, goals)
            self._known[key] = other
        return self._known[key]

    @property
    def nbytes(self) -> int:
        """Memory of what has been tabulated so far (bytes)."""
        built = int((np.diff(self._index.first) * self._built).sum())
        return built * (self._log_h.itemsize * self._log_h.shape[1] + self._near.shape[1])

    def _tabulate(self, discounts: tuple[float, ...], goals: np.ndarray | None) -> None:
        for discount in discounts:
            if not 0 < discount < 1:
                raise ValueError(f"discount is {discount}; give a number between 0 and 1")
        if not discounts:
            raise ValueError("discounts is empty; give one or more")
        self.discounts = tuple(discounts)
        self.goals = self._index.listed if goals is None else np.asarray(goals, np.int32)
        level, column = np.nonzero(self.goals >= 0)
        self._column = np.full(self._index.states.shape, -1, np.int32)
        self._column[level, self.goals[level, column]] = column
        self._index.rows(level, self.goals[level, column])  # raises where a goal is no state
        rows, width = int(self._index.first[-1]), self.goals.shape[1]
        # Pages that nothing is written to cost nothing, so the whole bank may have its place.
        self._log_h = np.zeros((rows, width * len(self.discounts)), np.float32)
        self._near = np.zeros((rows, width), bool)
        self._built = np.zeros(len(self.goals), bool)
        self._known.setdefault(
            (self.discounts, b"" if goals is None else self.goals.tobytes()), self
        )

    def _rows(self, level: np.ndarray, state: np.ndarray) -> np.ndarray:
        rows = self._index.rows(level, state)
        if not self._built[level].all():
            for one in np.unique(level[~self._built[level]]).tolist():
                self._build(one)
        return rows

    def _columns(self, level: np.ndarray, goals: np.ndarray) -> np.ndarray:
        column = np.where(goals < 0, -1, self._column[level[:, None], goals])
        if (missing := (column < 0) & (goals >= 0)).any():
            row, place = (int(each[0]) for each in np.nonzero(missing))
            raise IndexError(
                f"goal {int(goals[row, place])} of level {int(level[row])} is not among the goals "
                "asked for; it is a wall, no way leads to it, or it was not drawn"
            )
        return column

    def _build(self, level: int) -> None:
        """Tabulate one level, by itself, so that its numbers do not depend on the others."""
        P = self.chain(level)
        goal = self.goals[level][self.goals[level] >= 0]
        at = self._index.position[level, goal]
        # Transposed it is dominant by columns: elimination swaps no rows and subtracts nothing,
        # so that the smallest entries are as exact as the largest.
        discount = np.array(self.discounts)[:, None, None]
        G = np.linalg.inv(np.eye(len(P)) - discount * P.T)[:, at]  # [Λ, goals, states]
        h = G / G[:, np.arange(len(at)), at][..., None]
        rows = slice(*self._index.first[level : level + 2].tolist())
        table = np.zeros((len(P), self.goals.shape[1], len(self.discounts)), np.float32)
        table[:, : len(at)] = np.log(np.maximum(h, _SMALLEST)).transpose(2, 1, 0)
        self._log_h[rows] = table.reshape(len(P), -1)
        step = (P + P.T > 0) | np.eye(len(P), dtype=bool)
        self._near[rows, : len(at)] = step[:, at]
        self._built[level] = True


class ExactReachability(TabulatedReachability):
    """log h by a transition table, for a policy that takes each action in proportion to a weight.

    table: the bank of levels
    weights: as the backtracking model's: "uniform", "moving", or [S, A] or [L, S, A]
    states: bool [L, S] which states matter; all valid ones where left out
    staying: whether a step that stays in place is a step. Otherwise the chain is that of the
        moves alone, and standing still says nothing about where somebody goes
    Raises ValueError for weights that are none, and for a state that leads out of `states`.
    """

    def __init__(
        self,
        table: TransitionTable,
        discounts: tuple[float, ...] = DISCOUNTS,
        weights: Backward = "uniform",
        states: np.ndarray | None = None,
        goals: np.ndarray | None = None,
        staying: bool = False,
    ) -> None:
        self._table, self._staying = table, staying
        self._weights = backward_weights(table, weights)
        super().__init__(table.valid if states is None else states, discounts, goals)

    def chain(self, level: int) -> np.ndarray:
        states = self._index.listed[level][self._index.listed[level] >= 0]
        weight = self._weights[level, states]
        total = weight.sum(1, keepdims=True)
        policy = np.where(total > 0, weight / np.where(total > 0, total, 1.0), 1 / weight.shape[1])
        chance = policy[..., None] * self._table.probability[level, states]
        lands = self._index.position[level, self._table.next_state[level, states]]
        if (outside := (lands < 0) & (chance > 0)).any():
            state = int(states[np.nonzero(outside)[0][0]])
            raise ValueError(
                f"level {level}: state {state} leads out of the states given; give every state "
                "that can be reached from them"
            )
        P = np.zeros((len(states), len(states)))
        at = np.broadcast_to(np.arange(len(states))[:, None, None], lands.shape)
        np.add.at(P, (at, np.maximum(lands, 0)), chance)
        if not self._staying:
            np.fill_diagonal(P, 0.0)
            total = P.sum(1, keepdims=True)
            P /= np.where(total > 0, total, 1.0)
        return P


OneStep = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""log q(state, action | next_state) of (level, state, action, next_state), all int [B]"""


class RecalledReachability(TabulatedReachability):
    """log h by what a backtracking model says came before each state, and by nothing else.

    The model's own one-step conditionals are a chain backwards; with the density μ of the
    reference Bayes' rule gives P(s' | s) = q(s | s') μ(s') / μ(s). So a model that was learned in
    other levels gives h in these. For a learned one of a grid:

        RecalledReachability(
            lambda level, s, a, after: model.log_prob(s, a, after, layout=layouts[level]),
            before=grid_neighbours(13, 13), actions=4, states=open_and_connected)

    before: int [S, C] the states that may come right before each, -1 for none
    states: bool [L, S] which states matter
    density: float [L, S] μ, up to a factor in each level. Where left out, in proportion to how
        many states may come before: that of uniform moves, every one of which can be taken back.
        The density that q itself leaves unchanged will not do: of a goal that ended every episode
        q never recalls a step away, which says that nobody goes there
    A step that stays in place is left out, as in ExactReachability.
    Raises ValueError where the model recalls nothing.
    """

    def __init__(
        self,
        log_prob: OneStep,
        before: np.ndarray,
        actions: int,
        states: np.ndarray,
        discounts: tuple[float, ...] = DISCOUNTS,
        goals: np.ndarray | None = None,
        density: np.ndarray | None = None,
    ) -> None:
        self._log_prob, self._before, self._actions = log_prob, np.asarray(before), actions
        self._density = density
        super().__init__(states, discounts, goals)

    def chain(self, level: int) -> np.ndarray:
        states = self._index.listed[level][self._index.listed[level] >= 0]
        before = self._before[states]
        at = np.where(before >= 0, self._index.position[level, before], -1)
        possible = (at >= 0) & (before != states[:, None])
        Q = self._backwards(level, states, at, possible)
        mu = possible.sum(1) if self._density is None else self._density[level, states]
        return np.asarray(Q.T * mu[None] / np.where(mu > 0, mu, 1)[:, None])

    def _backwards(
        self, level: int, states: np.ndarray, at: np.ndarray, possible: np.ndarray
    ) -> np.ndarray:
        """q(s | s') of the moves alone, float64 [s', s]. at, possible: [n, C]"""
        after, choice = np.nonzero(possible)
        rows = np.repeat(np.arange(len(after)), self._actions)
        after, came = after[rows], at[after, choice][rows]
        action = np.tile(np.arange(self._actions), len(rows) // self._actions)
        log_prob = self._log_prob(np.full(len(rows), level), states[came], action, states[after])
        Q = np.zeros((len(states), len(states)))
        np.add.at(Q, (after, came), np.exp(log_prob))
        total = Q.sum(1, keepdims=True)
        if (silent := possible.any(1) & (total[:, 0] <= 0)).any():
            raise ValueError(
                f"level {level}: the model recalls nothing before state "
                f"{int(states[silent.argmax()])}; train it on more, or leave the state out"
            )
        return Q / np.where(total > 0, total, 1.0)


def grid_neighbours(height: int, width: int) -> np.ndarray:
    """The four cells around each cell of a grid, -1 beyond its border: int32 [S, 4]."""
    row, column = np.divmod(np.arange(height * width), width)
    near = (
        np.stack([row - 1, row, row + 1, row], 1),
        np.stack([column, column + 1, column, column - 1], 1),
    )
    inside = (near[0] >= 0) & (near[0] < height) & (near[1] >= 0) & (near[1] < width)
    return np.where(inside, near[0] * width + near[1], -1).astype(np.int32)
