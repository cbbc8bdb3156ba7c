"""Every policy by its id."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from delegate.agents import Policy
from delegate.envs.grid.rules import Rules
from delegate.envs.levels import WorldType
from delegate.policies.scripted import (
    ProxyWalker,
    RandomWalk,
    StrayWalker,
    TriggerWalker,
    TurningWalker,
    Walker,
)
from delegate.registry import FROM_SETTINGS, Registry
from delegate.scenario import RELAY


def _check(kind: type) -> str | None:
    """One that says itself how it is made for a world may take what it likes."""
    own = kind.for_world.__func__ is not Policy.for_world.__func__  # type: ignore[attr-defined]
    return None if own else FROM_SETTINGS(kind)


POLICIES: Registry[Policy] = Registry(
    "policy",
    "delegate.policies",
    Policy,  # type: ignore[type-abstract]
    {
        "intended": Walker,
        "proxy": ProxyWalker,
        "random": RandomWalk,
        "stray": StrayWalker,
        "trigger": TriggerWalker,
        "turning": TurningWalker,
    },
    _check,
    reserved=(RELAY,),
)
STEERED = {"intended": "Goer", "proxy": "ProxyGoer", "random": "Drift", "turning": "TurningGoer"}
"""ids of ours that worlds with continuous actions have too -> class in `controllers`"""

register = POLICIES.register
"""register("right", Right), or @register("right") on a class: see Registry.register"""


def ids() -> list[str]:
    """Every policy id, sorted."""
    return sorted(POLICIES)


def settings_type(policy: str) -> type[BaseModel]:
    """The settings that policy takes. Raises ValueError naming the nearest id."""
    return policy_class(policy).Settings


def make(policy: str, world: WorldType, **settings: Any) -> Policy:
    """A child for a world: of known kind by an id of ours, or any by its id or `module:Class`.

    world: as `envs.make_world` gives it, or a bank's `world`
    Raises ValueError for an unknown id, or one that this world has none of, and pydantic's
    ValidationError for bad settings.
    """
    kind = policy_class(policy)
    checked = kind.Settings(**settings)
    if isinstance(world, Rules) or policy not in POLICIES.ours:
        return kind.for_world(world, checked)
    if policy not in STEERED:
        raise ValueError(
            f'policy "{policy}" is for grids; for {world.id} there are {", ".join(sorted(STEERED))}'
        )
    from delegate.policies import controllers

    steered: type[Policy] = getattr(controllers, STEERED[policy])
    return steered.for_world(world, checked)


def policy_class(policy: str) -> type[Policy]:
    """The class behind an id or `module:Class`; of an id that grids and other worlds have, that
    for grids. Raises ValueError naming the nearest id.
    """
    return POLICIES[policy]
