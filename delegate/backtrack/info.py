"""Infos of a batch: which rows have them, and one row's alone."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

import numpy as np

REFUSALS = np.array(["", "budget", "path", "horizon"])
"""why a backtrack is refused: none is left, it reaches before the start, it is no longer kept"""


def quiet(rows: int, irreversible: Collection[str]) -> dict[str, Any]:
    """What VectorBacktrack says of a tick without backtracks; the arrays are read-only."""
    told = dict(_nothing(rows))
    return told | {"effects_kept": dict.fromkeys(irreversible, told["undone_steps"])}


@lru_cache(maxsize=32)
def _nothing(rows: int) -> dict[str, np.ndarray]:
    never, zero, nothing = np.zeros(rows, bool), np.zeros(rows, np.int64), np.zeros(rows)
    told = {
        "backtracked": never,
        "undone_steps": zero,
        "undone_reward": nothing,
        "refund": nothing,
        "backtrack_refused": never,
        "refusal": np.zeros(rows, REFUSALS.dtype),
        "do_undo_loop": never,
    }
    for array in told.values():
        array.flags.writeable = False
    return told


def with_masks(info: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """The info of a batch in which those rows were told, with Gymnasium's `_key` masks, uncopied.

    rows: bool [B], read-only from now on
    """
    rows.flags.writeable = False
    told = dict(info)
    for key, value in info.items():
        if type(value) is dict:
            told[key] = with_masks(value, rows)
        if (mask := _mask_of(key)) not in info and not (key[:1] == "_" and key[1:] in info):
            told[mask] = rows
    return told


@lru_cache(maxsize=1024)
def _mask_of(key: str) -> str:
    return f"_{key}"


def scatter(into: dict[str, Any], info: dict[str, Any], rows: np.ndarray) -> None:
    """Copy those rows of a batch's info into another, with Gymnasium's `_key` masks.

    rows: bool [B]; the other rows of `into` keep what they had, or zeros
    """
    for key, value in info.items():
        if key[:1] == "_" and key[1:] in info:
            continue
        mask = f"_{key}"
        present = rows & info[mask] if mask in info else rows
        array = np.asarray(value)
        if isinstance(value, dict):
            scatter(into.setdefault(key, {}), value, present)
        elif array.shape[:1] != rows.shape:
            into[key] = value
            continue
        elif key not in into:
            into[key] = _only(array, present)
        else:
            if into[key].dtype != array.dtype:
                # a common type would let other rows decide what this row is told
                into[key], array = into[key].astype(object), array.astype(object)
            elif not into[key].flags.writeable:
                into[key] = into[key].copy()
            into[key][present] = array[present]
        into[mask] = present | into[mask] if mask in into else present.copy()


def _only(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A copy with the other rows zero, or None for objects. rows: bool [B]"""
    if rows.all():
        return array.copy()
    empty = np.full(array.shape, None) if array.dtype == object else np.zeros_like(array)
    empty[rows] = array[rows]
    return empty


def blank(info: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """A copy of a batch's info with those rows zero, false or empty. rows: bool [B]"""
    return {
        key: blank(value, rows)
        if isinstance(value, dict)
        else np.where(rows.reshape(-1, *[1] * (value.ndim - 1)), np.zeros((), value.dtype), value)
        for key, value in info.items()
    }


def one_row(info: dict[str, Any], row: int) -> dict[str, Any]:
    """The info of one row alone, as a single environment gives it."""
    single: dict[str, Any] = {}
    for key, value in info.items():
        if key[:1] == "_" and key[1:] in info:
            continue
        told = info.get(f"_{key}")
        if told is not None and not (told[row] if told.ndim == 1 else told[row].all()):
            continue
        if isinstance(value, dict):
            single[key] = one_row(value, row)
        elif isinstance(value, np.ndarray) and value.ndim:
            entry = value[row]
            single[key] = entry.copy() if isinstance(entry, np.ndarray) else entry
        else:
            single[key] = value
    return single
