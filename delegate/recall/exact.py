"""The exact backtracking model of a finite world: Bayes' rule on its transition table."""

from __future__ import annotations

from functools import cached_property
from typing import Literal, get_args

import numpy as np
from gymnasium.spaces import Discrete
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from delegate.recall.model import (
    Array,
    FiniteBacktrackingModel,
    Rng,
    Traces,
    check_index,
    check_not_negative,
)
from delegate.recall.table import TransitionTable
from delegate.settings import known

Backward = Literal["uniform", "moving"] | Array
"""how the past is weighted: by name, or weights w(s, a) [S, A] or [L, S, A], 0 or more"""

_EDGES_AT_ONCE = 1 << 21
"""edges that `reachability` holds at a time; bounds its memory to some 30 MB"""
_LOG_SAFE = -575.0
"""log of a probability (1e-250) that double precision holds with room to spare"""


def moving_weights(table: TransitionTable, staying: float = 0.05) -> Array:
    """1 for an action that surely leaves its state, `staying` for one that surely does not.

    In between, in proportion: staying + (1 - staying) P(s' is not s | s, a); float64 [L, S, A].
    Uniform weights recall a child that walks into walls as often as along corridors: in a grid
    four equally likely pasts of nearly every cell, so that -log q tells where episodes end.
    staying: in [0, 1]; 1 gives uniform weights, 0 recalls no step that stays in place
    """
    if not 0 <= staying <= 1:
        raise ValueError(f"staying is {staying}; give a number from 0 to 1")
    here = np.arange(table.num_states)[None, :, None, None]
    stays = (table.probability * (table.next_state == here)).sum(3)
    return np.asarray(staying + (1 - staying) * (1 - stays))


class ExactBacktrackingModel(FiniteBacktrackingModel):
    """q(s, a | s') = w(s, a) P(s' | s, a) / sum of the same over every (s, a) that leads to s'.

    w is the joint weight with which the remembered behaviour visits s and then takes a. With
    the occupancy and the policy of a stationary process, q is that process run backwards; with
    how often each action was seen, plus some smoothing, it is counted from data.

    table: the bank of levels
    backward: "uniform" for w = 1, "moving" for `moving_weights`, or weights, 0 or more, as
        [S, A] for all levels or [L, S, A]
    Raises ValueError for another name, or weights of another shape, negative or not finite.
    """

    def __init__(self, table: TransitionTable, backward: Backward = "uniform") -> None:
        joint = backward_weights(table, backward)[..., None] * table.probability
        self.table = table
        self.num_levels, self.num_states, self.num_actions = joint.shape[:3]
        level = np.arange(self.num_levels, dtype=np.intp)[:, None, None, None]
        target = level * self.num_states + table.next_state
        states = self.num_levels * self.num_states
        evidence = np.bincount(target.ravel(), weights=joint.ravel(), minlength=states)
        # Where nothing leads to s', every joint weight is 0 too, so any divisor will do.
        self._posterior = joint / np.where(evidence > 0, evidence, 1.0)[target]

    def log_prob(
        self, state: Array, action: Array, next_state: Array, level: Array | None = None
    ) -> Array:
        level = self._levels(level, len(np.atleast_1d(state)))
        check_index("state", state, self.num_states)
        check_index("action", action, self.num_actions)
        check_index("next_state", next_state, self.num_states)
        leads = self.table.next_state[level, state, action] == np.asarray(next_state)[..., None]
        with np.errstate(divide="ignore"):
            return np.log((self._posterior[level, state, action] * leads).sum(-1))

    def sample_traces(
        self, end_state: Array, length: int, count: int, level: Array | None = None, rng: Rng = None
    ) -> Traces:
        check_not_negative(length=length, count=count)
        end_state = np.atleast_1d(np.asarray(end_state))
        check_index("end_state", end_state, self.num_states)
        level = np.repeat(self._levels(level, len(end_state)), count)
        rng = np.random.default_rng(rng)
        source, taken, first, cumulative = self._incoming

        def step(state: Array, row: Array) -> tuple[Array, ...]:
            target = level[row] * self.num_states + state
            led_to = first[target + 1] > first[target]
            start, stop = first[target[led_to]], first[target[led_to] + 1]
            total = cumulative[stop] - cumulative[start]
            drawn = cumulative[start] + rng.random(len(start)) * total
            edge = np.searchsorted(cumulative, drawn, side="right") - 1
            edge = np.clip(edge, start, stop - 1)
            before, action = source[edge], taken[edge]
            log_prob = self.log_prob(before, action, state[led_to], level[row[led_to]])
            return led_to, action, before, log_prob

        starts = np.repeat(end_state, count)
        return Traces.unrolled(starts, length, Discrete(self.num_actions), step)

    @cached_property
    def _incoming(self) -> tuple[Array, Array, Array, Array]:
        """Every possible edge, sorted by (level, s'), E of them.

        source, action: int32 [E] · first: int [L * S + 1], where the edges into each s' begin
        cumulative: float64 [E + 1], running sum of the posterior
        """
        level, state, action, outcome = np.nonzero(self._posterior)
        target = level * self.num_states + self.table.next_state[level, state, action, outcome]
        order = np.argsort(target, kind="stable")
        first = np.searchsorted(target[order], np.arange(self.num_levels * self.num_states + 1))
        posterior = self._posterior[level, state, action, outcome][order]
        cumulative = np.concatenate([[0.0], np.cumsum(posterior)])
        return state[order].astype(np.int32), action[order].astype(np.int32), first, cumulative

    def reachability(
        self, goal: Array, length: int, discount: float, level: Array | None = None
    ) -> Array:
        if not 0 < discount <= 1:
            raise ValueError(f"discount is {discount}; give a number above 0 and up to 1")
        goal, level = self._goals(goal, length, level)
        log_b = np.empty((len(goal), self.num_states))
        discounted = self._posterior * discount
        at_once = max(1, _EDGES_AT_ONCE // discounted[0].size)
        for first in range(0, len(goal), at_once):
            chunk = slice(first, first + at_once)
            backwards = self._backwards(level[chunk], discounted)
            recalled = (np.arange(self.num_states) == goal[chunk, None]).ravel().astype(np.float64)
            total = recalled.copy()
            for _ in range(length):
                recalled = backwards @ recalled
                total += recalled
            with np.errstate(divide="ignore"):
                log_b[chunk] = np.log(total).reshape(-1, self.num_states)
        smallest = self._posterior.min(where=self._posterior > 0, initial=1.0)
        if length * (np.log(smallest) + np.log(discount)) < _LOG_SAFE:
            self._redo_underflowed(log_b, goal, length, discount, level)
        return log_b

    def steps_back(self, goal: Array, length: int, level: Array | None = None) -> Array:
        goal, level = self._goals(goal, length, level)
        steps = np.empty((len(goal), self.num_states), np.int32)
        for number in np.unique(level):
            backwards = self._backwards(np.array([number]), self._posterior)
            backwards.eliminate_zeros()
            rows = level == number
            found = dijkstra(backwards.T, indices=goal[rows], unweighted=True, limit=length)
            steps[rows] = np.where(np.isfinite(found), found, -1)
        return steps

    def _redo_underflowed(
        self, log_b: Array, goal: Array, length: int, discount: float, level: Array
    ) -> None:
        """Replace the rows of `log_b` that lost a state to underflow, in log domain."""
        lost = (self.steps_back(goal, length, level) >= 0) & (log_b < _LOG_SAFE)
        with np.errstate(divide="ignore"):
            log_posterior = np.log(self._posterior) + np.log(discount)
        for g in np.flatnonzero(lost.any(1)):
            leads_to = self.table.next_state[level[g]]
            recalled = np.full(self.num_states, -np.inf)
            recalled[goal[g]] = 0.0
            total = recalled.copy()
            for _ in range(length):
                through = log_posterior[level[g]] + recalled[leads_to]
                recalled = np.logaddexp.reduce(through.reshape(self.num_states, -1), axis=1)
                total = np.logaddexp(total, recalled)
            log_b[g] = total

    def _backwards(self, level: Array, edge: Array) -> csr_array:
        """One block a goal; (block @ v)[s] = sum over (a, k) of edge[l, s, a, k] v[s'].

        level: int [G] · edge: [L, S, A, K] · returns [G * S, G * S]
        """
        size = len(level) * self.num_states
        width = self.num_actions * self.table.num_outcomes
        offset = np.arange(len(level), dtype=np.int32)[:, None, None, None] * self.num_states
        indices = (self.table.next_state[level] + offset).ravel()
        first = np.arange(size + 1, dtype=np.int32) * width
        return csr_array((edge[level].ravel(), indices, first), shape=(size, size))

    def _goals(self, goal: Array, length: int, level: Array | None) -> tuple[Array, Array]:
        check_not_negative(length=length)
        goal = np.atleast_1d(np.asarray(goal))
        check_index("goal", goal, self.num_states)
        return goal, self._levels(level, len(goal))

    def _levels(self, level: Array | None, count: int) -> Array:
        if level is None:
            if self.num_levels > 1:
                raise ValueError(
                    f"level is missing and the bank has {self.num_levels} levels; "
                    "give the level of each row"
                )
            return np.zeros(count, np.intp)
        check_index("level", level, self.num_levels)
        return np.broadcast_to(level, (count,))


def backward_weights(table: TransitionTable, backward: Backward) -> Array:
    """w as float64 [L, S, A]."""
    wanted = table.probability.shape[:3]
    if isinstance(backward, str):
        known("backward", backward, get_args(get_args(Backward)[0]))
        return moving_weights(table, staying=1.0 if backward == "uniform" else 0.05)
    weights = np.asarray(backward, np.float64)
    if weights.shape not in (wanted, wanted[1:]):
        raise ValueError(
            f"backward has shape {weights.shape}; give {wanted[1:]} for all levels or {wanted}"
        )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("backward holds a negative or non-finite weight; give 0 or more")
    return np.broadcast_to(weights, wanted)
