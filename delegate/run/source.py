"""The worlds in `envs` and the agents in `policies`, as scenarios name them. Nothing else in this
package knows them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, model_validator

from delegate import envs, monitors, policies, scenario
from delegate.agents import Agent, Policy
from delegate.backtrack import StatefulVectorEnv
from delegate.bank import Bank
from delegate.envs.grid import PlainGrid
from delegate.envs.levels import WorldType
from delegate.run.names import registries
from delegate.scenario import Actor, Scenario

SEED_BLOCK = 5_000_000
FIRST_LEVEL = 1_000_000_000
SPLITS = {"train": 0, "calibrate": 1, "validate": 2, "test_nominal": 3, "test_shifted": 4}
"""in the order in which they are drawn: each leaves out the levels of those before it"""
SPLIT_BLOCK = SEED_BLOCK // len(SPLITS)
"""level seeds of a training seed's split: FIRST_LEVEL + seed * SEED_BLOCK + split * SPLIT_BLOCK"""

DECIDED_ELSEWHERE = {
    "max_steps": "delegation.interactions",
    "discount": "world.discount",
    "num_levels": "levels",
    "level_seed": "seeds",
}
"""settings of a world that a scenario may not give, and what gives them"""

TRIES_A_LEVEL, LEAST_TRIES = 64, 10_000
"""level seeds tried for each level wanted, and for a split at least, before it is given up"""


def make_world(id: str, rows: int, **settings: Any) -> StatefulVectorEnv:
    """A batch of that many rows of a shipped world; raises ValueError as `envs.make` does."""
    return envs.make(id, rows, **settings)


def plain_grid(id: str, *, observation: str, **settings: Any) -> PlainGrid:
    """One row of a grid world as a plain Python loop."""
    batch = envs.make(id, 1, **settings)
    return PlainGrid(batch.rules, batch.levels, observation=observation)


def load_scenario(path: Path) -> Scenario:
    """Read a scenario and check all of it, nested settings too.

    Raises ScenarioError naming file, line, key and remedy.
    """
    return scenario.load(path, registries(), _settings_of)


class Source:
    """Worlds and agents of a scenario."""

    def __init__(self, plan: Scenario) -> None:
        self._plan = plan
        self._fixed = {"max_steps": plan.delegation.interactions, "discount": plan.world.discount}
        self._settings = {**plan.world.settings, **self._fixed}
        self._world = envs.make_world(plan.world.id, self._settings)
        self._drawn = lru_cache(maxsize=1)(self._draw)

    def bank(self, seed: int, split: str) -> Bank:
        """What the trials of one seed play in one split: "train", "calibrate" or "test"."""
        drawn = self._drawn(seed)
        parts = ("test_nominal", "test_shifted") if split == "test" else (split,)
        levels = envs.concatenate(*(drawn[part] for part in parts))
        return envs.make_bank(self._plan.world.id, levels, **self._settings)

    def policy(self, actor: Actor) -> Policy:
        return policies.make(actor.policy, self._world, **actor.settings)

    def relay(self) -> Agent:
        return policies.Relay(self._plan.delegation.budget)

    def root(self) -> Agent:
        alone = self.policy(self._plan.parent.alone)
        return policies.InTurn(self._plan.delegation.budget, alone)

    def _draw(self, seed: int) -> dict[str, Any]:
        """Every split's levels, none of which is in two of them or in one twice."""
        seen: set[bytes] = set()
        return {split: self._levels(seed, split, seen) for split in SPLITS}

    def _levels(self, seed: int, split: str, seen: set[bytes]) -> Any:
        world, shifted = self._plan.world, split == "test_shifted"
        own = world.shifted_settings if shifted else world.nominal_settings
        only = shifted and self._plan.levels.distinguishing_only
        key = "test" if split.startswith("test") else split
        count = self._plan.levels.model_dump(by_alias=True)[key]
        first = FIRST_LEVEL + seed * SEED_BLOCK + SPLITS[split] * SPLIT_BLOCK
        tries = min(SPLIT_BLOCK, max(count * TRIES_A_LEVEL, LEAST_TRIES))
        try:
            return envs.levels(
                world.id,
                "shifted" if shifted else "nominal",
                seeds=range(first, first + tries),
                count=count,
                distinguishing_only=only,
                seen=seen,
                settings={**own, **self._fixed},
            )
        except envs.TooFewLevels as error:
            remedy = f"lower levels.{key} or enlarge the world"
            if only and not error.count:
                remedy = (
                    "let world.shifted put the goal elsewhere than the proxy, "
                    "or set levels.distinguishing_only: false"
                )
            raise ValueError(f"{error.found} in {split}; {remedy}") from None


def _settings_of(kind: str, name: str) -> Callable[..., object] | None:
    """What a scenario's settings are checked against."""
    if kind == "envs":
        return _scenario_settings(envs.settings_type(name))
    if kind == "levels":
        return partial(_check_distribution, envs.world_type(name))
    if kind == "policies":
        return policies.settings_type(name)
    if kind == "statistics":
        return monitors.statistic_class(name).Settings
    return monitors.monitor_class(name).Settings


def _scenario_settings(world: type[BaseModel]) -> type[BaseModel]:
    """A world's settings less those that the scenario decides elsewhere."""

    class Settings(world):  # type: ignore[valid-type,misc]
        @model_validator(mode="before")
        @classmethod
        def _decided_elsewhere(cls, given: dict[str, Any]) -> dict[str, Any]:
            for name, instead in DECIDED_ELSEWHERE.items():
                if name in given:
                    raise ValueError(f"{name} is set by {instead} here; leave it out")
            return given

    return Settings


def _check_distribution(world: type[WorldType], **settings: Any) -> None:
    """Refuse what only `world.settings` may say: the rules of play are the same in both."""
    for name in settings:
        if name in world.settings_type.model_fields and name not in world.level_settings:
            raise ValueError(
                f"{name} is the same in both distributions; move it to world.settings "
                f"(may differ: {', '.join(sorted(world.level_settings))})"
            )
