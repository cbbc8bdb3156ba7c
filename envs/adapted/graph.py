"""The objects that an environment leads to: what they hold now, put back later, compared.

Every object keeps its identity: a snapshot saves what each of them holds, and a restore writes
that back into the same objects. In another row it writes into the objects at the same places,
and makes new ones where there are none.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

import delegate.envs.adapted.kinds as kinds
from delegate.envs.adapted.kinds import ATOMIC, CHANGING, RANDOM, NotRestorable, kind_of, read

MISSING = object()
MOST = 20_000
"""objects that a lenient graph holds"""


class Graph:
    """What `root` and everything it leads to holds now; later changes do not reach it.

    constant: attributes of environments that are not read
    lenient: to be compared alone, with random states; passes over what cannot be saved
    apart: types that it passes over too
    nodes: (object, number of its parent, key there) each · held: its kind and what it held
    streams, states: number and random state of each generator · places: id of an object -> number
    Raises NotRestorable naming the place of what cannot be saved.
    """

    def __init__(
        self, root: Any, constant: Collection[str] = (), lenient: bool = False, apart: Any = ()
    ) -> None:
        self.root, self.constant = root, frozenset(constant)
        self.nodes = nodes = [(root, -1, None)]  # type: list[tuple[Any, int, Any]]
        self.places = places = {id(root): 0}
        self.held: list[tuple[str, Any]] = []
        self.streams, self.states = list[int](), list[Any]()
        for place, (value, _, _) in enumerate(nodes):
            kind = kind_of(value)
            if lenient and (place >= MOST or (place and isinstance(value, apart))):
                kind = "pointer"
            try:
                data = read(kind, value, self.constant)
                if kind in RANDOM:
                    self.states.append(kinds.random_state(value))
                    self.streams.append(place)
                    if lenient:
                        kind, data = "list", [data, self.states[-1]]
            except NotRestorable as error:
                if not lenient:
                    raise self.refuse(place, str(error)) from None
                kind, data = "pointer", None
            self.held.append((kind, data))
            for key, part in _parts(data):
                if type(part) not in ATOMIC and id(part) not in places:
                    places[id(part)] = len(nodes)
                    nodes.append((part, place, key))
        self.copied = [place for place, (kind, _) in enumerate(self.held) if kind == "copied"]
        if self.copied and not lenient:  # each by itself, without what else is held
            memo = {id(e): e for n, (e, _, _) in enumerate(nodes) if n not in self.copied}
            for place in self.copied:
                try:
                    self.held[place] = "copied", copy.deepcopy(nodes[place][0], memo)
                except Exception as error:
                    raise self.refuse(place, kinds.unreadable(nodes[place][0])) from error

    def restore(self, root: Any, states: Sequence[Any] = ()) -> None:
        """Be in `root` what was saved. states: of the generators, of this moment or another

        Without them, and where they are of other generators, each goes on from where it is.
        Raises NotRestorable naming the place of what cannot be put back; `root` is torn then.
        """
        row, place = _Row(self, root), 0
        # what is hashed before what hashes it, and models before the contacts that they make
        order = sorted(range(len(self.nodes) - 1, -1, -1), key=lambda n: self.held[n][0] == "data")
        try:
            for place in order:
                kind, data = self.held[place]
                if kind in CHANGING:
                    value = row.of(self.nodes[place][0])
                    kinds.write(kind, value, row.resolved(data), self.constant)
            if len(states) == len(self.streams):
                for place, state in zip(self.streams, states, strict=True):
                    kinds.put_random_state(row.of(self.nodes[place][0]), state)
        except NotRestorable as error:
            raise error if error.field else self.refuse(place, str(error)) from None

    def name(self, place: int) -> str:
        """The way from the root to an object, as one would write it in Python."""
        _, parent, key = self.nodes[place]
        return "" if parent < 0 else self.name(parent) + _word(self.held[parent][0], key)

    def refuse(self, place: int, why: str) -> NotRestorable:
        """The error for what lies at that place."""
        return NotRestorable(f"env{self.name(place)} is {why}", f"env{self.name(place)}")


class _Row:
    """What stands in a restored row for each object of a graph; where plain, it itself."""

    def __init__(self, graph: Graph, root: Any) -> None:
        self.graph, self.own = graph, root is graph.root
        self.plain = self.own and not graph.copied
        self.known = {} if self.own else self._present(root)

    def _present(self, root: Any) -> dict[int, Any]:
        """What lies at the same places now and is alike, by number."""
        now, found = Graph(root, self.graph.constant), {0: 0}
        inside: Any = {(parent, key): (n, e) for n, (e, parent, key) in enumerate(now.nodes)}
        for place, (value, parent, key) in enumerate(self.graph.nodes):
            number, there = inside.get((found.get(parent), key), (-1, MISSING))
            alike = type(there) is type(value)
            if alike and isinstance(value, np.ndarray):
                alike = (there.dtype, there.shape) == (value.dtype, value.shape)
            if alike:
                found[place] = number
        return {p: now.nodes[n][0] for p, n in found.items() if self.graph.held[p][0] not in _MADE}

    def resolved(self, data: Any) -> Any:
        """What was read, of this row's objects."""
        if self.plain or type(data) not in (dict, list):
            return data
        parts = [p if type(p) in ATOMIC else self.of(p) for _, p in _parts(data)]
        return parts if type(data) is list else dict(zip(data, parts, strict=True))

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
            every = zip(self.graph.nodes, self.graph.held, strict=True)
            parts = [each for (each, _, _), (other, _) in every if other not in _LATE]
            return copy.deepcopy(data, {id(each): self.of(each) for each in parts})
        if kind in kinds.BUILT:
            parts = self.resolved(data)
            if [id(part) for _, part in _parts(parts)] == [id(part) for _, part in _parts(data)]:
                return value
        elif self.own or kind == "atom":
            return value
        else:
            parts = self.resolved(data) if kind == "data" else data
        if (made := kinds.new(kind, value, parts)) is None:
            raise self.graph.refuse(place, f"{kind} that this row does not have; reset it before")
        return made


_MADE = kinds.BUILT | {"atom", "copied"}
"""kinds that are not looked for in another row"""
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
        values = one.nodes[here][0], two.nodes[there][0]
        if type(values[0]) is not type(values[1]):
            yield _unlike(at, *values)
        elif kind in kinds.LEFT or other in kinds.LEFT:
            continue
        elif type(was) not in (dict, list):
            if not _same(was, now):
                yield _unlike(at, was, now)
            continue
        before, after = dict(_parts(was)), dict(_parts(now))
        more = grown and (kind == "dict" or type(was) is dict)
        for key in before if more else before | after:
            part, new = before.get(key, MISSING), after.get(key, MISSING)
            way = at + _word(kind, key)
            place, number = one.places.get(id(part)), two.places.get(id(new))
            if kinds.is_shown(part) or kinds.is_shown(new):
                continue
            if place is None or number is None or type(part) in ATOMIC:
                if not _same(part, new):
                    yield _unlike(way, part, new)
            elif place not in to and number not in back:
                to[place], back[number] = number, place
                todo.append((place, number, way))
            elif to.get(place) != number:
                yield f"{way} was the object at {one.name(place)}, is that at {two.name(number)}"
        if not more and [k for k in before if k in after] != [k for k in after if k in before]:
            yield f"{at} differs in the order"


def _unlike(name: str, was: Any, now: Any) -> str:
    """How two values differ, in words."""
    if isinstance(was, np.ndarray) and getattr(now, "shape", None) == was.shape:
        place = next((p for p in np.ndindex(was.shape) if not _same(was[p], now[p])), ())
        name, was, now = f"{name}{list(place) if place else ''}", was[place], now[place]
    return f"{name} was {_short(was)}, is {_short(now)}"


def _parts(data: Any) -> Iterable[tuple[Any, Any]]:
    """(key, part) of each part of what was read."""
    if type(data) is dict:
        return data.items()
    return enumerate(data) if type(data) is list else ()


def _same(one: Any, other: Any) -> bool:
    """Whether two values that cannot change are equal to the bit."""
    if one is other or type(one) is not type(other):
        return one is other
    if isinstance(one, float | complex | np.inexact | np.ndarray):
        a, b = np.asarray(one), np.asarray(other)
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return bool(one == other)


def _word(kind: str, key: Any) -> str:
    """How one would write the way to a part."""
    return f"[{key!r}]" if kind == "dict" or not isinstance(key, str) else f".{key}"


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, np.ndarray | np.generic) else repr(value)
    told = "missing" if value is MISSING else f"{type(value).__name__} {text}"
    return told if len(told) < 90 else told[:87] + "..."
