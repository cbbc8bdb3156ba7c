"""StableVecEnv keeps Stable-Baselines3's conventions, as its DummyVecEnv shows them, or refuses."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from chain_world import ChainWorld
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation, TimeLimit, TransformReward
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from spot_world import Spot, adapted
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv

from delegate import StableVecEnv, VectorBacktrack, envs

pytestmark = pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning")

ROWS = 4
SETTINGS: dict[str, Any] = {"depths": (1, 3), "cost": 0.25, "budget": 4}


def face(rows: int = ROWS, **settings: Any) -> StableVecEnv:
    """A StableVecEnv over backtracking chains."""
    return StableVecEnv(VectorBacktrack(ChainWorld(rows), **SETTINGS), **settings)


# Actions


@pytest.mark.parametrize("backtracks", [False, True])
@pytest.mark.parametrize("algorithm", [TD3, SAC])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_off_policy_learners_train_at_the_bounds(
    algorithm: Any, backtracks: bool, dtype: Any
) -> None:
    """They scale actions from [-1, 1], which puts some a rounding error outside."""
    world = adapted(1, action_space=spaces.Box(dtype(-0.7), dtype(0.42), (1,), dtype))
    venv = StableVecEnv(VectorBacktrack(world, **SETTINGS) if backtracks else world)
    scaled = np.ones((1, *venv.action_space.shape), np.float32)
    low, high = venv.action_space.low, venv.action_space.high
    top = low + 0.5 * (scaled + 1) * (high - low)
    if dtype == np.float32:
        assert (top > high).any(), "nothing is outside, so this tests nothing"
    noise = NormalActionNoise(np.zeros(low.shape), np.ones(low.shape))
    model = algorithm(
        "MlpPolicy",
        venv,
        learning_starts=20,
        batch_size=8,
        seed=0,
        action_noise=noise,
        policy_kwargs={"net_arch": [8]},
        device="cpu",
    )
    model.learn(100)
    assert model.num_timesteps == 100
    with pytest.raises(ValueError, match=r"out of range|give "):
        venv.step(top + 1e-3)


def test_a_world_is_given_the_bound_itself() -> None:
    world = adapted(
        1, action_space=spaces.Box(np.float32(-0.7), np.float32(0.42), (1,), np.float32)
    )
    venv = StableVecEnv(world)
    venv.reset()
    above = np.nextafter(np.float32(0.42), np.float32(1), dtype=np.float32)
    _, reward, _, _ = venv.step(np.array([[above]]))
    assert reward[0] == np.float32(0.42)


# Names


def test_attributes_row_by_row() -> None:
    stable = face()
    stable.seed(0)
    stable.reset()
    assert stable.get_attr("num_envs") == [ROWS] * ROWS
    assert stable.get_attr("depths", indices=1)[0].tolist() == [1, 3]
    assert [mask.shape for mask in stable.env_method("can_backtrack", indices=[0, 3])] == [(2,)] * 2
    stable.set_attr("mark", 7)
    assert stable.get_attr("mark", indices=0) == [7]
    with pytest.raises(ValueError, match="belongs to the whole batch"):
        stable.set_attr("mark", 8, indices=[1])
    with pytest.raises(AttributeError):
        stable.get_attr("nothing of the kind")
    assert not stable.has_attr("nothing of the kind")


def test_no_value_is_taken_apart_because_of_its_length() -> None:
    for rows in (2, 3):
        venv = StableVecEnv(VectorBacktrack(ChainWorld(rows), depths=(1, 4), cost=1.0))
        assert [list(depths) for depths in venv.get_attr("depths")] == [[1, 4]] * rows
        venv.set_attr("pair", ["a", "b"])
        assert venv.get_attr("pair") == [["a", "b"]] * rows
        venv.reset()
        assert [mask.tolist() for mask in venv.env_method("can_backtrack", indices=1)] == [
            [False, False]
        ]
        assert venv.get_attr("action_space") == [venv.action_space] * rows
    with pytest.raises(IndexError):
        venv.get_attr("depths", indices=[3])


def test_a_method_of_the_batch_is_not_called_for_some_rows() -> None:
    for venv in (face(), StableVecEnv(adapted(ROWS))):
        venv.reset()
        venv.step(np.ones(ROWS, int))
        before = venv.snapshot()
        with pytest.raises(ValueError, match="snapshot belongs to the whole batch"):
            venv.env_method("snapshot", indices=[0])
        for name in ("reset", "step", "restore", "close"):
            for indices in (None, [0], 0):
                with pytest.raises(ValueError, match=f"{name} would pass by the statistics"):
                    venv.env_method(name, indices=indices)
        after = venv.snapshot()
        for name, array in before.arrays.items():
            if not array.dtype.hasobject:
                np.testing.assert_array_equal(after.arrays[name], array, err_msg=name)


@pytest.mark.parametrize("backtracks", [False, True])
def test_names_of_the_environments_are_found_as_by_dummy_vec_env(backtracks: bool) -> None:
    world = adapted(3)
    venv = StableVecEnv(VectorBacktrack(world, **SETTINGS) if backtracks else world)
    dummy = DummyVecEnv([lambda: TransformReward(Spot(), float)] * 3)
    for each in (venv, dummy):
        each.reset()
        assert each.env_method("harder", 2, indices=[0, 2]) == [3, 3]
        assert each.get_attr("difficulty") == [3, 1, 3]
        assert each.get_attr("difficulty", indices=1) == [1]
        assert each.has_attr("difficulty")
        assert not each.has_attr("nothing of the kind")
        assert each.env_is_wrapped(TransformReward) == [True] * 3
        assert each.env_is_wrapped(TimeLimit, indices=[0]) == [False]
    venv.set_attr("difficulty", 7, indices=[1])
    assert venv.get_attr("difficulty") == [3, 7, 3]
    assert world.envs[1].unwrapped.difficulty == 7, "not on the wrapper around it"


def test_masks_of_the_environments_reach_a_masked_learner() -> None:
    venv = StableVecEnv(adapted(2))
    venv.set_attr("forbidden", 2, indices=[1])
    venv.reset()
    assert is_masking_supported(venv)
    expected = [[False, True, True], [True, True, False]]
    assert get_action_masks(venv).tolist() == venv.action_masks().tolist() == expected
    taken = []

    def watch(values: dict[str, Any], _: Any) -> bool:
        taken.append(values["actions"])
        return True

    MaskablePPO("MlpPolicy", venv, n_steps=8, batch_size=16, seed=0, device="cpu").learn(
        64, callback=watch
    )
    rows = np.array(taken)
    assert not (rows[:, 0] == 0).any()
    assert not (rows[:, 1] == 2).any()
    with pytest.raises(AttributeError, match="has no action_masks"):
        StableVecEnv(envs.make("Hopper-v5", 1)).action_masks()


# Spaces


PAIR = spaces.Tuple((spaces.Discrete(3), spaces.Box(0, 1, (1,), np.float32)))
NESTED = spaces.Dict({"inner": spaces.Dict({"place": spaces.Box(-1, 1, (2,), np.float32)})})
FLAT = spaces.Dict(
    {"place": spaces.Box(-1, 1, (2,), np.float32), "speed": spaces.Box(-1, 1, (1,), np.float64)}
)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            spaces.Tuple((spaces.Discrete(3), spaces.Box(0, 1, (1,)))),
            "observation is Tuple.*Flatten",
        ),
        (NESTED, "observation inner is Dict.*FlattenObservation"),
        (spaces.Text(3), "observation is Text.*TransformObservation"),
        (spaces.Discrete(3, start=1), "counts from 0.*TransformObservation"),
    ],
)
def test_observations_that_cannot_be_learned_from_are_refused_when_made(
    space: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        StableVecEnv(adapted(2, observation_space=space))


def test_the_remedies_work() -> None:
    kind = type("Pair", (Spot,), {"observation_space": PAIR})
    flat = envs.adapt(lambda: FlattenObservation(kind()), 2, autoreset_mode="Disabled")
    PPO("MlpPolicy", StableVecEnv(flat), n_steps=8, batch_size=16, seed=0, device="cpu").learn(16)
    dicts = adapted(2, observation_space=FLAT)
    with pytest.raises(TypeError, match=r"observation is Dict.*observe=\(\)"):
        StableVecEnv(VectorBacktrack(dicts, cost=1.0))
    plain = StableVecEnv(VectorBacktrack(dicts, cost=1.0, observe=()))
    PPO("MultiInputPolicy", plain, n_steps=8, batch_size=16, seed=0, device="cpu").learn(16)


def test_a_dict_of_boxes_is_as_from_dummy_vec_env() -> None:
    kind = type("Spot", (Spot,), {"observation_space": FLAT})
    venv = StableVecEnv(adapted(2, observation_space=FLAT), float32=False)
    dummy = DummyVecEnv([kind] * 2)
    assert venv.observation_space == dummy.observation_space
    played = zip([venv.reset(), *steps(venv)], [dummy.reset(), *steps(dummy)], strict=True)
    for given, expected in played:
        assert given.keys() == expected.keys()
        for name in expected:
            assert given[name].dtype == expected[name].dtype
            np.testing.assert_array_equal(given[name], expected[name])
    PPO("MultiInputPolicy", venv, n_steps=8, batch_size=16, seed=0, device="cpu").learn(32)


def steps(venv: Any, count: int = 25) -> list[Any]:
    return [venv.step(np.ones(2, int))[0] for _ in range(count)]


@pytest.mark.parametrize(
    "space", [spaces.Dict({"a": spaces.Discrete(2)}), spaces.Tuple((spaces.Discrete(2),))]
)
def test_actions_that_cannot_be_learned_are_refused_when_made(space: Any) -> None:
    class Odd(Spot):
        action_space = space

        def step(self, action: Any) -> Any:
            return super().step(0)

    with pytest.raises(TypeError, match=r"the action is .*TransformAction"):
        StableVecEnv(envs.adapt(Odd, autoreset_mode="Disabled"))


# Seeds and options


def test_seeds_and_options_are_used_once() -> None:
    venv = StableVecEnv(envs.make("Corner", 3, num_levels=9, mix=1.0, autoreset_mode="Disabled"))
    assert venv.seed(5) == [5, 6, 7]
    levels = {"level": np.array([4, 0, 8])}
    venv.set_options(levels)
    venv.reset()
    assert venv.get_attr("level_index") == [4, 0, 8]
    np.testing.assert_array_equal(
        venv.env.state.key[:, 0], seeded(5, {"level": levels["level"]}), "seeded as the batch is"
    )
    levels["level"][:] = 1
    venv.reset()
    assert venv.get_attr("level_index") != [4, 0, 8], "options are used once"
    drawn = venv.env.state.key.copy()
    venv.reset()
    assert (venv.env.state.key != drawn).any(), "and so are seeds"


def seeded(seed: int, options: dict[str, Any]) -> np.ndarray:
    env = envs.make("Corner", 3, num_levels=9, mix=1.0, autoreset_mode="Disabled")
    env.reset(seed=seed, options=options)
    return env.state.key[:, 0]


def test_each_row_of_an_adapted_world_is_seeded_as_by_dummy_vec_env() -> None:
    venv = StableVecEnv(envs.adapt("CartPole-v1", 3, autoreset_mode="Disabled"))
    dummy = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 3)
    for each in (venv, dummy):
        each.seed(11)
        each.set_options({"low": -0.01, "high": 0.01})
    np.testing.assert_array_equal(venv.reset(), dummy.reset())
    np.testing.assert_array_equal(venv.reset(), dummy.reset(), "without a seed, streams go on")


def test_options_that_name_rows_are_refused() -> None:
    venv = face()
    venv.set_options({"reset_mask": np.ones(ROWS, bool)})
    with pytest.raises(ValueError, match="leave reset_mask out"):
        venv.reset()
    venv.set_options([{"level": np.arange(2)}, *[{"level": np.arange(2) + 1}] * (ROWS - 1)])
    with pytest.raises(ValueError, match="options differ between rows"):
        venv.reset()


def test_infos_of_every_step_are_copies() -> None:
    class Telling(Spot):
        def step(self, action: Any) -> Any:
            *rest, _ = super().step(action)
            return *rest, {"place": np.zeros(2), "inner": {"clock": self.clock}}

    venv = StableVecEnv(
        envs.adapt(Telling, 2, autoreset_mode="Disabled"), info_keys=("place", "inner")
    )
    venv.reset()
    *_, infos = venv.step(np.ones(2, int))
    assert infos[1]["inner"] == {"clock": 1}
    infos[0]["place"][:] = 7
    assert not venv.batch_info["place"].any()
