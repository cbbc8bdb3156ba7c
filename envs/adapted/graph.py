"""Copying what Python objects hold: everything that can change, and nothing that cannot.

A saved graph is a copy of the live one in which whatever stays with its row (environments,
simulators, random generators, spaces, windows) is replaced by an Anchor that says where it was.
Restoring copies the saved graph again, with each anchor replaced by what the row has there now.
"""

from __future__ import annotations

import collections
import copy
import types
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from delegate.envs.adapted.kinds import Kind, Stands, all_slots, kind_of, refusal
from delegate.envs.adapted.refusal import NotRestorable

Path = tuple[tuple[str, Any], ...]
"""how to reach a value from the outermost environment: (kind of step, key) each"""

_PLAIN_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, np.float64, np.int64})
"""the commonest types that are shared, tested first"""
Handler = Callable[[Any, Any], Any]
_HANDLED_BY = {
    Kind.ATOM: "_shared",
    Kind.DICT: "_dict",
    Kind.LIST: "_list",
    Kind.TUPLE: "_tuple",
    Kind.SET: "_set",
    Kind.DEQUE: "_deque",
    Kind.ARRAY: "_array",
    Kind.FUNCTION: "_function",
    Kind.CELL: "_cell",
    Kind.METHOD: "_method",
    Kind.OWN_COPY: "_own_copy",
    Kind.PLAIN: "_plain",
    Kind.REDUCED: "_reduced",
    Kind.REFUSED: "_refused",
    Kind.ENV: "stays",
    Kind.ENGINE: "stays",
    Kind.STREAM: "stays",
    Kind.SPACE: "stays",
    Kind.DISPLAY: "stays",
    Kind.POINTER: "stays",
}
_COPIER = "delegate.adapted.copier"
"""key in the memo that `__deepcopy__` hooks hand around"""


class Anchor(Stands):
    """Stands for what stays with its row.

    kind: of what · path: where it was found · original: what it was, for rows that have none
    """

    __slots__ = ("kind", "original", "path")

    def __init__(self, kind: Kind, path: Path, original: Any) -> None:
        self.kind, self.path, self.original = kind, path, original

    def __deepcopy__(self, memo: dict[Any, Any]) -> Any:
        return memo[_COPIER].anchored(self) if _COPIER in memo else self


class Copier:
    """Copies a graph of objects, keeping what is one object one object.

    Raises NotRestorable naming the place of what cannot be copied.
    """

    _handlers: ClassVar[dict[type, Handler]] = {}
    """what to do with values of each type met so far, by class of copier"""

    def __init_subclass__(cls) -> None:
        cls._handlers = {}

    def __init__(self) -> None:
        self.memo: dict[Any, Any] = {_COPIER: self}
        self.path: list[tuple[str, Any]] = []
        self._alive: list[Any] = []

    def copy(self, value: Any) -> Any:
        """A copy of one value and all it leads to."""
        cls = type(value)
        if cls in _PLAIN_ATOMS:
            return value
        known = self.memo.get(id(value), self)
        if known is not self:
            return known
        handler = self._handlers.get(cls)
        if handler is None:
            handler = self._handlers[cls] = getattr(type(self), _HANDLED_BY[kind_of(cls)])
        return handler(self, value)

    def child(self, step: str, key: Any, value: Any) -> Any:
        """The copy of what lies one step further."""
        if type(value) in _PLAIN_ATOMS:
            return value
        self.path.append((step, key))
        copied = self.copy(value)
        self.path.pop()
        return copied

    def attributes(self, values: dict[str, Any]) -> dict[str, Any]:
        """The copies of an object's attributes."""
        return {
            name: value if type(value) in _PLAIN_ATOMS else self.child("attribute", name, value)
            for name, value in values.items()
        }

    def stays(self, value: Any) -> Any:
        """What the copy holds in place of a value that stays with its row."""
        raise NotImplementedError

    def anchored(self, anchor: Anchor) -> Any:
        """What the copy holds in place of an anchor."""
        return anchor

    def refuse(self, why: str) -> NotRestorable:
        """The error for what lies at the present path."""
        return NotRestorable(f"{readable(tuple(self.path))} is {why}")

    def _shared(self, value: Any) -> Any:
        return self.anchored(value) if type(value) is Anchor else value

    def _remember(self, value: Any, copied: Any) -> Any:
        self.memo[id(value)] = copied
        return copied

    def _dict(self, value: dict[Any, Any]) -> Any:
        if _all_display(value.values()):
            return self._remember(value, self.stays(value))
        new = self._remember(value, type(value)())
        for key, item in value.items():
            copied = item if type(item) in _PLAIN_ATOMS else self.child("item", key, item)
            new[key if type(key) in _PLAIN_ATOMS else self.copy(key)] = copied
        return new

    def _list(self, value: list[Any]) -> Any:
        if _all_display(value):
            return self._remember(value, self.stays(value))
        new = self._remember(value, [])
        new.extend([self.child("item", place, item) for place, item in enumerate(value)])
        return new

    def _tuple(self, value: tuple[Any, ...]) -> Any:
        if _all_display(value):
            return self._remember(value, self.stays(value))
        items = [self.child("item", place, item) for place, item in enumerate(value)]
        if id(value) in self.memo:  # a ring through the tuple
            return self.memo[id(value)]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return self._remember(value, value)
        return self._remember(value, tuple.__new__(type(value), items))

    def _set(self, value: Any) -> Any:
        if all(type(item) in _PLAIN_ATOMS for item in value):
            return self._remember(value, copy.copy(value))
        if len(value) > 1 and any(type(item).__hash__ is object.__hash__ for item in value):
            raise self.refuse(
                "a set of objects, whose order depends on where in memory they lie; use a list"
            )
        return self._remember(value, type(value)(self.child("member", None, v) for v in value))

    def _deque(self, value: collections.deque[Any]) -> Any:
        new: collections.deque[Any] = self._remember(value, collections.deque(maxlen=value.maxlen))
        new.extend(self.child("item", place, item) for place, item in enumerate(value))
        return new

    def _array(self, value: np.ndarray) -> Any:
        owner = value
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        if owner.dtype.hasobject:
            new = self._remember(value, np.array(value, order="K", subok=True))
            for place, item in np.ndenumerate(value):
                new[place] = self.child("item", place, item)
            return new
        if owner is not value and owner.base is None and type(owner) is np.ndarray:
            return self._remember(value, self._view(value, owner))
        if owner.base is not None and not isinstance(owner.base, bytes):
            return self._remember(value, self.foreign(value))
        if not owner.flags.writeable and owner is value:
            return value
        new = self._remember(value, value.copy(order="K"))
        if attributes := getattr(value, "__dict__", None):
            new.__dict__.update(self.attributes(attributes))
        return new

    def foreign(self, array: np.ndarray) -> Any:
        """The copy of an array whose memory belongs to something else."""
        return array.copy(order="K")

    def _view(self, view: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """The same part of the copy of the array that the view looks into."""
        flat = self.copy(owner).ravel(order="K")
        start = view.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
        return np.ndarray(view.shape, view.dtype, flat, start, view.strides).view(type(view))

    def _function(self, value: types.FunctionType) -> Any:
        if value.__closure__ is None:
            return value
        cells = tuple(self.child("cell", i, cell) for i, cell in enumerate(value.__closure__))
        if id(value) in self.memo:
            return self.memo[id(value)]
        new = types.FunctionType(
            value.__code__, value.__globals__, value.__name__, value.__defaults__, cells
        )
        new.__kwdefaults__, new.__qualname__ = value.__kwdefaults__, value.__qualname__
        self._remember(value, new)
        new.__dict__.update(self.attributes(value.__dict__))
        return new

    def _cell(self, value: types.CellType) -> Any:
        new = self._remember(value, types.CellType())
        try:
            contents = value.cell_contents
        except ValueError:  # nothing was put into it yet
            return new
        new.cell_contents = self.child("cell_contents", None, contents)
        return new

    def _method(self, value: Any) -> Any:
        owner = value.__self__
        if owner is None or isinstance(owner, types.ModuleType | type):
            return value
        of = self.child("self", None, owner)
        if isinstance(value, types.MethodType):
            return types.MethodType(value.__func__, of)
        if type(of) is Anchor:
            # reached by name when it is restored
            return self._remember(value, Bound(value.__name__, of))
        return getattr(of, value.__name__)

    def _own_copy(self, value: Any) -> Any:
        if type(value) is Bound:
            return getattr(self.copy(value.owner), value.name)
        try:
            return self._remember(value, copy.deepcopy(value, self.memo))
        except NotRestorable:
            raise
        except Exception as error:
            raise self.refuse(f"a {_name(value)} whose __deepcopy__ fails ({error})") from error

    def _plain(self, value: Any) -> Any:
        cls = type(value)
        new = self._remember(value, object.__new__(cls))
        if (own := getattr(value, "__dict__", None)) is not None:
            new.__dict__.update(self.attributes(own))
        for name in all_slots(cls):
            if (held := getattr(value, name, self)) is not self:
                object.__setattr__(new, name, self.child("attribute", name, held))
        return new

    def _reduced(self, value: Any) -> Any:
        try:
            parts = value.__reduce_ex__(4)
            if isinstance(parts, str):
                return value
            self._alive.append(parts)
            return self._rebuilt(value, *parts)
        except NotRestorable:
            raise
        except Exception as error:
            raise self.refuse(
                f"a {_name(value)}, which cannot be copied ({error}); give the class that holds "
                "it a __deepcopy__ that copies its state, or keep it out of the environment"
            ) from error

    def _rebuilt(
        self,
        value: Any,
        make: Callable[..., Any],
        args: tuple[Any, ...],
        state: Any = None,
        items: Any = None,
        pairs: Any = None,
        setter: Callable[[Any, Any], Any] | None = None,
    ) -> Any:
        """What `__reduce_ex__` describes, as the copy module would make it."""
        new = self._remember(value, make(*(self.child("reduced", None, arg) for arg in args)))
        if state is not None:
            state = self.child("reduced", None, state)
            if setter is not None:
                setter(new, state)
            elif hasattr(new, "__setstate__"):
                new.__setstate__(state)
            else:
                own, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, {})
                new.__dict__.update(own or {})
                for name, held in (slots or {}).items():
                    setattr(new, name, held)
        for item in items or ():
            new.append(self.child("reduced", None, item))
        for key, item in pairs or ():
            new[self.copy(key)] = self.child("reduced", None, item)
        return new

    def _refused(self, value: Any) -> Any:
        raise self.refuse(f"{refusal(type(value))}")


class Bound:
    """A built-in method of something that stays with its row (`self.draw = rng.random`)."""

    def __init__(self, name: str, owner: Anchor) -> None:
        self.name, self.owner = name, owner

    def __deepcopy__(self, memo: dict[Any, Any]) -> Any:
        return self


def is_display(value: Any, depth: int = 3) -> bool:
    """Whether a value is only for showing: a window or surface, or a collection of them."""
    kind = kind_of(type(value))
    if kind is Kind.DICT:
        return _all_display(value.values(), depth - 1)
    if kind is Kind.LIST or kind is Kind.TUPLE:
        return _all_display(value, depth - 1)
    return kind is Kind.DISPLAY


def readable(path: Path) -> str:
    """A path as one would write it in Python."""
    words = ["env"]
    for step, key in path:
        if step == "attribute":
            words.append(f".{key}")
        elif step == "item":
            words.append(f"[{key!r}]")
        elif step == "cell":
            words.append(f".__closure__[{key}]")
    return "".join(words)


def _all_display(values: Any, depth: int = 2) -> bool:
    """Whether there are any and all are displays; collections are looked into `depth` deep."""
    found = False
    for value in values:
        if depth < 0 or type(value) in _PLAIN_ATOMS or not is_display(value, depth):
            return False
        found = True
    return found


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
