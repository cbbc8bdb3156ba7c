"""Infos of a batch: which rows have them, and one row's alone."""

from __future__ import annotations

from typing import Any

import numpy as np


def scatter(into: dict[str, Any], info: dict[str, Any], rows: np.ndarray) -> None:
    """Copy those rows of a batch's info into another, with Gymnasium's `_key` masks.

    rows: bool [B]; the other rows of `into` keep what they had, or zeros
    """
    for key, value in info.items():
        if key.startswith("_") and key[1:] in info:
            continue
        present = rows & info.get(f"_{key}", True)
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
                into[key] = into[key].astype(np.result_type(into[key], array))
            into[key][present] = array[present]
        into[f"_{key}"] = into.get(f"_{key}", False) | present


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
    single = {}
    for key, value in info.items():
        if key.startswith("_") and key[1:] in info:
            continue
        if not np.all(info.get(f"_{key}", np.ones(row + 1, bool))[row]):
            continue
        if isinstance(value, dict):
            single[key] = one_row(value, row)
        elif isinstance(value, np.ndarray) and value.ndim:
            single[key] = value[row].copy() if isinstance(value[row], np.ndarray) else value[row]
        else:
            single[key] = value
    return single
