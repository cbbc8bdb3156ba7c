"""Names that a package hands on, whose modules are imported only when somebody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def handed_on(package: str, modules: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """The `__getattr__` of a package.

    modules: full name of a module -> what is handed on of it; nothing may be called like a module
    of the package, which takes its place once it is imported
    """
    places = {name: module for module, names in modules.items() for name in names}

    def look_up(name: str) -> Any:
        if name in places:
            return getattr(import_module(places[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return look_up
