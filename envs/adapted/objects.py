"""The Python side of one row: read all attributes that can change, write them back in place."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np

from delegate.backtrack.state import RandomStateMode
from delegate.envs.adapted import streams
from delegate.envs.adapted.constants import constant_names
from delegate.envs.adapted.equality import difference
from delegate.envs.adapted.graph import Anchor, Copier, Path, is_display, readable
from delegate.envs.adapted.kinds import Kind, kind_of
from delegate.envs.adapted.refusal import NotRestorable

EngineIndex = Callable[[Any, Path], int]
"""the number of a simulator, found at that path, among those of its row; KeyError if unknown"""

_MISSING = object()


@dataclass(frozen=True, eq=False, repr=False)
class SavedObjects:
    """What the environment, its wrappers and the environments inside it held.

    environments: where each was -> its type and its attributes, anchors in place of what stays
    Equal to another when both hold the same, value for value.
    """

    environments: Mapping[Path, tuple[type, dict[str, Any]]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SavedObjects) and self.difference(other) is None

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<attributes of {len(self.environments)} environments and wrappers>"

    def difference(self, other: SavedObjects) -> str | None:
        """The first attribute that is not equal, in words; None when all are."""
        return difference(self.environments, other.environments)


@dataclass(frozen=True, eq=False, repr=False)
class SavedStreams:
    """The state of every random generator, by where it was. Equal when all states are."""

    states: Mapping[Path, Any] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SavedStreams) and difference(self.states, other.states) is None

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<states of {len(self.states)} random generators>"


class Saver(Copier):
    """Reads one row. engine_index: see EngineIndex · constant: attributes never to be saved"""

    def __init__(self, engine_index: EngineIndex, constant: Collection[str] = ()) -> None:
        super().__init__()
        self.environments: dict[Path, tuple[type, dict[str, Any]]] = {}
        self.states: dict[Path, Any] = {}
        self.classes: set[type] = set()
        self.spaces: list[gymnasium.Space[Any]] = []
        self._engine_index = engine_index
        self._constant = frozenset(constant)

    def save(self, env: gymnasium.Env[Any, Any]) -> tuple[SavedObjects, SavedStreams]:
        """All that can change in the attributes of `env` and of what it leads to."""
        try:
            self.copy(env)
        except RecursionError:
            raise self.refuse("nested too deep to be copied; keep it out of the environment") from (
                None
            )
        return SavedObjects(self.environments), SavedStreams(self.states)

    def stays(self, value: Any) -> Any:
        kind, path = kind_of(type(value)), tuple(self.path)
        if kind is Kind.ENGINE:
            try:
                return Anchor(kind, (("engine", self._engine_index(value, path)),), None)
            except KeyError:
                raise self.refuse(
                    f"a new {type(value).__name__} since the environment was adapted; only the "
                    "simulators it had then can be restored"
                ) from None
        keeps = kind in (Kind.STREAM, Kind.SPACE, Kind.POINTER)
        anchor = Anchor(kind, path, value if keeps else None)
        self.memo[id(value)] = anchor
        if kind is Kind.ENV:
            cls = type(value)
            self.classes.add(cls)
            held = constant_names(cls) | self._constant
            own = {name: item for name, item in vars(value).items() if name not in held}
            self.environments[path] = (cls, {})
            self.environments[path][1].update(self.attributes(own))
        elif kind is Kind.STREAM:
            self.states[path] = streams.read(value)
        elif kind is Kind.SPACE:
            self._space_streams(value, path)
        return anchor

    def foreign(self, array: np.ndarray) -> Any:
        """A view of a simulator's memory stays: the simulator's codec restores what it shows."""
        if array.flags.writeable and type(array.base).__name__ == "PyCapsule":
            return Anchor(Kind.POINTER, tuple(self.path), None)
        return super().foreign(array)

    def _plain(self, value: Any) -> Any:
        self.classes.add(type(value))
        return super()._plain(value)

    def _space_streams(self, space: gymnasium.Space[Any], path: Path) -> None:
        self.spaces.append(space)
        if (own := getattr(space, "_np_random", None)) is not None:
            self.states[(*path, ("attribute", "_np_random"))] = streams.read(own)
        inner = getattr(space, "spaces", ())
        pairs = inner.items() if isinstance(inner, Mapping) else enumerate(inner)
        for key, part in pairs:
            self._space_streams(part, (*path, ("attribute", "spaces"), ("item", key)))


class Restorer(Copier):
    """Writes one row. engines: the row's simulators in order"""

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        engines: list[Any],
        states: SavedStreams,
        rng: RandomStateMode = "rewind",
        constant: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.env, self.engines, self.rng = env, engines, rng
        self._states = states.states
        self._constant = frozenset(constant)
        self._rewind: list[tuple[Any, Any]] = []

    def restore(self, saved: SavedObjects) -> None:
        """Give every environment its attributes back; nothing is changed if one cannot be."""
        contents = [
            (self._environment(path, cls), self.attributes(own))
            for path, (cls, own) in saved.environments.items()
        ]
        if self.rng == "rewind":
            self._find_space_streams()
        for env, own in contents:
            held = constant_names(type(env)) | self._constant
            for name, now in vars(env).items():
                if name in held or (now is not None and own.get(name) is None and is_display(now)):
                    own[name] = now
            vars(env).clear()
            vars(env).update(own)
        for stream, state in self._rewind:
            streams.write(stream, state)

    def anchored(self, anchor: Anchor) -> Any:
        if id(anchor) not in self.memo:
            self.memo[id(anchor)] = self._resolve(anchor)
        return self.memo[id(anchor)]

    def _resolve(self, anchor: Anchor) -> Any:
        if anchor.kind is Kind.ENGINE:
            return self.engines[anchor.path[0][1]]
        if anchor.kind is Kind.ENV:
            return self._environment(anchor.path, None)
        now = find(self.env, anchor.path)
        if anchor.kind is Kind.STREAM:
            return self._stream(anchor, now)
        if anchor.kind is Kind.SPACE:
            same = now is anchor.original or now == anchor.original
            return now if same else copy.deepcopy(anchor.original)
        if anchor.kind is Kind.DISPLAY:
            return now if now is not _MISSING and is_display(now) else None
        if now is _MISSING:
            raise NotRestorable(
                f"{readable(anchor.path)} looks into memory that this row does not have; "
                "reset the row before restoring into it"
            )
        return now

    def _environment(self, path: Path, cls: type | None) -> Any:
        env = find(self.env, path)
        if env is _MISSING or (cls is not None and type(env) is not cls):
            raise NotRestorable(
                f"{readable(path)} is not the {cls.__name__ if cls else 'environment'} it was; "
                "environments that are replaced while they run cannot be restored"
            )
        return env

    def _stream(self, anchor: Anchor, now: Any) -> Any:
        state = self._states.get(anchor.path)
        if state is None:  # saved elsewhere without it: the one there is goes on
            return copy.deepcopy(anchor.original) if now is _MISSING else now
        if type(now) is not type(anchor.original) or not streams.fits(now, state):
            return streams.like(anchor.original, state)
        if self.rng == "rewind":
            self._rewind.append((now, state))
        return now

    def _find_space_streams(self) -> None:
        for path, state in self._states.items():
            if path[-1] == ("attribute", "_np_random") and len(path) > 1:
                space = find(self.env, path[:-1])
                if isinstance(space, gymnasium.Space):
                    if getattr(space, "_np_random", None) is None:
                        space._np_random = np.random.default_rng(0)
                    self._rewind.append((space._np_random, state))


def find(env: Any, path: Path) -> Any:
    """What lies at that path now, `_MISSING` if nothing does."""
    value = env
    for step, key in path:
        try:
            if step == "attribute":
                value = vars(value)[key] if hasattr(value, "__dict__") else getattr(value, key)
            elif step == "item":
                value = value[key]
            elif step == "cell":
                value = value.__closure__[key]
            elif step == "cell_contents":
                value = value.cell_contents
            elif step == "self":
                value = value.__self__
            else:
                return _MISSING
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            return _MISSING
    return value
