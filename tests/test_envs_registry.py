"""Worlds by name: the package's own door and Gymnasium's."""

import subprocess
import sys
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from delegate import envs
from delegate.backtrack.state import StatefulVectorEnv
from delegate.envs.grid import GridEnv, GridVectorEnv


def test_ids() -> None:
    assert envs.ids() == ["Corner", "FourRooms", "TrapGrid"]


@pytest.mark.parametrize("observation", ["boolean", "integer"])
@pytest.mark.parametrize("world", envs.ids())
def test_check_env_passes_without_a_warning(world: str, observation: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(f"delegate/{world}-v0", observation=observation)
        check_env(env.unwrapped)


def test_check_env_notices_a_shared_observation() -> None:
    """Negative control: the checker must refuse the same world without copies."""
    env = gymnasium.make("delegate/Corner-v0", copy=False, num_levels=1)
    with pytest.raises(AssertionError, match="share an object"):
        check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("world", envs.ids())
def test_one_environment_equals_one_row(world: str) -> None:
    single = GridEnv(world, slip=0.2, mix=0.5)
    batch = envs.make(world, 1, slip=0.2, mix=0.5, autoreset_mode="Disabled")
    observation, info = single.reset(seed=4)
    np.testing.assert_array_equal(observation, batch.reset(seed=4)[0][0])
    saved = single.snapshot()
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 4, 30)
    first = [single.step(action) for action in actions]
    rows = [batch.step([action]) for action in actions]
    for one, row in zip(first, rows, strict=True):
        np.testing.assert_array_equal(one[0], row[0][0])
        assert one[1:4] == (row[1][0], row[2][0], row[3][0])
        assert one[4] == {name: value[0] for name, value in row[4].items()}
    single.restore(saved)
    again = [single.step(action) for action in actions]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:] == other[1:]
    assert info["state"] == saved.arrays["cell"][0]


def test_single_environment_plays_the_level_asked_for() -> None:
    env = gymnasium.make("delegate/Corner-v0", num_levels=5, mix=1.0).unwrapped
    assert isinstance(env, GridEnv)
    for level in range(5):
        env.reset(options={"level": level})
        assert env.vector.level_index.tolist() == [level]


def test_gymnasium_make_vec_gives_the_batched_world() -> None:
    env = gymnasium.make_vec("delegate/Corner-v0", num_envs=3, size=9)
    assert isinstance(env.unwrapped, GridVectorEnv)
    observation, _ = env.reset(seed=0)
    assert observation.shape == (3, 9, 9, 3)
    assert observation in env.observation_space


@pytest.mark.parametrize("observation", ["boolean", "integer"])
def test_spaces_hold_what_comes(observation: str) -> None:
    env = envs.make("TrapGrid", 4, observation=observation)
    assert isinstance(env, StatefulVectorEnv)
    seen, _ = env.reset(seed=0)
    assert seen in env.observation_space
    assert seen[0] in env.single_observation_space
    assert seen.dtype == env.observation_space.dtype
    step = env.step(env.action_space.sample())
    assert step[0] in env.observation_space
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"id": "Cornr"}, 'world "Cornr" is not known; did you mean "Corner"'),
        ({"id": "corner"}, 'did you mean "Corner"'),
        ({"id": "Hoper-v5"}, 'did you mean "Hopper-v5"'),
        ({"id": "delegate/Corner-v0"}, 'did you mean "Corner"'),
        (
            {"id": "chess"},
            "There are: Corner, FourRooms, .*, reacher-pair, Ant-v5, .*, Walker2d-v5$",
        ),
        (
            {"id": "CartPole-v1"},
            r'^CartPole-v1 is Gymnasium.s; envs.adapt\("CartPole-v1", num_envs\)',
        ),
        (
            {"id": "cartpole"},
            r'did you mean "CartPole-v1"\? That is .* envs.adapt.* There are: Corner',
        ),
        (
            {"corner_sise": 3},
            'Corner: setting "corner_sise" is not known; did you mean "corner_size"',
        ),
        ({"trap_density": 0.1}, 'Corner: setting "trap_density" is not known'),
        ({"obsrvation": "integer"}, 'did you mean "observation"'),
        ({"observation": "pixels"}, "observation is 'pixels'; give one of boolean, integer"),
        ({"autoreset_mode": "Never"}, "autoreset_mode is 'Never'; give one of .*NextStep"),
        ({"size": 4}, "Corner: size is 4; give at least 5$"),
        ({"size": "13"}, "Corner: size is '13'; give a whole number$"),
        ({"size": 13.5}, "size is 13.5; give a whole number$"),
        ({"corner_size": 12}, "corner_size 12 does not fit inside the walls of size 13"),
        ({"slip": 1.5}, "slip is 1.5; give at most 1$"),
        ({"slip": float("nan")}, "slip is nan; "),
        ({"max_steps": 0}, "max_steps is 0; "),
        ({"id": "FourRooms", "size": 12}, "12 is even"),
        ({"num_envs": 0}, "num_envs is 0; give 1 to"),
        ({"num_envs": -3}, "num_envs is -3"),
        ({"num_envs": 10**9}, "num_envs is 1000000000"),
        ({"num_envs": 2.0}, "num_envs is 2.0; give an integer"),
        ({"num_envs": True}, "num_envs is True"),
        ({"num_envs": 100_000, "size": 101}, "would need 2.9 GiB; give at most 35086"),
        ({"num_levels": 1_000_000, "size": 101}, "num_levels 1000000 at size 101"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        envs.make(**{"id": "Corner", "num_envs": 2, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "odd"}, "kind 'odd' is not known"),
        ({"seeds": [-1]}, "seeds must be"),
        ({"seeds": []}, "seeds must be"),
        ({"seeds": [0.5]}, "seeds must be"),
        ({"seeds": range(10**12)}, "1000000000000 levels are too many"),
        ({"count": 0}, "0 levels wanted"),
        ({"settings": {"sise": 9}}, 'did you mean "size"'),
        ({"id": "Hopper-v5"}, "Hopper-v5 is a MuJoCo task and has no levels"),
    ],
)
def test_what_cannot_be_a_bank_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        envs.levels(**{"id": "Corner", "seeds": range(5), **arguments})


def test_a_bank_of_another_size_is_refused_and_its_own_size_is_taken() -> None:
    levels = envs.levels("Corner", seeds=range(3), settings={"size": 9})
    assert envs.make("Corner", 2, levels=levels).settings.size == 9
    with pytest.raises(ValueError, match="the bank's levels are 9x9 but size is 13"):
        envs.make("Corner", 2, levels=levels, size=13)


def test_worlds_do_not_load_torch() -> None:
    unwanted = "{'torch', 'delegate.policies'}"
    code = f"import sys, delegate.envs; sys.exit(bool({unwanted} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
