"""Does being able to go back help in robotics? PPO on MuJoCo with and without backtracking.

    python -m experiments.backtrack_mujoco --workers 2           # hours; killed, it goes on
    python -m experiments.backtrack_mujoco tuning --workers 2    # the search for settings

The trained policy is evaluated with backtracking on and off.
"""

from __future__ import annotations

from typing import Any

from delegate.backtrack import BacktrackConfig
from experiments.backtrack_mujoco.runs import PPO_SETTINGS, ROWS, Arm, Run
from experiments.backtrack_mujoco.summary import figures, summary, table
from experiments.study.running import Study

TUNED_ON = "Hopper-v5"
TUNING_SEEDS, TUNING_INTERACTIONS = (1000, 1001), 150_000
INTERACTIONS = 200_000
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
START = 0.0
"""18% of the first decisions go back; from -2 it is 0.2%, and PPO hardly comes to try it"""
CHANCE = 0.007
"""about as often as `learned` goes back, over the whole of training (per decision)"""
PLAIN = Arm(name="none")


def learned(name: str, start: float = START, **changes: Any) -> Arm:
    """The policy decides; changes: to BASE."""
    settings = BacktrackConfig(**{**BASE, **changes})
    return Arm(name=name, decides="policy", start=start, backtrack=settings)


def disabled(name: str) -> Arm:
    """The spaces of `learned` and nothing to do with them: what wider spaces alone change."""
    return Arm(name=name, backtrack=BacktrackConfig(**{**BASE, "budget": 0}))


def on_falls(name: str, **changes: Any) -> Arm:
    """Always back when the task has ended; changes: to BASE."""
    settings = BacktrackConfig(**{**BASE, "observe": (), "depths": (16,), **changes})
    return Arm(name=name, decides="falls", backtrack=settings)


def by_chance(name: str, rate: float, **changes: Any) -> Arm:
    """At random; changes: to BASE."""
    settings = BacktrackConfig(**{**BASE, "observe": (), **changes})
    return Arm(name=name, decides="chance", rate=rate, backtrack=settings)


def reported() -> list[Run]:
    """Seed by seed, so that whatever is finished can be compared."""
    arms = (
        PLAIN,
        learned("backtrack"),
        disabled("disabled"),
        on_falls("falls"),
        by_chance("chance", rate=CHANCE),
    )
    return [
        Run(task=task, arm=arm, seed=seed, interactions=INTERACTIONS)
        for task, seeds in SEEDS.items()
        for seed in seeds
        for arm in arms
    ]


def tuning() -> list[Run]:
    """One change at a time around BASE, and the same for going back on falls alone."""
    arms = (
        PLAIN,
        disabled("disabled"),
        learned("base"),
        on_falls("falls"),
        learned("start-minus-2", start=-2.0),
        learned("depth-16", depths=(16,)),
        learned("cost-10", cost=10.0),
        learned("budget-2", budget=2),
        learned("budget-64", budget=64),
        learned("discounted", **DISCOUNTED),
        on_falls("falls-discounted", **DISCOUNTED),
        on_falls("falls-4", depths=(4,)),
        on_falls("falls-48", depths=(48,)),
        on_falls("falls-budget-2", budget=2),
        by_chance("chance", rate=CHANCE),
    )
    return [
        Run(task=TUNED_ON, arm=arm, seed=seed, interactions=TUNING_INTERACTIONS)
        for seed in TUNING_SEEDS
        for arm in arms
    ]


STUDY = Study(
    name="backtrack_mujoco",
    about=__doc__.splitlines()[0],
    plans={"reported": reported, "tuning": tuning},
    summary=summary,
    table=table,
    figures=figures,
    settings={"ppo": PPO_SETTINGS, "rows": ROWS},
    of_a_run=("task",),
    clock="interactions",
)

if __name__ == "__main__":
    STUDY.main()
