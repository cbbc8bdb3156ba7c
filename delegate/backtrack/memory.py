"""How much memory arrays hold, with the objects in them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any

import numpy as np


def nbytes_of(arrays: Iterable[np.ndarray]) -> int:
    """Memory that arrays hold, in bytes, with all that objects in them lead to, each once.

    An object with an int `nbytes` of its own is asked, and not looked into.
    """
    total, seen, todo = 0, set[int](), list[Any](arrays)
    while todo:
        found = todo.pop()
        if id(found) in seen or isinstance(found, type | ModuleType | FunctionType):
            continue
        seen.add(id(found))
        size = getattr(found, "nbytes", None)
        total += size if isinstance(size, int) else sys.getsizeof(found)
        if isinstance(found, np.ndarray) and found.dtype.hasobject:
            todo += found.ravel().tolist()
        elif not isinstance(size, int):
            todo += gc.get_referents(found)
    return total
