"""The objects that an environment leads to: what they hold now, put back later, compared.

Every object keeps its identity: a snapshot saves what each of them holds, and a restore writes
that back into the same objects. In another row it writes into the objects at the same places,
and makes new ones where there are none.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator
from operator import is_
from typing import Any

import numpy as np
from gymnasium import Env

import delegate.envs.adapted.kinds as kinds
from delegate.envs.adapted.kinds import ATOMIC, CHANGING, RANDOM, NotRestorable, kind_of

MISSING, SHOWN, NONE = object(), object(), frozenset[str]()
MOST = 5_000
"""objects that a lenient graph holds"""


class Graph:
    """What `root` and everything it leads to holds now; later changes do not reach it.

    constant: attributes of environments that are not read
    lenient: to be compared alone: passes over what cannot be saved · apart: and over such types
    nodes: (object, number of its parent, key there) each · held: its kind and what it held
    states: (number, random state) of each generator · places: id of an object -> its number
    Raises NotRestorable naming the place of what cannot be saved.
    """

    def __init__(
        self, root: Any, constant: Collection[str] = (), lenient: bool = False, apart: Any = ()
    ) -> None:
        self.root, self.constant = root, frozenset(constant)
        nodes: list[tuple[Any, int, Any]] = [(root, -1, None)]
        places = {id(root): 0}
        self.nodes, self.places = nodes, places
        self.held: list[tuple[str, Any]] = []
        self.states: list[tuple[int, Any]] = []
        self.copied: list[int] = []
        for place, (value, _, _) in enumerate(nodes):
            kind = kind_of(value)
            try:
                if lenient and (place >= MOST or (place and isinstance(value, apart))):
                    raise NotRestorable("passed over")
                data = kinds.read(kind, value, self.kept(value) if kind == "object" else NONE)
                if kind in RANDOM:
                    self.states.append((place, kinds.random_state(value)))
            except NotRestorable as error:
                if not lenient:
                    raise self.refuse(place, str(error)) from None
                kind, data = "copied", None
            if kind == "copied" and not lenient:
                self.copied.append(place)
            self.held.append((kind, data))
            for key, part in _parts(data):
                if type(part) not in ATOMIC and id(part) not in places:
                    places[id(part)] = len(nodes)
                    nodes.append((part, place, key))
        if self.copied:
            memo = {id(value): value for value, _, _ in self.nodes}
            for place in self.copied:
                del memo[id(self.nodes[place][0])]
            for place in self.copied:
                self.held[place] = "copied", self._copy(place, memo)

    def _copy(self, place: int, memo: dict[int, Any]) -> Any:
        value = self.nodes[place][0]
        try:
            return copy.deepcopy(value, memo)
        except Exception as error:
            raise self.refuse(
                place,
                f"a {type(value).__module__}.{type(value).__qualname__}, which cannot be copied "
                f"({error}); give the class that holds it a __deepcopy__ that copies its state, or "
                "keep it out of the environment",
            ) from error

    def kept(self, value: Any) -> frozenset[str]:
        """The attributes of an environment that are left as they are."""
        if not isinstance(value, Env):
            return NONE
        return kinds.held_names(type(value)) | self.constant

    def restore(self, root: Any, states: Graph | None = None) -> None:
        """Be in `root` what was saved; states: where the random states are from.

        Without them, and where that has other generators, each goes on from where it is.
        Raises NotRestorable naming the place of what cannot be put back; `root` is torn then.
        """
        targets, place = _Targets(self, root), 0
        try:
            # what is hashed before what hashes it, and models before the contacts that they make
            late = [place for place, (kind, _) in enumerate(self.held) if kind == "data"]
            for place in [*(n for n in range(len(self.nodes) - 1, -1, -1) if n not in late), *late]:
                kind, data = self.held[place]
                if kind in CHANGING:
                    value = targets.of(self.nodes[place][0])
                    if not (targets.plain and _unchanged(kind, value, data)):
                        kinds.write(kind, value, targets.resolved(data), self.kept(value))
            if states is not None and len(states.states) == len(self.states):
                for (place, _), (_, state) in zip(self.states, states.states, strict=True):
                    kinds.put_random_state(targets.of(self.nodes[place][0]), state)
        except NotRestorable as error:
            raise error if error.field else self.refuse(place, str(error)) from None

    @property
    def random(self) -> list[Any]:
        """The random states of all generators, in order."""
        return [state for _, state in self.states]

    def name(self, place: int) -> str:
        """The way from the root to an object, as one would write it in Python."""
        _, parent, key = self.nodes[place]
        return "" if parent < 0 else self.name(parent) + _word(self.held[parent][0], key)

    def refuse(self, place: int, why: str) -> NotRestorable:
        """The error for what lies at that place."""
        return NotRestorable(f"env{self.name(place)} is {why}", f"env{self.name(place)}")

    def flat(self) -> dict[str, Any]:
        """All that is held, by the way to it, but random states and what is only copied."""
        names, found = [""], dict[str, Any]()
        for _, parent, key in self.nodes[1:]:
            names.append(names[parent] + _word(self.held[parent][0], key))
        for place, (kind, data) in enumerate(self.held):
            name, cls = names[place], type(self.nodes[place][0])
            known = kind in ("stream", "pointer", "shown", "copied", "dict") or type(data) is dict
            found[name] = cls if known else (cls, len(data)) if type(data) is list else data
            for key, part in _parts(data):
                child = None if type(part) in ATOMIC else self.places[id(part)]
                if child is None:
                    found[name + _word(kind, key)] = part
                elif kinds.is_shown(part):
                    found[names[child]] = SHOWN
                elif self.nodes[child][1:] != (place, key):
                    found[name + _word(kind, key)] = f"the object at {names[child] or 'the root'}"
        return found


class _Targets:
    """What stands in a restored row for each object of a graph."""

    def __init__(self, graph: Graph, root: Any) -> None:
        self.graph, self.own = graph, root is graph.root
        self.plain = self.own and not graph.copied
        self.known, self.memo = dict[int, Any](), dict[int, Any]()
        self.present: dict[int, Any] = {0: root}
        if not self.own:
            self._look()

    def _look(self) -> None:
        """Find what is at the same places now, each once, of the same type."""
        claimed, inside = {id(self.present[0])}, dict[int, dict[Any, Any]]()
        for place, (value, parent, key) in enumerate(self.graph.nodes):
            if parent in self.present:
                if parent not in inside:
                    data = kinds.read(self.graph.held[parent][0], self.present[parent])
                    inside[parent] = dict(_parts(data))
                now = inside[parent].get(key, MISSING)
                alike = type(now) is type(value) and id(now) not in claimed
                if alike and isinstance(value, np.ndarray):
                    alike = (now.dtype, now.shape) == (value.dtype, value.shape)
                if alike:
                    self.present[place] = now
                    claimed.add(id(now))

    def resolved(self, data: Any) -> Any:
        if self.plain:
            return data
        if type(data) is dict:
            return {k: p if type(p) in ATOMIC else self.of(p) for k, p in data.items()}
        if type(data) is list:
            return [part if type(part) in ATOMIC else self.of(part) for part in data]
        return data

    def of(self, value: Any) -> Any:
        place = self.graph.places.get(id(value))
        if place is None:
            return value
        if place not in self.known:
            self.known[place] = self._of(place, value)
        return self.known[place]

    def _of(self, place: int, value: Any) -> Any:
        kind, data = self.graph.held[place]
        if kind == "copied":
            if not self.memo:
                every = zip(self.graph.nodes, self.graph.held, strict=True)
                parts = [each for (each, _, _), (other, _) in every if other not in _LATE]
                self.memo = {id(each): self.of(each) for each in parts}
            return copy.deepcopy(data, self.memo)
        if kind not in CHANGING and type(data) in (dict, list):  # it is its parts
            parts = self.resolved(data)
            now, then = (part for _, part in _parts(parts)), (part for _, part in _parts(data))
            return value if all(map(is_, now, then)) else kinds.new(kind, value, parts)
        if self.own or place in self.present:
            return value if self.own else self.present[place]
        try:
            parts = self.resolved(data) if kind in ("cache", "data") else data
            return kinds.new(kind, value, parts)
        except NotRestorable as error:
            raise self.graph.refuse(place, str(error)) from None


_LATE = ("copied", "tuple", "frozenset")
"""kinds that may be made of what is copied"""


def difference(first: Any, second: Any, name: str = "", grown: bool = False) -> str | None:
    """Where two values, or the graphs of two, differ, in words; None when they are the same.

    Types, shapes, order and every bit must agree, and one object be one object in both (NaN
    equals NaN, 0.0 does not equal -0.0). grown: a dict that only has more items is the same
    """
    return next((name + where for where in differences(first, second, grown)), None)


def differences(first: Any, second: Any, grown: bool = False) -> Iterator[str]:
    """All places where `difference` is."""
    graphs = [e if isinstance(e, Graph) else Graph(e, lenient=True) for e in (first, second)]
    one, two = (graph.flat() for graph in graphs)
    for at, was in one.items():
        if not _same(was, now := two.get(at, MISSING)):
            if isinstance(was, np.ndarray) and getattr(now, "shape", None) == was.shape:
                place = next(p for p in np.ndindex(was.shape) if not _same(was[p], now[p]))
                at, was, now = f"{at}{list(place) if place else ''}", was[place], now[place]
            yield f"{at} was {_short(was)}, is {_short(now)}"
    if not grown:
        yield from (f"{at} is new" for at, now in two.items() if at not in one and now is not SHOWN)
        if [at for at in one if at in two] != [at for at in two if at in one]:
            yield " differs in the order"


def _unchanged(kind: str, value: Any, data: Any) -> bool:
    """Whether an object holds the very same as it did, quickly told."""
    if kind == "object":
        value = getattr(value, "__dict__", {})
    if type(data) is dict and type(value) is dict:
        same = len(value) == len(data) and all(map(is_, value.values(), data.values()))
        return same and list(value) == list(data)
    return kind == "list" and len(value) == len(data) and all(map(is_, value, data))


def _parts(data: Any) -> Iterable[tuple[Any, Any]]:
    """(key, part) of each part of what was read."""
    if type(data) is dict:
        return data.items()
    return enumerate(data) if type(data) is list else ()


def _same(one: Any, other: Any) -> bool:
    """Whether two values that cannot change are equal to the bit."""
    if one is other or one is SHOWN or other is SHOWN:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, float | complex | np.inexact | np.ndarray):
        a, b = np.asarray(one), np.asarray(other)
        if a.dtype != b.dtype or a.shape != b.shape or a.dtype.hasobject:
            return False
        if a.dtype.kind in "fc":
            a, b = (np.where(np.isnan(each), each.dtype.type(np.nan), each) for each in (a, b))
        return a.tobytes() == b.tobytes()
    try:
        return bool(one == other)
    except Exception:
        return False


def _word(kind: str, key: Any) -> str:
    """How one would write the way to a part."""
    return f"[{key!r}]" if kind == "dict" or not isinstance(key, str) else f".{key}"


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, np.ndarray | np.generic) else repr(value)
    kind = "missing" if value is MISSING else f"{type(value).__name__} {text}"
    return kind if len(kind) < 90 else kind[:87] + "..."
