"""RecallTraces with the real algorithms of Stable-Baselines3 and sb3-contrib."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from small_recall import (
    CONTINUOUS,
    DISCRETE,
    FEW,
    SMALL_RECALL,
    STEPS,
    every_logged,
    logged,
    made,
    same,
    weights,
)
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback

from delegate import RecallTraces, StableVecEnv, envs
from delegate.recall import ExactBacktrackingModel
from delegate.recall.algorithms import ActorCritic, learner_of

PAIRS = [
    *((name, DISCRETE) for name in ("A2C", "PPO", "TRPO", "DQN")),
    *((name, CONTINUOUS) for name in ("A2C", "PPO", "TRPO", "SAC", "TD3")),
]


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_it_runs_logs_and_is_deterministic(name: str, task: str) -> None:
    ends = []
    for _ in range(2):
        model, recall = made(name, task), RecallTraces(**FEW)
        told = logged(model)
        model.learn(STEPS, callback=recall)
        ends.append(weights(model))
        assert {"recall/model_nll", "recall/imitation_loss", "recall/end_value"} <= set(told)
        assert {"recall/divergence", "recall/steps", "recall/best_return"} <= set(told)
        assert 0 < told["recall/time_share"] < 1
        assert all(np.isfinite(told[key]) for key in told if key.startswith("recall/"))
    assert same(*ends)
    plain = made(name, task)
    plain.learn(STEPS)
    assert not same(ends[0], weights(plain)), "it changed something"


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_no_traces_leave_training_bit_for_bit_as_it_was(name: str, task: str) -> None:
    plain = made(name, task)
    plain.learn(STEPS)
    idle = made(name, task)
    idle.learn(STEPS, callback=RecallTraces(**{**FEW, "count": 0}))
    assert same(weights(plain), weights(idle))


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_imitation_makes_what_was_recalled_likelier(name: str, task: str) -> None:
    model = made(name, task)
    learner, rng = learner_of(model), np.random.default_rng(0)
    space = model.action_space
    observation = rng.normal(size=(64, *model.observation_space.shape)).astype(np.float32)
    one = np.zeros(64, np.int64) if isinstance(space, spaces.Discrete) else np.full((64, 1), 1.5)
    optimiser = torch.optim.Adam(learner.parameters(), lr=1e-2)
    moved, losses = learner.moved(observation), []
    for _ in range(60):
        loss = learner.losses(observation, one).mean()
        losses.append(loss.item())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    assert losses[-1] < losses[0]
    assert learner.moved(observation)().item() == pytest.approx(0, abs=1e-5)
    assert moved().item() > 1e-3
    action, _ = model.predict(observation, deterministic=True)
    if isinstance(space, spaces.Discrete):
        assert (action == 0).mean() > 0.95
    else:
        assert action.mean() > 0.5
    assert learner.value(observation).shape == (64,)


def test_the_buffer_holds_what_happened() -> None:
    model, recall = made("PPO", CONTINUOUS, normalise=True), RecallTraces(**FEW)
    model.learn(256, callback=recall)
    assert recall.buffer is not None
    best = recall.buffer.best()
    steps = best.transitions
    # As the task gives it: cosine and sine of an angle, not what VecNormalize makes of them.
    for state in (steps.state, steps.next_state):
        np.testing.assert_allclose((state[:, :2] ** 2).sum(axis=1), 1, atol=1e-5)
    turned = np.arctan2(steps.next_state[:, 1], steps.next_state[:, 0])
    turned -= np.arctan2(steps.state[:, 1], steps.state[:, 0])
    turned = (turned + np.pi) % (2 * np.pi) - np.pi
    expected = np.clip(steps.next_state[:, 2] * 0.05, -np.pi, np.pi)
    np.testing.assert_allclose(turned, expected, atol=1e-3)
    assert (np.abs(steps.action) > 2).any()  # as drawn, before they were clipped
    # Rewards too: Pendulum's, of the state it is in and of the torque within its bounds.
    cosine, sine, speed = steps.state.T
    torque = np.clip(steps.action[:, 0], -2, 2)
    cost = np.arctan2(sine, cosine) ** 2 + 0.1 * speed**2 + 0.001 * torque**2
    np.testing.assert_allclose(best.reward, -cost, atol=1e-3)


def test_beside_a_normaliser_the_critic_counts_in_its_unit() -> None:
    model, recall = made("PPO", CONTINUOUS, normalise=True), RecallTraces(**FEW)
    model.learn(256, callback=recall)
    normaliser = model.get_vec_normalize_env()
    deviation = float(np.sqrt(normaliser.ret_rms.var + normaliser.epsilon))
    assert deviation > 2
    assert recall._learner.original.unit == pytest.approx(deviation)
    last, cut = np.ones((2, 3), np.float32), np.array([True, False])
    expected = deviation * recall._learner.value(last)[0]
    np.testing.assert_allclose(recall._beyond(last, cut), [expected, 0])
    assert made("PPO", CONTINUOUS).get_vec_normalize_env() is None
    assert learner_of(made("PPO", CONTINUOUS)).original.unit == 1.0


def test_imitation_stops_at_the_divergence_allowed() -> None:
    many = {**FEW, "imitation_updates": 50, "learning_rate": 1e-2}
    told: dict[float | None, dict[str, Any]] = {}
    for limit in (None, 1e-3):
        model = made("PPO", CONTINUOUS)
        told[limit] = logged(model)
        model.learn(STEPS, callback=RecallTraces(**many, max_divergence=limit))
    assert told[None]["recall/imitation_updates"] == 50
    assert told[1e-3]["recall/imitation_updates"] < 50


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_a_natural_step_is_as_long_as_allowed(name: str, task: str) -> None:
    given: dict[str, Any] = {**FEW, "optimiser": "natural"}
    ends, reached = [], {}
    for size in (1e-3, 1e-3, 1e-2):
        model = made(name, task)
        reached[size] = every_logged(model, "recall/divergence")
        model.learn(STEPS, callback=RecallTraces(**given, max_divergence=size))
        ends.append(weights(model))
    assert same(*ends[:2])
    for size, each in reached.items():
        assert 0 < min(each) <= max(each) <= size
        # One that is damped, or was too long at first, falls short of it.
        assert np.mean(each) > 0.5 * size


@pytest.mark.parametrize(("task", "falls"), [(CONTINUOUS, False), (DISCRETE, True)])
def test_an_episode_that_was_cut_short_did_not_end_there(task: str, falls: bool) -> None:
    model, recall = made("PPO", task), RecallTraces(**FEW)
    model.learn(STEPS, callback=recall)
    assert recall.buffer is not None
    steps = recall.buffer.best()
    np.testing.assert_array_equal(steps.terminal, steps.last & falls)
    to_go, last = steps.to_go[steps.last], steps.reward[steps.last]
    assert np.array_equal(to_go, last) == falls, "what the critic expects beyond, or nothing"


def test_means_of_the_model_are_recalled_where_asked() -> None:
    recall = RecallTraces(**FEW, mean_changes=True, mean_actions=True)
    made("PPO", CONTINUOUS).learn(STEPS, callback=recall)
    assert recall.buffer is not None
    steps = recall.buffer.best()
    ranked = (np.arange(len(steps)) == 0).astype(float)  # one target, so only chance differs
    for means, alike in ((True, True), (False, False)):
        update = {"mean_changes": means, "mean_actions": means, "targets": 1e-9}
        recall.config = recall.config.model_copy(update=update)
        _, traces = recall._recalled(steps, recall._ends(steps, ranked))
        assert (traces.states[:, 1].std(axis=0).max() < 1e-6) == alike


def test_a_buffer_shorter_than_an_episode_waits() -> None:
    model = made("PPO", CONTINUOUS)  # episodes of 40 steps, of which at most 32 are kept
    recall = RecallTraces(**{**FEW, "start": 64}, buffer_size=64)
    with pytest.warns(
        UserWarning, match="nothing is recalled: no trajectory of the buffer is over"
    ):
        model.learn(STEPS, callback=recall)
    assert recall.buffer is not None
    assert recall.buffer.finished <= 2


@pytest.mark.parametrize("targets", ["critic", "reward", "return", "advantage"])
def test_traces_end_where_asked(targets: Any) -> None:
    model = made("PPO", CONTINUOUS)
    recall = RecallTraces(**FEW, targets_from=targets, weighting="gain")
    model.learn(STEPS, callback=recall)
    assert recall.buffer is not None
    steps = recall.buffer.best(recall.config.trajectories)
    there, before = steps.transitions.next_state, steps.transitions.state
    value = recall._learner.value
    worths = {
        "critic": steps.reward + model.gamma * value(there),  # no episode ended but was cut short
        "reward": steps.reward,
        "return": steps.to_go,
        "advantage": steps.to_go - value(before),
    }
    least = np.sort(worths[targets])[::-1][round(recall.config.targets * len(steps)) - 1]
    ends, traces = recall._recalled(steps, recall._ends(steps, recall._worth(steps)))
    assert (worths[targets][ends.place] >= least - 1e-6).all()
    np.testing.assert_array_equal(traces.states[:, 0], there[ends.place])


def test_an_exact_model_of_a_grid() -> None:
    world = envs.make(
        "FourRooms", 4, size=7, num_levels=1, observation="integer", autoreset_mode="Disabled"
    )
    model = A2C("MlpPolicy", StableVecEnv(world), seed=0, device="cpu", n_steps=16)
    exact = ExactBacktrackingModel(world.transition_table())
    recall, told = RecallTraces(**SMALL_RECALL, model=exact), logged(model)
    model.learn(1_024, callback=recall)
    assert told["recall/steps"] > 0
    before = weights(model)
    recall.recall()
    assert not same(before, weights(model))


class Late(RecallTraces):
    """Imitates after a rollout, before the algorithm learns from it."""

    def _on_rollout_end(self) -> None:
        if self.buffer is not None and self.buffer.finished:
            self.recall()


class Stored(BaseCallback):
    """What a rollout says its actions' log-probabilities were, and what they are at its end."""

    def _on_training_start(self) -> None:
        self.differences: list[float] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        learner = learner_of(self.model)
        assert isinstance(learner, ActorCritic)
        stored = learner.model.rollout_buffer.log_probs.ravel()
        self.differences.append(float(np.abs(learner.rollout_log_prob() - stored).max()))


@pytest.mark.parametrize("task", [DISCRETE, CONTINUOUS])
def test_a_rollout_is_of_the_policy_that_imitation_has_made(task: str) -> None:
    """Were the policy changed within it or after it, the algorithm's ratios would be wrong."""
    model, recall, stored = made("PPO", task), RecallTraces(**FEW), Stored()
    told = logged(model)
    model.learn(STEPS, callback=[recall, stored])
    assert told["recall/steps"] > 0
    assert max(stored.differences) < 1e-5
    made("PPO", task).learn(STEPS, callback=[Late(**FEW), stored])
    assert max(stored.differences) > 1e-5, "the test would not notice"
