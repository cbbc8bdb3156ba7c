"""The names that scenarios have and may use; to list one kind imports what is of that kind."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from delegate.files import shown

SHIPPED = (Path(__file__).parents[1] / "scenario" / "shipped").resolve()
"""the scenarios that come with the package; in a checkout those of `experiments/scenarios`"""


def listed(kind: str) -> dict[str, str]:
    """Every name of one kind -> one line on what it is.

    kind: a key of `registries()`, or "scenarios": paths below the working folder, and shipped ones
    """
    if kind == "scenarios":
        return _scenarios()
    return {name: _headline(thing) for name, thing in _KINDS[kind]().items()}


def registries() -> dict[str, dict[str, str]]:
    """Every name a scenario may use: kind -> id -> one line on what it is."""
    return {kind: listed(kind) for kind in _KINDS}


def _scenarios() -> dict[str, str]:
    from delegate.scenario.document import ScenarioError, read

    found: dict[str, str] = {}
    seen: set[Path] = set()
    for folder in (Path("experiments") / "scenarios", SHIPPED):
        for path in sorted(folder.glob("*.yaml")):
            if path.resolve() in seen:
                continue
            seen.add(path.resolve())
            try:
                found[shown(path)] = str(read(path).data.get("title", ""))
            except ScenarioError as error:
                found[shown(path)] = f"(not usable: {str(error).splitlines()[0]})"
    return found


def _envs() -> Mapping[str, type]:
    from delegate import envs

    return {name: envs.world_type(name) for name in envs.world_ids()}


def _policies() -> Mapping[str, type]:
    from delegate import policies
    from delegate.scenario import RELAY

    known = {name: policies.policy_class(name) for name in policies.ids()}
    return {**known, RELAY: policies.Relay}


def _monitors() -> Mapping[str, type]:
    from delegate import monitors

    return {name: monitors.monitor_class(name) for name in monitors.ids()}


def _statistics() -> Mapping[str, type]:
    from delegate import monitors

    return {name: monitors.statistic_class(name) for name in monitors.statistic_ids()}


def _protocols() -> Mapping[str, type]:
    from delegate.delegation.protocols import PROTOCOLS

    return PROTOCOLS


_KINDS: dict[str, Callable[[], Mapping[str, type]]] = {
    "envs": _envs,
    "policies": _policies,
    "monitors": _monitors,
    "statistics": _statistics,
    "protocols": _protocols,
}


def _headline(thing: type) -> str:
    """The first line of its docstring, less the id it may begin with."""
    first = (thing.__doc__ or "").strip().splitlines()[0].rstrip(".")
    return re.sub(r"^`\w+`: ", "", first)
