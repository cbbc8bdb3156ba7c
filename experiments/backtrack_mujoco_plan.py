"""What the PPO study runs: arms, the settings tried, and the ones that were chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from backtrack_mujoco_runs import PPO_SETTINGS, Arm, Run

from delegate.backtrack import BacktrackConfig

TUNED_ON = "Hopper-v5"
TUNING_SEEDS, TUNING_INTERACTIONS = (1000, 1001), 200_000
INTERACTIONS = {"Hopper-v5": 300_000, "Walker2d-v5": 300_000, "Humanoid-v5": 200_000}
SEEDS = {
    "Hopper-v5": (0, 1, 2, 3, 4),
    "Walker2d-v5": (0, 1, 2, 3, 4),
    "Humanoid-v5": (0, 1, 2),
}
BASE: dict[str, Any] = {
    "depths": (1, 4, 16),
    "budget": 8,
    "horizon": 64,
    "cost": 1.0,
    "threshold": 0.9,
    "observe": ("flag", "budget", "held"),
}
DISCOUNTED = {"refund": "discounted", "gamma": PPO_SETTINGS["gamma"]}
START = -2.0
"""0.2% of the first decisions go back; from 0 it would be 18%"""
PLAIN = Arm(name="none")


def learned(name: str, start: float = START, **changes: Any) -> Arm:
    """The policy decides; changes: to BASE."""
    settings = BacktrackConfig(**{**BASE, **changes})
    return Arm(name=name, decides="policy", start=start, backtrack=settings)


def on_falls(name: str, **changes: Any) -> Arm:
    """Always back when the task has ended; changes: to BASE."""
    settings = BacktrackConfig(**{**BASE, "observe": (), "depths": (16,), **changes})
    return Arm(name=name, decides="falls", backtrack=settings)


def by_chance(name: str, rate: float, **changes: Any) -> Arm:
    """At random; changes: to BASE."""
    settings = BacktrackConfig(**{**BASE, "observe": (), **changes})
    return Arm(name=name, decides="chance", rate=rate, backtrack=settings)


def reported(tasks: Sequence[str]) -> list[Run]:
    """Seed by seed, so that whatever is finished can be compared."""
    arms = (
        PLAIN,
        learned("backtrack"),
        on_falls("falls"),
        by_chance("chance", rate=0.02, depths=(16,), budget=1_000),
    )
    return [
        Run(task=task, arm=arm, seed=seed, interactions=INTERACTIONS[task])
        for task in tasks
        for seed in SEEDS[task]
        for arm in arms
    ]


def tuning() -> list[Run]:
    """One change at a time around BASE, and the same for going back on falls alone."""
    arms = [
        PLAIN,
        learned("base"),
        on_falls("falls"),
        learned("start-0", start=0.0),
        learned("cost-10", cost=10.0),
        learned("depth-16", depths=(16,)),
        learned("budget-2", budget=2),
        learned("discounted", **DISCOUNTED),
        on_falls("falls-4", depths=(4,)),
        on_falls("falls-48", depths=(48,)),
        on_falls("falls-budget-2", budget=2),
    ]
    return [
        Run(task=TUNED_ON, arm=arm, seed=seed, interactions=TUNING_INTERACTIONS)
        for arm in arms
        for seed in TUNING_SEEDS
    ]
