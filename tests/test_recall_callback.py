"""RecallTraces with the real algorithms of Stable-Baselines3 and sb3-contrib."""

from __future__ import annotations

from typing import Any

import gymnasium
import gymnasium_robotics
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from small_recall import (
    CONTINUOUS,
    DISCRETE,
    FEW,
    LEARNING,
    PAIRS,
    SMALL_RECALL,
    STEPS,
    every_logged,
    logged,
    made,
    same,
    weights,
)
from stable_baselines3 import A2C, DDPG, PPO, SAC, HerReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from delegate import RecallTraces, StableVecEnv, VectorBacktrack, envs
from delegate.recall import (
    ExactBacktrackingModel,
    LearnedBacktrackingModel,
    RandomBacktrackingModel,
    RecallConfig,
)
from delegate.recall.stable_baselines.losses import Original, learner_of


def vector(model: Any) -> np.ndarray:
    """All parameters of its policy."""
    return torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach().numpy()


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_it_runs_logs_and_is_deterministic(name: str, task: str) -> None:
    ends = []
    for _ in range(2):
        model, recall = made(name, task), RecallTraces(**FEW)
        told = logged(model)
        model.learn(STEPS, callback=recall)
        ends.append(weights(model))
        assert {key.removeprefix("recall/") for key in told if key.startswith("recall/")} == {
            *("model_nll", "end_value", "start_value", "steps", "model_steps", "imitation_loss"),
            *("divergence", "best_return", "time_share"),
        }
        assert 0 < told["recall/time_share"] < 1
        assert told["recall/divergence"] > -1e-6, "but for rounding"
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


def test_its_own_seed_decides_what_is_drawn() -> None:
    ends = []
    for seed in (1, 1, 2):
        model = made("PPO", CONTINUOUS)
        model.learn(STEPS, callback=RecallTraces(**FEW, seed=seed))
        ends.append(vector(model))
    np.testing.assert_array_equal(*ends[:2])
    assert not np.array_equal(*ends[1:])


def test_every_recall_draws_anew() -> None:
    drawn: list[float] = []

    def source(count: int, rng: np.random.Generator) -> np.ndarray:
        drawn.append(rng.random())
        return np.zeros((count, 3), np.float32)

    made("PPO", CONTINUOUS).learn(STEPS, callback=RecallTraces(**FEW, targets_from=source))
    assert len(set(drawn)) == len(drawn) > 2


def test_presets_are_settings_that_others_replace() -> None:
    def model_of(recall: RecallTraces) -> LearnedBacktrackingModel:
        recall.init_callback(made("PPO", CONTINUOUS))
        assert isinstance(recall.backtracking_model, LearnedBacktrackingModel)
        return recall.backtracking_model

    paper = RecallTraces(preset="paper")
    assert (paper.config.length, paper.config.model_updates) == (20, 20)
    assert model_of(paper).config.hidden == (128, 128)
    assert not model_of(paper).config.learn_action_variance
    own: dict[str, Any] = {"learn_action_variance": True, "hidden": (8,)}
    other = RecallTraces(10, preset="paper", model_updates=5, model_settings=own)
    assert (other.config.length, other.config.model_updates) == (10, 5)
    assert model_of(other).config.learn_action_variance
    assert model_of(other).config.hidden == (8,)
    rooms = RecallTraces(count=3, preset="known_goal").config
    assert (rooms.count, rooms.imitation_updates, rooms.learning_rate) == (3, 20, 1e-3)
    assert (rooms.every, rooms.start, rooms.model_updates) == (1_024, 1_024, 50)
    assert RecallTraces().config == RecallConfig()


def test_ddpg_recalls_as_td3_does() -> None:
    ends = []
    for recall in (None, RecallTraces(**FEW)):
        env = made("TD3", CONTINUOUS).get_env()
        few: dict[str, Any] = {"learning_starts": 100, "train_freq": 32}
        model = DDPG(
            "MlpPolicy", env, policy_kwargs={"net_arch": [16]}, seed=0, device="cpu", **few
        )
        told = logged(model)
        model.learn(STEPS, callback=recall)
        ends.append(vector(model))
    assert np.isfinite(told["recall/imitation_loss"])
    assert np.isfinite(ends[1]).all()
    assert not np.array_equal(*ends)


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
    model = made("PPO", CONTINUOUS, normalise=True)
    model.learn(256, callback=RecallTraces(**FEW))
    normaliser = model.get_vec_normalize_env()
    deviation = float(np.sqrt(normaliser.ret_rms.var + normaliser.epsilon))
    assert deviation > 2
    assert learner_of(model).original.reward_scale == pytest.approx(deviation)
    assert learner_of(made("PPO", CONTINUOUS)).original.reward_scale == 1.0


@pytest.mark.parametrize(("task", "falls"), [(CONTINUOUS, False), (DISCRETE, True)])
def test_an_episode_that_was_truncated_did_not_end_there(task: str, falls: bool) -> None:
    model, recall = made("PPO", task), RecallTraces(**FEW)
    model.learn(STEPS, callback=recall)
    assert recall.buffer is not None
    steps = recall.buffer.best()
    np.testing.assert_array_equal(steps.terminal, steps.done & falls)


def test_a_buffer_shorter_than_an_episode_waits() -> None:
    model = made("PPO", CONTINUOUS)  # episodes of 40 steps, of which at most 32 are kept
    recall = RecallTraces(**{**FEW, "start": 64}, buffer_size=64)
    said = "nothing is recalled: no trajectory of the buffer is finished"
    with pytest.warns(UserWarning, match=said):
        model.learn(STEPS, callback=recall)
    assert recall.buffer is not None
    assert recall.buffer.finished <= 2


class Watched(RecallTraces):
    """Notes where traces were to end."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.ends: list[np.ndarray] = []

    def _imitate(self, traces: Any, rng: Any) -> Any:
        self.ends.append(traces.states[:, 0])
        return super()._imitate(traces, rng)


@pytest.mark.parametrize("targets", ["critic", "reward", "return"])
def test_traces_end_where_asked(targets: Any) -> None:
    model, recall = made("PPO", CONTINUOUS), Watched(**FEW, targets_from=targets)
    model.learn(STEPS, callback=recall)
    assert recall.buffer is not None
    steps = recall.buffer.best(recall.config.trajectories)
    there = steps.transitions.next_state
    value = learner_of(model).value(there)  # no episode ended but was truncated
    if targets == "return":
        priorities = np.where(steps.done, model.gamma * value, 0.0) + steps.reward
        for k in reversed(range(len(steps.reward) - 1)):
            priorities[k] += 0.0 if steps.done[k] else model.gamma * priorities[k + 1]
    else:
        priorities = steps.reward + (model.gamma * value if targets == "critic" else 0.0)
    least = np.sort(priorities)[::-1][round(recall.config.targets * len(steps.reward)) - 1]
    recall.recall()
    place = [int((there == end).all(axis=1).argmax()) for end in recall.ends[-1]]
    np.testing.assert_array_equal(there[place], recall.ends[-1])
    assert (priorities[place] >= least - 1e-5).all()


def test_nothing_is_recalled_while_nothing_is_better_than_anything_else() -> None:
    class Worthless(gymnasium.RewardWrapper):  # type: ignore[type-arg]
        def reward(self, reward: Any) -> float:
            return 0.0

    ends = []
    for recall in (None, RecallTraces(**FEW, targets_from="reward")):
        env = Worthless(gymnasium.make(DISCRETE))
        small: dict[str, Any] = {"policy_kwargs": {"net_arch": [16]}, "batch_size": 32}
        model = PPO("MlpPolicy", env, n_steps=32, seed=0, device="cpu", **small)
        model.learn(STEPS, callback=recall)
        ends.append(vector(model))
    np.testing.assert_array_equal(*ends)


def test_models_by_name_and_given() -> None:
    told = {}
    for kind in ("learned", "random"):
        model, recall = made("PPO", CONTINUOUS), RecallTraces(**FEW, model=kind)
        told[kind] = logged(model)
        model.learn(STEPS, callback=recall)
        assert told[kind]["recall/steps"] > 0
        own = recall.backtracking_model
        assert isinstance(own, LearnedBacktrackingModel)
        # What is learned is as the policy draws it; what is drawn at random, within bounds.
        assert isinstance(own, RandomBacktrackingModel) == own.action_space.is_bounded()
    spaces_of = model.observation_space, learner_of(model).action_space
    given = LearnedBacktrackingModel(*spaces_of, seed=0, **FEW["model_settings"])
    model, recall = made("PPO", CONTINUOUS), RecallTraces(**LEARNING, model=given)
    again = logged(model)
    model.learn(STEPS, callback=recall)
    assert recall.backtracking_model is given
    assert again["recall/model_nll"] == told["learned"]["recall/model_nll"], "as one made by name"


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
        buffer: Any = self.model.rollout_buffer  # type: ignore[attr-defined]
        seen, does = (
            torch.as_tensor(part.reshape(-1, part.shape[-1]))
            for part in (buffer.observations, buffer.actions)
        )
        if isinstance(self.model.action_space, spaces.Discrete):
            does = does.long().ravel()
        with torch.no_grad():
            _, now, _ = self.model.policy.evaluate_actions(seen, does)  # type: ignore[operator]
        self.differences.append(float(np.abs(now.numpy() - buffer.log_probs.ravel()).max()))


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


def test_off_policy_recall_waits_until_the_critic_has_learned() -> None:
    when: list[int] = []

    class Noted(RecallTraces):
        def recall(self) -> None:
            when.append(self.num_timesteps)
            super().recall()

    model = made("SAC", CONTINUOUS)
    model.learning_starts = 300
    model.learn(STEPS, callback=Noted(**(FEW | {"start": 64})))
    assert when
    assert when[0] >= 300


@pytest.mark.parametrize("wrap", [lambda env: env, lambda env: VecNormalize(VecMonitor(env))])
def test_the_ledger_of_a_world_with_backtracks_is_charged_what_was_recalled(wrap: Any) -> None:
    world = envs.make("Hopper-v5", 3, autoreset_mode=AutoresetMode.DISABLED)
    world = VectorBacktrack(world, depths=(1, 4), budget=2, cost=1.0, threshold=0.9)
    model = PPO("MlpPolicy", wrap(StableVecEnv(world)), n_steps=64, batch_size=64, device="cpu")
    logs = every_logged(model, "recall/steps", "recall/model_steps")
    model.learn(768, callback=RecallTraces(**FEW))
    told, total = logs.values()
    assert min(told) > 0
    assert total == np.cumsum(told).tolist()
    paid = world.ledger.model_steps
    assert paid.sum() == sum(told)
    assert np.ptp(paid) <= len(told), "spread over the rows"
    assert world.ledger.interactions.sum() == 768, "and nothing else"


def test_a_world_without_a_ledger_needs_none() -> None:
    model = made("PPO", DISCRETE)
    logs = every_logged(model, "recall/steps", "recall/model_steps")
    model.learn(STEPS, callback=RecallTraces(**FEW))
    assert logs["recall/model_steps"] == np.cumsum(logs["recall/steps"]).tolist()


def maze() -> gymnasium.Env[Any, Any]:
    gymnasium.register_envs(gymnasium_robotics)
    return gymnasium.make("PointMaze_UMaze-v3", max_episode_steps=40)


def test_it_runs_beside_hindsight_replay_and_is_deterministic() -> None:
    def trained(recall: RecallTraces | None) -> np.ndarray:
        few: dict[str, Any] = {"learning_starts": 100, "train_freq": 32, "gradient_steps": 2}
        few |= {"policy_kwargs": {"net_arch": [16]}, "replay_buffer_class": HerReplayBuffer}
        rows = DummyVecEnv([maze])
        model = SAC("MultiInputPolicy", rows, seed=0, device="cpu", **few)
        return vector(model.learn(480, callback=recall))

    recall = RecallTraces(**FEW)
    first, plain = trained(recall), trained(None)
    np.testing.assert_array_equal(first, trained(RecallTraces(**FEW)))
    assert not np.array_equal(first, plain)
    np.testing.assert_array_equal(plain, trained(RecallTraces(**{**FEW, "count": 0})))
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
    assert original.space == spaces.flatten_space(model.observation_space)
    for name, part in original.normalised(state).items():
        np.testing.assert_allclose(part, model._last_obs[name], atol=1e-5)
