"""The exact backtracking model of a finite world: Bayes' rule on its transition table."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array

from delegate.recall.backward import Backward, backward_weights
from delegate.recall.model import FiniteBacktrackingModel
from delegate.recall.table import TransitionTable
from delegate.recall.traces import Traces

_EDGES_AT_ONCE = 1 << 21
"""edges that `reachability` holds at a time; bounds its memory to some 30 MB"""
_LOG_SAFE = -575.0
"""log of a probability (1e-250) that double precision holds with room to spare"""


class ExactBacktrackingModel(FiniteBacktrackingModel):
    """q(s, a | s') = w(s, a) P(s' | s, a) / sum of the same over every (s, a) that leads to s'.

    w is the joint weight with which the remembered behaviour visits s and then takes a. With
    the occupancy and the policy of a stationary process, q is that process run backwards.

    table: the bank of levels
    backward: "uniform" for w = 1, "moving" for `moving_weights`, or weights, 0 or more, as
        [S, A] for all levels or [L, S, A]
    Raises ValueError for weights of another shape, negative or not finite.
    """

    def __init__(self, table: TransitionTable, backward: Backward = "uniform") -> None:
        weights = backward_weights(table, backward)
        self._set(table, weights[..., None] * table.probability)

    @classmethod
    def from_counts(
        cls,
        table: TransitionTable,
        level: np.ndarray,
        state: np.ndarray,
        action: np.ndarray,
        next_state: np.ndarray | None = None,
        smoothing: float = 1.0,
    ) -> ExactBacktrackingModel:
        """The model counted from the T transitions of trajectories.

        level, state, action: int [T]; w(s, a) is how often a was taken in s, plus `smoothing`
        next_state: int [T]; with it the outcomes are counted too, and w(s, a) P(s' | s, a) is
            how often (s, a, s') was seen plus smoothing * P(s' | s, a) of the table
        smoothing: pseudo-visits of every (s, a), 0 or more; with 0, what was never seen to
            lead anywhere is off the support
        Raises ValueError for a transition the table says is impossible.
        """
        if not (smoothing >= 0 and np.isfinite(smoothing)):
            raise ValueError(f"smoothing is {smoothing}; give a finite number, 0 or more")
        _check_index("level", level, table.num_levels)
        _check_index("state", state, table.num_states)
        _check_index("action", action, table.num_actions)
        shape = table.probability.shape
        if next_state is None:
            seen = np.ravel_multi_index((level, state, action), shape[:3])
            counts = np.bincount(seen, minlength=int(np.prod(shape[:3]))).reshape(shape[:3])
            return cls(table, counts + smoothing)
        outcomes = table.next_state[level, state, action] == np.asarray(next_state)[:, None]
        outcomes &= table.probability[level, state, action] > 0
        if not (possible := outcomes.any(1)).all():
            t = int(np.flatnonzero(~possible)[0])
            raise ValueError(
                f"transition {t}: state {int(state[t])}, action {int(action[t])} cannot lead to "
                f"{int(next_state[t])} in level {int(level[t])}; count trajectories of this table"
            )
        seen = np.ravel_multi_index((level, state, action, outcomes.argmax(1)), shape)
        counts = np.bincount(seen, minlength=int(np.prod(shape))).reshape(shape)
        model = cls.__new__(cls)
        model._set(table, counts + smoothing * table.probability)
        return model

    def _set(self, table: TransitionTable, joint: np.ndarray) -> None:
        """joint: float64 [L, S, A, K], w(s, a) P(s' | s, a) up to a factor."""
        self.table = table
        self.num_levels = table.num_levels
        self.num_states = table.num_states
        self.num_actions = table.num_actions
        level = np.arange(table.num_levels, dtype=np.intp)[:, None, None, None]
        target = level * table.num_states + table.next_state
        evidence = np.bincount(
            target.ravel(), weights=joint.ravel(), minlength=table.num_levels * table.num_states
        )
        # Where nothing leads to s', every joint weight is 0 too, so any divisor will do.
        self._posterior = joint / np.where(evidence > 0, evidence, 1.0)[target]

    def log_prob(
        self,
        state: np.ndarray,
        action: np.ndarray,
        next_state: np.ndarray,
        level: np.ndarray | None = None,
    ) -> np.ndarray:
        level = self._levels(level, len(np.atleast_1d(state)))
        _check_index("state", state, self.num_states)
        _check_index("action", action, self.num_actions)
        _check_index("next_state", next_state, self.num_states)
        leads = self.table.next_state[level, state, action] == np.asarray(next_state)[..., None]
        probability = (self._posterior[level, state, action] * leads).sum(-1)
        return _log(probability)

    def sample_traces(
        self,
        end_state: np.ndarray,
        length: int,
        count: int,
        level: np.ndarray | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> Traces:
        for name, given in (("length", length), ("count", count)):
            if given < 0:
                raise ValueError(f"{name} is {given}; give 0 or more")
        end_state = np.atleast_1d(np.asarray(end_state))
        _check_index("end_state", end_state, self.num_states)
        level = np.repeat(self._levels(level, len(end_state)), count)
        rng = np.random.default_rng(rng)
        source, action, first, cumulative = self._incoming
        rows = len(level)
        states = np.full((rows, length + 1), -1, np.int32)
        actions = np.full((rows, length), -1, np.int32)
        log_prob = np.zeros((rows, length))
        valid = np.zeros((rows, length), bool)
        states[:, 0] = np.repeat(end_state, count)
        alive = np.arange(rows)
        for k in range(length):
            target = level[alive] * self.num_states + states[alive, k]
            led_to = first[target + 1] > first[target]
            alive, target = alive[led_to], target[led_to]
            if not len(alive):
                break
            start, stop = first[target], first[target + 1]
            total = cumulative[stop] - cumulative[start]
            drawn = cumulative[start] + rng.random(len(alive)) * total
            edge = np.searchsorted(cumulative, drawn, side="right") - 1
            edge = np.clip(edge, start, stop - 1)
            states[alive, k + 1] = source[edge]
            actions[alive, k] = action[edge]
            valid[alive, k] = True
            log_prob[alive, k] = self.log_prob(
                source[edge], action[edge], states[alive, k], level[alive]
            )
        return Traces(states, actions, log_prob, valid)

    @cached_property
    def _incoming(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
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
        self, goal: np.ndarray, length: int, discount: float, level: np.ndarray | None = None
    ) -> np.ndarray:
        if not 0 < discount <= 1:
            raise ValueError(f"discount is {discount}; give a number above 0 and up to 1")
        goal, level = self._goals(goal, length, level)
        log_b = np.empty((len(goal), self.num_states))
        discounted = self._posterior * discount
        for chunk in self._chunks(len(goal)):
            backwards = self._backwards(level[chunk], discounted)
            recalled = _indicator(goal[chunk], self.num_states)
            total = recalled.copy()
            for _ in range(length):
                recalled = backwards @ recalled
                total += recalled
            log_b[chunk] = _log(total).reshape(-1, self.num_states)
        if length * (self._log_smallest + np.log(discount)) < _LOG_SAFE:
            self._redo_underflowed(log_b, goal, length, discount, level)
        return log_b

    def steps_back(
        self, goal: np.ndarray, length: int, level: np.ndarray | None = None
    ) -> np.ndarray:
        goal, level = self._goals(goal, length, level)
        steps = np.empty((len(goal), self.num_states), np.int32)
        possible = (self._posterior > 0).astype(np.float32)
        for chunk in self._chunks(len(goal)):
            backwards = self._backwards(level[chunk], possible)
            frontier = _indicator(goal[chunk], self.num_states).astype(np.float32)
            found = np.where(frontier > 0, 0, -1).astype(np.int32)
            for k in range(1, length + 1):
                new = (backwards @ frontier > 0) & (found < 0)
                if not new.any():
                    break
                found[new] = k
                frontier = new.astype(np.float32)
            steps[chunk] = found.reshape(-1, self.num_states)
        return steps

    def _redo_underflowed(
        self, log_b: np.ndarray, goal: np.ndarray, length: int, discount: float, level: np.ndarray
    ) -> None:
        """Replace the rows of `log_b` that lost a supported state to underflow, in log domain."""
        supported = self.steps_back(goal, length, level) >= 0
        with np.errstate(divide="ignore"):
            log_posterior = np.log(self._posterior) + np.log(discount)
        for g in np.flatnonzero((supported & (log_b < _LOG_SAFE)).any(1)):
            leads_to = self.table.next_state[level[g]]
            recalled = np.full(self.num_states, -np.inf)
            recalled[goal[g]] = 0.0
            total = recalled.copy()
            for _ in range(length):
                through = log_posterior[level[g]] + recalled[leads_to]
                recalled = np.logaddexp.reduce(through.reshape(self.num_states, -1), axis=1)
                total = np.logaddexp(total, recalled)
            log_b[g] = total

    @cached_property
    def _log_smallest(self) -> float:
        possible = self._posterior[self._posterior > 0]
        return float(np.log(possible.min())) if possible.size else 0.0

    def _backwards(self, level: np.ndarray, edge: np.ndarray) -> csr_array:
        """One block a goal; (block @ v)[s] = sum over (a, k) of edge[l, s, a, k] v[s'].

        level: int [G] · edge: [L, S, A, K] · returns [G * S, G * S]
        """
        size = len(level) * self.num_states
        width = self.num_actions * self.table.num_outcomes
        offset = np.arange(len(level), dtype=np.int32)[:, None, None, None] * self.num_states
        indices = (self.table.next_state[level] + offset).ravel()
        first = np.arange(size + 1, dtype=np.int32) * width
        return csr_array((edge[level].ravel(), indices, first), shape=(size, size))

    def _chunks(self, count: int) -> Iterator[slice]:
        edges = self.num_states * self.num_actions * self.table.num_outcomes
        step = max(1, _EDGES_AT_ONCE // edges)
        return (slice(i, i + step) for i in range(0, count, step))

    def _goals(
        self, goal: np.ndarray, length: int, level: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if length < 0:
            raise ValueError(f"length is {length} steps; give 0 or more")
        goal = np.atleast_1d(np.asarray(goal))
        _check_index("goal", goal, self.num_states)
        return goal, self._levels(level, len(goal))

    def _levels(self, level: np.ndarray | None, count: int) -> np.ndarray:
        if level is None:
            if self.num_levels > 1:
                raise ValueError(
                    f"level is missing and the bank has {self.num_levels} levels; "
                    "give the level of each row"
                )
            return np.zeros(count, np.intp)
        _check_index("level", level, self.num_levels)
        return np.broadcast_to(level, (count,))


def _check_index(name: str, index: np.ndarray, count: int) -> None:
    index = np.asarray(index)
    if index.size and index.dtype.kind not in "iu":
        raise TypeError(f"{name} is {index.dtype}; give integers from 0 to {count - 1}")
    if index.size and (index.min() < 0 or index.max() >= count):
        wrong = int(index.min()) if index.min() < 0 else int(index.max())
        raise IndexError(f"{name} {wrong} is not there; give 0 to {count - 1}")


def _indicator(goal: np.ndarray, num_states: int) -> np.ndarray:
    """1 at each goal in its own block of states; float64 [G * S]."""
    indicator = np.zeros(len(goal) * num_states)
    indicator[np.arange(len(goal)) * num_states + goal] = 1.0
    return indicator


def _log(probability: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        log = np.log(probability)
    return np.asarray(log)
