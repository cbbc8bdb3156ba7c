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

MISSING, NONE = object(), frozenset[str]()
LEFT = {"stream", "pointer", "shown", "copied"}
"""kinds that are not compared"""
MOST = 20_000
"""objects that a lenient graph holds"""


class Graph:
    """What `root` and everything it leads to holds now; later changes do not reach it.

    constant: attributes of environments that are not read
    lenient: to be compared alone, with random states; passes over what cannot be saved
    apart: types that it passes over too
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
            if lenient and kind in RANDOM:
                kind, data = "list", [data, self.states[-1][1]]
            self.held.append((kind, data))
            for key, part in _parts(data):
                if type(part) not in ATOMIC and id(part) not in places:
                    places[id(part)] = len(nodes)
                    nodes.append((part, place, key))
        self.copied = [
            n for n, (kind, _) in enumerate(self.held) if kind == "copied" and not lenient
        ]
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
        row = _Row(self, root)
        # what is hashed before what hashes it, and models before the contacts that they make
        order = sorted(range(len(self.nodes) - 1, -1, -1), key=lambda n: self.held[n][0] == "data")
        try:
            for place in order:
                kind, data = self.held[place]
                if kind in CHANGING:
                    value = row.of(self.nodes[place][0])
                    if not (row.plain and _unchanged(kind, value, data)):
                        kinds.write(kind, value, row.resolved(data), self.kept(value))
            if states is not None and len(states.states) == len(self.states):
                for (place, _), (_, state) in zip(self.states, states.states, strict=True):
                    kinds.put_random_state(row.of(self.nodes[place][0]), state)
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


class _Row:
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
        """What was read, of this row's objects."""
        if self.plain:
            return data
        if type(data) is dict:
            return {k: p if type(p) in ATOMIC else self.of(p) for k, p in data.items()}
        if type(data) is list:
            return [part if type(part) in ATOMIC else self.of(part) for part in data]
        return data

    def of(self, value: Any) -> Any:
        """This row's object for one of the graph."""
        place = self.graph.places.get(id(value))
        if place is None or self.plain:
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
        if kind == "atom":
            return value
        changes = kind in CHANGING
        if changes or type(data) not in (dict, list):
            if self.own or place in self.present:
                return value if self.own else self.present[place]
            parts = self.resolved(data) if kind in ("cache", "data") else data
        else:  # it is its parts
            parts = self.resolved(data)
            now, then = (part for _, part in _parts(parts)), (part for _, part in _parts(data))
            if all(map(is_, now, then)):
                return value
        try:
            return kinds.new(kind, value, parts)
        except NotRestorable as error:
            raise self.graph.refuse(place, str(error)) from None


_LATE = ("copied", "tuple", "frozenset")
"""kinds that may be made of what is copied"""


def difference(first: Any, second: Any, name: str = "", grown: bool = False) -> str | None:
    """Where two values, or the graphs of two, differ, in words; None when they are the same.

    Types, shapes, order and every bit must agree, and one object be one object in both (NaN
    equals NaN, 0.0 does not equal -0.0). grown: a dict or list that only has more is the same
    """
    return next((name + where for where in differences(first, second, grown)), None)


def differences(first: Any, second: Any, grown: bool = False) -> Iterator[str]:
    """All places where `difference` is, each the first on its way."""
    one, two = (e if isinstance(e, Graph) else Graph(e, lenient=True) for e in (first, second))
    to, back, todo = {0: 0}, {0: 0}, [(0, 0, "")]
    for here, there, at in todo:
        (kind, was), (other, now) = one.held[here], two.held[there]
        types = type(one.nodes[here][0]), type(two.nodes[there][0])
        if kind in LEFT or other in LEFT or types[0] is not types[1]:
            if types[0] is not types[1] and "shown" not in (kind, other):
                yield _unlike(at, one.nodes[here][0], two.nodes[there][0])
            continue
        if type(was) not in (dict, list):
            if not _same(was, now):
                yield _unlike(at, was, now)
            continue
        before, after = dict(_parts(was)), dict(_parts(now))
        for key in before if grown and (kind == "dict" or type(was) is dict) else before | after:
            part, new = before.get(key, MISSING), after.get(key, MISSING)
            way, place, into = (
                at + _word(kind, key),
                one.places.get(id(part)),
                two.places.get(id(new)),
            )
            if kinds.is_shown(part) or kinds.is_shown(new):
                continue
            if place is None or into is None or type(part) in ATOMIC:
                if not _same(part, new):
                    yield _unlike(way, part, new)
            elif place not in to and into not in back:
                to[place], back[into] = into, place
                todo.append((place, into, way))
            elif to.get(place) != into:
                yield f"{way} was the object at {one.name(place)}, is that at {two.name(into)}"
        if [k for k in before if k in after] != [k for k in after if k in before]:
            yield f"{at} differs in the order"


def _unlike(name: str, was: Any, now: Any) -> str:
    """How two values differ, in words."""
    if isinstance(was, np.ndarray) and getattr(now, "shape", None) == was.shape:
        place = next((p for p in np.ndindex(was.shape) if not _same(was[p], now[p])), ())
        name, was, now = f"{name}{list(place) if place else ''}", was[place], now[place]
    return f"{name} is new" if was is MISSING else f"{name} was {_short(was)}, is {_short(now)}"


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
    if one is other:
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
