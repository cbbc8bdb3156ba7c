"""How a batch of MuJoCo rows begins, ends, counts, and is talked to."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium_oracle import random_actions

from delegate import envs
from delegate.backtrack import SnapshotMismatch
from delegate.envs.mujoco import TASKS, Diverged, MujocoVectorEnv, make
from delegate.envs.mujoco.task import ASSETS

NO_FORCE = np.zeros((4, 3), np.float32)


@pytest.fixture
def hoppers() -> MujocoVectorEnv:
    env = make("Hopper-v5", 4, num_threads=2, autoreset_mode="Disabled", max_episode_steps=6)
    env.reset(seed=0)
    return env


@pytest.mark.parametrize("id", sorted(TASKS))
def test_spaces(id: str) -> None:
    env = make(id, 3)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert env.single_action_space.dtype == np.float32
    env.action_space.seed(0)
    observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    assert env.observation_space.contains(observation)
    assert reward.dtype == np.float64
    assert terminated.dtype == truncated.dtype == bool
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP


@pytest.mark.parametrize("id", sorted(TASKS))
def test_nothing_returned_is_alive(id: str) -> None:
    """What a step returned stays as it was, and writing into it changes nothing."""
    env = make(id, 2)
    actions = random_actions(env, 6)
    env.reset(seed=0)
    played = env.step(actions[0])
    before = env.snapshot()
    kept = _flat(played)
    copies = {name: array.copy() for name, array in kept.items()}
    env.step(actions[1])
    for name, array in kept.items():
        np.testing.assert_array_equal(array, copies[name], err_msg=name)
    env.restore(before)
    for array in kept.values():
        array[...] = 1
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(env.snapshot().arrays[name], array, err_msg=name)


def test_truncation_counts_steps(hoppers: MujocoVectorEnv) -> None:
    for time in range(6):
        _, _, terminated, truncated, _ = hoppers.step(NO_FORCE)
        assert not terminated.any()
        assert truncated.tolist() == [time == 5] * 4


def test_disabled_rows_hold_still(hoppers: MujocoVectorEnv) -> None:
    for _ in range(6):
        hoppers.step(NO_FORCE)
    before = hoppers.snapshot()
    observation, reward, _, truncated, info = hoppers.step(NO_FORCE + 1)
    np.testing.assert_array_equal(observation, hoppers.observe())
    assert (reward == 0).all()
    assert truncated.all()
    assert (info["x_velocity"] == 0).all()
    np.testing.assert_array_equal(info["x_position"], hoppers.task.qpos[:, 0])
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(hoppers.snapshot().arrays[name], array)
    hoppers.reset(options={"reset_mask": np.array([True, False, True, False])})
    _, reward, _, truncated, _ = hoppers.step(NO_FORCE)
    assert truncated.tolist() == [False, True, False, True]
    assert (reward != 0).tolist() == [True, False, True, False]


def test_a_masked_reset_leaves_the_others_alone(hoppers: MujocoVectorEnv) -> None:
    hoppers.step(NO_FORCE)
    before = hoppers.snapshot()
    observation, _ = hoppers.reset(
        seed=[9, 8, 7, 6], options={"reset_mask": np.array([False, True, False, False])}
    )
    after = hoppers.snapshot()
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(after.arrays[name][[0, 2, 3]], array[[0, 2, 3]])
    expected, _ = gymnasium.make("Hopper-v5").reset(seed=8)
    np.testing.assert_array_equal(observation[1], expected)


def test_same_step_shows_the_last_observation() -> None:
    same = make("Hopper-v5", 4, autoreset_mode="SameStep", max_episode_steps=3)
    none = make("Hopper-v5", 4, autoreset_mode="Disabled", max_episode_steps=3)
    same.reset(seed=1)
    none.reset(seed=1)
    for time in range(3):
        given, expected = same.step(NO_FORCE), none.step(NO_FORCE)
        assert ("final_obs" in given[4]) == (time == 2)
    np.testing.assert_array_equal(given[4]["final_obs"], expected[0])
    assert given[4]["_final_obs"].all()
    np.testing.assert_array_equal(given[1], expected[1])
    again, _ = none.reset(options={"reset_mask": np.ones(4, bool)})
    np.testing.assert_array_equal(given[0], again)
    assert not (same.snapshot().arrays["truncated"]).any()


def test_next_step_ignores_the_action_of_an_ended_row() -> None:
    one, other = (make("Hopper-v5", 4, max_episode_steps=3) for _ in range(2))
    for env in (one, other):
        env.reset(seed=1)
        for _ in range(3):
            env.step(NO_FORCE)
    first, second = one.step(NO_FORCE), other.step(NO_FORCE + 1)
    np.testing.assert_array_equal(first[0], second[0])
    assert (first[1] == 0).all()
    assert not (first[2] | first[3]).any()
    assert first[4]["z_distance_from_origin"].any()
    assert not first[4]["reward_survive"].any()


def test_without_a_seed_every_batch_begins_elsewhere() -> None:
    first, second = (make("Hopper-v5", 2).reset()[0] for _ in range(2))
    assert not (first == second).any(axis=1).all()
    assert (first[0] != first[1]).any()


def test_a_seed_list_is_one_a_row() -> None:
    observation, _ = make("Hopper-v5", 3).reset(seed=[5, 5, 2])
    np.testing.assert_array_equal(observation[0], observation[1])
    assert (observation[0] != observation[2]).any()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.where(np.arange(12).reshape(4, 3) == 7, np.nan, 0), r"row 2: action\[1\] is nan"),
        (np.where(np.arange(12).reshape(4, 3) == 11, 1.01, 0), r"row 3: action\[2\] is 1\.01"),
        (np.where(np.arange(12).reshape(4, 3) == 0, -np.inf, 0), r"row 0: action\[0\] is -inf"),
        (np.zeros((3, 3)), r"shape \(3, 3\).*\(4, 3\)"),
        (np.zeros(12), r"shape \(12,\).*\(4, 3\)"),
        (np.zeros((4, 3), complex), "complex"),
    ],
)
def test_bad_actions_move_nothing(
    hoppers: MujocoVectorEnv, actions: np.ndarray, message: str
) -> None:
    before = hoppers.snapshot()
    with pytest.raises(ValueError, match=message):
        hoppers.step(actions)
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(hoppers.snapshot().arrays[name], array)
    hoppers.step(NO_FORCE)


def test_whole_numbers_are_actions() -> None:
    one, other = (make("HalfCheetah-v5", 2) for _ in range(2))
    one.reset(seed=0)
    other.reset(seed=0)
    whole = np.array([[1, 0, -1, 1, 0, 1]] * 2)
    np.testing.assert_array_equal(one.step(whole)[1], other.step(whole.astype(float))[1])


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("id", ["Hopper-v5", "Ant-v5"])
def test_a_row_that_blows_up_is_named_and_the_others_go_on(
    id: str, mode: AutoresetMode, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo logs its warnings where it runs
    env, plain = (make(id, 4, num_threads=2, autoreset_mode=mode) for _ in range(2))
    actions = random_actions(env, 6)
    for each in (env, plain):
        each.reset(seed=3)
        each.step(actions[0])
    saved = env.snapshot()
    velocity = 1 + env.model.nq
    saved.arrays["physics"][2, velocity : velocity + env.model.nv] = 1e9
    env.restore(saved)
    before = env.snapshot()
    with pytest.raises(Diverged, match=r"row 2: mjWARN_BAD.*reset_mask") as caught:
        env.step(actions[1])
    assert caught.value.rows.tolist() == [2]
    expected, others = plain.step(actions[1]), [0, 1, 3]
    for place in range(4):
        np.testing.assert_array_equal(caught.value.outcome[place][others], expected[place][others])
    after = env.snapshot()
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(after.arrays[name][2], array[2], err_msg=name)
        np.testing.assert_array_equal(
            after.arrays[name][others], plain.snapshot().arrays[name][others], err_msg=name
        )
    env.reset(options={"reset_mask": np.arange(4) == 2})
    for action in actions[2:]:
        given, expected = env.step(action), plain.step(action)
        np.testing.assert_array_equal(given[0][others], expected[0][others])


def test_a_model_too_strong_for_its_timestep_blows_up_by_itself(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ASSETS[0] / "hopper.xml").read_text()
    assert 'gear="200.0"' in text
    (tmp_path / "strong.xml").write_text(text.replace('gear="200.0"', 'gear="2e12"'))
    env = make("Hopper-v5", 3, xml_file=str(tmp_path / "strong.xml"))
    env.reset(seed=0)
    pushed = np.zeros((3, 3), np.float32)
    pushed[1] = 1

    def push_on() -> None:
        for _ in range(20):
            env.step(pushed)

    with pytest.raises(Diverged, match="row 1"):
        push_on()


def test_snapshots_that_do_not_fit(hoppers: MujocoVectorEnv) -> None:
    saved = hoppers.snapshot()
    for other in (
        make("Walker2d-v5", 4, autoreset_mode="Disabled", max_episode_steps=6),
        make("Hopper-v5", 4, autoreset_mode="Disabled"),
        make("Hopper-v5", 4, max_episode_steps=6),
    ):
        with pytest.raises(SnapshotMismatch, match="cannot be restored"):
            other.restore(saved)
    same = make("Hopper-v5", 4, autoreset_mode="Disabled", max_episode_steps=6, width=99)
    same.restore(saved)
    same.step(NO_FORCE)
    older = hoppers.world.replace("mujoco=", "mujoco=0.")
    assert older != hoppers.world
    with pytest.raises(SnapshotMismatch, match=r"mujoco=0\."):
        hoppers.restore(type(saved)(older, saved.arrays))
    few = make("Hopper-v5", 3, autoreset_mode="Disabled", max_episode_steps=6)
    with pytest.raises(SnapshotMismatch, match="4 rows and 3"):
        few.restore(saved)
    few.restore(saved.take(np.array([0, 1, 2])))


def test_infinite_bounds_are_told_apart() -> None:
    """JSON has no infinity; two worlds that differ in its sign must not share a name."""
    worlds = {
        make("Hopper-v5", 1, healthy_state_range=bounds).world
        for bounds in [(float("-inf"), 1.0), (float("inf"), 1.0), (0.0, 1.0)]
    }
    assert len(worlds) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frame_skp": 3}, 'Hopper-v5: setting "frame_skp" .* did you mean "frame_skip"'),
        ({"frame_skip": 0}, "Hopper-v5: frame_skip is 0; give at least 1$"),
        ({"ctrl_cost_weight": "much"}, "ctrl_cost_weight is 'much'; give a number$"),
        ({"healthy_z_range": [1.0]}, r"healthy_z_range\[1\] is missing"),
        ({"healthy_z_range": [1.0, "x"]}, r"healthy_z_range\[1\] is 'x'; give a number$"),
        ({"num_threads": 0}, "num_threads is 0"),
        ({"autoreset_mode": "Sometimes"}, "give one of NextStep, SameStep, Disabled"),
        ({"render_mode": "human"}, "give None or 'rgb_array'"),
        ({"xml_file": "hoper.xml"}, r"'hoper.xml' does not exist.*hopper\.xml"),
        ({"num_envs": 0}, "num_envs is 0"),
        ({"levels": 3}, 'no levels|setting "levels" is not known'),
    ],
)
def test_what_cannot_be_made_is_refused(arguments: dict[str, Any], message: str) -> None:
    for door in (make, envs.make):
        with pytest.raises(ValueError, match=message):
            door(**{"id": "Hopper-v5", "num_envs": 2, **arguments})


def test_bad_resets_change_nothing(hoppers: MujocoVectorEnv) -> None:
    before = hoppers.snapshot()
    for options, message in (
        ({"reset_mask": np.ones(3, bool)}, r"\(3,\); give bool \(4,\)"),
        ({"reset_mask": np.ones(4)}, "float64"),
        ({"reset_msk": np.ones(4, bool)}, "'reset_msk' is not known"),
    ):
        with pytest.raises(ValueError, match=message):
            hoppers.reset(options=options)
    with pytest.raises(ValueError, match="3 seeds for 4 rows"):
        hoppers.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="row 1: seed -3 is negative"):
        hoppers.reset(seed=[5, -3, 7, 8])
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(hoppers.snapshot().arrays[name], array)


def test_steps_before_a_reset_are_refused() -> None:
    env = make("Hopper-v5", 4)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(NO_FORCE)
    with pytest.raises(ValueError, match="never began"):
        env.reset(options={"reset_mask": np.array([True, False, True, True])})


def test_mujoco_is_imported_only_for_its_tasks() -> None:
    code = """
import sys
from delegate import envs
envs.make('Corner', 1, num_levels=1)
assert 'mujoco' not in sys.modules
envs.make('Hopper-v5', 1)
assert 'mujoco' in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def _flat(played: Any) -> dict[str, np.ndarray]:
    observation, reward, terminated, truncated, info = played
    if not isinstance(observation, dict):
        observation = {"observation": observation}
    return {
        **observation,
        "reward": reward,
        "terminated": terminated,
        "truncated": truncated,
        **{f"info {name}": value for name, value in info.items()},
    }
