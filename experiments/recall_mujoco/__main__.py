"""Recalled traces on MuJoCo: TRPO and SAC with and without them.

    python -m experiments.recall_mujoco trpo_shipped --workers 2    # hours; killed, it goes on
    python -m experiments.recall_mujoco sac_shipped --workers 2     # hours

`RecallTraces` as it comes, by the paper's preset, with another model and with traces of other
lengths. The results without "shipped" in their names are of settings that the library no longer
has; each says which commit ran it, and how (`run_by`).
"""

from __future__ import annotations

from typing import Any, Literal

from experiments.recall_mujoco.runs import ROWS, SETTINGS, TASK_SETTINGS, Arm, Run
from experiments.recall_mujoco.summary import figures, summary, table
from experiments.study.running import Study

STEPS = {"trpo": 1_000_000, "sac": 100_000}
TASKS = {
    "trpo": ("HalfCheetah-v5", "Walker2d-v5", "Hopper-v5", "Ant-v5"),
    "sac": ("HalfCheetah-v5", "Hopper-v5", "Ant-v5"),
}
SEEDS = {"trpo": (1, 2, 3, 4, 5), "sac": (0, 1, 2)}
"""0 of TRPO was looked at while settings were sought"""
ABLATED = ("Hopper-v5", "Walker2d-v5")
"""tasks of the random model"""
CONTROLLED = ("Hopper-v5",)
"""task of the lengths"""
RECALLED, LENGTHS = 1_280, (2, 5, 10, 50)
"""steps each time, and of a trace, beside the 20 of `recall`"""
PLAIN = Arm(name="none")


def recall(name: str, **settings: Any) -> Arm:
    """Recalled traces with what comes in place of the library's defaults."""
    return Arm(name=name, recall=settings)


PAPER = {
    "trpo": recall("paper", preset="paper", targets_from="reward"),
    "sac": recall("paper", preset="paper"),
}
"""traces end where the paper has them end, on-policy and off-policy"""


def of(algorithm: Literal["trpo", "sac"], tasks: tuple[str, ...], *arms: Arm) -> list[Run]:
    """Those arms on those tasks, seed by seed, so that whatever is finished can be compared."""
    return [
        Run(algorithm=algorithm, task=task, arm=arm, seed=seed, steps=STEPS[algorithm])
        for seed in SEEDS[algorithm]
        for task in tasks
        for arm in arms
    ]


def trpo() -> list[Run]:
    """With and without recall; then what another model and other lengths give."""
    lengths = (
        recall(f"length {length}", length=length, count=RECALLED // length) for length in LENGTHS
    )
    return [
        *of("trpo", TASKS["trpo"], PLAIN, recall("recall"), PAPER["trpo"]),
        *of("trpo", ABLATED, recall("random", model="random")),
        *of("trpo", CONTROLLED, *lengths),
    ]


def sac() -> list[Run]:
    """With and without recall."""
    return of("sac", TASKS["sac"], PLAIN, recall("recall"), PAPER["sac"])


STUDY = Study(
    name="recall_mujoco",
    about=__doc__.splitlines()[0],
    plans={"trpo_shipped": trpo, "sac_shipped": sac},
    summary=summary,
    table=table,
    figures=figures,
    settings={
        "settings": SETTINGS,
        "of_tasks": {" ".join(place): more for place, more in TASK_SETTINGS.items()},
        "rows": ROWS,
    },
    of_a_run=("task",),
)

if __name__ == "__main__":
    STUDY.main()
