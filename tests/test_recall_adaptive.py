"""Steps judged by the rollout that followed them, and as long as that has earned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import TRPO
from small_recall import FEW as SMALL
from small_recall import logged
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from delegate import RecallTraces
from delegate.recall.adaptive import FORGETTING, FULL, LEAST, AdaptiveStep
from delegate.recall.algorithms import ActorCritic, learner_of
from delegate.recall.imitation import Imitation, RecallConfig
from delegate.recall.traces import Traces

STEPS = 32
FEW: dict[str, Any] = {
    **SMALL,
    "optimiser": "natural",
    "max_divergence": 0.01,
    "adaptive": True,
}


class Pushed(gymnasium.Env[Any, Any]):
    """Episodes of one step. The reward is the action, whatever is seen."""

    def __init__(self, action: spaces.Space[Any], observation: spaces.Space[Any]) -> None:
        self.action_space, self.observation_space = action, observation

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), float(np.sum(action)), True, False, {}


NUMBERS, CHOICES = spaces.Box(-5, 5, (2,), np.float32), spaces.Discrete(3)
VECTORS, CELLS = spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(4)
NAMED = spaces.Dict(left=spaces.Box(-1, 1, (2,)), right=spaces.Box(-1, 1, (1,)))
WORLDS = {
    "numbers": (NUMBERS, VECTORS),
    "choices": (CHOICES, VECTORS),
    "cells": (CHOICES, CELLS),
    "named": (NUMBERS, NAMED),
}


class Nothing(BaseCallback):
    def _on_step(self) -> bool:
        return True


def made(world: str, kind: Any = PPO) -> Any:
    env = Pushed(*WORLDS[world])
    policy = "MultiInputPolicy" if world == "named" else "MlpPolicy"
    settings: dict[str, Any] = {"n_steps": STEPS, "policy_kwargs": {"net_arch": [16]}}
    if kind is not A2C:
        settings["batch_size"] = STEPS
    return kind(policy, env, seed=0, device="cpu", **settings)


def roll_out(model: Any) -> Any:
    """A rollout of the policy as it is, without learning from it; what it holds."""
    _, called = model._setup_learn(10**6, Nothing())
    model.collect_rollouts(model.env, called, model.rollout_buffer, STEPS)
    return model.rollout_buffer


def parameters(model: BaseAlgorithm) -> torch.Tensor:
    return parameters_to_vector(model.policy.parameters()).detach().clone()


def shifted(model: Any, by: float) -> None:
    """Larger actions, and of discrete ones the later more likely, whatever is seen."""
    bias = model.policy.action_net.bias
    with torch.no_grad():
        bias += by * torch.arange(1.0, 1 + len(bias))


def judging(model: BaseAlgorithm) -> AdaptiveStep:
    learner = learner_of(model)
    assert isinstance(learner, ActorCritic)
    return AdaptiveStep(learner)


def log_prob(model: Any, seen: Any) -> np.ndarray:
    """Of each step of a rollout, by hand. [STEPS]"""
    found = np.empty(STEPS)
    for t in range(STEPS):
        if isinstance(seen.observations, dict):
            shown: Any = {name: part[t] for name, part in seen.observations.items()}
        else:
            shown = seen.observations[t].reshape(model.observation_space.shape)
        with torch.no_grad():
            inner = model.policy.get_distribution(model.policy.obs_to_tensor(shown)[0]).distribution
        action = seen.actions[t, 0]
        if isinstance(model.action_space, spaces.Discrete):
            found[t] = inner.logits[0, int(action[0])]
        else:  # the standard deviation is 1
            found[t] = -((action - inner.mean[0].numpy()) ** 2).sum() / 2
    return found


@pytest.mark.parametrize("kind", [A2C, PPO, TRPO])
@pytest.mark.parametrize("world", WORLDS)
def test_a_gain_is_that_of_the_densities(kind: Any, world: str) -> None:
    model = made(world, kind)
    judge, before = judging(model), parameters(model)
    judge.begin()
    shifted(model, 0.2)
    judge.end(0.25)
    seen, now = roll_out(model), parameters(model)
    gain = judge.judge()
    assert torch.equal(parameters(model), now), "looking back moved the policy"
    drawn = log_prob(model, seen)
    vector_to_parameters(before, model.policy.parameters())
    advantage = seen.advantages[:, 0].astype(float)
    standard = (advantage - advantage.mean()) / advantage.std()
    expected = ((1 - np.exp(log_prob(model, seen) - drawn)) * standard).mean() / 0.5
    assert abs(expected) > 0.01
    assert gain == pytest.approx(expected, rel=1e-3)
    assert judge.earned == pytest.approx(FULL + FORGETTING * (expected - FULL), rel=1e-3)
    assert judge.judge() is None, "a step is judged once"


@pytest.mark.parametrize("world", ["numbers", "choices"])
def test_what_was_better_gained_and_what_was_worse_lost(world: str) -> None:
    gains = {}
    for by in (0.3, 0.0, -0.3):
        model = made(world)
        judge = judging(model)
        judge.begin()
        shifted(model, by)
        judge.end(0.1)
        seen = roll_out(model)
        # The reward alone: no critic's guess, which is of what the policy was.
        seen.advantages[:] = seen.rewards
        gains[by] = judge.judge()
    assert gains[0.3] > 0.1
    assert gains[-0.3] < -0.1
    assert gains[0.0] == pytest.approx(0, abs=1e-5)


def test_a_share_is_proportional_until_it_is_full_and_never_nothing() -> None:
    judge = judging(made("numbers"))
    assert judge.share == 1
    for earned, share in ((FULL, 1), (9.0, 1), (FULL / 2, 1 / 4), (0, LEAST**2), (-9, LEAST**2)):
        judge.earned = earned
        assert judge.share == pytest.approx(share)


class Drawn(AdaptiveStep):
    """Gains of steps of one nat, from rollouts of 2,048 independent steps."""

    def __init__(self, learner: ActorCritic, gain: float) -> None:
        super().__init__(learner)
        self._true, self._rng = gain, np.random.default_rng(0)

    def _gain(self, before: torch.Tensor) -> float:
        return float(self._rng.normal(self._true, (2 / 2_048) ** 0.5))


@pytest.mark.parametrize(
    ("gain", "least", "most"), [(0.0, 0.0, 0.05), (-0.02, 0.0, 0.001), (0.03, 0.95, 1.0)]
)
def test_noise_is_not_taken_for_a_gain(gain: float, least: float, most: float) -> None:
    learner = learner_of(made("numbers"))
    assert isinstance(learner, ActorCritic)
    judge, shares = Drawn(learner, gain), []
    for _ in range(1_000):
        judge.begin()
        judge.end(1.0)
        judge.judge()
        shares.append(judge.share)
    assert least <= np.mean(shares[100:]) <= most


@pytest.mark.parametrize("divergence", [0.0, -1e-9])
def test_a_step_that_did_not_move_is_not_judged(divergence: float) -> None:
    model = made("numbers")
    judge = judging(model)
    judge.begin()
    judge.end(divergence)
    roll_out(model)
    assert judge.judge() is None
    assert judge.earned == FULL


@pytest.mark.parametrize("optimiser", ["natural", "adam"])
def test_what_weighs_nothing_moves_nothing(optimiser: Any) -> None:
    """Adam's momentum would."""
    model, rng = made("numbers"), np.random.default_rng(0)
    limit = {"max_divergence": 0.01} if optimiser == "natural" else {}
    imitation = Imitation(learner_of(model), RecallConfig(optimiser=optimiser, **limit))
    state = rng.uniform(-1, 1, (4, 2, 3)).astype(np.float32)
    traces = Traces(state, np.ones((4, 1, 2), np.float32), np.zeros((4, 1)), np.ones((4, 1), bool))
    assert imitation.follow(traces, np.ones(4), rng)["imitation_updates"] == 1
    before = parameters(model)
    assert imitation.follow(traces, np.zeros(4), rng) == {}
    assert torch.equal(parameters(model), before)


@pytest.mark.parametrize(("sign", "trusted"), [(1.0, True), (-1.0, False)])
def test_steps_stay_long_while_they_gain_and_shorten_where_they_lose(
    sign: float, trusted: bool
) -> None:
    model = made("numbers")
    learner = learner_of(model)
    limit = 0.01
    config = RecallConfig(optimiser="natural", max_divergence=limit, adaptive=True)
    imitation, rng = Imitation(learner, config), np.random.default_rng(0)
    lengths = []
    for _ in range(40):
        state = rng.uniform(-1, 1, (64, 2, 3)).astype(np.float32)
        better = learner.act(state[:, 1])[:, None] + np.float32(sign)
        ones = np.ones((64, 1))
        told = imitation.follow(Traces(state, better, 0 * ones, ones > 0), np.ones(64), rng)
        lengths.append(told["divergence"])
        roll_out(model)
        assert "earned" in imitation.look_back()
    assert lengths[0] == pytest.approx(limit, rel=0.5)
    if trusted:
        assert min(lengths) > 0.3 * limit
    else:
        assert lengths[-1] <= LEAST**2 * limit


def test_the_callback_looks_back_and_goes_on_from_what_was_earned(tmp_path: Path) -> None:
    model, recall = made("numbers"), RecallTraces(**FEW)
    told = logged(model)
    model.learn(640, callback=recall)
    judged = recall._imitation._adaptive
    assert judged is not None
    assert judged.earned != FULL
    assert judged.state()["variance"] > 0
    assert told["recall/earned"] == judged.earned
    recall.save(tmp_path / "recall.pt")
    again = RecallTraces(**FEW).load(tmp_path / "recall.pt")
    again.init_callback(made("numbers"))
    assert again._imitation._adaptive is not None
    assert again._imitation._adaptive.state() == judged.state()
    plain = RecallTraces(**(FEW | {"adaptive": False})).load(tmp_path / "recall.pt")
    plain.init_callback(made("numbers"))
    assert plain._imitation._adaptive is None


def test_the_same_seed_gives_the_same_policy() -> None:
    ends = []
    for adaptive in (True, True, False):
        model = made("numbers")
        model.learn(640, callback=RecallTraces(**(FEW | {"adaptive": adaptive})))
        ends.append(parameters(model))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_what_has_no_rollouts_or_no_natural_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="adaptive shortens natural steps, and optimiser is adam"):
        RecallTraces(**(FEW | {"optimiser": "adam"}))
    model = SAC("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", learning_starts=10)
    before = parameters(model)
    with pytest.raises(TypeError, match="the rollout after it, and SAC has none; drop adaptive"):
        model.learn(64, callback=RecallTraces(**FEW))
    assert torch.equal(parameters(model), before)
