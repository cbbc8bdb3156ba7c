"""MuJoCo: the integration state, what the last step left behind, and a model that changes.

The integration state alone decides where the physics goes, but environments also read what the
last step derived (positions of bodies, contacts), which lags one substep behind the state and
which `mj_forward` would therefore compute differently. So the whole buffer of an MjData is saved,
bit for bit; contacts are found again from the positions in it. Forces of constraints are not: it
has none until it steps. (A whole MjData for each moment, to be read by `mj_copyData`, would take
two milliseconds and half a megabyte.) A model is compared whole in every save, its textures too:
some ten microseconds for Hopper's half a megabyte, up to a millisecond for PointMaze's eleven.
"""

from __future__ import annotations

import ctypes
import hashlib
from typing import Any
from weakref import WeakKeyDictionary

import mujoco
import numpy as np

from delegate.envs.adapted.kinds import NotRestorable, address

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
BAD = [int(getattr(mujoco.mjtWarning, f"mjWARN_BAD{n}")) for n in ("QPOS", "QVEL", "QACC", "CTRL")]
"""the warnings that a simulation blew up"""
_ANOTHER = "of another model than this row's; reset the row before restoring it"
_UNKNOWN = f"laid out in a way that is not known here (MuJoCo {mujoco.__version__}); use mujoco 4.0"
_models: WeakKeyDictionary[Any, tuple[str, Memory, Memory]] = WeakKeyDictionary()
_buffers: WeakKeyDictionary[Any, Memory] = WeakKeyDictionary()


class Memory:
    """Part of a simulator's memory, live, and what was last read of it."""

    def __init__(self, start: int, size: int) -> None:
        self.live: Any = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(start))
        self.last = self.live.tobytes()

    def read(self) -> bytes:
        """What it holds; snapshots of what has not changed share one copy."""
        if not self.last.startswith(self.live):  # which compares without a copy
            self.last = self.live.tobytes()
        return self.last

    def write(self, saved: bytes) -> None:
        """Put back what was read."""
        if len(saved) != len(self.live):
            raise NotRestorable(_ANOTHER)
        if self.read() != saved:
            self.live[:] = np.frombuffer(saved, np.uint8)
            self.last = saved


def read_data(data: Any) -> dict[str, Any]:
    """All that can change in an MjData. Raises NotRestorable for plugins and bodies that sleep."""
    if data.model.opt.enableflags & mujoco.mjtEnableBit.mjENBL_SLEEP or data.model.nplugin:
        raise NotRestorable(
            "of a MuJoCo model with plugins, or with bodies that sleep: what those keep, and which "
            "bodies do, cannot be put back; use a model without, and the flag `sleep` off"
        )
    physics = np.zeros(mujoco.mj_stateSize(data.model, STATE))
    mujoco.mj_getState(data.model, data, physics, STATE)
    return {
        "model": data.model,
        "physics": physics.tobytes(),
        "derived": _buffer(data, data.qpos).read(),
        "energy": data.energy.tobytes(),
        "warnings": data.warning.number.tobytes(),
    }


def write_data(data: Any, saved: dict[str, Any]) -> None:
    """Put it back."""
    _buffer(data, data.qpos).write(saved["derived"])
    data.energy[:] = np.frombuffer(saved["energy"])
    data.warning.number[:] = np.frombuffer(saved["warnings"], data.warning.number.dtype)
    mujoco.mj_setState(data.model, data, np.frombuffer(saved["physics"]), STATE)
    mujoco.mj_collision(data.model, data)


def read_model(model: Any) -> dict[str, Any]:
    """All that can change in an MjModel: goals, terrains, sizes and looks that are drawn anew."""
    world, settings, arrays = _parts(model)
    return {"world": world, "settings": settings.read(), "arrays": arrays.read()}


def write_model(model: Any, saved: dict[str, Any]) -> None:
    """Put it back."""
    world, settings, arrays = _parts(model)
    if world != saved["world"]:
        raise NotRestorable(_ANOTHER)
    settings.write(saved["settings"])
    arrays.write(saved["arrays"])


def _parts(model: Any) -> tuple[str, Memory, Memory]:
    """Its world; its sizes, `opt`, `vis` and `stat`, which is the last; all its arrays."""
    if model not in _models:
        sizes = {name: getattr(model, name) for name in dir(model) if name[0] == "n"}
        text = repr(sorted((name, n) for name, n in sizes.items() if isinstance(n, int)))
        digest = hashlib.sha256(text.encode() + bytes(model.names)).hexdigest()[:12]
        start, last = model._address, model.stat.center
        end = address(last) + last.nbytes
        ordered = start < address(model.opt.gravity) < address(model.vis.headlight.ambient) < end
        if not ordered or ctypes.c_int.from_address(start).value != model.nq:
            raise NotRestorable(_UNKNOWN)
        world = f"mujoco {mujoco.__version__} model {digest}"
        _models[model] = world, Memory(start, end - start), _buffer(model, model.qpos0)
    return _models[model]


def _buffer(struct: Any, first: np.ndarray) -> Memory:
    """The memory of all arrays of an MjData or MjModel. first: with which it begins"""
    if struct not in _buffers:
        start = address(first)
        every = [getattr(struct, name) for name in dir(struct) if not name.startswith("_")]
        ends = [address(a) + a.nbytes - start for a in every if isinstance(a, np.ndarray)]
        size = max(end for end in ends if end <= struct.nbuffer)
        if not 0 <= struct.nbuffer - size < 64:  # but for what aligns it
            raise NotRestorable(_UNKNOWN)
        _buffers[struct] = Memory(start, size)
    return _buffers[struct]
