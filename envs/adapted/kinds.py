"""What values of every type are to a snapshot: how they are read, written back, and made anew.

What is not named here is a Python object, saved attribute by attribute, or says itself how it is
copied. What that loses, the proof finds.
"""

from __future__ import annotations

import copy
import copyreg
import ctypes
import functools
import gc
import sys
import types
from importlib import import_module
from typing import Any

import numpy as np
from gymnasium import Env

from delegate.backtrack.state import Snapshot, StatefulVectorEnv


class NotRestorable(TypeError):
    """The environment cannot be restored exactly; the message names the reason and the remedy.

    field: the best known name of what a restore loses · step: the first replayed step that
    differs, counted from the saved moment, None if it was refused before a replay
    """

    def __init__(self, message: str, field: str | None = None, step: int | None = None) -> None:
        super().__init__(message)
        self.field, self.step = field, step


class Layout(tuple[int, int, int, int]):
    """How CPython has laid out a set, whose order depends on all that was ever in it.

    Places ever filled, members, places less one, where `pop` goes on. Python's own copies have
    the members in another order: a smaller table, and no places of members that were removed.
    """

    table: np.ndarray

    @classmethod
    def of(cls, value: set[Any]) -> Layout:
        """The layout that a set has now."""
        head, table = _memory(value)
        layout = cls(head[n] for n in (0, 1, 2, 5))
        layout.table = table.copy()
        return layout

    def write(self, value: set[Any], members: list[Any]) -> None:
        """Give a set this layout. members: in order; their hashes are those of what was read"""
        value.clear()
        value.update(set(range(self[2] // 2)))
        head, table = _memory(value)
        if head[2] != self[2]:
            raise NotRestorable("a set of a size that is not known here; use a dict for it")
        for number in list(value):
            ctypes.pythonapi.Py_DecRef(ctypes.py_object(number))
        for member in members:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(member))
        table[:] = self.table
        table[(table[:, 0] != 0) & (table[:, 1] != -1), 0] = list(map(id, members))
        head[0], head[1], _, head[5] = self


def _memory(value: set[Any]) -> tuple[Any, np.ndarray]:
    """Of a set, live: six numbers (see Layout; where its table is, a hash), and its table."""
    head: Any = (ctypes.c_ssize_t * 6).from_address(id(value) + object.__basicsize__)
    table = (ctypes.c_ssize_t * 2 * (head[2] + 1)).from_address(head[3])
    return head, np.ctypeslib.as_array(table)


CHANGING = {"object", "dict", "list", "deque", "set", "array", "cell", "cache", "data", "model"}
CHANGING |= {"game", "rows"}
"""kinds that `write` puts back into the same object"""
BUILT = {"tuple", "frozenset", "function", "method", "generator", "view", "proxy"}
"""kinds that cannot change, and are their parts"""
LEFT = {"stream", "pointer", "shown", "copied"}
"""kinds that are not compared"""
RANDOM = {"stream", "game", "rows"}
"""kinds with random state, which `random_state` reads apart"""
MUJOCO = "delegate.envs.adapted.mujoco_state"
"""imported only where MuJoCo is in use"""
cached: Any = functools.cache
slots_of = cached(copyreg._slotnames)  # type: ignore[attr-defined]
"""the attributes that instances of a class keep in slots"""
ATOMIC: set[type] = {type(None), bool, int, float, complex, str, bytes, np.float64, np.int64}
"""types whose values cannot change: the commonest, and those met so far"""
_NAMES = {
    "atom": "NoneType bool int float complex str bytes range type module code numpy.generic "
    "numpy.dtype enum.Enum pathlib.PurePath re.Pattern logging.Logger gymnasium.EnvSpec "
    "gymnasium.WrapperSpec delegate.Layout mujoco._enums",
    "dict": "dict collections.OrderedDict collections.defaultdict collections.Counter",
    "method": "method builtin_function_or_method",
    "stream": "random.Random numpy.BitGenerator numpy.RandomState torch.Generator",
    "pointer": "mujoco weakref.ReferenceType",
    "shown": "OpenGL glfw matplotlib moderngl pyglet tkinter vispy pygame.Clock pygame.Font "
    "pygame.Sound pygame.Surface pygame.Window gymnasium.MujocoRenderer mujoco.Renderer",
    "refused": "generator _thread _io random.SystemRandom numpy.memmap numpy.SeedSequence Box2D "
    "gymnasium.RecordVideo ale_py.ALEInterface",
    **{"object": "gymnasium.Env", "list": "list", "deque": "collections.deque", "set": "set"},
    **{"array": "numpy.ndarray", "frozenset": "frozenset", "tuple": "tuple", "cell": "cell"},
    **{"function": "function", "proxy": "mappingproxy", "cache": "functools._lru_cache_wrapper"},
    **{"generator": "numpy.Generator", "rows": "delegate.StatefulVectorEnv"},
    **{"game": "delegate.WatchedALE", "model": "mujoco.MjModel", "data": "mujoco.MjData"},
}
_KIND_OF = {name: kind for kind, names in _NAMES.items() for name in names.split()}
"""by class with its package, by module, or by package; subclasses are of the same kind"""
_HELD = {
    "Env": "spec _cached_spec _saved_kwargs _ezpickle_args _ezpickle_kwargs",
    "RecordEpisodeStatistics": "episode_start_time time_queue",
    **dict.fromkeys(("FrozenLakeEnv", "CliffWalkingEnv", "TaxiEnv"), "P"),
    "MujocoEnv": "fullpath",
    "MazeEnv": "tmp_xml_file_path",
}
"""attributes of Gymnasium's environments that are left as they are: how they were made, readings
of the wall clock, tables of the dynamics, names of files that differ from one to the next"""


@cached
def held_names(cls: type, constant: frozenset[str]) -> frozenset[str]:
    """The attributes of an environment that are left as they are. constant: by request"""
    if not issubclass(cls, Env):
        return frozenset()
    bases = [base for base in cls.__mro__ if base.__module__.startswith("gymnasium")]
    return constant.union(*(_HELD.get(base.__name__, "").split() for base in bases))


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


@cached
def kind_of_type(cls: type) -> str:
    """What values of that type are."""
    for base in cls.__mro__:
        package = base.__module__.partition(".")[0]
        name = base.__name__ if package == "builtins" else f"{package}.{base.__name__}"
        kind = next((_KIND_OF[e] for e in (name, base.__module__, package) if e in _KIND_OF), None)
        if kind == "atom" and base in (int, float, str, bytes) and "__dict__" in dir(cls):
            continue  # it may hold more than a number or text does
        if kind == "atom" and not issubclass(cls, type | types.ModuleType):
            ATOMIC.add(cls)
        elif base is not cls and kind in ("array", "list", "dict", "deque", "set", "frozenset"):
            return "refused" if "set" in kind else "copied"
        if kind:
            return kind
    if hasattr(cls, "__del__"):  # which every copy would run
        return "refused"
    # whether instances hold nothing but Python attributes: no memory of C beside them
    pointers = len(slots_of(cls)) + (cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0)
    size = object.__basicsize__ + pointers * np.dtype(np.intp).itemsize
    pure = cls.__itemsize__ == 0 and cls.__basicsize__ == size
    return "object" if pure and not hasattr(cls, "__deepcopy__") else "copied"


def read(kind: str, value: Any, constant: frozenset[str] = frozenset()) -> Any:
    """What it holds: a list or dict of its parts, or a value that nothing changes.

    constant: see held_names · Raises NotRestorable saying what it is.
    """
    match kind:
        case "object":
            slots = [name for name in slots_of(type(value)) if hasattr(value, name)]
            data = getattr(value, "__dict__", {}) | {name: getattr(value, name) for name in slots}
            for name in held_names(type(value), constant):
                data.pop(name, None)
            return data
        case "array" if not value.dtype.hasobject:
            saved = value.copy(order="K")
            if not value.flags.writeable:
                saved.flags.writeable = False
            return saved
        case "array":
            return list(value.flat)
        case "list" | "tuple" | "deque":
            return list(value)
        case "stream" | "atom" | "copied" | "pointer" | "shown":
            return value
        case "dict":
            plain = all(type(key) in ATOMIC for key in value)
            return dict(value) if plain else [part for pair in value.items() for part in pair]
        case "set" | "frozenset":
            if len(value) > 1 and any(type(e).__hash__ is object.__hash__ for e in value):
                raise NotRestorable(
                    "a set of objects, whose order depends on where in memory they lie; use a list"
                )
            return [Layout.of(value), *value] if kind == "set" else list(value)
        case "function":
            return {f"__closure__[{n}]": cell for n, cell in enumerate(value.__closure__ or ())}
        case "cell":
            return gc.get_referents(value)  # nothing where none was put into it yet
        case "generator" | "method" | "cache":
            name = {"generator": "bit_generator", "method": "__self__", "cache": "__wrapped__"}
            return {"base": getattr(value, name[kind])}
        case "view":
            return {"base": owner_of(value)}
        case "proxy":
            return {"base": gc.get_referents(value)[0]}
        case "rows":
            arrays = value.snapshot().arrays
            return {name: part for name, part in arrays.items() if name not in value.random_state}
        case "game":
            return value.save()
        case "data" | "model":
            return getattr(import_module(MUJOCO), f"read_{kind}")(value)
    raise NotRestorable(unreadable(value))


def unreadable(value: Any) -> str:
    """Why something is refused, and the remedy."""
    return (
        f"a {type(value).__module__}.{type(value).__qualname__}, which holds what cannot be read "
        "or put back (a lock, an open file, a running generator, memory of C++, a finaliser); keep "
        "it out of the environment, or give what holds it a __deepcopy__ that copies its state"
    )


def write(kind: str, value: Any, data: Any, constant: frozenset[str] = frozenset()) -> None:
    """Put back what was read, every part now this row's; what was read stays as it is."""
    match kind:
        case "object":
            own, new = getattr(value, "__dict__", {}), dict(data)
            for name in slots_of(type(value)):
                if name in new:
                    object.__setattr__(value, name, new.pop(name))
                elif hasattr(value, name):
                    object.__delattr__(value, name)
            held = held_names(type(value), constant)
            new |= {name: now for name, now in own.items() if name in held or is_shown(now)}
            if list(own) != list(new):
                own.clear()
            own.update(new)
        case "array" if type(data) is list:
            for place, item in zip(np.ndindex(value.shape), data, strict=True):
                value[place] = item
        case "array":
            if value.shape != data.shape:
                value.resize(data.shape, refcheck=False)
            if value.flags.owndata:
                value.flags.writeable = True  # it may have been locked since
            if value.flags.writeable:
                value[...] = data
                value.flags.writeable = data.flags.writeable
        case "list":
            value[:] = data
        case "deque":
            value.clear()
            value.extend(data)
        case "dict":
            value.clear()
            value.update(data if type(data) is dict else zip(data[::2], data[1::2], strict=True))
        case "set":
            data[0].write(value, data[1:])
        case "cell":
            if data:
                value.cell_contents = data[0]
        case "cache":  # what it holds is of another moment, and is found again
            value.cache_clear()
        case "rows":
            value.restore(Snapshot(value.world, {**value.snapshot().arrays, **data}))
        case "game":
            value.load(data)
        case "data" | "model":
            getattr(import_module(MUJOCO), f"write_{kind}")(value, data)


def new(kind: str, value: Any, parts: Any) -> Any:
    """Another one, of another row's parts if it cannot change, else to be written to, or None."""
    match kind:
        case "object":
            return object.__new__(type(value))
        case "list" | "dict" | "deque" | "set" | "array" | "model":
            return copy.copy(value)
        case "stream":
            return copy.deepcopy(value)
        case "tuple":
            return tuple.__new__(type(value), parts)
        case "cell":
            return types.CellType()
        case "generator" | "proxy":
            return type(value)(parts["base"])
        case "method":
            base, own = parts["base"], getattr(value, "__func__", None)
            return types.MethodType(own, base) if own else getattr(base, value.__name__)
        case "data":
            return type(value)(parts["model"])
        case "view":
            base, start = parts["base"], address(value) - address(owner_of(value))
            flat = np.lib.stride_tricks.as_strided(base, (base.size,), (base.itemsize,))
            return np.ndarray(value.shape, value.dtype, flat, start, value.strides)
        case "function":
            how = value.__code__, value.__globals__, value.__name__, value.__defaults__
            function = types.FunctionType(*how, tuple(parts.values()))
            function.__kwdefaults__ = value.__kwdefaults__
            function.__qualname__ = value.__qualname__
            return function
    return None


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
        bits.state, children = saved
        if children is not None and children != bits.seed_seq.state:
            bits.__setstate__((saved[0], np.random.SeedSequence(**children)))
    elif isinstance(value, StatefulVectorEnv):
        write("rows", value, saved)
    elif type(value).__module__ == "torch._C":
        value.set_state(sys.modules["torch"].from_numpy(saved.copy()))
    else:
        value.__setstate__(saved)


def address(array: np.ndarray) -> int:
    """Where its memory begins."""
    return int(array.__array_interface__["data"][0])


def owner_of(view: Any) -> Any:
    """What holds the memory that an array looks into."""
    while isinstance(view, np.ndarray) or type(view).__name__ == "DummyArray":  # NumPy's own
        if view.base is None:
            break
        view = view.base
    return view


def is_shown(value: Any) -> bool:
    """Whether a value is only for showing: a window, a surface, a renderer."""
    return type(value) not in ATOMIC and kind_of_type(type(value)) == "shown"
