"""What lies outside an environment, where no snapshot reaches: globals, clocks."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from delegate.envs.adapted import streams
from delegate.envs.adapted.equality import difference

_LIBRARIES = {"numpy", "gymnasium", "mujoco", "pygame", "torch", "jax", "scipy", "ale_py"}
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)
_CLOCKS = {"time", "posix", "nt", "_datetime", "datetime"}
_CLOCK_NAMES = {"time", "time_ns", "monotonic", "perf_counter", "urandom", "now", "today"}


def read(classes: Collection[type]) -> dict[str, Any]:
    """What environments of those classes might share with others, by name.

    Numbers, arrays, collections and random generators among the globals of their modules and the
    attributes of their classes, and the global generators of numpy, Python and torch.
    """
    seen: dict[str, Any] = {
        "numpy's global random generator": np.random.get_state(legacy=False),
        "Python's global random generator": random.getstate(),
    }
    if (torch := sys.modules.get("torch")) is not None:
        seen["torch's global random generator"] = torch.get_rng_state().numpy().copy()
    bases = {base for cls in classes for base in cls.__mro__}
    for base in bases:
        package = base.__module__.partition(".")[0]
        if package in sys.stdlib_module_names or package in _LIBRARIES - {"gymnasium"}:
            continue
        for name, value in vars(base).items():
            _note(seen, f"{base.__module__}.{base.__qualname__}.{name}", value)
    for module in {base.__module__ for base in bases}:
        package = module.partition(".")[0]
        if package not in sys.stdlib_module_names | _LIBRARIES:
            for name, value in list(vars(sys.modules.get(module, object)).items()):
                _note(seen, f"{module}.{name}", value)
    return seen


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names of what is not as it was; dicts that only grew are caches, and do not count."""
    return sorted(
        name
        for name, value in before.items()
        if name in after
        and not (isinstance(value, dict) and _grew(value, after[name]))
        and difference(value, after[name]) is not None
    )


def clock_calls(play: Callable[[], Any]) -> list[str]:
    """Where a play asks for the time or the operating system's random numbers."""
    found: dict[str, None] = {}

    def watch(frame: Any, event: str, called: Any) -> None:
        if event != "c_call" or getattr(called, "__name__", None) not in _CLOCK_NAMES:
            return
        owner = getattr(called, "__self__", None)
        module = getattr(called, "__module__", None) or getattr(owner, "__module__", None)
        if module in _CLOCKS or getattr(owner, "__name__", None) in _CLOCKS:
            at = f"{frame.f_globals.get('__name__')}:{frame.f_lineno}"
            found.setdefault(f"{called.__name__}() in {at}")

    before, collecting = sys.getprofile(), gc.isenabled()
    gc.disable()  # others may look at the clock whenever garbage is collected
    sys.setprofile(watch)
    try:
        play()
    finally:
        sys.setprofile(before)
        if collecting:
            gc.enable()
    return [
        place
        for place in found
        if not place.partition(" in ")[2].startswith("delegate.envs.adapted")
    ]


def _note(seen: dict[str, Any], name: str, value: Any) -> None:
    if name.endswith("__"):
        return
    if isinstance(value, _PLAIN):
        seen[name] = value
    elif isinstance(value, np.ndarray):
        seen[name] = value.copy()
    elif isinstance(value, streams.Stream):
        seen[name] = streams.read(value)
    elif isinstance(value, list | set) or type(value).__name__ == "deque":
        seen[name] = [_word(item) for item in value]
    elif isinstance(value, dict):
        seen[name] = {_word(key): _word(item) for key, item in value.items()}
    elif type(value).__module__ == "itertools":
        seen[name] = repr(value)


def _word(value: Any) -> Any:
    """A member of a shared collection: its value, or which object it is."""
    if isinstance(value, _PLAIN):
        return value
    return value.copy() if isinstance(value, np.ndarray) else id(value)


def _grew(before: dict[Any, Any], after: Any) -> bool:
    if not isinstance(after, dict):
        return False
    kept = {key: after[key] for key in before if key in after}
    return difference(before, kept) is None
