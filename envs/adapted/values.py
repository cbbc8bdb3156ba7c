"""Between rows and batches: observations, actions and infos, as Gymnasium batches them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector.utils import batch_space, iterate

from delegate.backtrack.action_checks import ActionCheck


def address(array: np.ndarray) -> int:
    """Where its memory begins."""
    return int(array.__array_interface__["data"][0])


def write(batch: Any, row: int, value: Any, name: str) -> None:
    """Put a copy of one observation into its row. name: of the environment

    Raises ValueError for one of another shape, or whose numbers its space cannot hold.
    """
    if isinstance(batch, dict):
        for key, part in batch.items():
            write(part, row, value[key], name)
    elif isinstance(batch, tuple):
        for part, inner in zip(batch, value, strict=True):
            write(part, row, inner, name)
    elif batch.dtype == object:
        batch[row] = copy.deepcopy(value)
    else:
        given = np.asarray(value)
        if given.shape != batch.shape[1:]:
            raise ValueError(
                f"{name}: the observation has shape {given.shape}; its space says {batch.shape[1:]}"
            )
        if given.dtype != batch.dtype and not _fits(given, batch.dtype):
            raise ValueError(
                f"{name}: the observation is {given.dtype} {given.reshape(-1)[:4].tolist()}, which "
                f"would change as {batch.dtype}, as its space says"
            )
        batch[row] = given


def _fits(given: np.ndarray, dtype: np.dtype[Any]) -> bool:
    """Whether numbers stay what they are in another type, but for rounding to floats."""
    if given.dtype.kind not in ("fiub" if dtype.kind == "f" else "iub"):
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        cast = given.astype(dtype)
    if dtype.kind == "f":
        return bool((np.isfinite(cast) == np.isfinite(given)).all())
    return bool((cast == given).all())


def splitter(space: gymnasium.Space[Any], rows: int, name: str) -> Callable[[Any], list[Any]]:
    """What gives one action for each row, none of them shared with the batch it is given.

    Floats are rounded to those of the space. space: of one row · name: of the environment
    It raises ValueError naming the row of one that is not in the space.
    """
    if not isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary):
        return lambda actions: _split(space, batch_space(space, rows), actions, rows, name)
    check = ActionCheck(space, rows, name)

    def split(actions: Any) -> list[Any]:
        given = check(actions)
        with np.errstate(over="ignore"):
            cast = given.astype(space.dtype)
        if not (fits := np.isfinite(cast)).all():
            row = int(np.argwhere(~fits)[0, 0])
            raise ValueError(
                f"{name}: row {row}: action {given[row].tolist()} does not fit into {space.dtype}; "
                "give smaller numbers"
            )
        return [action.copy() for action in cast]

    return split


def _split(space: Any, batched: Any, actions: Any, rows: int, name: str) -> list[Any]:
    """For dicts, tuples, texts and their like: nothing is rounded."""
    try:
        each = copy.deepcopy(list(iterate(batched, actions)))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name}: actions are not a batch of {space} ({error}); give {batched}"
        ) from error
    if len(each) != rows:
        raise ValueError(f"{name}: actions are of {len(each)} rows; give {rows}, one a row")
    for row, action in enumerate(each):
        if not space.contains(action):
            raise ValueError(f"{name}: row {row}: action {action!r} is not in {space}")
    return each


def merge_infos(infos: Sequence[dict[str, Any] | None], rows: int) -> dict[str, Any]:
    """Copies of the infos of single rows as one, with a bool [rows] mask `_key` for each key.

    Numbers and arrays of one type and shape become arrays [rows, ...], zero where a row has
    none; dicts are merged likewise; anything else becomes an object array.
    """
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for info in infos if info for key in info):
        have = np.array([info is not None and key in info for info in infos])
        values = [info[key] for info in infos if info is not None and key in info]
        if all(isinstance(value, dict) for value in values):
            merged[key] = merge_infos([info.get(key) if info else None for info in infos], rows)
        else:
            merged[key] = _column(values, have, rows)
        merged[f"_{key}"] = have
    return merged


def _column(values: list[Any], have: np.ndarray, rows: int) -> np.ndarray:
    numbers = all(isinstance(value, bool | int | float | np.number | np.bool_) for value in values)
    arrays = all(isinstance(value, np.ndarray) and not value.dtype.hasobject for value in values)
    forms = {(np.shape(v), np.asarray(v).dtype) for v in values} if numbers or arrays else set()
    if len(forms) != 1:
        return objects(map(copy.deepcopy, values), have)
    shape, dtype = forms.pop()
    column = np.zeros((rows, *shape), dtype)
    column[have] = values
    return column


def objects(values: Iterable[Any], have: np.ndarray) -> np.ndarray:
    """An array of objects, None where there is none. have: bool [rows]"""
    column = np.full(len(have), None)
    for row, value in zip(np.flatnonzero(have), values, strict=True):
        column[row] = value
    return column
