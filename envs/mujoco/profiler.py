"""MuJoCo's built-in profiler, which its newer Python bindings start and nothing here reads.

It looks at the clock at every stage of every step: measured, 21% of a step of Hopper, 7% of
Humanoid. The bindings can set that clock but not take it away, and `mj_resetCallbacks` would take
every other callback with it. But callbacks are pointers that C code, and so ctypes, may set.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import mujoco

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _find() -> ctypes.c_void_p | None:
    """`mjcb_time` in MuJoCo's library; None where it is not found."""
    for library in sorted(Path(mujoco.__file__).parent.glob("*mujoco*")):
        if library.suffix in (".py", ".pyi") or not library.is_file():
            continue
        try:
            return ctypes.c_void_p.in_dll(ctypes.CDLL(str(library)), "mjcb_time")
        except (OSError, ValueError):  # not a library, or one without that name
            continue
    return None


_POINTER = _find()
_BUILT_IN = None if _POINTER is None or mujoco.get_mjcb_time() else _POINTER.value
"""the clock that the bindings set; None where there is none, or the user's own is there already"""


def unprofiled(
    call: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """That call, for its time without MuJoCo's own clock.

    The clock is one pointer of the process, so it is gone no longer than that: what others step
    afterwards is timed as before; what they step meanwhile, in another thread, is not. Physics does
    not depend on it. A clock that the user has set is left alone.
    """
    if _POINTER is None or _BUILT_IN is None or _POINTER.value != _BUILT_IN:
        return call(*args, **kwargs)
    _POINTER.value = None
    try:
        return call(*args, **kwargs)
    finally:
        if _POINTER.value is None:  # otherwise the user has set one meanwhile
            _POINTER.value = _BUILT_IN
