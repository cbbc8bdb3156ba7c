"""MuJoCo's built-in profiler, which its newer Python bindings start and nothing here reads.

It looks at the clock at every stage of every step: measured, 20% of a step of Hopper, 11% of
Humanoid. The bindings have no way to stop it, but MuJoCo's callbacks are pointers that C code, and
so ctypes, may set.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import mujoco


def stop_profiler() -> bool:
    """Unset `mjcb_time` for the whole process, so that `MjData.timer` stands still.

    Physics does not depend on it. In MuJoCo 4 `mujoco.set_mjcb_time(None)` starts it again.
    Returns whether the pointer was found.
    """
    for library in sorted(Path(mujoco.__file__).parent.glob("*mujoco*")):
        if library.suffix in (".py", ".pyi") or not library.is_file():
            continue
        try:
            clock = ctypes.c_void_p.in_dll(ctypes.CDLL(str(library)), "mjcb_time")
        except (OSError, ValueError):  # not a library, or one without that name
            continue
        clock.value = None
        return True
    return False
