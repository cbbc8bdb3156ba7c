"""Actions of a batch: one a row, inside the space, and nothing cast that would lose something."""

from __future__ import annotations

from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

ROUNDING = 1e-6
"""what is outside a bound by this share of the larger of the two, is so by rounding: a few units
in the last place of float32, in which learners scale their actions from [-1, 1]"""


class ActionCheck:
    """Checks what is given to `step` against the action space of one row.

    check = ActionCheck(space, rows, "Hopper-v5")
    actions = check(actions)             # [rows, ...]; floats keep their type

    space: Box, Discrete, MultiDiscrete or MultiBinary · name: of the environment, for messages
    Floats for integers are refused, whole ones too; so is what is not finite. An action that is
    outside a float Box by rounding is clipped into it, as Stable-Baselines3 clips; what is
    further outside is refused.
    Raises ValueError naming the environment, the row, and what would be taken.
    """

    def __init__(self, space: gymnasium.Space[Any], rows: int, name: str) -> None:
        if not isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary):
            raise TypeError(f"{name}: actions {space} are not numbers; check them one by one")
        assert space.shape is not None
        assert space.dtype is not None
        self.name, self.rows, self.one = name, np.arange(rows), space.shape
        self._floats = space.dtype.kind == "f"
        self._kinds = "fiu" if self._floats else "iub" if isinstance(space, MultiBinary) else "iu"
        self._low, self._high = _bounds(space)
        self._bounded = bool(np.isfinite(self._low).all() and np.isfinite(self._high).all())

    def __call__(self, actions: Any, rows: np.ndarray | None = None) -> np.ndarray:
        """rows: int [n] whose actions these are, for messages; all of them where left out"""
        rows = self.rows if rows is None else rows
        shape = (len(rows), *self.one)
        try:
            given = np.asarray(actions)
        except ValueError:  # ragged
            raise ValueError(
                f"{self.name}: actions differ in length; give {shape}, one a row"
            ) from None
        if given.shape != shape:
            raise ValueError(
                f"{self.name}: actions have shape {given.shape}; give {shape}, one a row"
            )
        if given.dtype.kind not in self._kinds:
            wanted = "floats" if self._floats else "integers"
            raise ValueError(
                f"{self.name}: actions are {given.dtype}; give {wanted}, {self._range()}"
            )
        if self._floats and given.dtype.kind != "f":
            given = given.astype(np.float64)
        inside = self._inside(given)
        if not inside.all():
            if self._floats:
                given = clip_rounding(given, self._low, self._high)
                inside = self._inside(given)
            if not inside.all():
                self._refuse(given, inside, rows)
        return given

    def fits(self, actions: np.ndarray) -> np.ndarray:
        """Which rows' actions would be taken: bool [n]. actions: numbers [n, ...] of that shape

        Raises ValueError for another shape or type, as a call does.
        """
        if actions.shape[1:] != self.one or actions.dtype.kind not in self._kinds:
            self(actions, np.arange(len(actions)))
        near = clip_rounding(actions, self._low, self._high) if self._floats else actions
        return np.asarray(self._inside(near).reshape(len(actions), -1).all(axis=1))

    def _inside(self, given: np.ndarray) -> np.ndarray:
        inside = (given >= self._low) & (given <= self._high)
        return inside if self._bounded else inside & np.isfinite(given)

    def _refuse(self, given: np.ndarray, inside: np.ndarray, rows: np.ndarray) -> NoReturn:
        """Name the first number that is outside. inside: bool [n, ...] · rows: int [n]"""
        row, *place = (int(index) for index in np.argwhere(~inside)[0])
        low, high = (
            np.broadcast_to(bound, given.shape)[(row, *place)] for bound in (self._low, self._high)
        )
        value, at = given[(row, *place)], f"[{', '.join(map(str, place))}]" if place else ""
        remedy = "" if np.isfinite(value) else "; look for NaN in the policy"
        raise ValueError(
            f"{self.name}: row {rows[row]}: action{at} is {value}; give {low} to {high}{remedy}"
        )

    def _range(self) -> str:
        low, high = np.min(self._low), np.max(self._high)
        return f"{low} to {high}"


def clip_rounding(actions: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Actions [rows, ...] that are outside by rounding, on the bound; all others as they are.

    low, high: of one row; actions of another shape are left alone too
    """
    if actions.shape[1:] != low.shape:
        return actions
    if ((actions >= low) & (actions <= high)).all():
        return actions
    clipped = np.clip(actions, low, high)
    sizes = [np.where(np.isfinite(bound), np.abs(bound), 0.0) for bound in (low, high)]
    with np.errstate(invalid="ignore"):  # what is not finite compares as False
        near = np.abs(actions - clipped) <= ROUNDING * np.maximum(*sizes)
    return np.where(near, clipped, actions)


def _bounds(space: Any) -> tuple[Any, Any]:
    """The least and the greatest of each number of an action."""
    if isinstance(space, Box):
        return space.low, space.high
    if isinstance(space, MultiBinary):
        return 0, 1
    count = space.n if isinstance(space, Discrete) else space.nvec
    return space.start, space.start + count - 1
