"""Between rows and batches: observations, actions and infos, as Gymnasium batches them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector.utils import iterate

Space = gymnasium.Space[Any]


def write(batch: Any, row: int, value: Any) -> None:
    """Put one observation into its row. Raises ValueError for one of another shape."""
    if isinstance(batch, dict):
        for name, part in batch.items():
            write(part, row, value[name])
    elif isinstance(batch, tuple):
        for part, inner in zip(batch, value, strict=True):
            write(part, row, inner)
    elif batch.dtype == object:
        batch[row] = value
    elif np.shape(value) != batch.shape[1:]:
        raise ValueError(
            f"the observation has shape {np.shape(value)}; its space says {batch.shape[1:]}"
        )
    else:
        batch[row] = value


def split_actions(space: Space, batched: Space, actions: Any, rows: int) -> list[Any]:
    """One action for each row, none of them shared with `actions`.

    space: one row's · batched: the batch's
    Numbers are rounded to a float space, never wrapped round into an integer one.
    Raises ValueError naming the row of one that is not in the space.
    """
    if not isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary):
        return _split_composite(space, batched, actions, rows)
    shape = (rows, *(space.shape or ()))
    given = _array(actions, shape)
    if given.shape != shape:
        raise ValueError(f"actions have shape {given.shape}; give {shape}, one action a row")
    if given.dtype.kind == "f":
        _refuse(~np.isfinite(given), given, "is not finite; look for NaN in the policy")
    if given.dtype.kind not in ("fiu" if space.dtype.kind == "f" else "iub"):
        raise ValueError(f"actions have dtype {given.dtype}; give {space.dtype}")
    with np.errstate(over="ignore"):
        cast = given.astype(space.dtype)
    low, high = _bounds(space)
    compared = cast if space.dtype.kind == "f" else given
    outside = (compared < low) | (compared > high)
    _refuse(outside, given, f"is out of range; give {_range(low, high)}")
    _refuse(~np.isfinite(cast), given, f"does not fit into {space.dtype}; give smaller numbers")
    return [action.copy() for action in cast]


def merge_infos(infos: Sequence[dict[str, Any] | None], rows: int) -> dict[str, Any]:
    """Infos of single rows as one, with a bool [rows] mask `_key` for each key.

    Numbers and arrays of one type and shape become arrays [rows, ...], zero where a row has
    none; dicts are merged likewise; anything else becomes an object array.
    """
    keys = dict.fromkeys(key for info in infos if info for key in info)
    merged: dict[str, Any] = {}
    for key in keys:
        have = np.array([info is not None and key in info for info in infos])
        values = [info[key] for info in infos if info is not None and key in info]
        if all(isinstance(value, dict) for value in values):
            merged[key] = merge_infos([info.get(key) if info else None for info in infos], rows)
        else:
            merged[key] = _column(values, have, rows)
        merged[f"_{key}"] = have
    return merged


def _split_composite(space: Space, batched: Space, actions: Any, rows: int) -> list[Any]:
    """`split_actions` for dicts, tuples, texts and their like: nothing is rounded."""
    try:
        each = copy.deepcopy(list(iterate(batched, actions)))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"actions are not a batch of {space} ({error}); give {batched}") from error
    if len(each) != rows:
        raise ValueError(f"actions are of {len(each)} rows; give {rows}, one action a row")
    for row, action in enumerate(each):
        if not space.contains(action):
            raise ValueError(f"row {row}: action {action!r} is not in {space}")
    return each


def _array(actions: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The actions as one array. Raises ValueError naming the first row that is ragged."""
    try:
        return np.asarray(actions)
    except ValueError:
        row = next((i for i, each in enumerate(actions) if _shape(each) != shape[1:]), 0)
        raise ValueError(
            f"row {row}: action {actions[row]!r} does not have shape {shape[1:]}; "
            f"give actions of shape {shape}"
        ) from None


def _shape(value: Any) -> tuple[int, ...] | None:
    """The shape of an array or of nested lists, None for ragged ones."""
    try:
        return np.shape(value)
    except ValueError:
        return None


def _column(values: list[Any], have: np.ndarray, rows: int) -> np.ndarray:
    numbers = all(isinstance(value, bool | int | float | np.number | np.bool_) for value in values)
    arrays = all(isinstance(value, np.ndarray) and not value.dtype.hasobject for value in values)
    forms = {(np.shape(v), np.asarray(v).dtype) for v in values} if numbers or arrays else set()
    if len(forms) != 1:
        column = np.full(rows, None)
        for row, value in zip(np.flatnonzero(have), values, strict=True):
            column[row] = value
        return column
    shape, dtype = forms.pop()
    column = np.zeros((rows, *shape), dtype)
    column[have] = values
    return column


def _bounds(space: Any) -> tuple[Any, Any]:
    if isinstance(space, Box):
        return space.low, space.high
    if isinstance(space, MultiBinary):
        return 0, 1
    start = space.start
    return start, start + (space.n if isinstance(space, Discrete) else space.nvec) - 1


def _range(low: Any, high: Any) -> str:
    if np.size(low) > 1 and np.all(low == low.flat[0]) and np.all(high == high.flat[0]):
        return f"{low.flat[0]} to {high.flat[0]} in each place"
    return f"{np.asarray(low).tolist()} to {np.asarray(high).tolist()}"


def _refuse(bad: np.ndarray, actions: np.ndarray, why: str) -> None:
    """Raise ValueError for the first row of which anything is bad. bad: bool [B, ...]"""
    if bad.any():
        row = int(np.argwhere(bad)[0, 0])
        raise ValueError(f"row {row}: action {actions[row].tolist()} {why}")
