"""RecallTraces with the real algorithms of Stable-Baselines3 and sb3-contrib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, TRPO
from small_recall import SMALL_RECALL, logged
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import envs
from delegate import RecallTraces, StableVecEnv
from delegate.recall import ExactBacktrackingModel, LearnedBacktrackingModel
from delegate.recall.algorithms import learner_of

SMALL = {"net_arch": [16]}
ON = {"n_steps": 32}
OFF = {"learning_starts": 100, "train_freq": 32, "gradient_steps": 2, "buffer_size": 2_000}
ALGORITHMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "A2C": (A2C, ON),
    "PPO": (PPO, {**ON, "batch_size": 64, "n_epochs": 2}),
    "TRPO": (TRPO, {**ON, "batch_size": 64}),
    "SAC": (SAC, OFF),
    "TD3": (TD3, OFF),
    "DQN": (DQN, OFF),
}
DISCRETE, CONTINUOUS = "CartPole-v1", "Pendulum-v1"
PAIRS = [
    *((name, DISCRETE) for name in ("A2C", "PPO", "TRPO", "DQN")),
    *((name, CONTINUOUS) for name in ("A2C", "PPO", "TRPO", "SAC", "TD3")),
]
FEW: dict[str, Any] = {**SMALL_RECALL, "model_settings": {"hidden": (16,)}}
STEPS = 640


def made(name: str, task: str, seed: int = 0, normalise: bool = False) -> Any:
    algorithm, settings = ALGORITHMS[name]
    limit = 40 if task == CONTINUOUS else None
    rows = DummyVecEnv([lambda: gymnasium.make(task, max_episode_steps=limit)] * 2)
    venv = VecNormalize(rows) if normalise else rows
    # The seed sets global random numbers: make one, train it, then make the next.
    return algorithm(
        "MlpPolicy", venv, seed=seed, policy_kwargs=dict(SMALL), device="cpu", **settings
    )


def weights(model: Any) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in model.policy.state_dict().items()}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in first)


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


def test_a_gaussian_policy_keeps_its_standard_deviation() -> None:
    model = made("PPO", CONTINUOUS)
    learner = learner_of(model)
    loss = learner.losses(np.zeros((4, 3), np.float32), np.full((4, 1), 2.0)).mean()
    loss.backward()
    assert model.policy.log_std.grad is None
    # (2 - mean)^2 / 2 at a standard deviation of one
    mean = model.policy.get_distribution(torch.zeros(4, 3)).distribution.mean
    assert loss.item() == pytest.approx(((2.0 - mean) ** 2 / 2).mean().item(), rel=1e-5)


def test_the_margin_loss_of_dqn_by_hand() -> None:
    model = made("DQN", DISCRETE)
    observation = np.zeros((2, 4), np.float32)
    value = model.q_net(torch.zeros(2, 4)).detach().numpy()
    for action in (0, 1):
        other = value[0, 1 - action] + 0.8
        expected = max(value[0, action], other) - value[0, action]
        found = learner_of(model).losses(observation, np.full(2, action))
        assert found.detach().numpy() == pytest.approx(expected, abs=1e-6)


def test_the_buffer_holds_what_happened() -> None:
    model, recall = made("PPO", CONTINUOUS, normalise=True), RecallTraces(**FEW)
    model.learn(256, callback=recall)
    assert recall.buffer is not None
    steps = recall.buffer.best().transitions
    # As the task gives it: cosine and sine of an angle, not what VecNormalize makes of them.
    for state in (steps.state, steps.next_state):
        np.testing.assert_allclose((state[:, :2] ** 2).sum(axis=1), 1, atol=1e-5)
    turned = np.arctan2(steps.next_state[:, 1], steps.next_state[:, 0])
    turned -= np.arctan2(steps.state[:, 1], steps.state[:, 0])
    turned = (turned + np.pi) % (2 * np.pi) - np.pi
    expected = np.clip(steps.next_state[:, 2] * 0.05, -np.pi, np.pi)
    np.testing.assert_allclose(turned, expected, atol=1e-3)
    assert (np.abs(steps.action) > 2).any()  # as drawn, before they were clipped


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
    ends, told = [], {}
    for size in (1e-3, 1e-3, 1e-2):
        model = made(name, task)
        told[size] = logged(model)
        model.learn(STEPS, callback=RecallTraces(**given, max_divergence=size))
        ends.append(weights(model))
    assert same(*ends[:2])
    for size, found in told.items():
        assert 0.3 * size < found["recall/divergence"] <= size


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
        _, traces = recall._recalled(steps, ranked)
        assert (traces.states[:, 1].std(axis=0).max() < 1e-6) == alike


def test_a_buffer_shorter_than_an_episode_waits() -> None:
    model = made("PPO", CONTINUOUS)  # episodes of 40 steps, of which at most 32 are kept
    recall = RecallTraces(**{**FEW, "start": 64}, buffer_size=64)
    model.learn(STEPS, callback=recall)
    assert recall.buffer is not None
    assert recall.buffer.finished <= 2


@pytest.mark.parametrize("targets", ["critic", "reward", "return", "advantage"])
def test_traces_end_where_asked(targets: Any) -> None:
    model = made("PPO", CONTINUOUS)
    model.learn(STEPS, callback=RecallTraces(**FEW, targets_from=targets, weighting="gain"))


def test_an_exact_model_of_a_grid() -> None:
    world = envs.make(
        "FourRooms", 4, size=7, num_levels=1, observation="integer", autoreset_mode="Disabled"
    )
    model = A2C("MlpPolicy", StableVecEnv(world), seed=0, device="cpu", n_steps=16)
    exact = ExactBacktrackingModel(world.transition_table())
    recall = RecallTraces(**{**FEW, "model_settings": None}, model=exact)
    before = weights(model)
    model.learn(1_024, callback=recall)
    assert not same(before, weights(model))


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_saved_beside_the_algorithm_it_goes_on(name: str, tmp_path: Path) -> None:
    model, recall = made(name, CONTINUOUS), RecallTraces(**FEW)
    model.learn(STEPS, callback=recall)
    model.save(tmp_path / "model.zip")
    recall.save(tmp_path / "recall.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.zip", "recall.pt"]
    later = type(model).load(tmp_path / "model.zip", env=model.get_env(), device="cpu")
    again = RecallTraces(**FEW).load(tmp_path / "recall.pt")
    again.init_callback(later)
    assert recall.buffer is not None
    assert again.buffer is not None
    for key, array in recall.buffer.state_arrays().items():
        np.testing.assert_array_equal(again.buffer.state_arrays()[key], array)
    state = recall.buffer.best().transitions
    models = (recall.backtracking_model, again.backtracking_model)
    first, second = (
        m.log_prob(state.state, state.action, state.next_state)  # type: ignore[union-attr]
        for m in models
    )
    np.testing.assert_array_equal(first, second)
    later.learn(STEPS, callback=again, reset_num_timesteps=False)
    assert again.buffer.steps > recall.buffer.steps


def test_the_same_callback_goes_on_with_a_loaded_algorithm(tmp_path: Path) -> None:
    model, recall = made("PPO", CONTINUOUS), RecallTraces(**FEW)
    model.learn(STEPS, callback=recall)
    model.save(tmp_path / "model.zip")
    later = PPO.load(tmp_path / "model.zip", env=model.get_env(), device="cpu")
    before = weights(later)
    later.learn(STEPS, callback=recall)
    assert not same(before, weights(later))


def test_a_second_training_does_not_lengthen_an_episode_of_the_first() -> None:
    model, recall = made("PPO", CONTINUOUS), RecallTraces(**FEW)
    model.learn(192, callback=recall)  # 96 steps a row: two episodes of 40, and 16 more
    model.learn(192, callback=recall)
    assert recall.buffer is not None
    trajectory = recall.buffer.state_arrays()["trajectory"]
    lengths = np.unique(trajectory, return_counts=True)[1]
    assert sorted(lengths.tolist()) == [16] * 4 + [40] * 8


class Broken(gymnasium.Env[np.ndarray, Any]):
    """Gives NaN after a while."""

    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Discrete(2)
    count = 0

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        zero: Any = self.observation_space.sample()
        return ({"a": zero["a"] * 0} if isinstance(zero, dict) else zero * 0), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.count += 1
        shown = np.full(2, np.nan if self.count > 20 else 0.5, np.float32)
        return shown, 0.0, False, False, {}


def test_what_cannot_be_recalled_is_refused() -> None:
    class Wide(Broken):
        observation_space = spaces.Box(0, 255, (3, 36, 36), np.uint8)  # type: ignore[assignment]

    class Named(Broken):
        observation_space = spaces.Dict(a=spaces.Box(-1, 1, (2, 2)))  # type: ignore[assignment]

    for env, policy in ((Wide(), "CnnPolicy"), (Named(), "MultiInputPolicy")):
        with pytest.raises(TypeError, match=r"cannot be recalled; recall needs a 1-D Box"):
            PPO(policy, env, device="cpu").learn(8, callback=RecallTraces(**FEW))
    with pytest.raises(TypeError, match="QRDQN is not among the algorithms recall knows: A2C"):
        QRDQN("MlpPolicy", DISCRETE, device="cpu").learn(8, callback=RecallTraces(**FEW))
    generalised = PPO("MlpPolicy", CONTINUOUS, use_sde=True, device="cpu")
    with pytest.raises(TypeError, match="gSDE"):
        generalised.learn(8, callback=RecallTraces(**FEW))
    with pytest.raises(ValueError, match='targets_from is "best"; give one of critic'):
        RecallTraces(targets_from="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lenght"):
        RecallTraces(lenght=3)


def test_observations_that_are_not_finite_are_named_before_anything_changes() -> None:
    model, recall = PPO("MlpPolicy", Broken(), device="cpu", n_steps=16), RecallTraces(**FEW)
    before = weights(model)
    with pytest.raises(ValueError, match=r"environment 0: observation \[nan, nan\] is not finite"):
        model.learn(64, callback=recall)
    assert recall.buffer is not None
    assert recall.buffer.steps == 20
    assert model.num_timesteps == 21
    assert set(before) == set(weights(model))


def test_an_empty_buffer_says_so_and_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    model, recall = made("PPO", CONTINUOUS), RecallTraces(**FEW)
    recall.init_callback(model)
    before = weights(model)
    with pytest.raises(ValueError, match="no trajectory of the buffer is over"):
        recall.recall()
    (tmp_path / "other.pt").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"other.pt: not what RecallTraces.save writes"):
        recall.load(tmp_path / "other.pt")
    other, elsewhere = RecallTraces(**FEW), made("PPO", DISCRETE)
    elsewhere.learn(STEPS, callback=other)
    other.save(tmp_path / "cart.pt")
    with pytest.raises(ValueError, match="optimiser has 8 parameters and this policy 9"):
        RecallTraces(**FEW).load(tmp_path / "cart.pt").init_callback(model)
    wider = PPO("MlpPolicy", CONTINUOUS, policy_kwargs={"net_arch": [17]}, device="cpu")
    narrow = RecallTraces(**FEW)
    made("PPO", CONTINUOUS).learn(STEPS, callback=narrow)
    narrow.save(tmp_path / "narrow.pt")
    with pytest.raises(ValueError, match="the saved policy optimiser: parameter"):
        RecallTraces(**FEW).load(tmp_path / "narrow.pt").init_callback(wider)
    assert same(before, weights(model))


def test_what_was_saved_with_another_model_is_refused(tmp_path: Path) -> None:
    kept = RecallTraces(**FEW)
    made("PPO", CONTINUOUS).learn(STEPS, callback=kept)
    kept.save(tmp_path / "learned.pt")
    model = made("PPO", CONTINUOUS)
    other = RecallTraces(**SMALL_RECALL, model="remembered").load(tmp_path / "learned.pt")
    with pytest.raises(ValueError, match="recalled by LearnedBacktrackingModel, and this by None"):
        other.init_callback(model)
    small = RecallTraces(**FEW, buffer_size=64).load(tmp_path / "learned.pt")
    with pytest.raises(ValueError, match=r"saved buffer: .* does not fit"):
        small.init_callback(model)
    learned = small.backtracking_model
    assert isinstance(learned, LearnedBacktrackingModel)
    fresh = LearnedBacktrackingModel(
        learned.state_space, learned.action_space, **FEW["model_settings"]
    )
    learned.save(tmp_path / "a.pt")
    fresh.save(tmp_path / "b.pt")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes(), "it was unpacked"
