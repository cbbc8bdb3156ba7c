"""The backtracking model q(s, a | s'): its faces, what it learns from and what it recalls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

Array = np.ndarray
Space = gymnasium.spaces.Box | gymnasium.spaces.Discrete
Rng = np.random.Generator | int | None
Step = Callable[[Array, Array], tuple[Array, ...]]
_LARGEST = 1e15
"""beyond this a coordinate is taken for an error; single precision squares it without overflow"""


@dataclass(frozen=True)
class Transitions:
    """T transitions (s, a, s'), in any order.

    state, next_state:  int [T] for Discrete states, float [T, d] for Box
    action:             int [T] for Discrete actions, float [T, d_a] for Box
    goal:               float [T, goal_size] or None
    layout:             float [T, layout_size] or None
    """

    state: Array
    action: Array
    next_state: Array
    goal: Array | None = None
    layout: Array | None = None

    def __len__(self) -> int:
        return len(self.state)

    def take(self, rows: Array | slice) -> Transitions:
        """Those rows alone; rows: int [n], bool [T] or a slice."""
        return Transitions(*(taken(part, rows) for part in vars(self).values()))


@dataclass(frozen=True)
class Traces:
    """N traces recalled backwards, in reversed time: index k is k steps back.

    states:    int32   [N, length + 1]  states[:, 0] is the end; states[:, k] is k steps before it;
                                        float32 [N, length + 1, d] where they are vectors
    actions:   int32   [N, length]      actions[:, k], taken in states[:, k + 1], led to index k;
                                        float32 [N, length, d_a] where they are vectors
    log_prob:  float64 [N, length]      log q(states[:, k + 1], actions[:, k] | states[:, k])
    valid:     bool    [N, length]      the trace reaches k + 1 steps back

    A trace stops at a state that nothing leads to, or where a learned model has no data; from
    there on valid is False, states and actions are -1 (vectors 0) and log_prob is 0, so
    log_prob.sum(1) is the log probability of each trace.
    """

    states: Array
    actions: Array
    log_prob: Array
    valid: Array

    def __len__(self) -> int:
        return len(self.states)

    @classmethod
    def unrolled(cls, start: Array, length: int, action_space: Space, step: Step) -> Traces:
        """Up to `length` steps from each start, int [N] or float [N, d], all rows at once.

        step: of states [R, ...] and rows [R] gives bool [R], which of them go on, and of those
        action, state and log_prob
        """
        discrete = isinstance(action_space, gymnasium.spaces.Discrete)
        states = _blank((len(start), length + 1, *start.shape[1:]), start.dtype.kind in "iu")
        actions = _blank((len(start), length, *(action_space.shape or ())), discrete)
        log_prob = np.zeros((len(start), length))
        valid = np.zeros((len(start), length), bool)
        states[:, 0] = start
        row = np.arange(len(start))
        for k in range(length):
            if not len(row):
                break
            kept, action, state, density = step(states[row, k], row)
            row = row[kept]
            states[row, k + 1], actions[row, k], log_prob[row, k] = state, action, density
            valid[row, k] = True
        return cls(states, actions, log_prob, valid)


def _blank(shape: tuple[int, ...], discrete: bool) -> Array:
    return np.full(shape, -1, np.int32) if discrete else np.zeros(shape, np.float32)


class BacktrackingModel(ABC):
    """q(s, a | s'), exact or learned. Source: Recall Traces (arXiv 1804.00379), section 2."""

    @abstractmethod
    def log_prob(self, state: Array, action: Array, next_state: Array) -> Array:
        """log q(state, action | next_state), float64 [B]; -inf off the model's support.

        state, next_state: int [B] or float [B, d] · action: int [B] or float [B, d_a]
        """

    @abstractmethod
    def sample_traces(
        self, end_state: Array, length: int, count: int, *, rng: Rng = None
    ) -> Traces:
        """Recall `count` traces of up to `length` steps from each end state.

        end_state: int [E] or float [E, d] · returns E * count traces, those of one end together
        """


class FiniteBacktrackingModel(BacktrackingModel):
    """q(s, a | s') over the states of a bank of levels, every one of which can be enumerated.

    Wherever a method takes `level`, None means the only level of the bank. Every method raises
    ValueError where it is left out of several levels, IndexError for a state, action or level
    that is not there, and TypeError for what are no integers.
    """

    num_levels: int
    num_states: int
    num_actions: int

    @abstractmethod
    def log_prob(
        self, state: Array, action: Array, next_state: Array, level: Array | None = None
    ) -> Array:
        """log q(state, action | next_state), float64 [B]; all others are int [B]."""

    @abstractmethod
    def sample_traces(
        self, end_state: Array, length: int, count: int, level: Array | None = None, rng: Rng = None
    ) -> Traces:
        """Recall `count` traces of up to `length` steps from each end state, int [E] as the level.

        Raises ValueError for a length or count below 0.
        """

    @abstractmethod
    def reachability(
        self, goal: Array, length: int, discount: float, level: Array | None = None
    ) -> Array:
        """How well each state leads to each goal: log B_g(s), float64 [G, S].

        B_g(s) = sum over k = 0 .. length of discount^k P(s is k steps back in a trace recalled
        from g); g itself is 0 steps back, and -inf stands where no trace of that length passes.
        goal, level: int [G] · length: steps, 0 or more · discount: in (0, 1]
        Raises ValueError for a length or discount out of its range.
        """

    @abstractmethod
    def steps_back(self, goal: Array, length: int, level: Array | None = None) -> Array:
        """Fewest steps back at which a trace recalled from each goal can stand in each state.

        goal, level: int [G] · returns int32 [G, S], 0 at the goal, -1 where none of up to
        `length` steps does · Raises ValueError for a length below 0.
        """


def taken(column: Array | None, rows: Array | slice) -> Any:
    return None if column is None else column[rows]


def checked_space(name: str, space: gymnasium.Space) -> Space:
    """The space, if models can be learned over it. Raises TypeError otherwise."""
    if isinstance(space, gymnasium.spaces.Discrete) and space.start == 0:
        return space
    if isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1:
        return space
    raise TypeError(
        f"{name} is {space}; give a Box of one dimension or a Discrete that starts at 0, "
        "flattening what has more"
    )


def checked_columns(
    given: Mapping[str, Array | None], spaces: Mapping[str, Space | None]
) -> list[Any]:
    """Columns of one length as `checked_column` makes them, None where a space is None; raises what
    that raises, and ValueError for a column too many or too few."""
    rows, found = None, []
    for name, values in given.items():
        space = spaces[name]
        if (values is None) != (space is None):
            size = 0 if space is None else gymnasium.spaces.flatdim(space)
            what = "missing" if values is None else "given"
            raise ValueError(f"{name} is {what} and {name}_size is {size}; give both or neither")
        if values is not None and space is not None:
            values = checked_column(name, values, space, rows)
            rows = len(values)
        found.append(values)
    return found


def checked_column(name: str, values: Array, space: Space, rows: int | None = None) -> Array:
    """int64 [T] of a Discrete space or float [T, d], finite, of a Box; rows: T, or None for any.

    Raises ValueError for another shape or a value that is not finite, TypeError and IndexError
    for what is no index of a Discrete space.
    """
    values, inner = np.asarray(values), space.shape or ()
    if values.shape != (len(values) if values.ndim and rows is None else rows, *inner):
        wanted = ", ".join(["T" if rows is None else str(rows), *map(str, inner)])
        raise ValueError(f"{name} has shape {values.shape}; give [{wanted}]")
    if isinstance(space, gymnasium.spaces.Discrete):
        check_index(name, values, int(space.n))
        return np.ascontiguousarray(values, np.int64)
    if values.dtype.kind not in "iufb":
        raise ValueError(f"{name} is {values.dtype}; give numbers")
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    fine = np.abs(values) <= _LARGEST
    if not fine.all():
        row, column = (int(i[0]) for i in np.nonzero(~fine))
        raise ValueError(
            f"row {row}: {name} holds {values[row, column]} in coordinate {column}; "
            "leave such rows out"
        )
    return values


def check_index(name: str, index: Array, count: int) -> None:
    """Raises TypeError for what are no integers, IndexError for one below 0 or from count on."""
    index = np.ravel(index)
    if index.size and index.dtype.kind not in "iu":
        raise TypeError(f"{name} is {index.dtype}; give integers from 0 to {count - 1}")
    wrong = (index < 0) | (index >= count)
    if wrong.any():
        row = int(wrong.argmax())
        raise IndexError(f"row {row}: {name} {index[row]} is not there; give 0 to {count - 1}")


def check_not_negative(**counts: int) -> None:
    """Raises ValueError that names the first count below 0."""
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{name} is {count}; give 0 or more")
