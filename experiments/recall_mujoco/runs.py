"""One run of TRPO or SAC on a MuJoCo task, with or without recalled traces.

Every environment step is counted. Recall takes no step of its own.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium.vector import AutoresetMode
from pydantic import BaseModel, ConfigDict
from sb3_contrib import TRPO
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from delegate import RecallTraces, StableVecEnv, envs
from experiments.study import records

BINS = 100
"""points of a curve"""
EPISODES = 16
"""of the evaluation at the end"""
ROWS = {"trpo": 8, "sac": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "trpo": {
        "n_steps": 256,
        "batch_size": 128,
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "cg_max_steps": 25,
        "cg_damping": 0.1,
        "n_critic_updates": 20,
        "learning_rate": 1e-3,
    },
    "sac": {"learning_starts": 10_000},
}
"""Of RL Baselines3 Zoo for these tasks, TRPO's 2,048 steps a rollout spread over 8 rows instead of
2; observations and rewards are normalised for TRPO, as there"""
TASK_SETTINGS: dict[tuple[str, str], dict[str, Any]] = {
    ("trpo", "HalfCheetah-v5"): {"target_kl": 0.04}
}
"""likewise"""


class Arm(BaseModel):
    """What a learner has beside its algorithm. {name: random, recall: {model: random}}"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    recall: dict[str, Any] | None = None
    """settings of RecallTraces; None for the algorithm alone"""


FILES = "experiments/recall_mujoco/runs.py", "delegate/backtrack", "envs/mujoco"
LIBRARIES = "gymnasium", "mujoco", "stable-baselines3", "sb3-contrib", "torch"
ALONE = records.Code(*FILES, libraries=LIBRARIES)
RECALLING = records.Code(*FILES, "delegate/recall", libraries=LIBRARIES)


class Run(records.Run):
    """What a run is. steps: of the environments, all rows together"""

    code: ClassVar = RECALLING
    names: ClassVar = ("algorithm", "task", "arm", "seed")

    algorithm: Literal["trpo", "sac"]
    task: str
    arm: Arm
    seed: int
    steps: int

    def decided_by(self) -> records.Code:
        return ALONE if self.arm.recall is None else RECALLING

    def train(self) -> dict[str, Any]:
        model, venv = learner(self)
        watch = Watch(self.steps)
        callbacks: list[BaseCallback] = [watch]
        if self.arm.recall is not None:
            callbacks = [RecallTraces(seed=self.seed, **self.arm.recall), watch]
        began = time.process_time()
        model.learn(self.steps, callback=CallbackList(callbacks), log_interval=10**9)
        seconds = time.process_time() - began
        venv.close()
        return {
            "steps": int(model.num_timesteps),
            "curve": {"return": records.binned(watch.ended, self.steps, BINS)},
            "recall": watch.logged(),
            "end": {
                "mean": evaluate(model, self, True),
                "sampled": evaluate(model, self, False),
            },
            "seconds": round(seconds, 1),
        }


def learner(run: Run) -> tuple[Any, VecEnv]:
    """The algorithm with its published settings, and its environments."""
    settings = SETTINGS[run.algorithm] | TASK_SETTINGS.get((run.algorithm, run.task), {})
    venv: VecEnv = world(run.task, ROWS[run.algorithm])
    if run.algorithm == "trpo":
        venv = VecNormalize(venv, gamma=settings["gamma"])
    kind = {"trpo": TRPO, "sac": SAC}[run.algorithm]
    model = kind("MlpPolicy", venv, seed=run.seed, device="cpu", **settings)
    venv.seed(run.seed * 1_000)  # seeded by the algorithm, rows of neighbouring seeds were shared
    return model, venv


def world(task: str, rows: int) -> StableVecEnv:
    """That many rows of a task."""
    env = envs.make(task, rows, num_threads=1, autoreset_mode=AutoresetMode.DISABLED)
    return StableVecEnv(env)


class Watch(BaseCallback):
    """What the episodes of training returned, and what recall logged meanwhile.

    steps: of the run · ended: the environment step at which each episode ended, and its return
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.ended: list[tuple[int, float]] = []
        self._logged: list[tuple[int, dict[str, float]]] = []

    def _on_rollout_start(self) -> None:
        names = self.model.logger.name_to_value
        share = names.get("recall/time_share")  # another after each recall, and never else
        if share is None or (self._logged and self._logged[-1][1]["recall/time_share"] == share):
            return
        logged = {n: float(v) for n, v in names.items() if n.startswith("recall/")}
        self._logged.append((self.num_timesteps, logged))

    def _on_step(self) -> bool:
        for row in np.flatnonzero(self.locals["dones"]):
            returned = self.locals["infos"][row]["episode"]["r"]
            self.ended.append((self.num_timesteps, float(returned)))
        return True

    def logged(self) -> dict[str, list[float | None]]:
        """What recall logged, averaged over tenths of the run; and the share of time at the end."""
        if not self._logged:
            return {}
        last = self._logged[-1][1]
        found: dict[str, list[float | None]] = {}
        for name in last:
            named = ((max(at, 1), values.get(name, np.nan)) for at, values in self._logged)
            there = [each for each in named if np.isfinite(each[1])]
            found[name.removeprefix("recall/")] = records.binned(there, self.steps, 10)
        return found | {"time_share_at_end": [last["recall/time_share"]]}


def evaluate(model: Any, run: Run, mean: bool) -> float:
    """Mean return of episodes of the trained policy, not charged to the learner.

    mean: its mean action, or a sample. Every evaluation of a seed begins its episodes alike.
    """
    venv = world(run.task, EPISODES)
    venv.seed(1_000_000 + 1_000 * run.seed)
    trained = model.get_vec_normalize_env()
    observation = venv.reset()
    first: list[float | None] = [None] * EPISODES
    while any(found is None for found in first):
        seen = observation if trained is None else trained.normalize_obs(observation)
        action, _ = model.predict(seen, deterministic=mean)
        observation, _, done, infos = venv.step(action)
        for row in np.flatnonzero(done):
            if first[row] is None:
                first[row] = float(infos[row]["episode"]["r"])
    venv.close()
    return float(np.mean([found for found in first if found is not None]))
