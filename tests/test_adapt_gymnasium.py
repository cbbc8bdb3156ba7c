"""Gymnasium's own small environments through `adapt`: exact, and in every mode."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from adapted_conformance import check_adapted, check_adapted_backtrack, check_backtrack
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from nasty_worlds import BreaksAt, Walk, deep_copies_lose_its_state
from nasty_worlds import EzPickled as EzPickledWalk

from delegate import envs
from delegate.backtrack import Snapshot, SnapshotMismatch
from delegate.envs.adapted import AdaptedVectorEnv, RowFailed

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*out of date.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*(alternative render modes|infinity|normalized).*"),
    pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning"),
    pytest.mark.filterwarnings("ignore:.*(Box observation space|action space).*:UserWarning"),
]

IDS = sorted(
    spec.id
    for spec in gymnasium.registry.values()
    if str(spec.entry_point).startswith(
        ("gymnasium.envs.classic_control", "gymnasium.envs.toy_text")
    )
)
MODES = list(AutoresetMode)


def test_the_ids_are_all_there_are() -> None:
    assert len(IDS) >= 12
    assert {"CartPole-v1", "Acrobot-v1", "Blackjack-v1", "Taxi-v4", "CliffWalking-v1"} <= set(IDS)


@pytest.mark.parametrize("id", IDS)
def test_fidelity_with_its_negative_control(id: str) -> None:
    check_adapted(id, mode=MODES[IDS.index(id) % 3], max_episode_steps=9)


@pytest.mark.parametrize("id", IDS)
def test_backtrack_passes_gymnasiums_check(id: str) -> None:
    check_backtrack(id, max_episode_steps=9)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("id", IDS)
def test_fidelity_for_longer_in_every_mode(id: str, mode: AutoresetMode) -> None:
    check_adapted(id, mode=mode, max_episode_steps=16, steps=48, rows=5, save_points=8)


@pytest.mark.parametrize("id", IDS)
def test_fidelity_under_backtracking_with_its_negative_control(id: str) -> None:
    check_adapted_backtrack(id, max_episode_steps=9, steps=18, rows=3, seed=3, save_points=8)


@pytest.mark.slow
@pytest.mark.parametrize("id", IDS)
def test_fidelity_under_backtracking_for_longer(id: str) -> None:
    check_adapted_backtrack(id, max_episode_steps=16, steps=48, rows=5, save_points=12)


@pytest.mark.parametrize("id", ["CartPole-v1", "Pendulum-v1", "Blackjack-v1", "Taxi-v4"])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_rows_do_what_gymnasiums_sync_vector_env_does(id: str, mode: AutoresetMode) -> None:
    ours = envs.adapt(id, 3, autoreset_mode=mode, max_episode_steps=11)
    theirs = SyncVectorEnv(
        [lambda: gymnasium.make(id, max_episode_steps=11)] * 3, autoreset_mode=mode
    )
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    ours.action_space.seed(1)
    first, second = ours.reset(seed=4), theirs.reset(seed=4)
    same(first[0], second[0])
    same(first[1], second[1])
    endings = 0
    for _ in range(40):
        actions = ours.action_space.sample()
        saved = ours.snapshot()
        ours.step(actions)
        ours.restore(saved)
        given, expected = ours.step(actions), theirs.step(actions)
        for one, other in zip(given, expected, strict=True):
            same(one, other)
        endings += int((given[2] | given[3]).sum())
        assert_contained(ours.observation_space, given[0])
    assert endings > 0


def same(given: Any, expected: Any) -> None:
    """Equal arrays, also inside dicts and tuples; Gymnasium's may have fewer masks."""
    if isinstance(expected, dict):
        assert set(given) == set(expected)
        for name, value in expected.items():
            same(given[name], value)
    elif isinstance(expected, tuple):
        for one, other in zip(given, expected, strict=True):
            same(one, other)
    elif expected.dtype == object:
        for one, other in zip(given, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    else:
        np.testing.assert_array_equal(given, expected)
        assert given.dtype == expected.dtype


def assert_contained(space: gymnasium.Space[Any], observation: Any) -> None:
    assert space.contains(observation)


def test_ended_rows_hold_still_until_they_are_reset() -> None:
    env = envs.adapt("CartPole-v1", 3, autoreset_mode="Disabled", max_episode_steps=2)
    env.reset(seed=0)
    push = np.ones(3, np.int64)
    env.step(push)
    shown, _, _, truncated, _ = env.step(push)
    assert truncated.all()
    again, reward, _, still, info = env.step(push)
    np.testing.assert_array_equal(again, shown)
    assert reward.tolist() == [0, 0, 0]
    assert still.all()
    assert info == {}
    begun, _ = env.reset(options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(begun[[0, 2]], shown[[0, 2]])
    _, reward, _, truncated, _ = env.step(push)
    assert reward.tolist() == [0, 1, 0]
    assert truncated.tolist() == [True, False, True]


def test_row_i_gets_the_seed_plus_i() -> None:
    env, single = envs.adapt("CartPole-v1", 3), gymnasium.make("CartPole-v1")
    shown, _ = env.reset(seed=10)
    for row in range(3):
        np.testing.assert_array_equal(shown[row], single.reset(seed=10 + row)[0])
    shown, _ = env.reset(seed=[7, None, 7])
    np.testing.assert_array_equal(shown[0], shown[2])
    mask = np.array([False, True, False])
    shown, _ = env.reset(seed=6, options={"reset_mask": mask})
    np.testing.assert_array_equal(shown[1], shown[0])
    with pytest.raises(ValueError, match="2 seeds for 3 rows; give one integer, or one a row"):
        env.reset(seed=[1, 2])


def test_options_reach_the_environments() -> None:
    env = envs.adapt("CartPole-v1", 2)
    shown, _ = env.reset(seed=0, options={"low": -0.001, "high": 0.001})
    assert np.abs(shown).max() <= 0.001


def test_without_options_an_environment_is_given_none() -> None:
    class Asks(Walk):
        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            self.asked = options
            return super().reset(seed=seed)

    env = envs.adapt(Asks)
    for options in (None, {"reset_mask": np.array([True])}):
        env.reset(seed=0, options=options)
        assert env.envs[0].asked is None


def test_fresh_noise_after_a_restore_and_the_same_noise_when_rewound() -> None:
    env = envs.adapt(Walk, 4)
    env.reset(seed=0)
    stay = np.ones(4, np.int64)
    saved = env.snapshot()
    first = [env.step(stay)[0] for _ in range(3)]
    env.restore(saved)
    np.testing.assert_array_equal([env.step(stay)[0] for _ in range(3)], first)
    env.restore(saved, rng="fresh")
    np.testing.assert_array_equal(env.observe(), np.tile([4.0, 0.0], (4, 1)))
    assert not np.array_equal([env.step(stay)[0] for _ in range(3)], first)


def test_some_rows_are_restored_and_the_others_play_on() -> None:
    env = envs.adapt(Walk, 3)
    env.reset(seed=0)
    saved = env.snapshot(np.array([2]))
    for _ in range(2):
        env.step(np.ones(3, np.int64))
    before = env.observe()
    env.restore(saved, np.array([0]))
    after = env.observe()
    np.testing.assert_array_equal(after[1:], before[1:])
    assert after[0].tolist() == [4, 0]
    assert env.snapshot(np.array([], int)).rows == 0


def test_infos_are_arrays_with_masks() -> None:
    env = envs.adapt("Taxi-v4", 2)
    _, info = env.reset(seed=0)
    assert info["action_mask"].shape == (2, 6)
    assert info["_action_mask"].tolist() == [True, True]
    assert info["prob"].dtype == np.float64


def test_the_time_limit_is_known() -> None:
    assert envs.adapt("CartPole-v1").max_steps == 500
    assert envs.adapt("CartPole-v1", max_episode_steps=9).max_steps == 9
    assert envs.adapt(Walk).max_steps is None


def test_frames_are_of_the_moment_restored() -> None:
    env = envs.adapt("CartPole-v1", 2, render_mode="rgb_array")
    env.reset(seed=0)
    saved, before = env.snapshot(), env.render()
    for _ in range(4):
        env.step(np.array([0, 1]))
    assert not np.array_equal(env.render(0), before[0])
    env.restore(saved)
    np.testing.assert_array_equal(env.render(), before)
    assert before[0].shape == (400, 600, 3)
    assert envs.adapt("CartPole-v1").render() is None


def test_a_row_that_raises_is_named_and_the_others_go_on() -> None:
    env = envs.adapt(lambda: _SometimesBreaks(), 3)
    env.reset(seed=0)
    env.envs[1].breaks = True
    stay = np.ones(3, np.int64)
    for _ in range(2):
        env.step(stay)
    with pytest.raises(RowFailed, match="row 1: ZeroDivisionError: the third step") as failure:
        env.step(stay)
    assert failure.value.row == 1
    assert [each.steps for each in env.envs] == [3, 3, 3]
    assert env.observe()[:, 1].tolist() == [3, 2, 3], "rows 0 and 2 took their third step"
    with pytest.raises(ResetNeeded, match="row 1: step before its reset"):
        env.step(stay)
    env.reset(options={"reset_mask": np.array([False, True, False])})
    shown, *_ = env.step(stay)
    assert shown[:, 1].tolist() == [4, 1, 4]


class _SometimesBreaks(BreaksAt):
    breaks = False

    def reward(self) -> float:
        return super().reward() if self.breaks else 0.0


def test_stepping_needs_a_reset_first() -> None:
    env = envs.adapt("CartPole-v1", 2)
    with pytest.raises(ResetNeeded, match="row 0: step before its reset; call reset"):
        env.step(np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="reset_mask is int64"):
        env.reset(options={"reset_mask": np.array([0, 1])})


def test_snapshots_of_anything_else_are_refused() -> None:
    env = envs.adapt("CartPole-v1", 3)
    env.reset(seed=0)
    saved = env.snapshot()
    others = [
        envs.adapt("CartPole-v0", 3),
        envs.adapt("CartPole-v1", 3, sutton_barto_reward=True),
        envs.adapt("CartPole-v1", 3, max_episode_steps=9),
        envs.adapt("CartPole-v1", 3, autoreset_mode="Disabled"),
        envs.adapt("Pendulum-v1", 3),
    ]
    for other in others:
        other.reset(seed=0)
        with pytest.raises(SnapshotMismatch, match="cannot be restored into"):
            other.restore(saved)
    other_version = Snapshot(saved.world.replace(gymnasium.__version__, "0.1"), saved.arrays)
    with pytest.raises(SnapshotMismatch, match=r"gymnasium 0\.1"):
        env.restore(other_version)
    with pytest.raises(SnapshotMismatch, match="holds 3 rows and 2 were named"):
        env.restore(saved, np.array([0, 1]))
    fewer = Snapshot(saved.world, {n: a for n, a in saved.arrays.items() if n != "objects"})
    with pytest.raises(SnapshotMismatch, match="differ in objects"):
        env.restore(fewer)
    same_again = envs.adapt("CartPole-v1", 3)
    same_again.restore(saved)
    np.testing.assert_array_equal(same_again.observe(), env.observe())


class _Kicked(Walk):
    """A walk with a setting that is a plain attribute."""

    def __init__(self, kick: int) -> None:
        super().__init__()
        self.kick = kick

    def look(self) -> np.ndarray:
        return super().look() * self.kick


class _KickedAndPickled(_Kicked, gymnasium.utils.EzPickle):
    def __init__(self, kick: int) -> None:
        _Kicked.__init__(self, kick)
        gymnasium.utils.EzPickle.__init__(self, kick)


def _adapted(make: type[_Kicked], kick: int) -> AdaptedVectorEnv:
    env = envs.adapt(lambda: make(kick))
    env.reset(seed=0)
    return env


def test_what_an_ezpickle_environment_was_made_with_is_part_of_its_world() -> None:
    strong, weak = _adapted(_KickedAndPickled, 7), _adapted(_KickedAndPickled, 1)
    with pytest.raises(SnapshotMismatch, match="cannot be restored into"):
        weak.restore(strong.snapshot())
    _adapted(_KickedAndPickled, 7).restore(strong.snapshot())


def test_a_plain_setting_comes_with_the_snapshot() -> None:
    """As `adapt` says: the row becomes the one that was saved, so that it plays on as that did."""
    strong, weak = _adapted(_Kicked, 7), _adapted(_Kicked, 1)
    weak.restore(strong.snapshot())
    assert weak.envs[0].kick == 7
    for _ in range(3):
        given, expected = weak.step([1]), strong.step([1])
        np.testing.assert_array_equal(given[0], expected[0])


def test_registered_settings_tell_worlds_apart() -> None:
    """The remedy that `adapt` names for plain settings."""
    gymnasium.register("Kicked-v0", entry_point=_Kicked)
    try:
        strong, weak = envs.adapt("Kicked-v0", kick=7), envs.adapt("Kicked-v0", kick=1)
        assert strong.world != weak.world
        assert strong.world == envs.adapt("Kicked-v0", kick=7).world
    finally:
        del gymnasium.registry["Kicked-v0"]


def test_saving_to_a_file_is_refused(tmp_path: Any) -> None:
    env = envs.adapt("CartPole-v1", 2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="objects holds Python objects, which only a pickle"):
        env.snapshot().save(tmp_path / "rows.npz")


def test_pickling_hooks_are_not_asked() -> None:
    env = EzPickledWalk()
    env.reset(seed=0)
    env.step(1)
    assert deep_copies_lose_its_state(env), "the trap is there"
    check_adapted(EzPickledWalk, steps=30, matters=("objects", "random"))


def test_constant_attributes_are_left_alone() -> None:
    env = envs.adapt("FrozenLake-v1", 2)
    env.reset(seed=0)
    table = env.envs[0].unwrapped.P
    env.restore(env.snapshot())
    assert env.envs[0].unwrapped.P is table, "the table of the dynamics is not copied"

    def make() -> Walk:
        world = Walk()
        world.map = [1, 2, 3]  # type: ignore[attr-defined]
        return world

    for constant in ((), ("map",)):
        walk = envs.adapt(make, constant=constant)
        walk.reset(seed=0)
        saved = walk.snapshot()
        walk.envs[0].map[0] = 7
        walk.restore(saved)
        assert (walk.envs[0].map[0] == 7) == bool(constant)


def test_closing_closes_every_row() -> None:
    closed = []

    class Closing(Walk):
        def close(self) -> None:
            closed.append(self)

    env = envs.adapt(Closing, 3)
    del closed[:]
    env.close()
    assert closed == list(env.envs)
