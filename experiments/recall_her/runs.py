"""One run of SAC on the U-maze of a point mass, with hindsight replay, recalled traces, or both.

The reward is 1 at the goal and 0 elsewhere; goal and start are drawn anew for every episode. Every
environment step is counted.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

import gymnasium
import gymnasium_robotics
from pydantic import BaseModel, ConfigDict
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from delegate import RecallTraces
from experiments.study import records

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
CODE = records.Code(
    "experiments/recall_her/runs.py",
    "delegate/recall",
    libraries=("gymnasium", "gymnasium-robotics", "mujoco", "stable-baselines3", "torch"),
)


class Arm(BaseModel):
    """What a learner has beside SAC. recall: settings of RecallTraces; None for none"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    hindsight: bool = False
    recall: dict[str, Any] | None = None


class Run(records.Run):
    """What a run is. steps: of the environment"""

    code: ClassVar = CODE
    names: ClassVar = ("arm", "seed")

    arm: Arm
    seed: int
    steps: int

    def train(self) -> dict[str, Any]:
        gymnasium.register_envs(gymnasium_robotics)
        settings = {**SAC_SETTINGS, "policy_kwargs": dict(SAC_SETTINGS["policy_kwargs"])}
        if self.arm.hindsight:
            settings["replay_buffer_class"] = HerReplayBuffer
            settings["replay_buffer_kwargs"] = dict(HER_SETTINGS)
        env = gymnasium.make(TASK, max_episode_steps=MAX_STEPS)
        model = SAC("MultiInputPolicy", env, seed=self.seed, device="cpu", **settings)
        callbacks: list[BaseCallback] = [watch := Watch()]
        if self.arm.recall is not None:
            callbacks.append(RecallTraces(seed=self.seed, **self.arm.recall))
        began = time.process_time()
        model.learn(self.steps, callback=CallbackList(callbacks), log_interval=10**9)
        seconds = time.process_time() - began
        env.close()
        return {
            "success": records.binned(watch.ended, self.steps, BINS),
            "recall": {
                name.removeprefix("recall/"): float(value)
                for name, value in model.logger.name_to_value.items()
                if name.startswith("recall/")
            },
            "seconds": round(seconds, 1),
        }


class Watch(BaseCallback):
    """When episodes of training ended, and which came to their goal."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[tuple[int, bool]] = []
        self._reached = False

    def _on_step(self) -> bool:
        self._reached |= bool(self.locals["infos"][0]["success"])
        if self.locals["dones"][0]:
            self.ended.append((self.num_timesteps, self._reached))
            self._reached = False
        return True
