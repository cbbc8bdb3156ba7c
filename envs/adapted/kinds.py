"""What values of every type are to a snapshot: how they are read, written back, and made anew.

What is not named here is a Python object, saved attribute by attribute, or says itself how it is
copied. What that loses, the proof finds.
"""

from __future__ import annotations

import collections
import copy
import ctypes
import enum
import functools
import gc
import io
import logging
import pathlib
import random
import re
import sys
import threading
import types
import weakref
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, WrapperSpec

from delegate.backtrack.state import Snapshot, StatefulVectorEnv
from delegate.envs.adapted.values import NotRestorable as NotRestorable
from delegate.envs.adapted.values import address


class Table:
    """An exact copy of a set as CPython lays it out, for its order depends on its whole past.

    Python's own copies have the members in another order: a smaller table, no places of members
    that were removed, another place from which `pop` goes on.
    """

    def __init__(self, value: Any) -> None:
        self.copy: set[Any] = set()
        self.move(value, self.copy)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Table) or list(self.copy) != list(other.copy):
            return False
        one, two = self.laid(self.copy), self.laid(other.copy)
        return (one[0], one[2], one[5]) == (two[0], two[2], two[5])

    __hash__ = None  # type: ignore[assignment]

    @staticmethod
    def laid(value: Any) -> Any:
        """Places ever filled, members, places less one, where they are, hash, where pop is."""
        return (ctypes.c_ssize_t * 6).from_address(id(value) + object.__basicsize__)

    def move(self, value: Any, into: set[Any]) -> None:
        """Make a set such a one as another is."""
        laid, new = self.laid(value), self.laid(into)
        into.clear()
        if laid[2] > new[2]:
            into.update(set(range(laid[2] // 2)))
        if laid[2] != new[2]:
            raise NotRestorable("a set of a size that is not known here; use a dict for it")
        for key in list(into):
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(key))
        for key in value:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(key))
        ctypes.memmove(new[3], laid[3], (laid[2] + 1) * 2 * ctypes.sizeof(ctypes.c_ssize_t))
        new[0], new[1], new[5] = laid[0], laid[1], laid[5]


ATOMIC: set[type] = {type(None), bool, int, float, complex, str, bytes, np.float64, np.int64}
"""types whose values cannot change: the commonest, and those met so far"""
CHANGING = {"object", "dict", "list", "deque", "set", "array", "cell", "cache", "data", "model"}
CHANGING |= {"game", "rows"}
"""kinds that `write` puts back into the same object"""
RANDOM = {"stream", "game", "rows"}
"""kinds with random state, which `random_state` reads apart"""
_ATOMS: tuple[type, ...] = (
    *(type(None), bool, int, float, complex, str, bytes, range, type, enum.Enum, np.generic),
    *(np.dtype, types.ModuleType, types.CodeType, pathlib.PurePath, re.Pattern, Table),
    *(logging.Logger, EnvSpec, WrapperSpec),
)
_EXACT: dict[type, str] = {
    **{list: "list", collections.deque: "deque", set: "set", frozenset: "frozenset"},
    **dict.fromkeys((dict, collections.OrderedDict, collections.defaultdict), "dict"),
    **{collections.Counter: "dict", types.MappingProxyType: "proxy", types.CellType: "cell"},
    **{types.FunctionType: "function", functools._lru_cache_wrapper: "cache"},
    **{types.MethodType: "method", types.BuiltinMethodType: "method"},
}
_LOCK = "refused a lock, which belongs to running threads"
_BASES: dict[type, str] = {
    random.SystemRandom: "refused the operating system's random numbers, which never repeat",
    **dict.fromkeys((random.Random, np.random.BitGenerator, np.random.RandomState), "stream"),
    **{np.random.Generator: "generator", tuple: "tuple", weakref.ref: "pointer"},
    **{StatefulVectorEnv: "rows", type(threading.Lock()): _LOCK, type(threading.RLock()): _LOCK},
    types.GeneratorType: "refused a running generator, whose position cannot be read",
    io.IOBase: "refused an open file, whose contents cannot be taken back",
    np.memmap: "refused an array in a file, whose contents cannot be taken back",
    set: "refused a set of a type of its own, whose order cannot be copied; use a set",
    np.random.SeedSequence: "refused a SeedSequence, whose count of what it spawned cannot be put "
    "back; spawn from self.np_random",
}
_NAMES = {
    "Box2D": "refused a Box2D object: its C++ world (contacts, impulses, sleeping bodies) can be "
    "neither read out whole nor copied; choose an environment simulated in MuJoCo or in Python",
    "gymnasium.RecordVideo": "refused a RecordVideo, whose files cannot be taken back; leave it "
    "out and take frames from render()",
    **dict.fromkeys(("OpenGL", "glfw", "matplotlib", "moderngl", "pyglet", "vispy"), "shown"),
    **{f"pygame.{name}": "shown" for name in ("Clock", "Font", "Sound", "Surface", "Window")},
    **{"gymnasium.MujocoRenderer": "shown", "mujoco.Renderer": "shown", "tkinter": "shown"},
    **{"mujoco.MjData": "data", "mujoco.MjModel": "model", "delegate.WatchedALE": "game"},
    "ale_py.ALEInterface": "refused a new ALEInterface since the environment was adapted; make it "
    "once",
}
"""by package, or class of a package; what is shown is left as it is"""
_HELD: dict[str, set[str]] = {
    # how it was made
    "Env": {"spec", "_cached_spec", "_saved_kwargs", "_ezpickle_args", "_ezpickle_kwargs"},
    # readings of the wall clock
    "RecordEpisodeStatistics": {"episode_start_time", "time_queue"},
    # tables of the dynamics, and names of files that differ from one instance to the next
    **{name: {"P"} for name in ("FrozenLakeEnv", "CliffWalkingEnv", "TaxiEnv")},
    **{"MujocoEnv": {"fullpath"}, "MazeEnv": {"tmp_xml_file_path"}},
}
"""attributes of Gymnasium's environments that are left as they are, by class"""


_known: dict[type, str] = {}
_slots: dict[type, tuple[str, ...]] = {}
_held: dict[type, frozenset[str]] = {}


def kind_of(value: Any) -> str:
    """What that value is."""
    kind = kind_of_type(type(value))
    if kind == "array" and (owner := owner_of(value)) is not value:
        # a view of a simulator's memory shows what the simulator restores
        foreign = {"PyCapsule": "pointer", "bytes": "atom"}.get(type(owner).__name__, "array")
        return "view" if isinstance(owner, np.ndarray) else foreign
    if kind == "cache" and isinstance(inner := value.__wrapped__, types.FunctionType):
        return "cache" if inner.__closure__ else "atom"
    return kind


def kind_of_type(cls: type) -> str:
    """What values of that type are."""
    if cls not in _known:
        _known[cls] = _kind(cls)
        if _known[cls] == "atom" and not issubclass(cls, type | types.ModuleType):
            ATOMIC.add(cls)
    return _known[cls]


def _kind(cls: type) -> str:
    for base in cls.__mro__:
        package = base.__module__.partition(".")[0]
        for name in (package, f"{package}.{base.__name__}"):
            if name in _NAMES:
                return _NAMES[name]
    if issubclass(cls, _ATOMS):
        # of what derives from numbers and texts, only what has no attributes of its own
        plain = issubclass(cls, np.generic | enum.Enum) or "__dict__" not in dir(cls)
        if plain or not issubclass(cls, int | float | str | bytes):
            return "atom"
    if cls in _EXACT or cls is np.ndarray:
        return _EXACT.get(cls, "array")
    if cls.__module__.startswith(("mujoco._", "torch._C")):
        tag = {"mujoco._enums": "atom", "torch._C": "copied"}.get(cls.__module__, "pointer")
        return "stream" if cls.__name__ == "Generator" else tag
    for base, kind in _BASES.items():
        if issubclass(cls, base):
            return kind
    if issubclass(cls, gymnasium.Env):
        return "object"
    if hasattr(cls, "__del__"):
        return "refused an object with a finaliser (__del__), which every copy would run"
    # whether instances hold nothing but Python attributes: no memory of C beside them
    pointers = len(slots_of(cls)) + (cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0)
    size = object.__basicsize__ + pointers * np.dtype(np.intp).itemsize
    pure = cls.__itemsize__ == 0 and cls.__basicsize__ == size
    return "object" if pure and not hasattr(cls, "__deepcopy__") else "copied"


def read(kind: str, value: Any, held: frozenset[str] = frozenset()) -> Any:
    """What it holds: a list or dict of its parts, or a value that nothing changes.

    held: attributes that are left as they are · Raises NotRestorable saying what it is.
    """
    if kind == "object":
        data = dict(getattr(value, "__dict__", ()))
        if slots := slots_of(type(value)):
            data |= {name: getattr(value, name) for name in slots if hasattr(value, name)}
        return {k: part for k, part in data.items() if k not in held} if held else data
    if kind == "array":
        if value.dtype.hasobject:
            return list(value.flat)
        saved = value.copy(order="K")
        if not value.flags.writeable:
            saved.flags.writeable = False
        return saved
    if kind in ("list", "tuple", "deque"):
        return list(value)
    if kind in ("stream", "atom", "copied", "pointer", "shown"):
        return value
    if kind == "dict":
        plain = all(type(key) in ATOMIC for key in value)
        return dict(value) if plain else [part for pair in value.items() for part in pair]
    if kind in ("generator", "view", "method", "cache", "proxy"):
        return {"base": _base(kind, value)}
    if kind in ("set", "frozenset"):
        if len(value) > 1 and any(type(item).__hash__ is object.__hash__ for item in value):
            raise NotRestorable(
                "a set of objects, whose order depends on where in memory they lie; use a list"
            )
        return [Table(value), *value]
    if kind == "function":
        return {f"__closure__[{n}]": cell for n, cell in enumerate(value.__closure__ or ())}
    if kind == "cell":
        try:
            return [value.cell_contents]
        except ValueError:  # nothing was put into it yet
            return []
    if kind == "rows":
        arrays = value.snapshot().arrays
        return {name: array for name, array in arrays.items() if name not in value.random_state}
    if kind in ("data", "model"):
        from delegate.envs.adapted import mujoco_state

        model_of = mujoco_state.model_of
        return mujoco_state.read_data(value) if kind == "data" else model_of(value).read(value)
    if kind == "game":
        return value.save()
    raise NotRestorable(kind.removeprefix("refused "))


def _base(kind: str, value: Any) -> Any:
    """What a method, view, cache or generator is of."""
    if kind == "generator":
        return value.bit_generator
    if kind == "view":
        return owner_of(value)
    if kind == "method":
        return value.__self__
    return value.__wrapped__ if kind == "cache" else gc.get_referents(value)[0]


def write(kind: str, value: Any, data: Any, held: frozenset[str] = frozenset()) -> None:
    """Put back what was read, every part now this row's; what was read stays as it is."""
    if kind == "object":
        own, new = getattr(value, "__dict__", {}), dict(data)
        for name in slots_of(type(value)):
            if name in new:
                object.__setattr__(value, name, new.pop(name))
            elif hasattr(value, name):
                object.__delattr__(value, name)
        for name, now in own.items():
            saved = data.get(name)
            shown = now is not saved and is_shown(now) and (saved is None or is_shown(saved))
            if shown or name in held:
                new[name] = now
        if list(own) != list(new):
            own.clear()
        own.update(new)
    elif kind == "list":
        value[:] = data
    elif kind == "dict":
        value.clear()
        value.update(data if type(data) is dict else zip(data[::2], data[1::2], strict=True))
    elif kind == "deque":
        value.clear()
        value.extend(data)
    elif kind == "array":
        _write_array(value, data)
    elif kind == "set":
        if all(one is other for one, other in zip(data[1:], data[0].copy, strict=True)):
            data[0].move(data[0].copy, value)
        else:
            value.clear()
            value.update(data[1:])
    elif kind == "cell":
        if data:
            value.cell_contents = data[0]
        elif read(kind, value):
            del value.cell_contents
    elif kind == "cache":  # what it holds is of another moment, and is found again
        value.cache_clear()
    elif kind == "rows":
        value.restore(Snapshot(value.world, {**value.snapshot().arrays, **data}))
    elif kind == "game":
        value.load(data)
    else:
        from delegate.envs.adapted import mujoco_state

        if kind == "data":
            mujoco_state.write_data(value, data)
        else:
            mujoco_state.model_of(value).write(value, data)


def _write_array(value: np.ndarray, saved: Any) -> None:
    if type(saved) is list:
        for place, item in zip(np.ndindex(value.shape), saved, strict=True):
            value[place] = item
        return
    if value.shape != saved.shape:
        value.resize(saved.shape, refcheck=False)
    if value.flags.owndata:
        value.flags.writeable = True  # it may have been locked since
    if value.flags.writeable:
        value[...] = saved
        value.flags.writeable = saved.flags.writeable


def new(kind: str, value: Any, data: Any) -> Any:
    """Another one, of another row's parts if it cannot change, else to be written to."""
    if kind == "object":
        return object.__new__(type(value))
    if kind in ("list", "dict", "deque", "set", "array", "stream", "model"):
        return copy.copy(value) if kind != "stream" else copy.deepcopy(value)
    if kind == "tuple":
        return tuple.__new__(type(value), data)
    if kind == "frozenset":
        return frozenset(data[1:])
    if kind == "cell":
        return types.CellType()
    if kind == "cache":
        return functools.lru_cache(**value.cache_parameters())(data["base"])
    if kind == "generator":
        return type(value)(data["base"])
    if kind == "method":
        plain = isinstance(value, types.BuiltinMethodType)
        return (
            getattr(data["base"], value.__name__)
            if plain
            else types.MethodType(value.__func__, data["base"])
        )
    if kind == "proxy":
        return types.MappingProxyType(data["base"])
    if kind == "view":
        start = address(value) - address(owner_of(value))
        flat = np.lib.stride_tricks.as_strided(
            data["base"], (data["base"].size,), (data["base"].itemsize,)
        )
        return np.ndarray(value.shape, value.dtype, flat, start, value.strides)
    if kind == "function":
        new = types.FunctionType(
            value.__code__,
            value.__globals__,
            value.__name__,
            value.__defaults__,
            tuple(data.values()),
        )
        new.__kwdefaults__, new.__qualname__ = value.__kwdefaults__, value.__qualname__
        return new
    if kind == "data":
        return type(value)(data["model"])
    raise NotRestorable(
        "a look into memory that this row does not have; reset the row before restoring into it"
    )


def random_state(value: Any) -> Any:
    """The random state of a generator or simulator: a value that later draws do not change."""
    if isinstance(value, np.random.BitGenerator):
        return value.state, getattr(value.seed_seq, "state", None)  # which counts its children
    if isinstance(value, StatefulVectorEnv):
        arrays = value.snapshot().arrays
        return {name: array for name, array in arrays.items() if name in value.random_state}
    if type(value).__module__ == "torch._C":
        return value.get_state().numpy().copy()
    return value.__getstate__()


def put_random_state(value: Any, saved: Any) -> None:
    """Put a generator or simulator back to what `random_state` read."""
    if isinstance(value, np.random.BitGenerator):
        bits: Any = value
        bits.state = saved[0]
        if saved[1] is not None and saved[1] != bits.seed_seq.state:
            bits.__setstate__((saved[0], np.random.SeedSequence(**saved[1])))
    elif isinstance(value, StatefulVectorEnv):
        value.restore(Snapshot(value.world, {**value.snapshot().arrays, **saved}))
    elif type(value).__module__ == "torch._C":
        value.set_state(sys.modules["torch"].from_numpy(saved.copy()))
    else:
        value.__setstate__(saved)


def held_names(cls: type) -> frozenset[str]:
    """The attributes of an environment of that class that are left as they are."""
    if cls not in _held:
        bases = [base for base in cls.__mro__ if base.__module__.startswith("gymnasium")]
        _held[cls] = frozenset[str]().union(*(_HELD.get(base.__name__, ()) for base in bases))
    return _held[cls]


def slots_of(cls: type) -> tuple[str, ...]:
    """The attributes that instances keep in slots."""
    if cls not in _slots:
        names = []
        for base in cls.__mro__:
            slots = base.__dict__.get("__slots__", ())
            for name in [slots] if isinstance(slots, str) else slots:
                private = name.startswith("__") and not name.endswith("__")
                names.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
        _slots[cls] = tuple(name for name in names if name not in ("__dict__", "__weakref__"))
    return _slots[cls]


def owner_of(view: Any) -> Any:
    """What holds the memory that an array looks into."""
    while isinstance(view, np.ndarray) or type(view).__name__ == "DummyArray":  # NumPy's own
        if view.base is None:
            break
        view = view.base
    return view


def is_shown(value: Any) -> bool:
    """Whether a value is only for showing: a window or surface, or a collection of them."""
    if type(value) in (dict, list, tuple) and value:
        return all(map(is_shown, value.values() if type(value) is dict else value))
    return kind_of_type(type(value)) == "shown"
