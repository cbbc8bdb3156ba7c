"""Whether two values are the same, to the bit, and where they first differ."""

from __future__ import annotations

import collections
import math
import types
from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from delegate.envs.adapted.graph import Anchor, Bound
from delegate.envs.adapted.kinds import Kind, all_slots, kind_of


def difference(
    first: Any, second: Any, name: str = "", seen: set[tuple[int, int]] | None = None
) -> str | None:
    """Where two values differ, in words; None when they are the same.

    Types, shapes and every bit must agree (NaN equals NaN, 0.0 does not equal -0.0); of objects,
    all attributes, but of those with a `__deepcopy__` only what their `__eq__` says.
    """
    if first is second:
        return None
    cls = type(first)
    if cls is not type(second):
        return f"{name} was {_short(first)}, is {_short(second)}"
    if cls is float or isinstance(first, np.generic):
        same = np.asarray(first).tobytes() == np.asarray(second).tobytes() or (
            isinstance(first, float | np.floating) and math.isnan(first) and math.isnan(second)
        )
        return None if same else f"{name} was {_short(first)}, is {_short(second)}"
    if isinstance(first, np.ndarray) and not first.dtype.hasobject:
        return _arrays(first, second, name)
    kind = kind_of(cls)
    if kind is Kind.ATOM and not isinstance(first, Anchor):
        return None if first == second else f"{name} was {_short(first)}, is {_short(second)}"
    seen = set() if seen is None else seen
    if (id(first), id(second)) in seen:
        return None
    seen.add((id(first), id(second)))
    if isinstance(first, Set):
        return None if first == second else f"{name} was {_short(first)}, is {_short(second)}"
    if kind is Kind.OWN_COPY and not isinstance(first, Bound):
        return None if _says_equal(first, second) else f"{name} says it is not what it was"
    before, after = _parts(first), _parts(second)
    if before is None or after is None:
        return f"{name} was {_short(first)}, is {_short(second)}"
    if list(before) != list(after):
        changed = sorted(str(key) for key in before.keys() ^ after.keys()) or ["the order"]
        return f"{name} differs in {', '.join(changed[:4])}"
    for key, value in before.items():
        if (found := difference(value, after[key], f"{name}.{_word(key)}", seen)) is not None:
            return found
    return None


def _arrays(first: np.ndarray, second: np.ndarray, name: str) -> str | None:
    if first.dtype != second.dtype or first.shape != second.shape:
        return f"{name} was {first.dtype} {first.shape}, is {second.dtype} {second.shape}".lstrip()
    if first.tobytes() == second.tobytes():
        return None
    if first.dtype.kind in "fc":
        changed = ~((first == second) | (np.isnan(first) & np.isnan(second)))
        if first.dtype.kind == "f":
            changed |= (first == 0) & (second == 0) & (np.signbit(first) != np.signbit(second))
        if not changed.any():
            return None
    else:
        changed = np.asarray(first != second)
    place = tuple(int(i) for i in np.argwhere(changed)[0])
    return f"{name}{list(place) if place else ''} was {first[place]!s}, is {second[place]!s}"


def _says_equal(first: Any, second: Any) -> bool:
    """What a type that copies itself says of two values; they are the same if it says nothing."""
    if type(first).__eq__ is object.__eq__:
        return True
    try:
        same = first == second
        return bool(same.all() if hasattr(same, "all") else same)
    except Exception:
        return False


def _parts(value: Any) -> Mapping[Any, Any] | None:
    """What a value is made of, None if that is not known."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple | collections.deque):
        return dict(enumerate(value))
    if isinstance(value, np.ndarray):
        return {"shape": value.shape, **dict(np.ndenumerate(value))}
    if isinstance(value, Anchor):
        return {"kind": value.kind.name, "path": value.path}
    if isinstance(value, Bound):
        return {"name": value.name, "owner": value.owner}
    if isinstance(value, types.FunctionType):
        cells = value.__closure__ or ()
        return {"code": value.__code__, "attributes": vars(value), "cells": cells}
    if isinstance(value, types.CellType):
        try:
            return {"contents": value.cell_contents}
        except ValueError:
            return {}
    if isinstance(value, types.MethodType):
        return {"function": value.__func__, "self": value.__self__}
    if kind_of(type(value)) is Kind.PLAIN:
        slots = {n: getattr(value, n) for n in all_slots(type(value)) if hasattr(value, n)}
        return {**getattr(value, "__dict__", {}), **slots}
    try:
        parts = value.__reduce_ex__(4)
    except Exception:
        return None
    if isinstance(parts, str):
        return {"name": parts}
    items = [list(part) if place > 2 and part else part for place, part in enumerate(parts)]
    return dict(enumerate(items))


def _word(key: Any) -> str:
    if isinstance(key, tuple) and all(isinstance(step, tuple) for step in key):
        return ".".join(str(step[-1]) for step in key)
    return str(key)


def _short(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 80 else text[:77] + '...'}"
