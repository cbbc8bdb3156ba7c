"""Actions and observations of a batch: checked, widened for backtracking, taken apart.

Batches of observations are arrays [B, ...], or dicts or tuples of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

Parts = Mapping[str, Any]
"""observation (batch), flag, depth, held, budget: int64 [n]; action: int64 [n] or float [n, d];
origin (batch). depth 0 and a discrete action 0 mean none; otherwise they count from 1."""


ROUNDING = 1e-6
"""what is outside a bound by this share of the larger of the two, is so by rounding: a few units
in the last place of float32, in which learners scale their actions from [-1, 1]"""


class ActionCheck:
    """Checks what is given to `step` against the action space of one row.

    check = ActionCheck(space, rows, "Hopper-v5")
    actions = check(actions)             # [rows, ...]; floats keep their type

    space: Box, Discrete, MultiDiscrete or MultiBinary · name: of the environment, for messages
    Floats for integers are refused, whole ones too; so is what is not finite. An action that is
    outside a float Box by rounding is clipped into it, as Stable-Baselines3 clips; what is
    further outside is refused.
    Raises ValueError naming the environment, the row, and what would be taken.
    """

    def __init__(self, space: gymnasium.Space[Any], rows: int, name: str) -> None:
        if not isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary):
            raise TypeError(f"{name}: actions {space} are not numbers; check them one by one")
        assert space.shape is not None
        assert space.dtype is not None
        self.name, self.rows, self.one = name, np.arange(rows), space.shape
        self._floats = space.dtype.kind == "f"
        self._kinds = "fiu" if self._floats else "iub" if isinstance(space, MultiBinary) else "iu"
        self._low, self._high = _bounds(space)
        self._bounded = bool(np.isfinite(self._low).all() and np.isfinite(self._high).all())

    def __call__(self, actions: Any, rows: np.ndarray | None = None) -> np.ndarray:
        """rows: int [n] whose actions these are, for messages; all of them where left out"""
        rows = self.rows if rows is None else rows
        shape = (len(rows), *self.one)
        try:
            given = np.asarray(actions)
        except ValueError:  # ragged
            raise ValueError(
                f"{self.name}: actions differ in length; give {shape}, one a row"
            ) from None
        if given.shape != shape:
            raise ValueError(
                f"{self.name}: actions have shape {given.shape}; give {shape}, one a row"
            )
        if given.dtype.kind not in self._kinds:
            wanted = "floats" if self._floats else "integers"
            raise ValueError(
                f"{self.name}: actions are {given.dtype}; give {wanted}, {self._range()}"
            )
        if self._floats and given.dtype.kind != "f":
            given = given.astype(np.float64)
        inside = self._inside(given)
        if np.count_nonzero(inside) < inside.size:
            if self._floats:
                given = clip_rounding(given, self._low, self._high)
                inside = self._inside(given)
            if not inside.all():
                self._refuse(given, inside, rows)
        return given

    def fits(self, actions: np.ndarray) -> np.ndarray:
        """Which rows' actions would be taken: bool [n]. actions: numbers [n, ...] of that shape

        Raises ValueError for another shape or type, as a call does.
        """
        if actions.shape[1:] != self.one or actions.dtype.kind not in self._kinds:
            self(actions, np.arange(len(actions)))
        near = clip_rounding(actions, self._low, self._high) if self._floats else actions
        return np.asarray(self._inside(near).reshape(len(actions), -1).all(axis=1))

    def _inside(self, given: np.ndarray) -> np.ndarray:
        inside = given >= self._low
        inside &= given <= self._high
        return inside if self._bounded else inside & np.isfinite(given)

    def _refuse(self, given: np.ndarray, inside: np.ndarray, rows: np.ndarray) -> NoReturn:
        """Name the first number that is outside. inside: bool [n, ...] · rows: int [n]"""
        row, *place = (int(index) for index in np.argwhere(~inside)[0])
        low, high = (
            np.broadcast_to(bound, given.shape)[(row, *place)] for bound in (self._low, self._high)
        )
        value, at = given[(row, *place)], f"[{', '.join(map(str, place))}]" if place else ""
        remedy = "" if np.isfinite(value) else "; look for NaN in the policy"
        raise ValueError(
            f"{self.name}: row {rows[row]}: action{at} is {value}; give {low} to {high}{remedy}"
        )

    def _range(self) -> str:
        low, high = np.min(self._low), np.max(self._high)
        return f"{low} to {high}"


def clip_rounding(actions: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Actions [rows, ...] that are outside by rounding, on the bound; all others as they are.

    low, high: of one row; actions of another shape are left alone too
    """
    if actions.shape[1:] != low.shape:
        return actions
    if ((actions >= low) & (actions <= high)).all():
        return actions
    clipped = np.clip(actions, low, high)
    sizes = [np.where(np.isfinite(bound), np.abs(bound), 0.0) for bound in (low, high)]
    with np.errstate(invalid="ignore"):  # what is not finite compares as False
        near = np.abs(actions - clipped) <= ROUNDING * np.maximum(*sizes)
    return np.where(near, clipped, actions)


def _bounds(space: Any) -> tuple[Any, Any]:
    """The least and the greatest of each number of an action."""
    if isinstance(space, Box):
        return space.low, space.high
    if isinstance(space, MultiBinary):
        return 0, 1
    count = space.n if isinstance(space, Discrete) else space.nvec
    return space.start, space.start + count - 1


class DiscreteActions:
    """Discrete(n) becomes Discrete(n + k): the last k actions go back `depths[j]` steps.

    space: one row's widened action space
    idle:  a valid action of the world, for rows that do not step; shape [...] of one action
    name: of the environment, for messages
    """

    def __init__(self, world: Discrete, depths: int, rows: int, name: str) -> None:
        self._first = int(world.start) + int(world.n)
        self.space = Discrete(int(world.n) + depths, start=int(world.start))
        self.idle = np.asarray(world.start, np.int64)
        self._check = ActionCheck(self.space, rows, name)

    def split(self, actions: Any) -> tuple[np.ndarray, np.ndarray]:
        """The world's own actions [B, ...], a copy, and which depth is asked for, int64 [B].

        A negative depth means none; where one is asked for, the world's action means nothing.
        Raises ValueError naming the row whose action is not in the space.
        """
        actions = self._check(actions).astype(np.int64)
        return actions, actions - self._first


class BoxActions:
    """Box(d) becomes Box(d + 1): the last coordinate, in [-1, 1], goes back above a threshold.

    With k depths, threshold to 1 is cut into k equal bands, the shallowest depth lowest.
    space, idle, name, split: as of DiscreteActions
    """

    def __init__(self, world: Box, depths: int, threshold: float, rows: int, name: str) -> None:
        self._depths, self._threshold = depths, threshold
        low, high = np.append(world.low, -1), np.append(world.high, 1)
        self.space = Box(low.astype(world.dtype), high.astype(world.dtype), dtype=world.dtype.type)
        self.idle = np.clip(np.zeros_like(world.low), world.low, world.high)
        self._check = ActionCheck(self.space, rows, name)

    def split(self, actions: Any) -> tuple[np.ndarray, np.ndarray]:
        actions = self._check(actions).astype(self.space.dtype)
        last, choice = actions[:, -1].astype(np.float64), np.full(len(actions), -1)
        asked = (last > self._threshold).nonzero()[0]
        if asked.size:
            above = (last[asked] - self._threshold) / (1 - self._threshold)
            choice[asked] = np.minimum(np.floor(above * self._depths), self._depths - 1)
        return actions[:, :-1].copy(), choice


def widen(
    world: gymnasium.Space, depths: int, threshold: float, rows: int, name: str
) -> DiscreteActions | BoxActions:
    """The widened space of a world's actions. Raises TypeError for one that cannot be widened."""
    if isinstance(world, Discrete):
        return DiscreteActions(world, depths, rows, name)
    if isinstance(world, Box) and len(world.shape) == 1 and world.dtype.kind == "f":
        return BoxActions(world, depths, threshold, rows, name)
    raise TypeError(
        f"actions {world} cannot be widened; backtracking needs Discrete or a 1-D float Box"
    )


class PlainObservation:
    """The world's observation alone: nothing of a backtrack is shown.

    space: one row's observation space
    """

    def __init__(self, world: gymnasium.Space) -> None:
        self.space = world

    def encode(self, parts: Parts) -> Any:
        """A batch of observations from their parts."""
        return parts["observation"]

    def decode(self, observation: Any) -> dict[str, Any]:
        """The parts of a batch of observations."""
        return {"observation": observation}


class IntegerObservation:
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
        weight, code = 1, np.zeros(len(parts["observation"]), np.int64)
        for name, (radix, start) in self._digits.items():
            digit = np.asarray(parts[name], np.int64)
            if np.count_nonzero(digit) or start:
                code += weight * (digit - start if start else digit)
            weight *= radix
        return code

    def decode(self, observation: Any) -> dict[str, Any]:
        rest = np.asarray(observation, np.int64)
        parts = {}
        for name, (radix, start) in self._digits.items():
            rest, digit = np.divmod(rest, radix)
            parts[name] = digit + start
        return parts


class FlatObservation:
    """One vector for networks: the world's vector, then each part in the order of `observe`.

    depth and a discrete action are one-hot (all zero for none), budget is the fraction left.
    """

    def __init__(self, world: Box, parts: Mapping[str, gymnasium.Space], budget: int) -> None:
        self._spaces: dict[str, gymnasium.Space] = {"observation": world, **parts}
        self._budget = max(budget, 1)
        low, high, self._slices, start = [], [], {}, 0
        for name, space in self._spaces.items():
            if isinstance(space, Box):
                bounds = space.low, space.high
            else:
                assert isinstance(space, Discrete)
                width = int(space.n) - 1 if name in ("depth", "action") else 1
                bounds = np.zeros(width), np.ones(width)
            low.append(bounds[0])
            high.append(bounds[1])
            self._slices[name] = slice(start, start := start + len(bounds[0]))
        self.space = Box(
            np.concatenate(low).astype(world.dtype),
            np.concatenate(high).astype(world.dtype),
            dtype=world.dtype.type,
        )

    def encode(self, parts: Parts) -> np.ndarray:
        flat = np.zeros((len(parts["observation"]), *self.space.shape), self.space.dtype)
        for name, space in self._spaces.items():
            value, columns = np.asarray(parts[name]), self._slices[name]
            if isinstance(space, Box):
                flat[:, columns] = value
            elif name == "budget":
                flat[:, columns.start] = value / self._budget
            elif not np.count_nonzero(value):
                continue
            elif name in ("depth", "action"):
                rows = value.nonzero()[0]
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


class DictObservation:
    """A dict for everything else: the world's observation under "observation", and each part."""

    def __init__(self, world: gymnasium.Space, parts: Mapping[str, gymnasium.Space]) -> None:
        self.space = Dict({"observation": world, **parts})

    def encode(self, parts: Parts) -> dict[str, Any]:
        return {name: parts[name] for name in self.space.spaces}

    def decode(self, observation: Any) -> dict[str, Any]:
        return dict(observation)


BacktrackObservation = PlainObservation | IntegerObservation | FlatObservation | DictObservation


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
    every: dict[str, gymnasium.Space] = {
        "flag": Discrete(2),
        "depth": Discrete(depths + 1),
        "action": Discrete(int(action.n) + 1) if isinstance(action, Discrete) else action,
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
    """A copy of a batch that shares nothing with it, down to lists in object arrays."""
    return _each(_copied, batch)


def take(batch: Any, rows: np.ndarray | np.integer | int) -> Any:
    """Those rows of a batch, copied. rows: int [n], or one int for a single observation"""
    return _each(lambda array: _taken(array, rows), batch)


def put(batch: Any, rows: np.ndarray, values: Any) -> None:
    """Write those rows of a batch in place. rows: int [n], values: a batch of n"""
    _each(lambda array, value: array.__setitem__(rows, value), batch, values)


def leaves(batch: Any, name: str) -> dict[str, np.ndarray]:
    """The live arrays of a batch, by path."""
    if isinstance(batch, np.ndarray):
        return {name: batch}
    parts = batch.items() if isinstance(batch, dict) else enumerate(batch)
    return {
        path: array for key, part in parts for path, array in leaves(part, f"{name}/{key}").items()
    }


def _each(function: Callable[..., Any], batch: Any, *others: Any) -> Any:
    """`function` of every array of a batch and of those in its place in others of its structure."""
    if isinstance(batch, dict):
        return {
            name: _each(function, part, *(other[name] for other in others))
            for name, part in batch.items()
        }
    if isinstance(batch, tuple):
        return tuple(_each(function, *parts) for parts in zip(batch, *others, strict=True))
    return function(batch, *others)


def _taken(array: np.ndarray, rows: Any) -> Any:
    if array.dtype.hasobject or np.ndim(rows) == 0:
        return _copied(array[rows])
    return array[rows]  # which is a copy already


def _copied(value: Any) -> Any:
    plain = isinstance(value, np.ndarray) and not value.dtype.hasobject
    return value.copy() if plain else copy.deepcopy(value)
