"""RecallTraces where observations are a Dict with a goal, beside hindsight experience replay."""

from __future__ import annotations

from typing import Any

import gymnasium
import gymnasium_robotics
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC, HerReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from delegate import RecallTraces
from delegate.recall.original import Original

SETTINGS: dict[str, Any] = {
    "length": 4,
    "count": 8,
    "start": 100,
    "every": 64,
    "model_updates": 3,
    "model_settings": {"hidden": (16,)},
}


def maze() -> gymnasium.Env[Any, Any]:
    gymnasium.register_envs(gymnasium_robotics)
    return gymnasium.make("PointMaze_UMaze-v3", max_episode_steps=40)


def trained(recall: RecallTraces | None) -> np.ndarray:
    model = SAC(
        "MultiInputPolicy",
        DummyVecEnv([maze]),
        replay_buffer_class=HerReplayBuffer,
        learning_starts=100,
        train_freq=32,
        gradient_steps=2,
        policy_kwargs={"net_arch": [16]},
        seed=0,
        device="cpu",
    )
    model.learn(480, callback=recall)
    return torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach().numpy()


def test_it_runs_beside_hindsight_replay_and_is_deterministic() -> None:
    recall = RecallTraces(**SETTINGS)
    first, plain = trained(recall), trained(None)
    np.testing.assert_array_equal(first, trained(RecallTraces(**SETTINGS)))
    assert not np.array_equal(first, plain)
    np.testing.assert_array_equal(plain, trained(RecallTraces(**{**SETTINGS, "count": 0})))
    assert recall.buffer is not None
    steps = recall.buffer.best().transitions
    # achieved_goal, desired_goal, observation: the place is the first of the observation too.
    np.testing.assert_allclose(steps.state[:, :2], steps.state[:, 4:6], atol=1e-6)
    np.testing.assert_array_equal(steps.state[:, 2:4], steps.next_state[:, 2:4])


@pytest.mark.parametrize("normalised", [False, True])
def test_states_and_observations_are_the_same_thing(normalised: bool) -> None:
    venv: Any = DummyVecEnv([maze] * 3)
    venv = VecNormalize(venv) if normalised else venv
    model = PPO("MultiInputPolicy", venv, n_steps=8, device="cpu", seed=0)
    model.learn(48)
    original = Original(model)
    state = original.observations(model._last_obs)
    assert state.shape == (3, *original.space.shape)
    assert original.space == gymnasium.spaces.flatten_space(model.observation_space)
    for name, part in original.seen(state).items():
        np.testing.assert_allclose(part, model._last_obs[name], atol=1e-5)
