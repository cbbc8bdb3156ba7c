"""One run of PPO on a MuJoCo task, with or without going back.

Every arm pays for the same number of interactions: environment steps that stand, steps that were
undone, and the backtracks themselves.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from pydantic import BaseModel, ConfigDict
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

from delegate import StableVecEnv, VectorBacktrack, envs
from delegate.backtrack import BacktrackConfig
from experiments.study import records

CODE = records.Code(
    "experiments/backtrack_mujoco/runs.py",
    "delegate/backtrack",
    "envs/mujoco",
    libraries=("gymnasium", "mujoco", "stable-baselines3", "torch"),
)
ROWS = 8
EVALUATIONS = 10
EPISODES = {"curve": 16, "end": 32}
PPO_SETTINGS: dict[str, Any] = {
    "n_steps": 256,
    "batch_size": 64,
    "n_epochs": 10,
    "learning_rate": 3e-4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "ent_coef": 0.0,
}
"""Stable-Baselines3's defaults, its 2,048 steps a rollout spread over 8 rows"""


class Arm(BaseModel):
    """Who decides to go back, how far it may, and at what price.

    {name: policy, decides: policy, start: -2.0, backtrack: {depths: [1, 4, 16], budget: 8}}
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    decides: Literal["nobody", "policy", "chance", "falls"] = "nobody"
    """policy: a coordinate of its action · chance: at random, whatever the policy does ·
    falls: always when the task has ended and could be taken back, never else ·
    nobody: never; with `backtrack`, whose budget is then 0, the spaces are those of policy"""
    start: float = 0.0
    """mean of that coordinate before learning, its standard deviation being 1"""
    rate: float = 0.0
    """probability of a backtrack by chance (per decision)"""
    backtrack: BacktrackConfig | None = None


class Run(records.Run):
    """What a run is. interactions: of all rows together"""

    code: ClassVar = CODE
    names: ClassVar = ("task", "arm", "seed")

    task: str
    arm: Arm
    seed: int
    interactions: int

    def train(self) -> dict[str, Any]:
        began = time.perf_counter()
        rows, face = world(self.task, self.arm, ROWS, 0)
        venv = VecNormalize(rows, gamma=PPO_SETTINGS["gamma"])
        model = PPO("MlpPolicy", venv, seed=self.seed, device="cpu", **PPO_SETTINGS)
        venv.seed(self.seed * 1_000)  # seeded by PPO, rows of neighbouring seeds were shared
        if self.arm.decides == "policy":
            deciding: Any = model.policy.action_net
            with torch.no_grad():
                deciding.bias[-1] = self.arm.start
        curve = Curve(self)
        model.learn(self.interactions, callback=curve)
        curve.evaluate()
        ends = at_the_end(model, self)
        face.close()
        return {
            "interactions": int(model.num_timesteps),
            "curve": curve.points,
            "end": ends,
            "seconds": round(time.perf_counter() - began, 1),
        }


class Imposed(VecEnvWrapper):
    """The policy acts in the task's own action space; when to go back is decided for it.

    The policy's action of such a tick is not carried out, and what follows does not depend on it:
    in a plain policy gradient that adds variance and no bias.
    """

    def __init__(self, venv: StableVecEnv, arm: Arm, seed: int) -> None:
        space, world = venv.action_space, venv.env
        assert isinstance(space, Box)
        assert isinstance(world, VectorBacktrack)
        super().__init__(venv, action_space=Box(space.low[:-1], space.high[:-1]))
        self.arm, self.world = arm, world
        self._rng = np.random.default_rng([seed, 7])

    def reset(self) -> np.ndarray:
        return self.venv.reset()  # type: ignore[return-value]

    def step_async(self, actions: np.ndarray) -> None:
        last = np.full(self.num_envs, -1.0, np.float32)
        where = np.flatnonzero(self._asks())
        # Between the threshold and 1, equally likely for every depth.
        last[where] = 1 - self._rng.random(len(where)) * (1 - self.world.config.threshold)
        self.venv.step_async(np.concatenate([actions, last[:, None]], axis=1))

    def step_wait(self) -> Any:
        return self.venv.step_wait()

    def _asks(self) -> np.ndarray:
        if self.arm.decides == "chance":
            return self._rng.random(self.num_envs) < self.arm.rate
        return self.world.progress.held.copy()


def world(task: str, arm: Arm, rows: int, seed: int) -> tuple[VecEnv, StableVecEnv]:
    """The task as the arm's learner meets it, and the face of the task below."""
    env = envs.make(task, rows, num_threads=1, autoreset_mode=AutoresetMode.DISABLED)
    if arm.backtrack is None:
        face = StableVecEnv(env)
    else:
        face = StableVecEnv(VectorBacktrack(env, arm.backtrack))
    face.seed(seed)
    return (Imposed(face, arm, seed) if arm.decides in ("chance", "falls") else face), face


class Curve(BaseCallback):
    """Evaluates at equal numbers of interactions and counts what training did between."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run, self.every = run, run.interactions // EVALUATIONS
        self.points: list[dict[str, Any]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if len(self.points) * self.every <= self.num_timesteps:
            self.evaluate()

    def evaluate(self) -> None:
        """One point of the curve."""
        point: dict[str, Any] = {"interactions": int(self.num_timesteps)}
        point["off"] = evaluate(self.model, self.run, False, True, EPISODES["curve"])
        self.points.append(point | {"training": self._paid()})

    def _paid(self) -> dict[str, Any]:
        """What training paid so far: committed and undone steps, restores, do-undo loops."""
        inner = self.training_env.unwrapped
        assert isinstance(inner, StableVecEnv)
        if not isinstance(inner.env, VectorBacktrack):
            return {}
        return {**inner.env.ledger.to_dict(), "do_undo_share": inner.env.do_undo_share}


def at_the_end(model: Any, run: Run) -> dict[str, dict[str, float]]:
    """How good the trained policy is: its mean actions and sampled ones, going back or not."""
    modes = (False, True) if run.arm.decides in ("policy", "falls") else (False,)
    return {
        f"{'mean' if mean else 'sampled'}_{'on' if on else 'off'}": evaluate(
            model, run, on, mean, EPISODES["end"]
        )
        for mean in (True, False)
        for on in modes
    }


def evaluate(model: Any, run: Run, on: bool, mean: bool, episodes: int) -> dict[str, float]:
    """Means over that many episodes, not charged to the learner: return and length of what
    survived, steps undone and backtracks.

    on: may it go back? Otherwise nothing is ever asked for · mean: the mean action, or a sample
    Every evaluation of a seed begins its episodes alike, in every arm.
    """
    venv, face = world(run.task, run.arm, episodes, 1_000_000 + 1_000 * run.seed)
    trained = model.get_vec_normalize_env()
    observation = venv.reset() if on else face.reset()
    first: list[dict[str, Any] | None] = [None] * episodes
    while any(found is None for found in first):
        action, _ = model.predict(trained.normalize_obs(observation), deterministic=mean)
        if on or run.arm.backtrack is None:
            observation, _, done, infos = venv.step(action)
        else:
            own = action[:, : face.action_space.low.size - 1]  # type: ignore[attr-defined]
            never = np.full((episodes, 1), -1.0, np.float32)
            observation, _, done, infos = face.step(np.concatenate([own, never], axis=1))
        for row in np.flatnonzero(done):
            first[row] = first[row] or infos[row]["episode"]
    face.close()
    ended = [found for found in first if found is not None]
    return {
        "return": float(np.mean([e.get("path_return", e["r"]) for e in ended])),
        "length": float(np.mean([e.get("path_length", e["l"]) for e in ended])),
        "undone": float(np.mean([e.get("undone", 0) for e in ended])),
        "backtracks": float(np.mean([e.get("backtracks", 0) for e in ended])),
    }
