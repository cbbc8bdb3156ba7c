"""Transitions to learn from, and what is wrong with those that cannot be."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium
import numpy as np

from delegate.recall.config import RecallModelConfig

Space = gymnasium.spaces.Box | gymnasium.spaces.Discrete


@dataclass(frozen=True)
class Transitions:
    """T transitions (s, a, s'), in any order.

    state, next_state:  int [T] for Discrete states, float [T, d] for Box
    action:             int [T] for Discrete actions, float [T, d_a] for Box
    goal:               float [T, goal_size] or None
    layout:             float [T, layout_size] or None
    """

    state: np.ndarray
    action: np.ndarray
    next_state: np.ndarray
    goal: np.ndarray | None = None
    layout: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.state)

    def take(self, rows: np.ndarray | slice) -> Transitions:
        """Those rows alone; rows: int [n], bool [T] or a slice."""
        return Transitions(
            self.state[rows],
            self.action[rows],
            self.next_state[rows],
            None if self.goal is None else self.goal[rows],
            None if self.layout is None else self.layout[rows],
        )


_LARGEST = 1e15
"""beyond this a coordinate is taken for an error; single precision squares it without overflow"""


def checked_transitions(
    given: Transitions, state_space: Space, action_space: Space, config: RecallModelConfig
) -> Transitions:
    """The columns as `checked_column` and `checked_conditions` make them; raises what they do."""
    state = checked_column("state", given.state, state_space, None)
    rows = len(state)
    action = checked_column("action", given.action, action_space, rows)
    next_state = checked_column("next_state", given.next_state, state_space, rows)
    goal, layout = checked_conditions(given.goal, given.layout, rows, config)
    return Transitions(state, action, next_state, goal, layout)


def checked_conditions(
    goal: np.ndarray | None, layout: np.ndarray | None, rows: int, config: RecallModelConfig
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Goal and layout as the settings want them, one row each; raises ValueError otherwise."""
    sizes = {"goal": config.goal_size, "layout": config.layout_size}
    for (name, size), values in zip(sizes.items(), (goal, layout), strict=True):
        if (values is None) != (size == 0):
            raise ValueError(
                f"{name} is {'missing' if values is None else 'given'} and {name}_size is {size}; "
                "give both or neither"
            )
    return (
        None if goal is None else checked_vectors("goal", goal, config.goal_size, rows),
        None if layout is None else checked_vectors("layout", layout, config.layout_size, rows),
    )


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


def space_size(space: Space) -> str:
    """The kind of a space and how large it is, in words."""
    size = space.shape[0] if isinstance(space, gymnasium.spaces.Box) else int(space.n)
    return f"{type(space).__name__} of {size}"


def checked_column(name: str, values: np.ndarray, space: Space, rows: int | None) -> np.ndarray:
    """states or actions as int64 [T] or float [T, d].

    rows: T, or None where any number will do
    Raises ValueError for another shape or a value that is not finite, IndexError for an index
    that is not in a Discrete space.
    """
    values = np.asarray(values)
    if isinstance(space, gymnasium.spaces.Box):
        return checked_vectors(name, values, space.shape[0], rows)
    _check_shape(name, values, (), rows)
    if values.dtype.kind not in "iu":
        raise ValueError(f"{name} is {values.dtype}; give integers, 0 to {space.n - 1}")
    wrong = (values < 0) | (values >= space.n)
    if wrong.any():
        row = int(wrong.argmax())
        raise IndexError(
            f"row {row}: {name} {int(values[row])} is not there; give 0 to {space.n - 1}"
        )
    return np.ascontiguousarray(values, np.int64)


def checked_vectors(name: str, values: np.ndarray, size: int, rows: int | None) -> np.ndarray:
    """float [T, size], finite; raises ValueError otherwise."""
    values = np.asarray(values)
    _check_shape(name, values, (size,), rows)
    if values.dtype.kind not in "iufb":
        raise ValueError(f"{name} is {values.dtype}; give numbers")
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    values = np.ascontiguousarray(values)
    # One pass that no bad value gets through; good ones that are stopped are told apart below.
    with np.errstate(over="ignore", invalid="ignore"):
        surely_fine = bool(np.vdot(values, values) < _LARGEST**2)
    if not surely_fine and not (fine := np.abs(values) <= _LARGEST).all():
        row, column = (int(i[0]) for i in np.nonzero(~fine))
        raise ValueError(
            f"row {row}: {name} holds {values[row, column]} in coordinate {column}; "
            "leave such rows out"
        )
    return values


def _check_shape(name: str, values: np.ndarray, inner: tuple[int, ...], rows: int | None) -> None:
    wanted = (len(values) if values.ndim and rows is None else rows, *inner)
    if values.shape != wanted:
        sizes = ["T" if rows is None else str(rows), *map(str, inner)]
        raise ValueError(f"{name} has shape {values.shape}; give [{', '.join(sizes)}]")
