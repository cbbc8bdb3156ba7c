"""MuJoCo: the integration state, what the last step left behind, and a model that changes.

The integration state alone decides where the physics goes, but environments also read what the
last step derived (positions of bodies, contacts), which lags one substep behind the state and
which `mj_forward` would therefore compute differently. So the whole buffer of an MjData is saved,
bit for bit; contacts are found again from the positions in it. Forces of constraints are not: it
has none until it steps. (A whole MjData for each moment, to be read by `mj_copyData`, would take
two milliseconds and half a megabyte.)
"""

from __future__ import annotations

import ctypes
import hashlib
from itertools import pairwise
from operator import attrgetter
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import mujoco
import numpy as np

from delegate.envs.adapted.values import NotRestorable, address

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
LARGE = 1 << 16
"""bytes from which on an array of a model (a texture, a mesh) is too slow to read in every save"""
_BAD = [int(getattr(mujoco.mjtWarning, f"mjWARN_BAD{n}")) for n in ("QPOS", "QVEL", "QACC", "CTRL")]
_known: dict[type, tuple[list[str], list[str], Any]] = {}
_buffers: WeakKeyDictionary[Any, list[np.ndarray]] = WeakKeyDictionary()


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
        "derived": _memory(data, data.qpos)[0].tobytes(),
        "energy": data.energy.tobytes(),
        "warnings": data.warning.number.tobytes(),
    }


def write_data(data: Any, saved: dict[str, Any]) -> None:
    """Put it back."""
    derived = _memory(data, data.qpos)[0]
    if len(derived) != len(saved["derived"]):
        raise NotRestorable("of another model than this row's; reset the row before restoring it")
    derived[:] = np.frombuffer(saved["derived"], np.uint8)
    data.energy[:] = np.frombuffer(saved["energy"])
    data.warning.number[:] = np.frombuffer(saved["warnings"], data.warning.number.dtype)
    mujoco.mj_setState(data.model, data, np.frombuffer(saved["physics"]), STATE)
    mujoco.mj_collision(data.model, data)


def blown_up(data: Any) -> int:
    """How often the simulation has blown up so far."""
    return int(data.warning.number[_BAD].sum())


class Model:
    """What was last read of an MjModel, which environments change to draw goals or terrains.

    Its large arrays and looks are read after a reset (`begun`), while `thorough`, and in every
    save where a proof saw them change between resets.
    """

    moving: ClassVar[set[bytes]] = set()
    """names of the models whose large arrays change between resets"""

    def __init__(self) -> None:
        self.begun, self.thorough = True, False
        self.small, self.large = b"", list[bytes]()

    def read(self, model: Any) -> dict[str, Any]:
        """small: all arrays that are not large · numbers: `opt`, `stat` · large: `vis`, others"""
        blocks = _memory(model, model.qpos0)
        if (small := b"".join(block.tobytes() for block in blocks[::2])) != self.small:
            self.small = small  # snapshots of an unchanged model share one copy
        if self.begun or self.thorough or model.names in self.moving:
            now = [_numbers(*_looks(model)), *(block.tobytes() for block in blocks[1::2])]
            if now != self.large and self.thorough and not self.begun:
                self.moving.add(model.names)
            self.large, self.begun = self.large if now == self.large else now, False
        numbers = _numbers(model.opt, model.stat)
        large = {f"large {number}": part for number, part in enumerate(self.large)}
        return {"small": self.small, "numbers": numbers, **large}

    def write(self, model: Any, saved: dict[str, Any]) -> None:
        """Put back what was read."""
        now, blocks = self.read(model), _memory(model, model.qpos0)
        if now["small"] != saved["small"]:
            memory = np.frombuffer(saved["small"], np.uint8)
            ends = np.cumsum([len(block) for block in blocks[::2]])
            for block, part in zip(blocks[::2], np.split(memory, ends[:-1]), strict=True):
                block[:] = part
        if now["numbers"] != saved["numbers"]:
            _put_numbers(saved["numbers"], model.opt, model.stat)
        if (large := [part for name, part in saved.items() if name[:5] == "large"]) != self.large:
            looks, *arrays = self.large = large
            _put_numbers(looks, *_looks(model))
            for block, held in zip(blocks[1::2], arrays, strict=True):
                block[:] = np.frombuffer(held, np.uint8)


_models: WeakKeyDictionary[Any, Model] = WeakKeyDictionary()


def model_of(model: Any) -> Model:
    """What was last read of that model."""
    return _models.setdefault(model, Model())


def world_of(model: Any) -> str:
    """What a snapshot must share with it."""
    sizes = {name: getattr(model, name) for name in dir(model) if name[0] == "n"}
    text = repr(sorted((name, n) for name, n in sizes.items() if isinstance(n, int)))
    digest = hashlib.sha256(text.encode() + bytes(model.names)).hexdigest()
    return f"mujoco {mujoco.__version__} model {digest[:12]}"


def _looks(model: Any) -> list[Any]:
    return [getattr(model.vis, name) for name in dir(model.vis) if name[0].islower()]


def _names(struct: Any) -> tuple[list[str], list[str], Any]:
    """The names of a struct's numbers and of its arrays, and what gets the numbers."""
    if type(struct) not in _known:
        own = {name: getattr(struct, name) for name in dir(struct) if not name.startswith("_")}
        numbers = [name for name, value in own.items() if isinstance(value, int | float)]
        arrays = [name for name, value in own.items() if isinstance(value, np.ndarray)]
        _known[type(struct)] = numbers, arrays, attrgetter(*numbers) if numbers else list
    return _known[type(struct)]


def _numbers(*structs: Any) -> bytes:
    """Numbers and small arrays of structs."""
    parts = []
    for struct in structs:
        numbers, arrays, get = _names(struct)
        parts.append(np.array(get(struct) if numbers else (), np.float64).tobytes())
        parts += [getattr(struct, name).tobytes() for name in arrays]
    return b"".join(parts)


def _put_numbers(saved: bytes, *structs: Any) -> None:
    for struct in structs:
        numbers, arrays, _ = _names(struct)
        for name, number in zip(numbers, np.frombuffer(saved, count=len(numbers)), strict=True):
            setattr(struct, name, type(getattr(struct, name))(number))
        saved = saved[8 * len(numbers) :]
        for name in arrays:
            now = getattr(struct, name)
            now[...] = np.frombuffer(saved, now.dtype, now.size).reshape(now.shape)
            saved = saved[now.nbytes :]


def _memory(struct: Any, first: np.ndarray) -> list[np.ndarray]:
    """A struct's buffer: what comes before its first large array, that, what follows, and so on.

    first: with which array it begins · returns uint8 [n] each, live
    """
    if struct not in _buffers:
        low = address(first)
        every = [getattr(struct, name) for name in dir(struct) if not name.startswith("_")]
        arrays = [(address(a) - low, a.nbytes) for a in every if isinstance(a, np.ndarray)]
        inside = sorted((start, n) for start, n in arrays if n and 0 <= start < struct.nbuffer)
        end = sum(inside[-1])
        if not 0 <= struct.nbuffer - end < 64:  # but for what aligns it
            raise NotRestorable(
                f"laid out in a way that is not known here (MuJoCo {mujoco.__version__}); "
                "use mujoco 4.0"
            )
        large = inside if isinstance(struct, mujoco.MjModel) else []
        cuts = [cut for start, n in large if n > LARGE for cut in (start, start + n)]
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * end).from_address(low))
        _buffers[struct] = [memory[start:stop] for start, stop in pairwise([0, *cuts, end])]
    return _buffers[struct]
