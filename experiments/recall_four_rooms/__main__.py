"""Recalled traces on Four Rooms: against an actor-critic and prioritized replay, by size.

    python -m experiments.recall_four_rooms --workers 2          # hours; killed, it goes on
    python -m experiments.recall_four_rooms ratio --workers 2    # how often, how far back
    python -m experiments.recall_four_rooms tuning --workers 2   # the search for settings
    python -m experiments.recall_four_rooms --sizes 15 19 --seeds 10 11 12 --name row6 \
        --arms actor_critic recall_exact recall_learned recall_random   # a result of its own

Start and goal are in opposite corners. Rows 1, 2, 6 and 9 of the table of Recall Traces (arXiv
1804.00379).
"""

from __future__ import annotations

from typing import Any

from experiments.recall_four_rooms.runs import ROWS, Arm, Prioritized, Run
from experiments.recall_four_rooms.summary import figures, summary, table
from experiments.study.running import Study

SIZES = (11, 13, 15, 19)
STEPS = {11: 150_000, 13: 200_000, 15: 300_000, 19: 400_000}
SEEDS = tuple(range(10))
TUNING_SEEDS, MORE_SEEDS = (1000, 1001), tuple(range(1000, 1006))
"""the latter beside prioritized replay, and where the goal is not known: two of them decide nothing
there"""
A2C: dict[str, Any] = {
    "n_steps": 5,
    "gae_lambda": 0.95,
    "ent_coef": 0.01,
    "learning_rate": 3e-3,
}
"""the best of `tuning` for the actor-critic alone, at 15; at 19 none of them learns the way"""
A2C_PRIORITIZED: dict[int, dict[str, Any]] = {
    **dict.fromkeys((11, 13, 15), A2C),
    19: A2C | {"ent_coef": 0.0, "learning_rate": 1e-3},
}
"""likewise beside prioritized replay, at 15 and at 19"""
RECALL: dict[str, Any] = {
    "length": 20,
    "count": 64,
    "every": 1_024,
    "start": 1_024,
    "imitation_updates": 5,
    "learning_rate": 1e-3,
}
"""what the search for settings of recall began with"""
CHOSEN: dict[str, Any] = {"imitation_updates": 20}
"""the best of `tuning` where the goal is known"""
UNKNOWN: dict[str, Any] = {"goal": False, "targets_from": "reward", "targets": 0.02}
"""traces end where the goal was found"""
PER = {
    11: Prioritized(batch=200, alpha=0.8),
    13: Prioritized(batch=2_000, alpha=0.8),
    15: Prioritized(batch=1_000, alpha=0.95),
    19: Prioritized(batch=1_000, alpha=0.95),
}
"""as reported with Recall Traces; those of 15 for 19, for which none are"""
_ADDED: tuple[dict[str, Any], ...] = ({}, {"length": 40}, {"imitation_updates": 20})
"""what is sought of recall"""
PLAIN = Arm(name="actor_critic")


def recall(name: str, model: Any, *, goal: bool = True, **changes: Any) -> Arm:
    """Recalled traces; changes: to RECALL."""
    return Arm(name=name, model=model, goal=goal, recall={**RECALL, **changes})


def prioritized(size: int, name: str = "prioritized") -> Arm:
    """Replay as reported for that size."""
    return Arm(name=name, prioritized=PER[size])


def arms(size: int) -> tuple[Arm, ...]:
    """Of the report."""
    return (
        PLAIN,
        prioritized(size),
        recall("recall_exact", "exact", **CHOSEN),
        recall("recall_learned", "learned", **CHOSEN),
        recall("recall_random", "random", **CHOSEN),
        recall("goal_unknown", "learned", **UNKNOWN),
    )


def reported() -> list[Run]:
    """Seed by seed, so that whatever is finished can be compared."""
    return [run_of(size, arm, seed) for seed in SEEDS for size in SIZES for arm in arms(size)]


def ratio() -> list[Run]:
    """How often to recall, and how far back, with the exact model."""
    return [
        run_of(15, _often(every, length), seed)
        for seed in SEEDS
        for length in (10, 40)
        for every in (512, 2_048, 8_192, 32_768)
    ]


def tuning() -> list[Run]:
    """Settings of the actor-critic alone, beside prioritized replay, then of recall, on seeds that
    are not reported."""
    a2c = [
        run_of(size, Arm(name=_named(changes)), seed, A2C | changes)
        for size, seeds in ((15, TUNING_SEEDS), (19, MORE_SEEDS))
        for seed in seeds
        for changes in (
            {"n_steps": n_steps, "ent_coef": ent_coef, "learning_rate": rate}
            for n_steps in (5, 16)
            for ent_coef in (0.01, 0.02)
            for rate in (1e-3, 3e-3)
        )
    ]
    replayed = [
        run_of(size, prioritized(size, _named(changes, "prioritized")), seed, A2C | changes)
        for size in (15, 19)
        for seed in MORE_SEEDS
        for changes in (
            {"ent_coef": ent_coef, "learning_rate": rate}
            for ent_coef in (0.0, 0.01)
            for rate in (1e-3, 3e-3)
        )
    ]
    recalls = [
        run_of(19, recall(_named(changes, model), model, **changes), seed)
        for seed in TUNING_SEEDS
        for model in ("exact", "learned")
        for changes in _ADDED
    ]
    unknown = [
        run_of(19, recall(_named(changes, "goal_unknown"), "learned", **UNKNOWN, **changes), seed)
        for seed in MORE_SEEDS
        for changes in _ADDED[::2]
    ]
    return a2c + replayed + recalls + unknown


def run_of(size: int, arm: Arm, seed: int, a2c: dict[str, Any] | None = None) -> Run:
    """With the study's settings where none are given."""
    own = A2C if arm.prioritized is None else A2C_PRIORITIZED[size]
    return Run(size=size, arm=arm, seed=seed, steps=STEPS[size], a2c=a2c or own)


def _named(changes: dict[str, Any], *before: str) -> str:
    return ", ".join([*before, *(f"{name} {value}" for name, value in changes.items())])


def _often(every: int, length: int) -> Arm:
    return recall(f"every {every}, length {length}", "exact", every=every, length=length)


STUDY = Study(
    name="recall_four_rooms",
    about=__doc__.splitlines()[0],
    plans={"reported": reported, "ratio": ratio, "tuning": tuning},
    summary=summary,
    table=table,
    figures=figures,
    settings={"a2c": A2C, "a2c_prioritized": A2C_PRIORITIZED, "rows": ROWS},
    of_a_run=("size",),
)

if __name__ == "__main__":
    STUDY.main()
