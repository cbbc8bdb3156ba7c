"""One run of the measure of directions; see recall_direction_measure.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from recall_direction_algorithms import KINDS
from recall_mujoco_plan import FIXED, exacter, stepped
from recall_mujoco_runs import COMMIT, LIBRARIES, RECALL_SOURCE, Arm, learner, recalled
from recall_mujoco_runs import Run as Training
from running import record_path, source_digest
from stable_baselines3.common.callbacks import CallbackList

from delegate import store
from delegate.files import write_whole

MOMENTS = (0.3, 0.6, 1.0)
"""shares of the steps"""
BEYOND = 4_096
"""steps to train after the last moment, so that it comes"""
_FILES = sorted(Path(__file__).parent.glob("recall_direction_*.py"))
SOURCE = source_digest(_FILES, LIBRARIES) + RECALL_SOURCE
_QUIET: dict[str, Any] = {"optimiser": "adam", "max_divergence": None, "imitation_updates": 0}
LEARNING = {
    "trpo": exacter("learning", **(FIXED | _QUIET)),
    "sac": stepped("learning", **_QUIET),
}
"""the model of `recall`, and no imitation"""


class Run(BaseModel):
    """What a run is. steps: of the environments, all rows together"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["trpo", "sac"]
    task: str
    seed: int
    steps: int

    @property
    def arm(self) -> Arm:
        """What learns meanwhile."""
        return LEARNING[self.algorithm]

    def path(self, folder: Path) -> Path:
        """Where its record is kept; another for any other setting, code or version."""
        return record_path(folder, self, SOURCE, self.algorithm, self.task, str(self.seed))


def play(run: Run, folder: Path) -> Path:
    """Train, measure and write the record, whole or not at all; one that is there stays."""
    path = run.path(folder)
    if path.exists():
        return path
    torch.set_num_threads(1)
    given = run.model_dump() | {"arm": run.arm, "steps": run.steps + BEYOND}
    training = Training(**given)
    model, venv = learner(training)
    callback = recalled(training)
    moments = [share * run.steps for share in MOMENTS]
    directions = KINDS[run.algorithm](run.task, moments, run.seed, callback)
    callbacks = CallbackList([callback, directions])
    model.learn(training.steps, callback=callbacks, log_interval=10**9)
    venv.close()
    record = {
        "run": run.model_dump(mode="json"),
        "arm": run.arm.model_dump(mode="json"),
        "commit": COMMIT,
        "source": SOURCE,
        "versions": store.versions(LIBRARIES),
        "rows": directions.found,
        "depth": directions.depth,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, store.as_json(record))
    return path
