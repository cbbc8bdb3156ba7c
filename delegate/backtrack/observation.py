"""What a backtracking agent sees: the world's observation and what was undone.

Observations are batches of one kind: an array [B, ...], or a dict or tuple of them.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

Parts = Mapping[str, Any]
"""observation (batch), flag, depth, held, budget: int64 [n]; action: int64 [n] or float [n, d];
origin (batch). depth 0 and a discrete action 0 mean none; otherwise they count from 1.
flag, depth and held may be None for zero in every row."""


class BacktrackObservation(ABC):
    """How the parts become one observation.

    space: one row's observation space
    """

    space: gymnasium.Space

    @abstractmethod
    def encode(self, parts: Parts) -> Any:
        """A batch of observations from their parts."""

    @abstractmethod
    def decode(self, observation: Any) -> dict[str, Any]:
        """The parts of a batch of observations."""


class PlainObservation(BacktrackObservation):
    """The world's observation alone: nothing of a backtrack is shown."""

    def __init__(self, world: gymnasium.Space) -> None:
        self.space = world

    def encode(self, parts: Parts) -> Any:
        return parts["observation"]

    def decode(self, observation: Any) -> dict[str, Any]:
        return {"observation": observation}


class IntegerObservation(BacktrackObservation):
    """One integer for tables, in mixed radix: the world's own integer is the lowest digit.

    Raises ValueError when the parts make more integers than fit 62 bits.
    """

    def __init__(self, world: Discrete, parts: Mapping[str, Discrete]) -> None:
        self._digits = {
            name: (int(space.n), int(space.start))
            for name, space in {"observation": world, **parts}.items()
        }
        size = math.prod(radix for radix, _ in self._digits.values())
        if size >= 2**62:
            raise ValueError(
                f"{' x '.join(str(radix) for radix, _ in self._digits.values())} integers are "
                "too many for one observation; observe fewer parts or lower budget"
            )
        self.space = Discrete(size)

    def encode(self, parts: Parts) -> np.ndarray:
        place = 1
        code = np.zeros(len(parts["observation"]), np.int64)
        for name, (radix, start) in self._digits.items():
            if parts[name] is not None:
                code += place * (np.asarray(parts[name], np.int64) - start)
            place *= radix
        return code

    def decode(self, observation: Any) -> dict[str, Any]:
        rest = np.asarray(observation, np.int64)
        parts = {}
        for name, (radix, start) in self._digits.items():
            rest, digit = np.divmod(rest, radix)
            parts[name] = digit + start
        return parts


class FlatObservation(BacktrackObservation):
    """One vector for networks: the world's vector, then each part in the order of `observe`.

    depth and a discrete action are one-hot (all zero for none), budget is the fraction left.
    """

    def __init__(self, world: Box, parts: Mapping[str, gymnasium.Space], budget: int) -> None:
        self._spaces: dict[str, gymnasium.Space] = {"observation": world, **parts}
        self._budget = max(budget, 1)
        self._dtype = world.dtype
        low, high, self._slices, start = [], [], {}, 0
        for name, space in self._spaces.items():
            if isinstance(space, Box):
                low.append(space.low)
                high.append(space.high)
            else:
                low.append(np.zeros(self._width(name)))
                high.append(np.ones(self._width(name)))
            self._slices[name] = slice(start, start := start + len(low[-1]))
        self.space = Box(
            np.concatenate(low).astype(self._dtype),
            np.concatenate(high).astype(self._dtype),
            dtype=self._dtype.type,
        )

    def encode(self, parts: Parts) -> np.ndarray:
        flat = np.zeros((len(parts["observation"]), *self.space.shape), self._dtype)  # type: ignore[misc]
        for name, space in self._spaces.items():
            if parts[name] is None:
                continue
            value, columns = np.asarray(parts[name]), self._slices[name]
            if isinstance(space, Box):
                flat[:, columns] = value
            elif name == "budget":
                flat[:, columns.start] = value / self._budget
            elif np.count_nonzero(value) == 0:
                continue
            elif name in ("depth", "action"):
                rows = np.flatnonzero(value)
                flat[rows, columns.start - 1 + value[rows]] = 1
            else:
                flat[:, columns.start] = value
        return flat

    def decode(self, observation: Any) -> dict[str, Any]:
        flat = np.asarray(observation)
        parts: dict[str, Any] = {}
        for name, space in self._spaces.items():
            columns = flat[:, self._slices[name]]
            if isinstance(space, Box):
                parts[name] = columns.copy()
            elif name == "budget":
                parts[name] = np.rint(columns[:, 0] * self._budget).astype(np.int64)
            elif name in ("depth", "action"):
                parts[name] = np.where(columns.any(1), columns.argmax(1) + 1, 0)
            else:
                parts[name] = columns[:, 0].astype(np.int64)
        return parts

    def _width(self, name: str) -> int:
        space = self._spaces[name]
        assert isinstance(space, Discrete)
        return int(space.n) - 1 if name in ("depth", "action") else 1


class DictObservation(BacktrackObservation):
    """A dict for everything else: the world's observation under "observation", and each part."""

    def __init__(self, world: gymnasium.Space, parts: Mapping[str, gymnasium.Space]) -> None:
        self.space = Dict({"observation": world, **parts})

    def encode(self, parts: Parts) -> dict[str, Any]:
        assert isinstance(self.space, Dict)
        shown: dict[str, Any] = {"observation": parts["observation"]}
        rows = len(parts["budget"])
        for name in self.space.spaces:
            if name != "observation":
                part = parts[name]
                shown[name] = np.zeros(rows, np.int64) if part is None else copied(part)
        return shown

    def decode(self, observation: Any) -> dict[str, Any]:
        return dict(observation)


def observation_of(
    world: gymnasium.Space,
    action: gymnasium.Space,
    observe: Sequence[str],
    depths: int,
    budget: int,
) -> BacktrackObservation:
    """How a world's observation and the chosen parts are shown.

    world, action: one row's own spaces · observe: names of parts · depths: how many there are
    Discrete worlds give one integer, 1-D float Boxes one vector, all others a dict (also
    Discrete ones with continuous actions, when `action` is shown).
    """
    if not observe:
        return PlainObservation(world)
    undone = Discrete(int(action.n) + 1) if isinstance(action, Discrete) else action
    every: dict[str, gymnasium.Space] = {
        "flag": Discrete(2),
        "depth": Discrete(depths + 1),
        "action": undone,
        "origin": world,
        "budget": Discrete(budget + 1),
        "held": Discrete(2),
    }
    parts = {name: every[name] for name in observe}
    integers = {name: space for name, space in parts.items() if isinstance(space, Discrete)}
    if isinstance(world, Discrete) and len(integers) == len(parts):
        return IntegerObservation(world, integers)
    if isinstance(world, Box) and len(world.shape) == 1 and world.dtype.kind == "f":
        return FlatObservation(world, parts, budget)
    return DictObservation(world, parts)


def empty(space: gymnasium.Space[Any], rows: int) -> Any:
    """A batch of observations to write into: arrays [rows, ...] in dicts and tuples like the space.

    What is no array (texts, graphs, sequences) goes into an object array [rows].
    """
    if isinstance(space, Dict):
        return {name: empty(part, rows) for name, part in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(empty(part, rows) for part in space.spaces)
    if isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary):
        return np.zeros((rows, *(space.shape or ())), space.dtype)
    return np.full(rows, None)


def copied(batch: Any) -> Any:
    """A copy of a batch that shares nothing with it."""
    if isinstance(batch, dict):
        return {name: copied(value) for name, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(copied(value) for value in batch)
    return np.array(batch)


def put(batch: Any, rows: np.ndarray, values: Any) -> None:
    """Write those rows of a batch in place. rows: int [n], values: a batch of n"""
    if isinstance(batch, dict):
        for name, value in batch.items():
            put(value, rows, values[name])
    elif isinstance(batch, tuple):
        for part, value in zip(batch, values, strict=True):
            put(part, rows, value)
    else:
        batch[rows] = values


def take(batch: Any, rows: np.ndarray | np.integer | int) -> Any:
    """Those rows of a batch, copied. rows: int [n], or one int for a single observation"""
    if isinstance(batch, dict):
        return {name: take(value, rows) for name, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(take(value, rows) for value in batch)
    return copy.copy(batch[rows])  # texts in object arrays have no copy() of their own


def leaves(batch: Any, name: str) -> dict[str, np.ndarray]:
    """The live arrays of a batch, by path."""
    if isinstance(batch, dict):
        return {
            path: array
            for key, value in batch.items()
            for path, array in leaves(value, f"{name}/{key}").items()
        }
    if isinstance(batch, tuple):
        return {
            path: array
            for place, value in enumerate(batch)
            for path, array in leaves(value, f"{name}/{place}").items()
        }
    return {name: batch}
