"""The batched face: independent rows, faithful observations, exact restores, clear refusals."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from delegate import envs
from delegate.backtrack.state import SnapshotMismatch
from delegate.envs.grid import GridVectorEnv
from delegate.envs.grid.observation import draw_scenes

WORLDS = [
    ("Corner", {"size": 7, "mix": 0.5, "slip": 0.2, "max_steps": 15}),
    ("FourRooms", {"size": 7, "mix": 0.5, "max_steps": 15}),
    ("TrapGrid", {"size": 6, "mix": 0.5, "slip": 0.2, "max_steps": 15, "terminal_traps": False}),
]
MODES = list(AutoresetMode)


def make(world: str, rows: int, options: dict[str, Any], **more: Any) -> GridVectorEnv:
    return envs.make(world, rows, num_levels=10, **{**options, **more})


def trajectory(env: GridVectorEnv, actions: np.ndarray, rows: slice) -> list[np.ndarray]:
    """Everything those rows show and hold, step after step."""
    seen = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        seen += [observation[rows], reward[rows], terminated[rows], truncated[rows]]
        seen += [info[name][rows] for name in ("proxy_reward", "state")]
        seen += [array[rows].copy() for array in env.state_arrays().values()]
    return seen


def assert_equal(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)


def from_scratch(env: GridVectorEnv) -> np.ndarray:
    """The observation drawn anew from the state arrays."""
    scene = draw_scenes(env.levels, env.rules.channels)[env.state.level]
    row, column = np.divmod(env.state.cell, env.levels.width)
    scene[np.arange(env.num_envs), row, column, env.rules.channels.index("agent")] = True
    return scene


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("world", "options"), WORLDS)
def test_rows_do_not_influence_each_other(
    world: str, options: dict[str, Any], mode: AutoresetMode
) -> None:
    few, many = (make(world, rows, options, autoreset_mode=mode) for rows in (2, 7))
    few.reset(seed=5)
    many.reset(seed=5)
    rng = np.random.default_rng(1)
    actions = rng.integers(0, 4, (60, 7))
    alone = trajectory(few, actions[:, :2], slice(0, 2))
    assert_equal(alone, trajectory(many, actions, slice(0, 2)))
    many.reset(seed=5)
    others_differ = np.concatenate([actions[:, :2], (actions[:, 2:] + 1) % 4], axis=1)
    assert_equal(alone, trajectory(many, others_differ, slice(0, 2)))


@pytest.mark.parametrize(("world", "options"), WORLDS)
def test_same_seed_same_rows_and_another_seed_others(world: str, options: dict[str, Any]) -> None:
    env = make(world, 8, options)
    actions = np.random.default_rng(1).integers(0, 4, (40, 8))
    runs = []
    for seed in (5, 5, 6):
        env.reset(seed=seed)
        runs.append(trajectory(env, actions, slice(None)))
    assert_equal(runs[0], runs[1])
    with pytest.raises(AssertionError):
        assert_equal(runs[0], runs[2])
    assert len({tuple(key) for key in env.state.key.tolist()}) == 8


def test_unseeded_environments_differ() -> None:
    one, other = (make("Corner", 8, WORLDS[0][1]) for _ in range(2))
    one.reset()
    other.reset()
    assert not np.array_equal(one.state.key, other.state.key)


@pytest.mark.parametrize(("world", "options"), WORLDS)
def test_the_core_step_changes_none_of_its_arguments(world: str, options: dict[str, Any]) -> None:
    env = make(world, 8, options)
    env.reset(seed=0)
    env.step(np.full(8, 2))
    before, action = env.snapshot(), np.arange(8) % 4
    after, _ = env.rules.step(env.levels, env.state, action)
    assert not np.array_equal(after.cell, env.state.cell)
    np.testing.assert_array_equal(action, np.arange(8) % 4)
    for name, array in env.state_arrays().items():
        np.testing.assert_array_equal(array, before.arrays[name], name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("world", "options"), WORLDS)
def test_the_observation_in_place_equals_one_from_scratch(
    world: str, options: dict[str, Any], mode: AutoresetMode
) -> None:
    env = make(world, 9, options, autoreset_mode=mode)
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation, from_scratch(env))
    rng = np.random.default_rng(0)
    saved = env.snapshot()
    for step in range(60):
        observation, *_ = env.step(rng.integers(0, 4, 9))
        np.testing.assert_array_equal(observation, from_scratch(env))
        if step % 7 == 0:
            rows = rng.permutation(9)[:4]
            env.restore(saved.take(rows), rows)
            np.testing.assert_array_equal(env.observe(), from_scratch(env))
        if step % 11 == 0:
            observation, _ = env.reset(options={"reset_mask": rng.random(9) < 0.5})
            np.testing.assert_array_equal(observation, from_scratch(env))
        if step == 30:
            saved = env.snapshot()


def test_an_observation_that_was_not_refreshed_is_noticed() -> None:
    """Negative control: moving the agent behind the observation's back must show."""
    env = make("Corner", 3, WORLDS[0][1])
    env.reset(seed=0)
    env.state.cell[:] = env.levels.goal[env.state.level]
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(env.observe(), from_scratch(env))
    env.refresh(np.arange(3))
    np.testing.assert_array_equal(env.observe(), from_scratch(env))


def test_observations_are_copies_unless_asked_for_live() -> None:
    kept, live = make("Corner", 3, WORLDS[0][1]), make("Corner", 3, WORLDS[0][1], copy=False)
    first, _ = kept.reset(seed=0)
    before = first.copy()
    for _ in range(5):
        kept.step(np.full(3, 1))
    np.testing.assert_array_equal(first, before)
    one, _ = live.reset(seed=0)
    two, *_ = live.step(np.zeros(3, int))
    assert np.shares_memory(one, two)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("world", "options"), WORLDS)
def test_save_act_restore_act_again(
    world: str, options: dict[str, Any], mode: AutoresetMode
) -> None:
    env = make(world, 6, options, autoreset_mode=mode)
    env.reset(seed=2)
    actions = np.random.default_rng(3).integers(0, 4, (60, 6))
    trajectory(env, actions[:17], slice(None))
    saved = env.snapshot()
    first = trajectory(env, actions[17:], slice(None))
    env.restore(saved)
    assert_equal(first, trajectory(env, actions[17:], slice(None)))


@pytest.mark.parametrize("forgotten", sorted(make("Corner", 1, {}).state_arrays()))
def test_restoring_without_one_array_is_noticed(forgotten: str) -> None:
    """Negative control: every array of the state is needed."""
    env = make("TrapGrid", 6, WORLDS[2][1], max_steps=10, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=2)
    actions = np.random.default_rng(3).integers(0, 4, (60, 6))
    saved = env.snapshot()
    first = trajectory(env, actions, slice(None))
    env.state.proxy_paid[:] = True
    env.state.terminated[:] = True
    env.reset(options={"reset_mask": np.arange(6) == 0, "level": np.full(6, 9)})
    env.state.proxy_paid[:] = True
    env.state.terminated[:] = True
    env.restore(saved, keep={forgotten})
    with pytest.raises(AssertionError):
        assert_equal(first, trajectory(env, actions, slice(None)))


def test_fresh_noise_keeps_the_random_stream_moving() -> None:
    env = make("Corner", 50, WORLDS[0][1], slip=0.5, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    saved = env.snapshot()
    action = np.full(50, 1)
    env.step(action)
    first, key = env.state.cell.copy(), env.state.key.copy()
    env.restore(saved, rng="fresh")
    np.testing.assert_array_equal(env.state.key, key)
    np.testing.assert_array_equal(env.state.cell, saved.arrays["cell"])
    env.step(action)
    assert not np.array_equal(env.state.cell, first)
    env.restore(saved, rng="rewind")
    env.step(action)
    np.testing.assert_array_equal(env.state.cell, first)


def test_a_snapshot_fits_only_its_own_world() -> None:
    env = make("Corner", 3, WORLDS[0][1])
    env.reset(seed=0)
    saved = env.snapshot()
    others = [
        make("Corner", 3, WORLDS[0][1], slip=0.3),
        make("Corner", 3, WORLDS[0][1], level_seed=5),
        make("Corner", 3, WORLDS[0][1], autoreset_mode=AutoresetMode.DISABLED),
        make("FourRooms", 3, WORLDS[1][1]),
    ]
    for other in others:
        with pytest.raises(SnapshotMismatch, match="cannot be restored into"):
            other.restore(saved)
    wider = make("Corner", 5, WORLDS[0][1], observation="integer")
    wider.reset(seed=9)
    wider.restore(saved, np.array([4, 2, 0]))
    np.testing.assert_array_equal(wider.state.cell[[4, 2, 0]], env.state.cell)


def test_a_snapshot_can_be_restored_before_the_first_reset() -> None:
    env, new = (make("Corner", 3, WORLDS[0][1]) for _ in range(2))
    env.reset(seed=0)
    new.restore(env.snapshot())
    actions = np.random.default_rng(0).integers(0, 4, (20, 3))
    assert_equal(trajectory(env, actions, slice(None)), trajectory(new, actions, slice(None)))


def test_reset_mask_leaves_the_other_rows_alone() -> None:
    env = make("Corner", 6, WORLDS[0][1])
    env.reset(seed=0)
    env.step(np.zeros(6, int))
    before = env.snapshot()
    mask = np.array([True, False, True, False, False, False])
    env.reset(options={"reset_mask": mask, "level": np.full(6, 4)})
    for name, array in env.state_arrays().items():
        np.testing.assert_array_equal(array[~mask], before.arrays[name][~mask], name)
    assert env.state.level[mask].tolist() == [4, 4]
    assert env.state.clock[mask].tolist() == [0, 0]


def test_reset_with_a_seed_and_a_mask_reseeds_those_rows_as_a_full_reset_would() -> None:
    env, other = (make("Corner", 6, WORLDS[0][1]) for _ in range(2))
    env.reset(seed=0)
    other.reset(seed=8)
    mask = np.arange(6) % 2 == 0
    env.reset(seed=8, options={"reset_mask": mask})
    np.testing.assert_array_equal(env.state.key[mask], other.state.key[mask])
    np.testing.assert_array_equal(env.state.cell[mask], other.state.cell[mask])


def test_levels_in_order_and_levels_drawn_evenly() -> None:
    env = make("Corner", 25, WORLDS[0][1], assign="in_order")
    for _ in range(2):
        env.reset(seed=0)
        assert env.level_index.tolist() == [row % 10 for row in range(25)]
    env = make("Corner", 5000, WORLDS[0][1])
    env.reset(seed=0)
    counts = np.bincount(env.level_index, minlength=10)
    assert counts.min() > 400
    assert counts.max() < 600


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 1, 4], "Corner: row 2: action is 4; give 0 to 3"),
        ([0, -1, 9], "Corner: row 1: action is -1; give 0 to 3"),
        ([0, 1], r"actions have shape \(2,\)"),
        ([[0], [1], [2]], r"actions have shape \(3, 1\)"),
        ([0.0, 1.0, 2.0], "Corner: actions are float64; give integers, 0 to 3"),
        ([True, False, True], "actions are bool"),
        (None, r"actions have shape \(\)"),
    ],
)
def test_bad_actions_are_refused_and_no_row_moves(actions: Any, message: str) -> None:
    env = make("Corner", 3, WORLDS[0][1])
    env.reset(seed=0)
    before, picture = env.snapshot(), env.observe()
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    for name, array in env.state_arrays().items():
        np.testing.assert_array_equal(array, before.arrays[name], name)
    np.testing.assert_array_equal(env.observe(), picture)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.uint64])
def test_actions_of_every_integer_type_are_taken(dtype: type) -> None:
    env, other = (make("Corner", 4, WORLDS[0][1]) for _ in range(2))
    env.reset(seed=0)
    other.reset(seed=0)
    env.step(np.arange(4, dtype=dtype))
    other.step([0, 1, 2, 3])
    np.testing.assert_array_equal(env.state.cell, other.state.cell)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reset_mask": [True, False]}, r"reset_mask is bool \(2,\)"),
        ({"reset_mask": [1, 0, 1]}, r"reset_mask is int64 \(3,\)"),
        ({"level": [0, 1, 10]}, "row 2: level 10 does not exist"),
        ({"level": [0, 1]}, r"level is int64 \(2,\)"),
        ({"levl": [0, 1, 2]}, "reset option 'levl' is not known"),
    ],
)
def test_bad_reset_options_are_refused_and_nothing_changes(
    options: dict[str, Any], message: str
) -> None:
    env = make("Corner", 3, WORLDS[0][1])
    env.reset(seed=0)
    before = env.snapshot()
    with pytest.raises(ValueError, match=message):
        env.reset(seed=1, options=options)
    for name, array in env.state_arrays().items():
        np.testing.assert_array_equal(array, before.arrays[name], name)


def test_step_before_reset_is_refused() -> None:
    env = make("Corner", 3, WORLDS[0][1])
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.step([0, 0, 0])
    with pytest.raises(ValueError, match="rows that never began"):
        env.reset(options={"reset_mask": np.array([True, False, True])})


@pytest.mark.parametrize(("world", "options"), WORLDS)
@settings(max_examples=40)
@given(
    index=st.integers(0, 9), seed=st.integers(0, 2**63), action=st.integers(0, 3), data=st.data()
)
def test_the_transition_table_tells_what_a_step_does(
    world: str, options: dict[str, Any], index: int, seed: int, action: int, data: st.DataObject
) -> None:
    env = make(world, 40, options, assign="in_order", autoreset_mode=AutoresetMode.DISABLED)
    table = env.transition_table()
    live = np.flatnonzero(table.valid[index] & ~table.terminal[index])
    cell = data.draw(st.sampled_from(live.tolist()))
    env.reset(seed=seed, options={"level": np.full(40, index)})
    env.state.cell[:] = cell
    _, _, terminated, _, info = env.step(np.full(40, action))
    possible = table.probability[index, cell, action] > 0
    assert set(info["state"].tolist()) <= set(
        table.next_state[index, cell, action][possible].tolist()
    )
    np.testing.assert_array_equal(terminated, table.terminal[index, info["state"]])
