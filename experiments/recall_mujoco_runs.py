"""One run of TRPO or SAC on a MuJoCo task, with or without recalled traces.

Every environment step is counted. Recall takes no step of its own.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gymnasium.vector import AutoresetMode
from pydantic import BaseModel, ConfigDict
from running import kept, record_path, source_digest
from sb3_contrib import TRPO
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from delegate import RecallTraces, StableVecEnv, envs, store

ROOT = Path(__file__).parents[1]
LIBRARIES = ("gymnasium", "mujoco", "stable-baselines3", "sb3-contrib", "torch")
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
    """What a learner has beside its algorithm.

    {name: recall, recall: {length: 20, count: 64, model: learned}, networks: {members: 1}}
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    recall: dict[str, Any] | None = None
    """settings of RecallTraces; None for the algorithm alone"""
    networks: dict[str, Any] = {}
    """settings of the model, see RecallModelConfig"""


class Run(BaseModel):
    """What a run is. steps: of the environments, all rows together"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["trpo", "sac"]
    task: str
    arm: Arm
    seed: int
    steps: int

    def path(self, folder: Path) -> Path:
        """Where its record is kept; another for any other setting, code or version."""
        names = self.algorithm, self.task, self.arm.name, str(self.seed)
        return record_path(folder, self, source(self.arm), *names)


_FILES = (
    Path(__file__),
    Path(__file__).with_name("running.py"),
    ROOT / "delegate/backtrack/stable_baselines.py",
    ROOT / "envs/mujoco",
)
BASELINE_SOURCE = source_digest(_FILES, LIBRARIES)
RECALL_SOURCE = source_digest((*_FILES, ROOT / "delegate/recall"), LIBRARIES)
"""once, when the code is loaded: a file that changes later is not what has run"""


def source(arm: Arm) -> str:
    """The code that decides: recall's own does not where there is none."""
    return BASELINE_SOURCE if arm.recall is None else RECALL_SOURCE


def play(run: Run, folder: Path) -> Path:
    """Train from its seed and write the record."""
    code = {"source": source(run.arm), "versions": store.versions(LIBRARIES)}
    return kept(run.path(folder), run, code, partial(_train, run))


def _train(run: Run) -> dict[str, Any]:
    model, venv = learner(run)
    watch = Watch(run)
    callbacks = [watch] if run.arm.recall is None else [recalled(run), watch]
    began = time.process_time()
    model.learn(run.steps, callback=CallbackList(callbacks), log_interval=10**9)
    seconds = time.process_time() - began
    venv.close()
    return {
        "steps": int(model.num_timesteps),
        "curve": {"return": watch.curve()},
        "recall": watch.told(),
        "end": {
            "mean": evaluate(model, run, True),
            "sampled": evaluate(model, run, False),
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


def recalled(run: Run) -> RecallTraces:
    """The callback of an arm."""
    arm = run.arm
    return RecallTraces(seed=run.seed, model_settings=arm.networks, **(arm.recall or {}))


class Watch(BaseCallback):
    """What the episodes of training returned, when they ended, and what recall told meanwhile."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        self._ended: list[tuple[int, float]] = []
        self._told: list[tuple[int, dict[str, float]]] = []

    def _bin(self, step: int) -> int:
        return min((step - 1) * BINS // self.run.steps, BINS - 1)

    def _on_rollout_start(self) -> None:
        names = self.model.logger.name_to_value
        share = names.get("recall/time_share")  # another after each recall, and never else
        if share is None or (self._told and self._told[-1][1]["recall/time_share"] == share):
            return
        told = {n: float(v) for n, v in names.items() if n.startswith("recall/")}
        self._told.append((self.num_timesteps, told))

    def _on_step(self) -> bool:
        for row in np.flatnonzero(self.locals["dones"]):
            returned = self.locals["infos"][row]["episode"]["r"]
            self._ended.append((self.num_timesteps, float(returned)))
        return True

    def curve(self) -> list[float | None]:
        """For each bin of steps the mean return of the episodes that ended in it, None for none."""
        when = np.array([self._bin(step) for step, _ in self._ended], int)
        returned = np.array([value for _, value in self._ended])
        return [
            round(float(returned[when == n].mean()), 3) if (when == n).any() else None
            for n in range(BINS)
        ]

    def told(self) -> dict[str, list[float | None]]:
        """What recall logged, averaged over tenths of the run; the share of time as it was last."""
        if not self._told:
            return {}
        when = np.array([self._bin(max(step, 1)) * 10 // BINS for step, _ in self._told])
        found: dict[str, list[float | None]] = {}
        for name in self._told[-1][1]:
            values = np.array([told.get(name, np.nan) for _, told in self._told])
            found[name.removeprefix("recall/")] = [
                round(float(np.nanmean(values[when == n])), 6)
                if np.isfinite(values[when == n]).any()
                else None
                for n in range(10)
            ]
        found["time_share_at_end"] = [round(self._told[-1][1]["recall/time_share"], 4)]
        return found


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
