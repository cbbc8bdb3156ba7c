"""The names that scenarios have and may use; to list one kind imports what is of that kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delegate.files import shown
from delegate.importing import code_of
from delegate.registry import Registry, headline

if TYPE_CHECKING:
    from delegate.scenario import Scenario

SHIPPED = (Path(__file__).parents[1] / "scenario" / "shipped").resolve()
"""the scenarios that come with the package; in a checkout those of `experiments/scenarios`"""


def listed(kind: str) -> dict[str, str]:
    """Every name of one kind -> one line on what it is and, if it is not ours, whose.

    kind: a key of `registries()`, or "scenarios": paths below the working folder, and shipped ones
    """
    if kind == "scenarios":
        return _scenarios()
    registry = _KINDS[kind]()
    found = {name: _line(registry, name, origin) for name, origin in registry.origins().items()}
    return {**found, **_relay()} if kind == "policies" else found


def registries() -> dict[str, list[str]]:
    """Every name a scenario may use, by kind: "envs", "policies", "monitors", "statistics",
    "protocols"; nothing that packages give is imported."""
    return {kind: sorted(_KINDS[kind]()) for kind in _KINDS}


def fault(kind: str, name: str, allow_code: bool) -> str | None:
    """Why the class of that name cannot be used, with the remedy; None if it can.

    name: an id, or `module:Class` · allow_code: it may be of the working folder
    """
    return _KINDS[kind]().fault(name, allow_code)


def classes(plan: Scenario) -> dict[str, dict[str, str]]:
    """Every class that a scenario uses: where it is named -> what tells its code from other code,
    see `code_of`."""
    from delegate.scenario import names_used

    found = {}
    for kind, at, name in names_used(plan):
        found[".".join(map(str, at))] = code_of(used := _KINDS[kind]()[name])
        if kind == "monitors" and plan.monitors[str(at[1])].statistic is None:
            statistic = _statistics()[used.default_statistic]
            found[f"monitors.{at[1]}.statistic"] = code_of(statistic)
    return found


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


def _line(registry: Registry[Any], name: str, origin: str) -> str:
    if not origin:
        return headline(registry[name])
    fault = registry.fault(name, allow_code=False)
    text = headline(registry[name]) if fault is None else f"(not usable: {fault})"
    return f"{text} [{origin}]".lstrip()


def _relay() -> dict[str, str]:
    from delegate import policies
    from delegate.scenario import RELAY

    return {RELAY: headline(policies.Relay)}


def _envs() -> Registry[Any]:
    from delegate.envs.registry import LEVELLED

    return LEVELLED


def _policies() -> Registry[Any]:
    from delegate.policies.registry import POLICIES

    return POLICIES


def _monitors() -> Registry[Any]:
    from delegate.monitors.registry import MONITORS

    return MONITORS


def _statistics() -> Registry[Any]:
    from delegate.monitors.registry import STATISTICS

    return STATISTICS


def _protocols() -> Registry[Any]:
    from delegate.delegation import PROTOCOLS

    return PROTOCOLS


_KINDS: dict[str, Callable[[], Registry[Any]]] = {
    "envs": _envs,
    "policies": _policies,
    "monitors": _monitors,
    "statistics": _statistics,
    "protocols": _protocols,
}
