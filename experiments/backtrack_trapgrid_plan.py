"""What the trap grid experiment runs: worlds, arms, and how their settings are chosen.

Settings are chosen on tuning seeds; everything reported is from other seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from backtrack_trapgrid_runs import Arm, Measured, Run, World

from delegate.backtrack import BacktrackConfig
from delegate.policies.tabular import QLearningSettings

TUNING_FIRST, REPORTED_FIRST = 0, 1_000
ENOUGH = 0.95
"""share of tuning seeds that must end nearly optimal for a setting to be eligible (ratio)"""
COST = 0.05
"""price of one backtrack where nothing else is said; above twice the highest step cost (reward)"""
FIRST_TRY: dict[str, Any] = {"step_size": 0.5, "epsilon": 0.1, "initial_value": 0.0}
"""the settings under which the toy was first tried, the same for every arm"""
CALM: list[dict[str, Any]] = [
    {"step_size": size, "epsilon": epsilon, "initial_value": value}
    for size, epsilon, value in product((0.5, 1.0), (0.0, 0.02, 0.1), (0.0, 1.0))
]
NOISY: list[dict[str, Any]] = [
    {"step_size": size, "epsilon": epsilon, "initial_value": 0.0, "decay": 0.7}
    for size, epsilon in product((0.01, 0.05), (0.05, 0.1, 0.2))
]
SIZES, DENSITIES, STEP_COSTS, SLIPS = (8, 10, 12), (0.0, 0.1, 0.2, 0.3), (0.0, 0.01), (0.1, 0.2)
KINDS = ("plain", "learned", "known")
"""the arms whose settings are chosen"""


@dataclass(frozen=True)
class Scale:
    """How much is run. tuning_seeds, seeds: count · calm, noisy, long: interactions a seed"""

    tuning_seeds: int = 100
    seeds: int = 200
    calm: int = 20_000
    noisy: int = 100_000
    long: int = 200_000
    quick: bool = False

    def interactions(self, world: World, part: str = "") -> int:
        if part == "long":
            return self.long
        return self.noisy if world.slip else self.calm


@dataclass(frozen=True)
class Entry:
    """One row of the results. part: which question it belongs to"""

    part: str
    run: Run


def arm(
    name: str,
    learner: dict[str, Any],
    cost: float = COST,
    observe: tuple[Any, ...] = (),
    rate_of: str | None = None,
) -> Arm:
    """An arm by name: plain, or how much it is told of going back (see `going_back`)."""
    if name == "plain":
        return Arm(name=name, learner=QLearningSettings(**learner))
    told = rate_of if name == "random" else name
    budget = World().max_steps  # as many as there are decisions: no limit
    return Arm(
        name=name,
        learner=QLearningSettings(**learner, going_back=told),  # type: ignore[arg-type]
        backtrack=BacktrackConfig(cost=cost, budget=budget, horizon=16, observe=observe),
        rate_of=rate_of,
    )


def tuning(scale: Scale) -> dict[tuple[float, bool], list[Run]]:
    """The runs that settings are chosen from, by step cost and whether moves are noisy."""
    groups = {}
    for step_cost, noisy in product(STEP_COSTS, (False, True)):
        world = World(step_cost=step_cost)
        if noisy:
            world = World(size=8, step_cost=step_cost, slip=SLIPS[0])
        tried = (NOISY if noisy else CALM)[:: 4 if scale.quick else 1]
        groups[step_cost, noisy] = [
            Run(
                world=world,
                arm=arm(kind, learner),
                first_seed=TUNING_FIRST,
                seeds=scale.tuning_seeds,
                interactions=scale.interactions(world),
            )
            for kind in KINDS
            for learner in tried
        ]
    return groups


def chosen(tried: list[tuple[Run, Measured]]) -> dict[str, dict[str, Any]]:
    """The learner settings of each kind: the largest area under the online return among those
    that end nearly optimal in `ENOUGH` of the seeds, or those that do most often."""
    best = {}
    for kind in KINDS:
        mine = [(run, measured) for run, measured in tried if run.arm.name == kind]
        good = [float(np.mean(measured["nearly_optimal"])) for _, measured in mine]
        bar = min(ENOUGH, max(good))
        eligible = [pair for pair, share in zip(mine, good, strict=True) if share >= bar]
        run, _ = max(eligible, key=lambda pair: float(np.mean(pair[1]["online"])))
        best[kind] = run.arm.learner.model_dump(exclude={"going_back", "discount"})
    return best


def reported(
    scale: Scale, tuned: dict[tuple[float, bool], dict[str, dict[str, Any]]]
) -> list[Entry]:
    """Every row of the results."""

    def entry(part: str, world: World, arm: Arm) -> Entry:
        run = Run(
            world=world,
            arm=arm,
            first_seed=REPORTED_FIRST,
            seeds=scale.seeds,
            interactions=scale.interactions(world, part),
        )
        return Entry(part, run)

    entries = []
    for part, world in _worlds(scale):
        own = tuned[world.step_cost, world.slip > 0]
        if part in ("first_try", "long"):
            own = dict.fromkeys(KINDS, FIRST_TRY)
        arms = [arm(kind, own[kind]) for kind in KINDS]
        if part != "long":
            arms.append(arm("random", own["known"], rate_of="known"))
        if part == "first_try":
            arms.append(arm("aside", own["learned"]))
            arms.append(arm("random", own["learned"], rate_of="learned"))
            arms += [arm("learned", own["learned"], cost) for cost in (0.0, 0.02, 0.2)]
            arms += [arm("known", own["known"], cost) for cost in (0.0, 0.02, 0.2)]
        entries += [entry(part, world, each) for each in arms]
    for step_cost, told in product(STEP_COSTS, ((), *_OBSERVED)):
        world = World(step_cost=step_cost)
        entries.append(entry("observed", world, arm("learned", FIRST_TRY, observe=told)))
    return entries


_OBSERVED = (("flag",), ("action",), ("origin",), ("budget",))
"""what else a learner may be shown of a backtrack, beside its cell"""


def _worlds(scale: Scale) -> Iterator[tuple[str, World]]:
    sizes, densities, slips = SIZES, DENSITIES, SLIPS
    if scale.quick:
        sizes, densities, slips = SIZES[:1], DENSITIES[::2], SLIPS[:1]
    for step_cost in STEP_COSTS:
        for size in sizes:
            yield "first_try", World(size=size, step_cost=step_cost)
            yield "long", World(size=size, step_cost=step_cost)
        for size, density in product(sizes, densities):
            yield "tuned", World(size=size, trap_density=density, step_cost=step_cost)
        yield "going_on", World(step_cost=step_cost, terminal_traps=False)
        for slip in slips:
            yield "noise", World(size=8, step_cost=step_cost, slip=slip)


def reference(run: Run) -> Run | None:
    """The run whose rate of going back a random arm takes: the same but for that."""
    if run.arm.rate_of is None:
        return None
    free = run.arm.model_copy(update={"name": run.arm.rate_of, "rate_of": None})
    return run.model_copy(update={"arm": free})
