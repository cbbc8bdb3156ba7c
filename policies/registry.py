"""Every policy by its id."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from delegate.agents import Policy
from delegate.envs.grid.rules import Rules
from delegate.envs.levels import WorldType
from delegate.policies.scripted import (
    GridPolicy,
    ProxyWalker,
    RandomWalk,
    StrayWalker,
    TriggerWalker,
    TurningWalker,
    Walker,
)
from delegate.settings import known

POLICIES: dict[str, type[GridPolicy]] = {
    "intended": Walker,
    "proxy": ProxyWalker,
    "random": RandomWalk,
    "stray": StrayWalker,
    "trigger": TriggerWalker,
    "turning": TurningWalker,
}


def ids() -> list[str]:
    """Every policy id, sorted."""
    return sorted(POLICIES)


def settings_type(policy: str) -> type[BaseModel]:
    """The settings that policy takes. Raises ValueError naming the nearest id."""
    return policy_class(policy).Settings


def make(policy: str, world: WorldType, **settings: Any) -> Policy:
    """A child of known kind for a world.

    world: as `envs.make_world` gives it, or a bank's `world`
    Raises ValueError for an unknown id, or one that this world has none of, and pydantic's
    ValidationError for bad settings.
    """
    kind = policy_class(policy)
    checked = kind.Settings(**settings)
    if isinstance(world, Rules):
        return kind(world.channels, checked, world.settings.size**2)
    from delegate.policies import controllers

    steered: dict[str, type[controllers.Controller]] = {
        "intended": controllers.Goer,
        "proxy": controllers.ProxyGoer,
        "random": controllers.Drift,
        "turning": controllers.TurningGoer,
    }
    if policy not in steered:
        raise ValueError(
            f'policy "{policy}" is for grids; for {world.id} there are {", ".join(sorted(steered))}'
        )
    return steered[policy](world.planner, world.goals, checked)  # type: ignore[attr-defined]


def policy_class(policy: str) -> type[GridPolicy]:
    """The class behind an id. Raises ValueError naming the nearest id."""
    return POLICIES[known("policy", policy, ids())]
