"""One run of the measure of directions; see recall_direction_measure.py."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from recall_direction_algorithms import KINDS
from recall_mujoco_plan import FIXED, exacter, stepped
from recall_mujoco_runs import LIBRARIES, RECALL_SOURCE, Arm, learner, recalled
from recall_mujoco_runs import Run as Training
from running import kept, record_path, source_digest
from stable_baselines3.common.callbacks import CallbackList

from delegate import store

TASKS = ("HalfCheetah-v5", "Hopper-v5")
SEEDS = (100, 101, 102)
STEPS = {"trpo": 320_000, "sac": 40_000}
MOMENTS = {"trpo": (0.125, 0.375, 1.0), "sac": (0.5, 1.0)}
"""shares of the steps"""
DIVERGENCES = {"trpo": (0.002, 0.01), "sac": (0.001, 0.02, 0.1)}
"""nats: what `recall` allows itself and TRPO's own; one so short that a gain is nearly in
proportion to what is moved, and those of the arms of SAC"""
BEYOND = 4_096
"""steps to train after the last moment, so that it comes"""
SOURCE = source_digest(sorted(Path(__file__).parent.glob("recall_direction_*.py")), LIBRARIES)
SOURCE += RECALL_SOURCE
_QUIET: dict[str, Any] = {"optimiser": "adam", "max_divergence": None, "imitation_updates": 0}
LEARNING = {
    "trpo": exacter("learning", **(FIXED | _QUIET)),
    "sac": stepped("learning", **_QUIET),
}
"""the model of `recall`, and no imitation"""


class Run(BaseModel):
    """What a run is. steps: of the environments, all rows together, up to the last of the moments ·
    arm: what learns meanwhile · moments: shares of the steps · divergences: nats"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["trpo", "sac"]
    task: str
    arm: Arm
    seed: int
    steps: int
    moments: tuple[float, ...]
    divergences: tuple[float, ...]

    def path(self, folder: Path) -> Path:
        """Where its record is kept; another for any other setting, code or version."""
        return record_path(folder, self, SOURCE, self.algorithm, self.task, str(self.seed))


def plan() -> list[Run]:
    """Seed by seed, so that whatever is finished can be compared."""
    return [
        Run(
            algorithm=algorithm,
            task=task,
            arm=LEARNING[algorithm],
            seed=seed,
            steps=STEPS[algorithm],
            moments=MOMENTS[algorithm],
            divergences=DIVERGENCES[algorithm],
        )
        for seed in SEEDS
        for algorithm in MOMENTS
        for task in TASKS
    ]


def play(run: Run, folder: Path) -> Path:
    """Train, measure and write the record."""
    code = {"source": SOURCE, "versions": store.versions(LIBRARIES)}
    return kept(run.path(folder), run, code, partial(_measure, run))


def _measure(run: Run) -> dict[str, Any]:
    given = {name: getattr(run, name) for name in ("algorithm", "task", "arm", "seed")}
    training = Training(**given, steps=run.steps + BEYOND)
    model, venv = learner(training)
    callback = recalled(training)
    moments = [share * run.steps for share in run.moments]
    how = run.task, moments, run.divergences, run.seed, callback
    directions = KINDS[run.algorithm](*how)
    callbacks = CallbackList([callback, directions])
    model.learn(training.steps, callback=callbacks, log_interval=10**9)
    venv.close()
    return {"rows": directions.found, "depth": directions.depth}
