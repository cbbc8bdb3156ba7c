"""MuJoCo: the integration state, what the last step derived from it, and a model that changes.

The integration state alone decides where the physics goes, but environments also read what the
last step left behind (positions of bodies, contact forces), which lags one substep behind the
state and which `mj_forward` would therefore compute differently. So that is saved too, bit for
bit: MuJoCo keeps it in one block of memory. Contacts and constraints (its arena) are not: every
step makes them anew before it reads them.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any

import mujoco
import numpy as np

from delegate.backtrack.state import RandomStateMode
from delegate.envs.adapted.engine import Engine
from delegate.envs.adapted.refusal import NotRestorable

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_BLOWN_UP = [
    int(mujoco.mjtWarning.mjWARN_BADQPOS),
    int(mujoco.mjtWarning.mjWARN_BADQVEL),
    int(mujoco.mjtWarning.mjWARN_BADQACC),
    int(mujoco.mjtWarning.mjWARN_BADCTRL),
]
_ASSETS = ("bvh_", "flex", "hfield_", "mesh_", "names", "oct_", "paths", "skin_", "tex", "text_")
"""parts of a model that describe shapes and pictures: large, and not changed while it runs"""


class DataEngine(Engine):
    """One MjData. physics: float64 [nstate] · derived: uint8 [n] · warned: int [k]"""

    codec = "mujoco"

    def __init__(self, data: mujoco.MjData) -> None:
        self.data, self.model = data, data.model
        self.also = (data.model,)
        if self.model.nplugin:
            raise NotRestorable(
                "the MuJoCo model has plugins, which keep memory of their own that cannot be read; "
                "use a model without them"
            )
        self._physics = np.zeros(mujoco.mj_stateSize(self.model, STATE))
        self._derived = _block(data, data.qpos, data.nbuffer)
        self._energy, self._warned = data.energy, data.warning.number

    def save(self) -> dict[str, Any]:
        mujoco.mj_getState(self.model, self.data, self._physics, STATE)
        return {
            "physics": self._physics.copy(),
            "derived": self._derived.copy(),
            "energy": self._energy.copy(),
            "warned": self._warned.copy(),
        }

    def load(self, values: Mapping[str, Any], rng: RandomStateMode) -> None:
        self._derived[:] = values["derived"]
        self._energy[:] = values["energy"]
        self._warned[:] = values["warned"]
        mujoco.mj_setState(self.model, self.data, values["physics"], STATE)

    def warnings(self) -> int:
        return int(self._warned[_BLOWN_UP].sum())

    @property
    def world(self) -> str:
        return f"mujoco {mujoco.__version__} {len(self._physics)} {len(self._derived)}"


class ModelEngine(Engine):
    """One MjModel, which environments change to draw new goals, masses or colours.

    model: bytes, all numbers but those of `_ASSETS` · options: float64 [n], `opt` and `stat`
    """

    codec = "mujoco"

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = model
        arrays = _arrays(model)
        own = [(name, array) for name, array in arrays if not name.startswith(_ASSETS)]
        assets = [array for name, array in arrays if name.startswith(_ASSETS)]
        self._blocks = [_memory(*block) for block in _merged(own, assets)]
        self._last = b""
        self._vectors: list[np.ndarray] = []
        self._numbers: list[tuple[Any, tuple[str, ...]]] = []
        for part in (model.opt, model.stat):
            fields = {name: getattr(part, name) for name in dir(part) if not name.startswith("_")}
            self._vectors += [value for value in fields.values() if isinstance(value, np.ndarray)]
            numbers = [name for name, value in fields.items() if isinstance(value, int | float)]
            self._numbers.append((part, tuple(numbers)))

    def save(self) -> dict[str, Any]:
        if (now := self._bytes()) != self._last:
            self._last = now  # snapshots of an unchanged model share one copy
        return {"model": self._last, "options": self._options()}

    def load(self, values: Mapping[str, Any], rng: RandomStateMode) -> None:
        if values["model"] != self._bytes():
            start = 0
            for block in self._blocks:
                block[:] = np.frombuffer(values["model"], np.uint8, len(block), start)
                start += len(block)
        if not np.array_equal(values["options"], self._options()):
            self._set_options(values["options"])

    def _options(self) -> np.ndarray:
        numbers = [number for part, names in self._numbers for number in attrgetter(*names)(part)]
        return np.concatenate([np.array(numbers, np.float64), *self._vectors])

    def _set_options(self, options: np.ndarray) -> None:
        start = 0
        for part, names in self._numbers:
            for name in names:
                setattr(part, name, type(getattr(part, name))(options[start]))
                start += 1
        for vector in self._vectors:
            vector[:] = options[start : start + len(vector)]
            start += len(vector)

    def _bytes(self) -> bytes:
        return b"".join(block.tobytes() for block in self._blocks)

    @property
    def world(self) -> str:
        sizes = {name: getattr(self.model, name) for name in dir(self.model) if name[0] == "n"}
        text = repr(sorted((name, n) for name, n in sizes.items() if isinstance(n, int)))
        digest = hashlib.sha256(text.encode() + bytes(self.model.names)).hexdigest()
        return f"model {digest[:12]}"


def _arrays(struct: Any) -> list[tuple[str, np.ndarray]]:
    """The arrays of a MuJoCo struct that look into its own memory, by name."""
    named = [(name, getattr(struct, name)) for name in dir(struct) if not name.startswith("_")]
    return [
        (name, array)
        for name, array in named
        if isinstance(array, np.ndarray) and array.size and array.base is not None
    ]


def _span(array: np.ndarray) -> tuple[int, int]:
    start = array.__array_interface__["data"][0]
    return start, start + array.nbytes


def _merged(
    arrays: Iterable[tuple[str, np.ndarray]], apart: Iterable[np.ndarray] = (), gap: int = 64
) -> list[tuple[int, int]]:
    """The stretches of memory those arrays fill, small gaps included. (start, end) each"""
    stops = sorted(_span(array)[0] for array in apart)
    merged: list[tuple[int, int]] = []
    for start, end in sorted(_span(array) for _, array in arrays):
        last = merged[-1][1] if merged else None
        between = last is not None and any(last <= stop <= start for stop in stops)
        if last is not None and start - last <= gap and not between:
            merged[-1] = (merged[-1][0], max(last, end))
        else:
            merged.append((start, end))
    return merged


def _memory(start: int, end: int) -> np.ndarray:
    """That memory as bytes, live, valid as long as what it belongs to. uint8 [n]"""
    return np.ctypeslib.as_array((ctypes.c_uint8 * (end - start)).from_address(start))


def _block(data: mujoco.MjData, inside: np.ndarray, size: int) -> np.ndarray:
    """The block of memory around one array of `data`, at most `size` bytes. uint8 [n], live"""
    at = _span(inside)[0]
    near = [(n, array) for n, array in _arrays(data) if abs(_span(array)[0] - at) <= size]
    for start, end in _merged(near):
        if start <= at < end and end - start <= size:
            return _memory(start, end)
    raise NotRestorable(
        f"MuJoCo {mujoco.__version__} lays its data out in a way that is not known here; "
        "use mujoco 4.0"
    )
