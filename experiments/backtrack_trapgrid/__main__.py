"""Does it help to be able to go back? Plain against backtracking Q-learning in a grid with traps.

    python -m experiments.backtrack_trapgrid --workers 2    # hours; killed, it goes on
    python -m experiments.backtrack_trapgrid --quick        # a minute or two, to see it work

Every arm's settings are chosen on tuning seeds; everything reported is from other seeds. A run is
all seeds of an arm in a world. --quick writes beside its runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from delegate.backtrack import BacktrackConfig
from delegate.policies.tabular import QLearningSettings
from experiments.backtrack_trapgrid.runs import Arm, Run, World
from experiments.backtrack_trapgrid.summary import figures, rows, summary, tables
from experiments.study.records import EXPERIMENTS, Record, Refused, write_result
from experiments.study.running import carry_out, options

NAME = "backtrack_trapgrid"
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


QUICK = Scale(tuning_seeds=10, seeds=20, calm=2_000, noisy=2_000, long=4_000, quick=True)


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
    known = rate_of if name == "random" else name
    budget = World().max_steps  # as many as there are decisions: no limit
    return Arm(
        name=name,
        learner=QLearningSettings(**learner, going_back=known),  # type: ignore[arg-type]
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


def chosen(records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """The learner settings of each kind, from its runs: the largest area under the online return
    among those that end nearly optimal in `ENOUGH` of the seeds, or those that do most often."""
    best = {}
    for kind in KINDS:
        mine = [record for record in records if record["run"]["arm"]["name"] == kind]
        bar = min(ENOUGH, max(_value(record, "nearly_optimal") for record in mine))
        eligible = [record for record in mine if _value(record, "nearly_optimal") >= bar]
        learner = max(eligible, key=lambda record: _value(record, "online_area"))["run"]["arm"]
        shared = ("going_back", "discount")
        best[kind] = {n: value for n, value in learner["learner"].items() if n not in shared}
    return best


def _value(record: Record, name: str) -> float:
    return float(record["measures"][name]["value"])


def reported(
    scale: Scale, tuned: dict[tuple[float, bool], dict[str, dict[str, Any]]]
) -> list[tuple[str, Run]]:
    """Every row of the results: which question it belongs to, and its run."""

    def entry(part: str, world: World, arm: Arm) -> tuple[str, Run]:
        run = Run(
            world=world,
            arm=arm,
            first_seed=REPORTED_FIRST,
            seeds=scale.seeds,
            interactions=scale.interactions(world, part),
        )
        return part, run

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
    for step_cost, observe in product(STEP_COSTS, ((), *_OBSERVED)):
        world = World(step_cost=step_cost)
        entries.append(entry("observed", world, arm("learned", FIRST_TRY, observe=observe)))
    return entries


_OBSERVED = (("flag",), ("action",), ("origin",), ("budget",))
"""what else a learner may be shown of a backtrack, beside its cell"""


def _worlds(scale: Scale) -> Iterator[tuple[str, World]]:
    quick = scale.quick
    sizes = SIZES[:1] if quick else SIZES
    densities = DENSITIES[::2] if quick else DENSITIES
    slips = SLIPS[:1] if quick else SLIPS
    for step_cost in STEP_COSTS:
        for size in sizes:
            yield "first_try", World(size=size, step_cost=step_cost)
            yield "long", World(size=size, step_cost=step_cost)
        for size, density in product(sizes, densities):
            yield "tuned", World(size=size, trap_density=density, step_cost=step_cost)
        yield "going_on", World(step_cost=step_cost, terminal_traps=False)
        for slip in slips:
            yield "noise", World(size=8, step_cost=step_cost, slip=slip)


def main(arguments: Sequence[str] | None = None) -> None:
    """Choose, run, summarise, draw, print."""
    parser = options(NAME, __doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few seeds, few worlds, few steps")
    given = parser.parse_args(arguments)
    scale = QUICK if given.quick else Scale()
    try:
        groups = tuning(scale)
        tried = {group: _all(runs, given) for group, runs in groups.items()}
        tuned = {group: chosen(records) for group, records in tried.items()}
        entries = reported(scale, tuned)
        runs = list({run.model_dump_json(): run for _, run in entries}.values())
        records = _all(runs, given)
    except Refused as error:
        parser.error(str(error))
    result = rows(entries, records)
    home = EXPERIMENTS if scale == Scale() else given.out
    document = {
        "tuning_seeds": [TUNING_FIRST, TUNING_FIRST + scale.tuning_seeds - 1],
        "reported_seeds": [REPORTED_FIRST, REPORTED_FIRST + scale.seeds - 1],
        "chosen": [
            {"step_cost": step_cost, "noisy": noisy, "chosen": tuned[step_cost, noisy]}
            for step_cost, noisy in groups
        ],
        "summary": summary(result),
    }
    every = [record for group in tried.values() for record in group] + records
    write_result(home, NAME, every, document)
    figures(result, home / "figures")
    print(tables(result))


def _all(runs: Sequence[Run], given: Any) -> list[Record]:
    """Of each run its record. Raises Refused, gathering, if any is missing."""
    records = carry_out(runs, NAME, given)
    if len(records) < len(runs):
        raise Refused("what is chosen or compared takes all of them; leave out --gather")
    return records


if __name__ == "__main__":
    main()
