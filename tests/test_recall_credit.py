"""What recalled steps are worth, against sums by hand; and traces imagined forwards."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_recall import LEARNING as SETTINGS
from small_recall import logged
from stable_baselines3 import A2C, DQN, PPO, SAC

from delegate import RecallTraces, StableVecEnv, envs
from delegate.recall import ForwardModel, Traces, Transitions, credit
from delegate.recall.credit import RewardModel, advantages, next_advantages, remembered_advantages
from delegate.recall.imitation import RecallConfig
from delegate.recall.targets import Ends, entered
from delegate.recall.targets import given as as_given
from delegate.recall.trajectories import Steps, TrajectoryBuffer

RNG = np.random.default_rng(0)
"""of what no assertion depends on"""
VECTORS = gymnasium.spaces.Box(-np.inf, np.inf, (3,))


def small() -> dict[str, Any]:
    """Anew each time: the algorithms write into it."""
    return {"policy_kwargs": {"net_arch": [16]}, "device": "cpu", "seed": 0}


def steps_of(rng: np.random.Generator, count: int, noise: float = 0.0) -> Steps:
    state, action = rng.normal(size=(count, 3)), rng.normal(size=(count, 2))
    next_state = state + 0.1 * rng.normal(size=(count, 3))
    reward = 2.0 + earned(state, action, next_state) + noise * rng.normal(size=count)
    none = np.zeros(count)
    last = np.arange(count) == count - 1
    return Steps(Transitions(state, action, next_state), reward, none, none > 0, last)


def critic(discount: float, unit: float = 1.0) -> Any:
    """What weights ask of a learner; a state is worth its first coordinate."""
    return SimpleNamespace(
        model=SimpleNamespace(gamma=discount),
        original=SimpleNamespace(unit=unit),
        value=lambda state: state[:, 0].astype(np.float64),
    )


def earned(state: np.ndarray, action: np.ndarray, next_state: np.ndarray) -> np.ndarray:
    return 5 * (next_state - state)[:, 0] - 0.5 * (action**2).sum(axis=1) + state[:, 1]


def test_rewards_of_locomotion_are_learned_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    fitted, fresh = RewardModel(steps_of(rng, 2_000)), steps_of(rng, 500)
    seen = fresh.transitions
    found = fitted(seen.state, seen.action, seen.next_state)
    np.testing.assert_allclose(found, fresh.reward, atol=0.02)
    assert fitted.explained > 0.999
    halved = RewardModel(steps_of(np.random.default_rng(0), 2_000), unit=2.0)
    np.testing.assert_allclose(
        halved(seen.state, seen.action, seen.next_state), found / 2, atol=1e-6
    )
    assert RewardModel(steps_of(rng, 2_000, noise=100.0)).explained < 0.1


def test_no_reward_is_beyond_all_that_were_seen() -> None:
    steps = steps_of(np.random.default_rng(0), 200)
    learned, seen, far = RewardModel(steps, unit=2.0), steps.transitions, 100.0
    found = learned(far * seen.state, far * seen.action, far * seen.next_state)
    assert {found.min(), found.max()} == {steps.reward.min() / 2, steps.reward.max() / 2}


@given(
    seed=st.integers(0, 2**16),
    discount=st.floats(0.5, 1.0),
    smoothing=st.floats(0.0, 1.0),
)
def test_advantages_are_those_of_a_sum_by_hand(
    seed: int, discount: float, smoothing: float
) -> None:
    rng = np.random.default_rng(seed)
    rows, length = 4, 5
    states = rng.normal(size=(rows, length + 1, 3)).astype(np.float32)
    actions = rng.normal(size=(rows, length, 2)).astype(np.float32)
    reach = rng.integers(0, length + 1, rows)
    valid = np.arange(length) < reach[:, None]
    traces = Traces(states, actions, np.zeros((rows, length)), valid)

    def value(state: np.ndarray) -> np.ndarray:
        return state.sum(axis=1).astype(np.float64) ** 2

    reward = RewardModel(steps_of(rng, 200))
    terminal = np.array([False, True, False, True])
    ends = Ends(states[:, 0], np.zeros(rows), terminal, np.full(rows, -1))
    followed = np.where(terminal, 0.0, rng.normal(size=rows))
    found = advantages(traces, ends, followed, reward, value, discount, smoothing)
    for row in range(rows):
        for k in range(length):
            expected = (discount * smoothing) ** (k + 1) * followed[row]
            for j in range(k, -1, -1):  # forwards in time, from this step to the end of the trace
                before, after = states[row, j + 1][None], states[row, j][None]
                ahead = 0.0 if terminal[row] and j == 0 else discount * value(after)
                error = reward(before, actions[row, j][None], after) + ahead
                expected += (discount * smoothing) ** (k - j) * float((error - value(before))[0])
            wanted = expected if valid[row, k] else 0.0
            assert found[row, k] == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_gain_without_discount_is_that_of_almost_none() -> None:
    steps = replace(steps_of(np.random.default_rng(0), 3), reward=np.array([2.0, 4.0, 6.0]))
    states = np.array([[[8.0], [1], [2], [0], [3]]], np.float32)
    traces = Traces(
        states, np.zeros((1, 4, 1), np.float32), np.zeros((1, 4)), np.ones((1, 4), bool)
    )
    ends = Ends(states[:, 0], np.array([2.0]), np.array([False]), np.arange(1))
    config = RecallConfig(length=4, weighting="gain")
    found = [
        credit.weights(config, critic(discount, unit=2.0), steps, ends, traces, RNG)[0]
        for discount in (1.0, 1 - 1e-9, 0.5)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    assert found[0].max() > 1.5 * found[0].min()
    assert not np.allclose(found[0], found[2], rtol=0.1)


def test_gain_is_a_sum_by_hand() -> None:
    """Traces of two steps back from three ends, the last of them terminal."""
    steps = steps_of(np.random.default_rng(0), 3)
    steps = replace(steps, reward=np.array([2.0, 4.0, 6.0]))
    states = np.array([[[8.0], [1], [2]], [[4.0], [9], [0]], [[7.0], [0], [1]]], np.float32)
    valid = np.array([[True, True], [True, False], [True, True]])
    traces = Traces(states, np.zeros((3, 2, 1), np.float32), np.zeros((3, 2)), valid)
    terminal = np.array([False, False, True])
    ends = Ends(states[:, 0], np.array([2.0, 4.0, 6.0]), terminal, np.arange(3))
    config = RecallConfig(length=2, weighting="gain")
    found, told = credit.weights(config, critic(0.5, unit=2.0), steps, ends, traces, RNG)
    rate = 4.0 / 2 / (1 - 0.5)  # of the mean reward for ever, in the critic's unit
    entering = [2 / 2 + 0.5 * 8, 4 / 2 + 0.5 * 4, 6 / 2]
    promised = [
        entering[0],
        rate * 0.5 + 0.5 * entering[0],
        entering[1],
        entering[2],
        rate * 0.5 + 0.5 * entering[2],
    ]
    gain = np.maximum(np.array(promised) - [1, 2, 9, 0, 1], 0)
    assert (gain == 0).sum() == 1
    np.testing.assert_allclose(found, gain / gain.mean())
    assert told["end_value"] == pytest.approx((8 + 4 + 0) / 3)
    assert told["start_value"] == pytest.approx((2 + 9 + 1) / 3)
    assert told["trace_return"] == pytest.approx((promised[1] + promised[2] + promised[4]) / 3)


def test_where_no_step_is_better_none_counts() -> None:
    steps = steps_of(np.random.default_rng(0), 50)
    steps = replace(steps, reward=np.ones(50))
    even = critic(0.9)
    even.value = lambda state: np.full(len(state), 10.0)
    ends = entered(steps, np.arange(10))
    traces = Traces(
        np.zeros((10, 3, 3), np.float32),
        np.zeros((10, 2, 2), np.float32),
        np.zeros((10, 2)),
        np.ones((10, 2), bool),
    )
    for weighting in ("advantage", "shuffled"):
        config = RecallConfig(length=2, weighting=weighting)
        found, _ = credit.weights(config, even, steps, ends, traces, RNG)
        assert not found.any()


def test_shuffled_weights_are_the_same_numbers_elsewhere() -> None:
    rng = np.random.default_rng(3)
    steps = steps_of(rng, 60)
    ends = entered(steps, np.arange(10))
    traces = Traces(
        rng.normal(size=(10, 3, 3)).astype(np.float32),
        rng.normal(size=(10, 2, 2)).astype(np.float32),
        np.zeros((10, 2)),
        np.ones((10, 2), bool),
    )
    found = {
        name: credit.weights(
            RecallConfig(length=2, weighting=name), critic(0.9), steps, ends, traces, RNG
        )[0]
        for name in ("advantage", "shuffled")
    }
    assert not np.array_equal(found["advantage"], found["shuffled"])
    np.testing.assert_array_equal(np.sort(found["advantage"]), np.sort(found["shuffled"]))


def test_a_given_cell_is_known_by_the_step_that_entered_it() -> None:
    cell, none = np.array([3, 5, 3, 7]), np.zeros(4)
    reward, terminal = np.array([1.0, 2.0, 4.0, 8.0]), np.array([False, True, False, False])
    steps = Steps(Transitions(cell, cell, cell), reward, none, terminal, terminal)
    ends = as_given(np.array([3, 5, 6, 8, 0]), steps, gymnasium.spaces.Discrete(9))
    assert ends.place.tolist() == [2, 1, -1, -1, -1]
    assert ends.reward.tolist() == [4, 2, 3.75, 3.75, 3.75]
    assert ends.terminal.tolist() == [False, True, False, False, False]
    vectors = as_given(np.ones((2, 3), np.int64), steps_of(np.random.default_rng(0), 9), VECTORS)
    assert vectors.states.dtype == np.float64
    assert vectors.place.tolist() == [-1, -1]
    with pytest.raises(
        ValueError, match=r"targets_from: states have shape \(2,\); give \[count, 3"
    ):
        as_given(np.ones(2), steps_of(np.random.default_rng(0), 9), VECTORS)


@given(seed=st.integers(0, 2**16), smoothing=st.floats(0.0, 1.0))
def test_what_followed_is_a_sum_by_hand(seed: int, smoothing: float) -> None:
    rng = np.random.default_rng(seed)
    steps, discount, unit = steps_of(rng, 30), 0.9, 2.0
    last = rng.random(30) < 0.2
    last[-1] = True
    steps = replace(steps, last=last, terminal=last & (rng.random(30) < 0.5))

    def value(state: np.ndarray) -> np.ndarray:
        return state.sum(axis=1) ** 2

    found, seen = remembered_advantages(steps, value, discount, smoothing, unit), steps.transitions
    for i in range(30):
        expected, fade = 0.0, 1.0
        for j in range(i, 30):
            ahead = 0.0 if steps.terminal[j] else discount * value(seen.next_state[j : j + 1])[0]
            error = steps.reward[j] / unit + ahead - value(seen.state[j : j + 1])[0]
            expected += fade * error
            fade *= discount * smoothing
            if last[j]:
                break
        assert found[i] == pytest.approx(expected, rel=1e-9, abs=1e-9)
    ends = entered(steps, np.arange(30))
    after = next_advantages(steps, found, ends)
    np.testing.assert_array_equal(after[last], 0)
    np.testing.assert_array_equal(after[~last], found[1:][~last[:-1]])
    elsewhere = as_given(seen.state, steps, VECTORS)
    np.testing.assert_array_equal(next_advantages(steps, found, elsewhere), 0)


def test_a_trajectory_cut_short_counts_what_was_expected_beyond() -> None:
    state = np.zeros((1, 1))
    found = {}
    for beyond in (None, np.array([10.0])):
        buffer = TrajectoryBuffer(8, 1, state[0], state[0], discount=0.5)
        for step in range(3):
            over = np.array([step == 2])
            given = (None, None) if beyond is None else (over, beyond)
            buffer.add(state, state, state, np.array([1.0]), over, *given)
        found[beyond is None] = buffer.best()
        assert buffer.best_return == 3
    np.testing.assert_allclose(found[True].to_go, [1.75, 1.5, 1.0])
    np.testing.assert_allclose(found[False].to_go, [1.75 + 1.25, 1.5 + 2.5, 1.0 + 5.0])
    assert found[True].terminal.tolist() == [False, False, True]
    assert not found[False].terminal.any()


def trained(kind: Any, callback: RecallTraces, **settings: Any) -> np.ndarray:
    env = gymnasium.make("Pendulum-v1", max_episode_steps=40)
    model = kind("MlpPolicy", env, **small(), **settings)
    model.learn(640, callback=callback)
    assert np.random.randint(2**31) == kept_random(kind, settings)
    return torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach().numpy()


def kept_random(kind: Any, settings: dict[str, Any]) -> int:
    """What numpy's global numbers give next after the same training without any recall."""
    env = gymnasium.make("Pendulum-v1", max_episode_steps=40)
    kind("MlpPolicy", env, **small(), **settings).learn(640)
    return int(np.random.randint(2**31))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [(PPO, {"n_steps": 32, "batch_size": 32}), (SAC, {"learning_starts": 100, "train_freq": 32})],
)
def test_traces_imagined_forwards_are_imitated_and_draw_from_their_own_numbers(
    kind: Any, settings: dict[str, Any]
) -> None:
    ends = []
    for _ in range(2):
        env = gymnasium.make("Pendulum-v1")
        # PPO's actions count as drawn, so its model has no bounds.
        space = env.action_space
        if kind is PPO:
            space = gymnasium.spaces.Box(-np.inf, np.inf, space.shape, np.float32)
        model = ForwardModel(env.observation_space, space, seed=0, hidden=(16,))
        ends.append(trained(kind, RecallTraces(**SETTINGS, model=model), **settings))
    np.testing.assert_array_equal(*ends)
    other = trained(kind, RecallTraces(**SETTINGS, model_settings={"hidden": (16,)}), **settings)
    assert not np.array_equal(ends[0], other)


def test_dqn_imagines_with_numbers_of_its_own() -> None:
    """Its random actions come from the space, which the algorithm draws from too."""
    ends, drawn = [], []
    for recall in (None, RecallTraces(**SETTINGS, model="forward", imitation_updates=0)):
        model = DQN("MlpPolicy", "CartPole-v1", learning_starts=100, train_freq=32, **small())
        told = logged(model)
        model.learn(640, callback=recall)
        ends.append(torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach().numpy())
        drawn.append([int(model.action_space.sample()) for _ in range(20)])
    assert told["recall/steps"] > 0
    np.testing.assert_array_equal(*ends)
    assert drawn[0] == drawn[1]


def test_steps_weigh_by_advantage_and_only_where_states_are_vectors() -> None:
    env = gymnasium.make("Pendulum-v1", max_episode_steps=40)
    recall = RecallTraces(**SETTINGS, weighting="advantage", model_settings={"hidden": (16,)})
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=32, **small())
    told = logged(model)
    model.learn(320, callback=recall)
    assert told["recall/reward_explained"] > 0.5
    world = envs.make("FourRooms", 2, size=7, num_levels=1, observation="integer")
    recall = RecallTraces(**SETTINGS, weighting="advantage")
    with pytest.raises(TypeError, match=r"learns rewards of vectors.*weighting=\"gain\""):
        A2C("MlpPolicy", StableVecEnv(world), **small()).learn(8, callback=recall)


def test_nothing_is_recalled_while_nothing_is_better_than_anything_else() -> None:
    class Worthless(gymnasium.RewardWrapper):  # type: ignore[type-arg]
        def reward(self, reward: Any) -> float:
            return 0.0

    env = Worthless(gymnasium.make("CartPole-v1"))
    ends = []
    for recall in (None, RecallTraces(**SETTINGS, targets_from="reward")):
        model = PPO("MlpPolicy", env, n_steps=32, batch_size=32, **small())
        model.learn(640, callback=recall)
        ends.append(torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach().numpy())
    np.testing.assert_array_equal(*ends)
