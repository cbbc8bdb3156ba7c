"""What a step says beside its result: infos of batches, of some of their rows, and of one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np


def masked(info: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """A batch's info with Gymnasium's `_key` masks: those rows have it. rows: bool [B]"""
    result = dict(info)
    for key, value in info.items():
        if isinstance(value, dict):
            result[key] = masked(value, rows)
        if (mask := f"_{key}") not in info and not (key[:1] == "_" and key[1:] in info):
            result[mask] = rows.copy()
    return result


def scatter(into: dict[str, Any], info: Mapping[str, Any], rows: np.ndarray) -> None:
    """Copy those rows of a batch's info into another, with Gymnasium's `_key` masks.

    rows: bool [B]; the other rows of `into` keep what they had, or zeros (None for objects)
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
        else:
            if key not in into:
                objects = array.dtype.hasobject
                into[key] = np.full(array.shape, None) if objects else np.zeros_like(array)
            elif into[key].dtype != array.dtype:
                # a common type would let other rows decide what this row is given
                into[key], array = into[key].astype(object), array.astype(object)
            elif not into[key].flags.writeable:
                into[key] = into[key].copy()
            into[key][present] = array[present]
        into[mask] = present | into[mask] if mask in into else present.copy()


def of_rows(info: Mapping[str, Any], rows: np.ndarray, count: int) -> dict[str, Any]:
    """The info of those rows of a batch, with its masks. rows: int [n] · count: of the batch"""
    part: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, dict):
            part[key] = of_rows(value, rows, count)
        else:
            batched = isinstance(value, np.ndarray) and value.shape[:1] == (count,)
            part[key] = value[rows] if batched else value
    return part


def spread(info: Mapping[str, Any], rows: np.ndarray, count: int) -> dict[str, Any]:
    """The info of some rows as that of a batch, zero or None in the others.

    rows: int [n] · count: rows of the batch
    """
    whole: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, dict):
            whole[key] = spread(value, rows, count)
        elif isinstance(value, np.ndarray) and value.shape[:1] == rows.shape:
            whole[key] = np.zeros((count, *value.shape[1:]), value.dtype)
            if value.dtype.hasobject:
                whole[key][:] = None
            whole[key][rows] = value
        else:
            whole[key] = value
    return whole


def blank(info: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """A copy of a batch's info with those rows zero, false or empty. rows: bool [B]"""
    result: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, dict):
            result[key] = blank(value, rows)
        else:
            result[key] = value.copy()
            result[key][rows] = np.zeros((), value.dtype)
    return result


def one_row(info: Mapping[str, Any], row: int) -> dict[str, Any]:
    """The info of one row alone, copied, as a single environment gives it."""
    single: dict[str, Any] = {}
    for key, value in info.items():
        if key[:1] == "_" and key[1:] in info:
            continue
        present = info.get(f"_{key}")
        if present is not None and not np.all(present[row]):
            continue
        if isinstance(value, dict):
            single[key] = one_row(value, row)
        else:
            rows = isinstance(value, np.ndarray) and value.ndim
            single[key] = copy.deepcopy(value[row] if rows else value)
    return single
