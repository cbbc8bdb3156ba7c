"""What every type is to a snapshot: shared, copied, kept with its row, or refused."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import functools
import inspect
import io
import logging
import pathlib
import random
import re
import socket
import subprocess
import sys
import threading
import types
import uuid
import weakref
from enum import Enum, auto
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, WrapperSpec

from delegate.backtrack.state import StatefulVectorEnv


class Kind(Enum):
    """How a value of some type is saved."""

    ATOM = auto()  # cannot change: shared
    ENV = auto()  # stays with its row; its attributes are saved
    ENGINE = auto()  # stays with its row; its codec saves it
    STREAM = auto()  # a random generator: stays with its row; its state is random state
    SPACE = auto()  # stays with its row; only its random generator changes
    DISPLAY = auto()  # what is shown, not what is: stays with its row
    POINTER = auto()  # a weak reference, or into a simulator's memory: stays with its row
    DICT = auto()
    LIST = auto()
    TUPLE = auto()
    SET = auto()
    DEQUE = auto()
    ARRAY = auto()
    FUNCTION = auto()
    CELL = auto()
    METHOD = auto()
    OWN_COPY = auto()  # defines __deepcopy__
    PLAIN = auto()  # a Python object: attributes are saved, pickling hooks are not asked
    REDUCED = auto()  # a C type that says itself how to be rebuilt
    REFUSED = auto()


class Stands:
    """Base of what stands in a saved graph for something that stays with its row."""

    __slots__ = ()


_ATOMS: tuple[type, ...] = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice, type, enum.Enum),
    *(type(...), type(NotImplemented), types.ModuleType, types.CodeType, types.MappingProxyType),
    *(types.GenericAlias, re.Pattern, np.generic, np.dtype, np.ufunc, logging.Logger),
    *(pathlib.PurePath, datetime.date, datetime.timedelta, datetime.time, datetime.tzinfo),
    *(decimal.Decimal, fractions.Fraction, uuid.UUID, property, inspect.Signature),
    *(EnvSpec, WrapperSpec, functools._lru_cache_wrapper, Stands),
)

_REFUSED: dict[type, str] = {
    types.GeneratorType: "a running generator, whose position cannot be read",
    types.CoroutineType: "a running coroutine, whose position cannot be read",
    types.AsyncGeneratorType: "a running generator, whose position cannot be read",
    types.FrameType: "a stack frame",
    threading.Thread: "a thread, which goes on by itself",
    type(threading.Lock()): "a lock, which belongs to running threads",
    type(threading.RLock()): "a lock, which belongs to running threads",
    threading.Condition: "a lock, which belongs to running threads",
    threading.Event: "a lock, which belongs to running threads",
    threading.Semaphore: "a lock, which belongs to running threads",
    socket.socket: "a socket, whose other end cannot be taken back",
    io.IOBase: "an open file, whose contents cannot be taken back",
    subprocess.Popen: "a running process, which cannot be taken back",
    random.SystemRandom: "the operating system's random numbers, which never repeat",
    np.memmap: "an array in a file, whose contents cannot be taken back",
}
_REFUSED_NAMES = {
    ("gymnasium.wrappers.rendering", "RecordVideo"): (
        "a RecordVideo, whose files cannot be taken back; leave it out and take frames from "
        "render()"
    ),
    ("Box2D.Box2D", None): (
        "a Box2D object: its C++ world (contacts, impulses, sleeping bodies) can be neither read "
        "out whole nor copied; choose an environment simulated in MuJoCo or in Python"
    ),
    ("_multiprocessing", None): "a lock or pipe to another process",
    ("multiprocessing.connection", None): "a pipe to another process",
    ("multiprocessing.context", None): "another process, which cannot be taken back",
}
_DISPLAY_MODULES = ("OpenGL", "glfw", "matplotlib", "moderngl", "pyglet", "tkinter", "vispy")
_DISPLAY_NAMES = {
    "pygame": {"Channel", "Clock", "Font", "PixelArray", "Sound", "Surface", "Window"},
    "mujoco": {"GLContext", "Handle", "MjrContext", "MjvCamera", "MjvFigure", "MjvOption"}
    | {"MjvPerturb", "MjvScene", "Renderer"},
    "gymnasium": {"MujocoRenderer", "OffScreenViewer", "WindowViewer"},
}

_CONTAINERS: dict[type, Kind] = {
    dict: Kind.DICT,
    collections.OrderedDict: Kind.DICT,
    list: Kind.LIST,
    tuple: Kind.TUPLE,
    set: Kind.SET,
    frozenset: Kind.SET,
    collections.deque: Kind.DEQUE,
    types.FunctionType: Kind.FUNCTION,
    types.CellType: Kind.CELL,
    types.MethodType: Kind.METHOD,
    types.BuiltinMethodType: Kind.METHOD,
}

_known: dict[type, Kind] = dict(_CONTAINERS)
_slots: dict[type, tuple[str, ...]] = {}


def kind_of(cls: type) -> Kind:
    """What values of that type are."""
    kind = _known.get(cls)
    if kind is None:
        kind = _known[cls] = _classify(cls)
    return kind


def refusal(cls: type) -> str | None:
    """Why values of that type cannot be saved, None if they may."""
    for refused, reason in _REFUSED.items():
        if issubclass(cls, refused):
            return reason
    for base in cls.__mro__:
        for (module, name), reason in _REFUSED_NAMES.items():
            if base.__module__ == module and name in (None, base.__name__):
                return reason
    if "__del__" in dir(cls) and not issubclass(cls, gymnasium.Env):
        return "an object with a finaliser (__del__), which every copy would run"
    return None


def is_engine(cls: type) -> bool:
    """Whether that type is a simulator with a codec of its own."""
    if issubclass(cls, StatefulVectorEnv):
        return True
    mujoco, ale = sys.modules.get("mujoco"), sys.modules.get("ale_py")
    if mujoco is not None and issubclass(cls, mujoco.MjData | mujoco.MjModel):
        return True
    if ale is not None and issubclass(cls, ale.ALEInterface):
        return True
    return cls.__module__ == "delegate.envs.adapted.ale_state"


def _classify(cls: type) -> Kind:
    if issubclass(cls, _ATOMS):
        changeable = issubclass(cls, int | float | str | bytes) and "__dict__" in dir(cls)
        if not changeable or issubclass(cls, np.generic | enum.Enum):
            return Kind.ATOM
    if _is_display(cls):
        return Kind.DISPLAY
    if is_engine(cls):
        return Kind.ENGINE
    if cls.__module__.startswith("mujoco._"):
        # numbers of the library, or a look into a simulator's memory
        return Kind.ATOM if cls.__module__ == "mujoco._enums" else Kind.POINTER
    if refusal(cls) is not None:
        return Kind.REFUSED
    for base, kind in (
        (gymnasium.Env, Kind.ENV),
        (gymnasium.Space, Kind.SPACE),
        (np.random.Generator, Kind.STREAM),
        (np.random.BitGenerator, Kind.STREAM),
        (np.random.RandomState, Kind.STREAM),
        (random.Random, Kind.STREAM),
        (np.ndarray, Kind.ARRAY),
        (weakref.ref, Kind.POINTER),
    ):
        if issubclass(cls, base):
            return kind
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return Kind.TUPLE
    if hasattr(cls, "__deepcopy__"):
        return Kind.OWN_COPY
    return Kind.PLAIN if _is_pure(cls) else Kind.REDUCED


def _is_display(cls: type) -> bool:
    for base in cls.__mro__:
        package = base.__module__.partition(".")[0]
        if package in _DISPLAY_MODULES or base.__name__ in _DISPLAY_NAMES.get(package, ()):
            return True
    return False


def _is_pure(cls: type) -> bool:
    """Whether instances hold nothing but Python attributes: no memory of C beyond them."""
    pointers = len(all_slots(cls)) + (cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0)
    size = object.__basicsize__ + pointers * np.dtype(np.intp).itemsize
    return cls.__itemsize__ == 0 and cls.__basicsize__ == size


def all_slots(cls: type) -> tuple[str, ...]:
    """The attributes that instances keep in slots."""
    if cls not in _slots:
        _slots[cls] = tuple(name for base in cls.__mro__ for name in slot_names(base))
    return _slots[cls]


def slot_names(cls: Any) -> list[str]:
    """The attributes that the class itself keeps in slots."""
    slots = cls.__dict__.get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    hidden = f"_{cls.__name__.lstrip('_')}"
    return [
        f"{hidden}{name}" if name.startswith("__") and not name.endswith("__") else name
        for name in names
        if name not in ("__dict__", "__weakref__")
    ]
