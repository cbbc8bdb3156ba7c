"""MuJoCo's built-in profiler, which its newer Python bindings start and nothing here reads.

It looks at the clock at every stage of every step: measured, 21% of a step of Hopper, 7% of
Humanoid. The bindings can set that clock but not take it away, and `mj_resetCallbacks` would take
every other callback with it. But callbacks are pointers that C code, and so ctypes, may set.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from threading import Lock

import mujoco


class Pause:
    """Takes MuJoCo's own clock, `mjcb_time`, away for the time of a `with` block.

    It is one pointer of the process, so the pause is as short as our steps: what others step
    afterwards is timed as before, and what they step meanwhile, in another thread, is not timed.
    Physics does not depend on it. A clock that the user has set is left alone.
    """

    def __init__(self) -> None:
        self._pointer = _clock()
        self._clock = None
        if self._pointer is not None and mujoco.get_mjcb_time() is None:
            self._clock = self._pointer.value
        self._lock, self._users, self._paused = Lock(), 0, False

    def __enter__(self) -> None:
        if self._pointer is None or self._clock is None:
            return
        with self._lock:  # threads that step at once share one pause
            self._users += 1
            if self._pointer.value == self._clock:
                self._pointer.value, self._paused = None, True

    def __exit__(self, *_: object) -> None:
        if self._pointer is None or self._clock is None:
            return
        with self._lock:
            self._users -= 1
            if self._paused and not self._users:
                self._paused = False
                if self._pointer.value is None:  # otherwise the user set one meanwhile
                    self._pointer.value = self._clock


def _clock() -> ctypes.c_void_p | None:
    """`mjcb_time` in MuJoCo's library; None where it is not found."""
    for library in sorted(Path(mujoco.__file__).parent.glob("*mujoco*")):
        if library.suffix in (".py", ".pyi") or not library.is_file():
            continue
        try:
            return ctypes.c_void_p.in_dll(ctypes.CDLL(str(library)), "mjcb_time")
        except (OSError, ValueError):  # not a library, or one without that name
            continue
    return None


PROFILER_PAUSED = Pause()
