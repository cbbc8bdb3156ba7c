"""Open registries: classes by id, ours and those of scripts and installed packages, or
`module:Class`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast, overload

from pydantic import BaseModel

from delegate.importing import (
    cause,
    imported,
    is_of_here,
    is_reference,
    lies_here,
    reference_to,
)
from delegate.settings import known

T = TypeVar("T")
Kind = TypeVar("Kind", bound=type)

Check = Callable[[type], str | None]
"""what is wrong with a class, None for nothing"""

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
SAFE_ID = re.compile(r"[A-Za-z0-9][\w.+-]{0,63}")


class Unusable(ValueError):
    """What a name stands for cannot be used: what it is, the cause and the remedy."""


class _OwnName:
    def __get__(self, instance: object, owner: type) -> str:
        return owner.__name__


def own_name() -> str:
    """A class attribute that is the name of each class, for those that give none themselves."""
    return cast(str, _OwnName())


def constructor(*arguments: str) -> Check:
    """Can such a class be made of those arguments?"""

    def check(kind: type) -> str | None:
        if _takes(kind, arguments):
            return None
        return f"cannot be made of ({', '.join(arguments)}); let its __init__ take those"

    return check


FROM_SETTINGS = constructor("settings")


class Registry(Generic[T]):
    """Classes of one kind by id.

    kind: "monitor", for messages · group: of the entry points that installed packages give
    base: what every class derives from
    ours: id -> class, or `module:Class` of one that is imported when it is asked for
    check: what else a class must be · reserved: ids that nobody may take
    Ours come first. What a package gives is imported when it is looked up, not before.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        base: type[T],
        ours: Mapping[str, type[T] | str],
        check: Check = FROM_SETTINGS,
        reserved: Collection[str] = (),
    ) -> None:
        self.kind, self.group = kind, group
        self._base, self._ours, self._check = base, dict(ours), check
        self._reserved = {*ours, *reserved}
        self._registered: dict[str, type[T]] = {}

    @overload
    def register(self, id: str) -> Callable[[Kind], Kind]: ...

    @overload
    def register(self, id: str, entry: Kind) -> Kind: ...

    def register(self, id: str, entry: Any = None) -> Any:
        """Have a class found by an id from now on, in this process; without a class, a decorator.

        Raises ValueError for an id that cannot be or is another's, and for a class that cannot be
        used, saying why.
        """
        if entry is None:
            return lambda decorated: self.register(id, decorated)
        if not isinstance(id, str) or not SAFE_ID.fullmatch(id):
            raise ValueError(
                f"{self.kind} {id!r} is no id; give up to 64 letters, digits, _, -, + and points"
            )
        if id in self._reserved:
            raise ValueError(f'{self.kind} "{id}" is ours; register yours under another id')
        if (fault := self._fault_of(entry)) is not None:
            raise ValueError(f'{self.kind} "{id}" {fault}')
        before = self._registered.get(id, entry)
        if reference_to(before) != reference_to(entry):
            raise ValueError(
                f'{self.kind} "{id}" is {reference_to(before)} already; register '
                f"{reference_to(entry)} under another id"
            )
        self._registered[id] = entry
        return entry

    @property
    def ours(self) -> tuple[str, ...]:
        """The ids that come with this package."""
        return tuple(self._ours)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self._ours, *self._registered, *self._installed()]))

    def __contains__(self, name: object) -> bool:
        return name in list(self)

    def __getitem__(self, name: str) -> type[T]:
        """The class of an id or of `module:Class`.

        Raises ValueError, naming the nearest id where there is none, and else why the class
        cannot be used.
        """
        try:
            return self._find(name)
        except Unusable as error:
            raise ValueError(f'{self.kind} "{name}" {error}') from error.__cause__

    def fault(self, name: str, allow_code: bool) -> str | None:
        """Why a name that is there cannot be used, in words that go behind it; None if it can.

        allow_code: code of the working folder may be run; without it, none is
        """
        if not allow_code and self._lies_here(name):
            return "lies in the working folder; add --allow-code to run it"
        try:
            self._find(name)
        except Unusable as error:
            return str(error)
        return None

    def origins(self) -> dict[str, str]:
        """What can be named -> the package and version, or the script, that it is of; "" for ours.

        Of packages, those that give an id of ours or of one another stand under `module:Class`.
        """
        found = dict.fromkeys(self._ours, "")
        found |= {id: reference_to(entry) for id, entry in self._registered.items()}
        for id, entries in self._installed().items():
            clash = id in found or len(entries) > 1
            found |= {entry.value if clash else id: _package(entry) for entry in entries}
        return found

    def _find(self, name: str) -> type[T]:
        if name in self._ours:
            ours = self._ours[name]
            return imported(ours) if isinstance(ours, str) else ours
        if ":" in name:
            if not is_reference(name):
                raise Unusable("is no name; write an id, or module:Class")
            return self._loaded(name, "install its package, or add --allow-code where it lies")
        entries = self._installed().get(name, [])
        givers = [f"{_package(entry)} as {entry.value}" for entry in entries]
        if name in self._registered:
            own = reference_to(self._registered[name])
            if all(entry.value == own for entry in entries):
                return self._registered[name]
            givers.append(f"{own}, which was registered")
        if len(givers) > 1:
            raise Unusable(f"is given by {' and by '.join(givers)}; write the one that is meant")
        if not entries:
            known(self.kind, name, self)
        whose = f"({entries[0].value}, of {_package(entries[0])}) "
        return self._loaded(entries[0].value, "mend or remove that package", whose)

    def _loaded(self, reference: str, remedy: str, whose: str = "") -> type[T]:
        try:
            found = imported(reference)
        except (Exception, SystemExit) as error:
            raise Unusable(f"{whose}cannot be imported ({cause(error)}); {remedy}") from error
        if (fault := self._fault_of(found)) is not None:
            raise Unusable(f"{whose}{fault}")
        return found

    def _fault_of(self, found: Any) -> str | None:
        """What keeps that from being such a class, with the remedy."""
        base = f"{self._base.__module__}.{self._base.__qualname__}"
        if not isinstance(found, type):
            return f"is no class but a {type(found).__name__}; name one derived from {base}"
        if not issubclass(found, self._base):
            return f"is not derived from {base}; derive {found.__name__} from it"
        if missing := sorted(getattr(found, "__abstractmethods__", ())):
            return f"is not whole; let {found.__name__} define {', '.join(missing)}"
        for name, arguments in _methods(self._base).items():
            own = inspect.getattr_static(found, name)
            if not _takes(getattr(found, name), arguments, unbound=inspect.isfunction(own)):
                wanted = f"{name}({', '.join(arguments)})"
                return f"cannot be called as {wanted}; give {found.__name__}.{name} those arguments"
        for name in ("Settings", "settings_type"):
            model = getattr(found, name, BaseModel)
            if not (isinstance(model, type) and issubclass(model, BaseModel)):
                return f"has {name} that are no pydantic model; derive them from pydantic.BaseModel"
        return self._check(found)

    def _installed(self) -> dict[str, list[EntryPoint]]:
        """What packages give, by id, less ids of ours; not imported."""
        found: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=self.group):
            values = [other.value for other in found.setdefault(entry.name, [])]
            if entry.value not in values:
                found[entry.name].append(entry)
        return found

    def _lies_here(self, name: str) -> bool:
        if name in self._ours:
            return False
        if ":" in name:
            return is_reference(name) and lies_here(re.split("[.:]", name)[0])
        return any(is_of_here(entry.dist) for entry in self._installed().get(name, ()))


def headline(kind: type) -> str:
    """The first line of its docstring, less the id it may begin with; "" where there is none."""
    first = ((kind.__doc__ or "").strip().splitlines() or [""])[0].rstrip(".")
    return re.sub(r"^`[\w-]+`: ", "", first)


def _package(entry: EntryPoint) -> str:
    """`tiny-monitors 1.0`."""
    return "?" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _methods(base: type) -> dict[str, list[str]]:
    """The public methods of a class, with the arguments that it gives them by position."""
    found = {}
    for name, method in inspect.getmembers_static(base, inspect.isfunction):
        if not name.startswith("_"):
            parameters = list(inspect.signature(method).parameters.values())[1:]
            found[name] = [each.name for each in parameters if each.kind in POSITIONAL]
    return found


def _takes(function: Any, arguments: Collection[str], unbound: bool = False) -> bool:
    """Can it be called with so many arguments by position?"""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # one written in C may have none
        return True
    try:
        signature.bind(*(None,) * (len(arguments) + unbound))
    except TypeError:
        return False
    return True
