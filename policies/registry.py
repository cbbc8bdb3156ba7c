"""Every policy by its id."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from delegate.agents import Policy
from delegate.policies.scripted import GridPolicy, ProxyWalker, RandomWalk, TriggerWalker, Walker
from delegate.settings import known

POLICIES: dict[str, type[GridPolicy]] = {
    "intended": Walker,
    "proxy": ProxyWalker,
    "random": RandomWalk,
    "trigger": TriggerWalker,
}


def ids() -> list[str]:
    """Every policy id, sorted."""
    return sorted(POLICIES)


def settings_type(policy: str) -> type[BaseModel]:
    """The settings that policy takes. Raises ValueError naming the nearest id."""
    return policy_class(policy).Settings


def make(policy: str, channels: tuple[str, ...], cells: int, **settings: Any) -> Policy:
    """A child for a grid world.

    channels: names of the boolean observation's channels · cells: H * W
    Raises ValueError for an unknown id and pydantic's ValidationError for bad settings.
    """
    kind = policy_class(policy)
    checked = kind.Settings(**settings)
    return kind(channels, checked, cells)


def policy_class(policy: str) -> type[GridPolicy]:
    """The class behind an id. Raises ValueError naming the nearest id."""
    return POLICIES[known("policy", policy, ids())]
