"""`delegate certify`: from a name on the command line to what a replay says of its restores."""

from __future__ import annotations

import contextlib
import platform
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import metadata
from typing import Any

import gymnasium

from delegate import envs
from delegate.backtrack import StatefulVectorEnv
from delegate.envs import Certificate
from delegate.files import shown
from delegate.importing import cause, dotted, imported, lies_here, working_folder
from delegate.settings import nearest

ROWS = 3
"""rows of a world of ours that are played at once"""

ENGINES = {"delegate": "delegate", "mujoco": "mujoco", "ale_py": "ale-py", "Box2D": "box2d"}
"""module -> package of what steps a world, which need not be the module its class is of"""

ALIKE = 0.6
"""how much a known id must look like an unknown one to be suggested (0 to 1)"""


class CannotBeMade(ValueError):
    """There is no such environment, or it could not be made: name, cause and remedy in one line."""


def certify(name: str, steps: int = 300, seed: int = 0, allow_code: bool = False) -> Certificate:
    """Whether the environment of that name can be restored exactly, see `envs.certify`.

    name: one of `envs.ids()` or `envs.mujoco_ids()`, which are ours and come before Gymnasium's;
    a Gymnasium id, behind `module:` where another package registers it; or `module:Callable`,
    which makes a `gymnasium.Env` or a `StatefulVectorEnv`
    allow_code: import modules of the working folder, and call what is named
    What the environment prints goes to stderr; its warnings are not shown.
    Raises CannotBeMade.
    """
    with (
        working_folder(allow_code),
        contextlib.redirect_stdout(sys.stderr),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        make = partial(_made, name, _maker(name, allow_code))
        first, second = make(), make()
        first.close()
        second.close()
        if first is second:
            raise _error(name, "makes one environment twice; it must make a new one every time")
        found = envs.certify(make, steps, seed)
    return replace(found, env=name, versions={**_versions(), **found.versions})


def in_words(found: Certificate) -> tuple[str, dict[str, str]]:
    """The verdict in a line, and what it rests on, by name."""
    facts = {
        "restored by": found.codec,
        "replayed": f"steps: {found.steps}, resets: {found.resets}, rows: {found.rows}",
        "lost": found.field,
        "differs": None if found.step is None else f"from step {found.step} on",
        "reason": found.reason,
        "versions": ", ".join(f"{name} {number}" for name, number in found.versions.items()),
    }
    known = {name: shown(text) for name, text in facts.items() if text is not None}
    return f"{shown(found.env)}: {found.verdict}", known


def _maker(name: str, allow_code: bool) -> Callable[[], Any]:
    """What makes the environment of that name; nothing is made yet."""
    if name in envs.ids() or name in envs.mujoco_ids():
        return partial(envs.make, name, ROWS)
    module, colon, inside = name.partition(":")
    if not colon:
        return partial(gymnasium.make, name)
    if not inside or ":" in inside or not dotted(module):
        raise _error(name, "is no name; write an id, package:id, or module:Callable")
    if not dotted(inside):
        if not allow_code and lies_here(module.partition(".")[0]):
            raise _error(name, f"{module} lies in the working folder; add --allow-code to run it")
        return partial(gymnasium.make, name)
    if not allow_code:
        raise _error(name, f"names code; add --allow-code to import {module} and call {inside}")
    try:
        found = imported(name)
    except (Exception, SystemExit) as error:
        raise _error(name, f"cannot be imported ({cause(error)})") from error
    if not callable(found):
        raise _error(name, f"is a {type(found).__name__}; name what makes an environment")
    return found


def _made(name: str, make: Callable[[], Any]) -> Any:
    try:
        made = make()
    except gymnasium.error.UnregisteredEnv as error:
        raise _error(name, _unregistered(name, error)) from error
    except (Exception, SystemExit) as error:
        raise _error(name, f"cannot be made ({cause(error)})") from error
    if not isinstance(made, gymnasium.Env | StatefulVectorEnv):
        kind = type(made).__name__
        raise _error(name, f"makes a {kind}; it must make a gymnasium.Env or a StatefulVectorEnv")
    return made


def _unregistered(name: str, error: Exception) -> str:
    known = [*envs.ids(), *envs.mujoco_ids(), *gymnasium.registry]
    near = nearest(name.rpartition(":")[2], known, ALIKE)
    guess = f"did you mean {near}?" if near else "an id of another package is package:id"
    fault = " ".join(str(error).split()).partition(" Did you mean")[0].rstrip(".")
    return f"is not known ({fault}); {guess}"


def _error(name: str, what: str) -> CannotBeMade:
    return CannotBeMade(f"{shown(name)}: {what}")


def _versions() -> dict[str, str]:
    """Of what every certificate rests on, and of the engines that are loaded."""
    found = {"python": platform.python_version()}
    for module, package in ENGINES.items():
        with contextlib.suppress(metadata.PackageNotFoundError):
            if module in sys.modules:
                found[package] = metadata.version(package)
    return found
