"""One run of SAC on the U-maze of a point mass, with hindsight replay, recalled traces, or both.

The reward is 1 at the goal and 0 elsewhere; goal and start are drawn anew for every episode. Every
environment step is counted.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import gymnasium_robotics
from pydantic import BaseModel, ConfigDict
from running import kept, record_path, source_digest, success_rates
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from delegate import RecallTraces, store

ROOT = Path(__file__).parents[1]
LIBRARIES = ("gymnasium", "gymnasium-robotics", "mujoco", "stable-baselines3", "torch")
TASK, MAX_STEPS = "PointMaze_UMaze-v3", 150
BINS = 30
"""points of a curve"""
SAC_SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "gamma": 0.95,
    "batch_size": 256,
    "learning_starts": 1_000,
    "policy_kwargs": {"net_arch": [64, 64]},
}
"""Of RL Baselines3 Zoo for FetchReach, its smallest task with goals"""
HER_SETTINGS = {"n_sampled_goal": 4, "goal_selection_strategy": "future"}
"""likewise"""
_FILES = (Path(__file__), Path(__file__).with_name("running.py"), ROOT / "delegate/recall")
SOURCE = source_digest(_FILES, LIBRARIES)


class Arm(BaseModel):
    """What a learner has beside SAC. recall: settings of RecallTraces; None for none"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    hindsight: bool = False
    recall: dict[str, Any] | None = None


class Run(BaseModel):
    """What a run is. steps: of the environment"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    arm: Arm
    seed: int
    steps: int

    def path(self, folder: Path) -> Path:
        """Where its record is kept; another for any other setting, code or version."""
        return record_path(folder, self, SOURCE, self.arm.name, str(self.seed))


def play(run: Run, folder: Path) -> Path:
    """Train from its seed and write the record."""
    code = {"source": SOURCE, "versions": store.versions(LIBRARIES)}
    return kept(run.path(folder), run, code, partial(_train, run))


def _train(run: Run) -> dict[str, Any]:
    gymnasium.register_envs(gymnasium_robotics)
    settings = {**SAC_SETTINGS, "policy_kwargs": dict(SAC_SETTINGS["policy_kwargs"])}
    if run.arm.hindsight:
        settings["replay_buffer_class"] = HerReplayBuffer
        settings["replay_buffer_kwargs"] = dict(HER_SETTINGS)
    env = gymnasium.make(TASK, max_episode_steps=MAX_STEPS)
    model = SAC("MultiInputPolicy", env, seed=run.seed, device="cpu", **settings)
    callbacks: list[BaseCallback] = [watch := Watch(run)]
    if run.arm.recall is not None:
        callbacks.append(RecallTraces(seed=run.seed, **run.arm.recall))
    began = time.process_time()
    model.learn(run.steps, callback=CallbackList(callbacks), log_interval=10**9)
    seconds = time.process_time() - began
    env.close()
    return {
        "success": watch.success(),
        "recall": {
            name.removeprefix("recall/"): float(value)
            for name, value in model.logger.name_to_value.items()
            if name.startswith("recall/")
        },
        "seconds": round(seconds, 1),
    }


class Watch(BaseCallback):
    """Which episodes of training came to their goal."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self._reached, self._ended = False, list[tuple[int, bool]]()

    def _on_step(self) -> bool:
        self._reached |= bool(self.locals["infos"][0]["success"])
        if self.locals["dones"][0]:
            self._ended.append((self.num_timesteps, self._reached))
            self._reached = False
        return True

    def success(self) -> list[float | None]:
        """See `success_rates`."""
        return success_rates(self._ended, self.run.steps, BINS)
