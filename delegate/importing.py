"""Code by name: `module:Class`, whose it is, and whether it lies in the working folder."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LONGEST_CAUSE = 300
"""characters of somebody else's error that a message shows"""


def is_reference(name: str) -> bool:
    """Is that `module:Class`, both of identifiers joined by dots?"""
    module, colon, inside = name.partition(":")
    return bool(colon) and dotted(module) and dotted(inside)


def dotted(text: str) -> bool:
    """Is that identifiers joined by dots?"""
    return all(part.isidentifier() for part in text.split("."))


def imported(reference: str) -> Any:
    """What `module:Class` names. Raises whatever importing it raises."""
    module, _, inside = reference.partition(":")
    found: Any = import_module(module)
    for part in inside.split("."):
        found = getattr(found, part)
    return found


def reference_to(kind: type) -> str:
    """`module:Class`, the same in the workers of a script as in the script itself."""
    return f"{kind.__module__.replace('__mp_main__', '__main__')}:{kind.__qualname__}"


def cause(error: BaseException) -> str:
    """The error in one line."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return text if len(text) <= LONGEST_CAUSE else f"{text[: LONGEST_CAUSE - 3]}..."


def lies_here(package: str) -> bool:
    """Whether importing that package would run code of the working folder."""
    here, spec = Path.cwd(), None
    with contextlib.suppress(ValueError):  # a module without a spec, such as __main__
        spec = find_spec(package)
    if spec is None:
        return (here / package).is_dir() or (here / f"{package}.py").is_file()
    places = [Path(place).parent for place in spec.submodule_search_locations or ()]
    if spec.origin is not None and spec.has_location and not places:
        places = [Path(spec.origin).parent]
    return any(place.resolve() == here for place in places)


def is_of_here(distribution: metadata.Distribution | None) -> bool:
    """Does the working folder itself declare that package, though nobody installed it?"""
    return distribution is not None and _home(distribution) == Path.cwd()


@contextlib.contextmanager
def working_folder(allowed: bool) -> Iterator[None]:
    """Modules of the working folder can be imported meanwhile, if that is allowed."""
    if not allowed:
        yield
        return
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def code_of(kind: type) -> dict[str, str]:
    """What tells the code of a class from other code of the same name.

    class: module:Class · package: its distribution and version, where it is of one · source: of
    what no version stands for (the working folder, a script, an editable installation), a hash of
    every Python file of its outermost package, or of its one file (hexadecimal)
    """
    found = {"class": reference_to(kind)}
    package = kind.__module__.partition(".")[0]
    distribution = distribution_of(package)
    if distribution is not None:
        found["package"] = f"{distribution.name} {distribution.version}"
    if package == "delegate":
        return found
    files = _files(kind.__module__, package)
    home = None if distribution is None else _home(distribution)
    if home is None or home == Path.cwd() or not all(file.is_relative_to(home) for file in files):
        found["source"] = _digest(files) if files else "unknown"
    return found


def distribution_of(package: str) -> metadata.Distribution | None:
    """The installed distribution that a package of that name belongs to, None if to none."""
    names = [package] if package == "delegate" else _owners(tuple(sys.path)).get(package, [])
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.distribution(min(names)) if names else None
    return None


@lru_cache(maxsize=2)
def _owners(_: tuple[str, ...]) -> dict[str, list[str]]:
    """Package -> distributions, for one `sys.path`: reading them all takes a moment."""
    return {name: list(owners) for name, owners in metadata.packages_distributions().items()}


def _home(distribution: metadata.Distribution) -> Path:
    """The folder that it is installed in."""
    return Path(str(distribution.locate_file(""))).resolve()


def _files(module: str, package: str) -> list[Path]:
    """The Python files of that package, or of a module that is no package its one file."""
    outermost = sys.modules.get(package)
    folders = [Path(place).resolve() for place in getattr(outermost, "__path__", ())]
    if folders:
        return sorted(file for folder in folders for file in folder.rglob("*.py"))
    with contextlib.suppress(TypeError, KeyError):  # a module without a file: typed in
        return [Path(inspect.getfile(sys.modules[module])).resolve()]
    return []


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
