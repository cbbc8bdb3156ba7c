"""What RecallTraces refuses, before it changes anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from sb3_contrib import QRDQN, RecurrentPPO
from small_recall import CONTINUOUS, DISCRETE, FEW, SMALL_RECALL, STEPS, Broken, made, same, weights
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from delegate import RecallTraces, envs
from delegate.recall import ExactBacktrackingModel, ForwardModel, LearnedBacktrackingModel

BOX, TORQUE = gymnasium.make(CONTINUOUS).observation_space, gymnasium.make(CONTINUOUS).action_space


def test_what_cannot_be_recalled_is_refused() -> None:
    class Wide(Broken):
        observation_space = spaces.Box(0, 255, (3, 36, 36), np.uint8)

    class Named(Broken):
        observation_space = spaces.Dict(a=spaces.Box(-1, 1, (2, 2)))

        def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
            return self.observation_space.sample(), {}

    def refused(model: Any, said: str) -> None:
        before = weights(model)
        with pytest.raises(TypeError, match=said):
            model.learn(8, callback=RecallTraces(**FEW))
        assert model.num_timesteps == 0
        assert same(before, weights(model))

    for env, policy in ((Wide(), "CnnPolicy"), (Named(), "MultiInputPolicy")):
        refused(PPO(policy, env, device="cpu"), r"cannot be recalled; recall needs a 1-D Box")
    for kind, policy in ((QRDQN, "MlpPolicy"), (RecurrentPPO, "MlpLstmPolicy")):
        said = f"{kind.__name__} is not among the algorithms recall"
        refused(kind(policy, DISCRETE, device="cpu"), said)
    refused(PPO("MlpPolicy", CONTINUOUS, use_sde=True, device="cpu"), "gSDE")


def test_an_algorithm_of_any_name_is_known_by_what_it_is() -> None:
    class RecurrentInNameAlone(PPO):
        pass

    model = RecurrentInNameAlone("MlpPolicy", DISCRETE, n_steps=64, device="cpu")
    model.learn(64, callback=RecallTraces(**FEW))


def test_integer_vectors_are_vectors() -> None:
    class Counted(Broken):
        observation_space = spaces.Box(0, 9, (3,), np.int64)

        def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
            return np.zeros(3, np.int64), {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            _, *rest = super().step(action)
            return np.arange(3) + self.count % 5, *rest

    recall = RecallTraces(**FEW)
    A2C("MlpPolicy", Counted(), n_steps=32, device="cpu").learn(256, callback=recall)
    assert recall.buffer is not None
    assert recall.buffer.finished > 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets_from": "best"}, r'targets_from "best" is not known; did you mean .* critic, r'),
        ({"targets_from": "advantage"}, "targets_from"),
        ({"targets_from": np.zeros((0, 3))}, r"targets_from has no state, shape \(0, 3\)"),
        ({"model": "forward"}, r'model "forward" is not known; did you .* are: learned, random'),
        ({"preset": "papr"}, 'preset "papr" is not known; did you mean "paper"'),
        ({"lenght": 3}, 'RecallTraces: setting "lenght" is not known; did you mean "length"'),
        ({"length": 0}, "RecallTraces: length is 0; give at least 1"),
        ({"length": 0, "preset": "paper"}, "RecallTraces: length is 0; give at least 1"),
        ({"model_settings": {"hiden": (8,)}}, 'model_settings: setting "hiden" .* mean "hidden"'),
        ({"model_settings": {"goal_size": 2}}, '"learned" of goal_size 2, and observations hold'),
        ({"model_settings": {"layout_size": 9}}, "layout_size 9, and observations hold"),
    ],
)
def test_settings_that_would_not_be_heeded_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        RecallTraces(**settings)


def test_settings_beside_a_model_are_refused() -> None:
    table = envs.make("FourRooms", 1, size=7, num_levels=1).transition_table()
    exact = ExactBacktrackingModel(table)
    RecallTraces(model=exact, preset="paper")
    for name in ("model_updates", "model_batch", "states"):
        with pytest.raises(ValueError, match=f"Exact.*, which does not learn; drop {name}"):
            RecallTraces(model=exact, **{name: 1})
    several = envs.make("FourRooms", 1, size=7, num_levels=3).transition_table()
    with pytest.raises(ValueError, match=r"Exact.* of 3 levels, and observations do not tell"):
        RecallTraces(model=ExactBacktrackingModel(several))
    aimed = LearnedBacktrackingModel(BOX, TORQUE, hidden=(8,), goal_size=2)
    with pytest.raises(ValueError, match=r"LearnedBack.* of goal_size 2, and observations hold"):
        RecallTraces(model=aimed)
    learned = LearnedBacktrackingModel(BOX, TORQUE, hidden=(8,))
    with pytest.raises(ValueError, match="model_settings are of a new model"):
        RecallTraces(model=learned, model_settings={"hidden": (8,)})
    forwards: Any = ForwardModel(BOX, TORQUE, hidden=(8,))
    for other in (None, forwards):
        with pytest.raises(TypeError, match=r"model is .*; give learned, random or a Backtracking"):
            RecallTraces(model=other)
    nothing: Any = None
    for given in (nothing, [[1.0, 0.0, 0.0]]):
        with pytest.raises(
            TypeError, match=r"targets_from is a (NoneType|list); give critic, reward"
        ):
            RecallTraces(targets_from=given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets_from": np.zeros((2, 5))}, r"of shape \(2, 5\), .* ones of Box.*, \[count, 3\]"),
        ({"targets_from": np.full((2, 3), np.nan)}, r"\[nan, nan, .* among them; give finite"),
        ({"targets_from": np.full((2, 3), "a")}, "states are <U1 of shape"),
        (
            {"model": LearnedBacktrackingModel(spaces.Box(-9, 9, (4,)), TORQUE, hidden=(8,))},
            r"model is of states Box.*\(4,\).*, and the algorithm's are Box",
        ),
        (
            {"model": LearnedBacktrackingModel(BOX, spaces.Discrete(2), hidden=(8,))},
            r"model is of actions Discrete\(2\), and the algorithm's are Box",
        ),
    ],
)
def test_what_does_not_fit_the_algorithm_is_refused_before_training(
    settings: dict[str, Any], message: str
) -> None:
    model = made("PPO", CONTINUOUS)
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        model.learn(STEPS, callback=RecallTraces(**(SMALL_RECALL | settings)))
    assert model.num_timesteps == 0
    assert same(before, weights(model))


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ([3.7], r"states are float64 .*\[3.7\] among them; give finite ones of Discrete\(16\)"),
        ([3, 16], r"states are int64 .*\[3, 16\] among them; give"),
        ([-3], r"\[-3\] among them"),
        ([[3]], r"of shape \(1, 1\), .*Discrete\(16\), \[count\]"),
    ],
)
def test_targets_that_are_no_state_of_a_grid_are_refused(states: list[Any], message: str) -> None:
    given = np.array(states)
    model = A2C("MlpPolicy", "FrozenLake-v1", n_steps=32, device="cpu")
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        model.learn(STEPS, callback=RecallTraces(**FEW, targets_from=given))
    assert model.num_timesteps == 0, "known before training"
    assert same(before, weights(model))
    recall = RecallTraces(**FEW, targets_from=lambda count, rng: given)
    with pytest.raises(ValueError, match=message):
        model.learn(STEPS, callback=recall)
    assert nothing_learned(recall)


def nothing_learned(recall: RecallTraces) -> bool:
    model = recall.backtracking_model
    assert isinstance(model, LearnedBacktrackingModel)
    fresh = LearnedBacktrackingModel(model.state_space, model.action_space, model.config)
    space = model.state_space
    end = np.zeros((1, *space.shape), np.int64 if space.shape == () else np.float32)
    drawn = [one.sample_traces(end, 3, 8, rng=0).states for one in (model, fresh)]
    return np.array_equal(*drawn)


@pytest.mark.parametrize("rows", [0, 2, 9])
def test_a_source_that_gives_another_number_of_states_is_refused(rows: int) -> None:
    def source(count: int, rng: np.random.Generator) -> np.ndarray:
        return np.zeros((rows, 3), np.float32)

    recall = RecallTraces(**FEW, targets_from=source)
    with pytest.raises(ValueError, match=f"gave {rows} states; give the 8 asked for"):
        made("PPO", CONTINUOUS).learn(STEPS, callback=recall)
    assert nothing_learned(recall)


@pytest.mark.filterwarnings("ignore")
def test_what_changes_normalised_observations_is_refused() -> None:
    rows = DummyVecEnv([lambda: gymnasium.make(CONTINUOUS)])
    outside = PPO("MlpPolicy", VecFrameStack(VecNormalize(rows), 3), n_steps=64, device="cpu")
    with pytest.raises(TypeError, match=r"VecFrameStack makes .*; put VecNormalize outside it"):
        outside.learn(64, callback=RecallTraces(**FEW))
    assert outside.num_timesteps == 0
    inside = VecMonitor(VecNormalize(VecFrameStack(rows, 3)))
    PPO("MlpPolicy", inside, n_steps=64, device="cpu").learn(64, callback=RecallTraces(**FEW))


def test_what_was_refused_serves_another_algorithm() -> None:
    recall = RecallTraces(**FEW)
    with pytest.raises(TypeError, match="SAC explores with gSDE"):
        SAC("MlpPolicy", CONTINUOUS, use_sde=True, device="cpu").learn(STEPS, callback=recall)
    made("PPO", DISCRETE).learn(STEPS, callback=recall)
    assert recall.buffer is not None
    assert recall.buffer.finished > 0


def test_a_refused_file_leaves_the_callback_to_its_own_environment(tmp_path: Path) -> None:
    kept = RecallTraces(**FEW)
    made("PPO", DISCRETE).learn(STEPS, callback=kept)
    kept.save(tmp_path / "cart")
    recall = RecallTraces(**FEW).load(tmp_path / "cart")
    with pytest.raises(
        ValueError, match=r"state is float32 \(640, 4\) in what was remembered, and .* 3\) here"
    ):
        recall.init_callback(made("PPO", CONTINUOUS))
    assert recall.buffer is None
    made("PPO", DISCRETE).learn(STEPS, callback=recall)
    assert kept.buffer is not None
    assert recall.buffer is not None
    assert recall.buffer.steps == 2 * kept.buffer.steps
    other = RecallTraces(**FEW)
    model = made("PPO", CONTINUOUS).learn(STEPS, callback=other)
    other.load(tmp_path / "cart")
    with pytest.raises(
        ValueError, match=r"state is float32 \(640, 4\) in what was remembered, and .* 3\) here"
    ):
        model.learn(STEPS, callback=other, reset_num_timesteps=False)
    model.learn(STEPS, callback=other, reset_num_timesteps=False)
    assert other.buffer is not None
    assert other.buffer.steps == 2 * kept.buffer.steps, "it goes on with its own"


def test_a_model_that_would_clip_what_a_policy_draws_is_refused() -> None:
    def with_bounds(model: Any) -> RecallTraces:
        learned = LearnedBacktrackingModel(model.observation_space, model.action_space)
        return RecallTraces(**SMALL_RECALL, model=learned)

    for name in ("SAC", "TD3"):
        model = made(name, CONTINUOUS)
        with_bounds(model).init_callback(model)
    model = made("PPO", CONTINUOUS)
    with pytest.raises(ValueError, match="draws them without bounds"):
        with_bounds(model).init_callback(model)


def test_a_finite_model_of_another_world_is_refused() -> None:
    world = envs.make("FourRooms", 1, size=7, num_levels=1, observation="integer")
    exact = ExactBacktrackingModel(world.transition_table())
    with pytest.raises(ValueError, match=r"model is of states Discrete\(.*algorithm's are Box"):
        made("PPO", DISCRETE).learn(STEPS, callback=RecallTraces(**SMALL_RECALL, model=exact))


def test_an_empty_buffer_says_so_and_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    model, recall = made("PPO", CONTINUOUS), RecallTraces(**FEW)
    with pytest.raises(ValueError, match="nothing was remembered yet"):
        recall.save(tmp_path / "early")
    with pytest.raises(ValueError, match=r"nothing was remembered yet; .*, then recall"):
        recall.recall()
    assert not list(tmp_path.iterdir())
    recall.init_callback(model)
    before = weights(model)
    with pytest.raises(ValueError, match="no trajectory of the buffer is finished"):
        recall.recall()
    (tmp_path / "other").write_bytes(b"no model")
    with pytest.raises(ValueError, match=r"other: not what RecallTraces.save writes"):
        recall.load(tmp_path / "other")
    other, elsewhere = RecallTraces(**FEW), made("PPO", DISCRETE)
    elsewhere.learn(STEPS, callback=other)
    other.save(tmp_path / "cart")
    with pytest.raises(
        ValueError, match=r"state is float32 \(640, 4\) in what was remembered, and .* 3\) here"
    ):
        RecallTraces(**FEW).load(tmp_path / "cart").init_callback(model)
    env = made("PPO", CONTINUOUS).get_env()
    wider = PPO("MlpPolicy", env, policy_kwargs={"net_arch": [17]}, device="cpu")
    narrow = RecallTraces(**FEW)
    made("PPO", CONTINUOUS).learn(STEPS, callback=narrow)
    narrow.save(tmp_path / "narrow")
    wide = weights(wider)
    with pytest.raises(
        ValueError, match=r"the saved optimiser of the policy: .* resume with the algorithm"
    ):
        RecallTraces(**FEW).load(tmp_path / "narrow").init_callback(wider)
    assert same(wide, weights(wider))
    assert same(before, weights(model))


def test_where_no_episode_ends_it_says_so_once() -> None:
    class Endless(Broken):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return *super().step(action)[:3], False, {}

    model = PPO("MlpPolicy", Endless(), n_steps=64, device="cpu", seed=0)
    with pytest.warns(UserWarning, match="nothing is recalled: no trajectory of the") as warned:
        model.learn(640, callback=RecallTraces(**FEW, buffer_size=200))
    assert len([each for each in warned if "recalled" in str(each.message)]) == 1


def test_where_all_has_one_priority_it_says_so_once() -> None:
    """CartPole's reward is 1 at every step."""
    told = "all .* steps of the best .* have the same priority by targets_from='reward'; name"
    recall = RecallTraces(**(FEW | {"targets_from": "reward", "buffer_size": 300}))
    with pytest.warns(UserWarning, match=told) as warned:
        made("PPO", DISCRETE).learn(STEPS, callback=recall)
    assert len([each for each in warned if "recalled" in str(each.message)]) == 1
