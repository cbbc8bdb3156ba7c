"""Algorithms and settings of recall so small that a training takes a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from sb3_contrib import TRPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

SMALL_RECALL: dict[str, Any] = {
    "length": 4,
    "count": 8,
    "start": 128,
    "every": 64,
}
LEARNING: dict[str, Any] = {**SMALL_RECALL, "model_updates": 3}


_NET = {"net_arch": [16]}
_ON = {"n_steps": 32}
_OFF = {"learning_starts": 100, "train_freq": 32, "gradient_steps": 2, "buffer_size": 2_000}
ALGORITHMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "A2C": (A2C, _ON),
    "PPO": (PPO, {**_ON, "batch_size": 64, "n_epochs": 2}),
    "TRPO": (TRPO, {**_ON, "batch_size": 64}),
    "SAC": (SAC, _OFF),
    "TD3": (TD3, _OFF),
    "DQN": (DQN, _OFF),
}
DISCRETE, CONTINUOUS = "CartPole-v1", "Pendulum-v1"
FEW: dict[str, Any] = {**LEARNING, "model_settings": {"hidden": (16,)}}
PAIRS = [
    *((name, DISCRETE) for name in ("A2C", "PPO", "TRPO", "DQN")),
    *((name, CONTINUOUS) for name in ("A2C", "PPO", "TRPO", "SAC", "TD3")),
]
STEPS = 640


class Broken(gymnasium.Env[Any, Any]):
    """Episodes of 12 steps. At a step comes NaN, as what is said; `reset`: at the next reset."""

    observation_space: Any = spaces.Box(-1, 1, (2,))
    action_space: Any = spaces.Box(-1, 1, (1,))

    def __init__(self, broken: str = "", step: int = 20) -> None:
        self.broken, self.at, self.count = broken, step, 0

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        bad = self.broken == "reset" and self.count > self.at
        return (np.nan if bad else 1.0) * self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        now = self.count == self.at
        wrong = now and self.broken == "observation"
        shown = np.full(2, np.nan if wrong else 0.1 * (self.count % 7), np.float32)
        reward = float("nan") if now and self.broken == "reward" else float(action[0])
        return shown, reward, False, self.count % 12 == 0, {}


def made(name: str, task: str, seed: int = 0, normalise: bool = False) -> Any:
    algorithm, settings = ALGORITHMS[name]
    limit = 40 if task == CONTINUOUS else None
    rows = DummyVecEnv([lambda: gymnasium.make(task, max_episode_steps=limit)] * 2)
    venv = VecNormalize(rows) if normalise else rows
    # The seed sets global random numbers: make one, train it, then make the next.
    return algorithm(
        "MlpPolicy", venv, seed=seed, policy_kwargs=dict(_NET), device="cpu", **settings
    )


def weights(model: Any) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in model.policy.state_dict().items()}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in first)


def logged(model: Any) -> dict[str, Any]:
    """The last value of everything it will log."""
    told: dict[str, Any] = {}
    _listen(model, told.__setitem__)
    return told


def every_logged(model: Any, *names: str) -> dict[str, list[Any]]:
    """All values that it will log by those names, in order."""
    told: dict[str, list[Any]] = {name: [] for name in names}
    _listen(model, lambda key, value: told[key].append(value) if key in told else None)
    return told


def _listen(model: Any, hear: Callable[[str, Any], None]) -> None:
    class Kept(Logger):
        def record(self, key: str, value: Any, exclude: Any = None) -> None:
            hear(key, value)

    model.set_logger(Kept(None, []))
