"""The states that goals are decoded to: exact, at rest, and never in a wall."""

from __future__ import annotations

from typing import Any

import gymnasium
import gymnasium_robotics
import numpy as np
import pytest
from gymnasium.spaces import flatten
from hypothesis import given, settings
from hypothesis import strategies as st

from delegate.envs.mujoco import GoalDecoder, make
from delegate.envs.mujoco.maze import U_MAZE, Maze

gymnasium.register_envs(gymnasium_robotics)

POINT, ANT = "PointMaze_UMaze-v3", "AntMaze_UMaze-v5"
ROOM = [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 1], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]]


@pytest.fixture(scope="module", params=[POINT, ANT])
def decoder(request: pytest.FixtureRequest) -> GoalDecoder:
    return GoalDecoder(request.param)


def somewhere(decoder: GoalDecoder, count: int, seed: int = 0) -> np.ndarray:
    """Places in and about the maze, most of them in walls."""
    side = 3 * decoder._task.maze.scaling
    return np.random.default_rng(seed).uniform(-side, side, (count, 2))


def flat(observation: dict[str, np.ndarray], space: Any) -> np.ndarray:
    rows = len(observation["observation"])
    each = [{name: part[row] for name, part in observation.items()} for row in range(rows)]
    return np.array([flatten(space, one) for one in each])


def test_the_world_observes_just_that_when_put_there(decoder: GoalDecoder) -> None:
    goals = somewhere(decoder, 70)
    decoded, places = decoder(goals), decoder.nearest(goals)
    env = make(decoder._task.id, 70)
    env.reset(seed=5)
    env.restore(decoder.snapshot(goals), rng="fresh")
    np.testing.assert_array_equal(decoded, flat(env.observe(), env.single_observation_space))
    np.testing.assert_array_equal(decoded[:, :2], places)
    np.testing.assert_array_equal(decoded[:, 2:4], places)
    np.testing.assert_array_equal(env.task.qpos[:, :2], places)
    assert (env.task.qvel == 0).all()
    assert decoded.dtype == np.float64
    assert decoder.space.shape == decoded.shape[1:]
    # Written by hand, place for place, the physics of the world agrees.
    assert np.isin(env.task.qpos[0], decoded[0]).all()
    other = make(decoder._task.id, 70)
    other.reset(seed=6)
    rows = np.arange(70)
    other.task.begin(rows, [(qpos, other.task.init_qvel) for qpos in env.task.qpos])
    other.task.advance(None, np.zeros((70, other.model.nu)))
    other.task.keep(slice(None))
    other.task.physics.state[...] = env.task.physics.state
    other.task.saved["goal"][...] = places
    np.testing.assert_array_equal(decoded, flat(other.observe(), other.single_observation_space))


def test_it_stays_there(decoder: GoalDecoder) -> None:
    goals = somewhere(decoder, 40)
    env = make(decoder._task.id, 40)
    env.reset(seed=0)
    env.restore(decoder.snapshot(goals), rng="fresh")
    for _ in range(20):
        observation, _, _, _, info = env.step(np.zeros((40, env.model.nu)))
        now = flat(observation, env.single_observation_space)
        np.testing.assert_allclose(now, decoder(goals), atol=1e-6, rtol=0)
        assert info["success"].all()


def test_an_ant_as_episodes_begin_does_not_stay() -> None:
    """The control of the test above, and what the Ant's rest looks like."""
    env = make(ANT, 1)
    before = env.reset(seed=0)[0]["observation"]
    after = env.step(np.zeros((1, 8)))[0]["observation"]
    assert np.abs(after - before).max() > 1
    rest = GoalDecoder(ANT)([[0.0, 4.0]])[0, 4:]
    assert 0.2 < rest[0] < 1, "a healthy height"
    np.testing.assert_allclose(rest[1:5], [1, 0, 0, 0], atol=1e-9)
    assert (rest[13:27] == 0).all()
    forces = rest[27:].reshape(-1, 6)
    assert (np.abs(forces).max(axis=1) > 0).sum() == 4, "the ground holds four feet"


def test_gymnasium_robotics_observes_the_same(decoder: GoalDecoder) -> None:
    goals = decoder.nearest(somewhere(decoder, 5, seed=1))
    oracle: Any = gymnasium.make(decoder._task.id, disable_env_checker=True).unwrapped
    oracle.reset(seed=0)
    body = oracle.point_env if decoder._task.id == POINT else oracle.ant_env
    for goal, state in zip(goals, decoder(goals), strict=True):
        qpos = decoder._pose.copy()
        qpos[:2] = oracle.goal = goal
        body.set_state(qpos, np.zeros(body.model.nv))
        observation, *_ = oracle.step(np.zeros(body.model.nu, np.float32))
        found = flatten(oracle.observation_space, observation)
        np.testing.assert_allclose(found, state, atol=1e-8, rtol=0)
    oracle.close()


def test_goals_of_the_world_stay_where_they_are(decoder: GoalDecoder) -> None:
    observation, _ = make(decoder._task.id, 200).reset(seed=0)
    for places in (observation["desired_goal"], observation["achieved_goal"]):
        np.testing.assert_array_equal(decoder.nearest(places), places)


def test_a_goal_in_a_wall_is_moved_to_the_side_of_it(decoder: GoalDecoder) -> None:
    side, reach = decoder._task.maze.scaling, decoder._clearance
    inner, outer = 0.5 * side + reach, 1.5 * side - reach
    goals = np.array([[-0.4, 0.4], [-1.0, 9.0], [0.0, 0.5], [1.0, 0.0]]) * side
    expected = [[-0.4 * side, inner], [-side, outer], [0.0, inner], [side, 0.0]]
    np.testing.assert_allclose(decoder.nearest(goals), expected, rtol=1e-12, atol=1e-12)


def is_free(maze: Maze, places: np.ndarray, clearance: float) -> np.ndarray:
    """Whether a square of that half side lies in open cells altogether. By its corners."""
    shifts = np.array([(x, y) for x in (-1, 1) for y in (-1, 1)]) * clearance
    cells = maze.cell((places[:, None] + shifts).reshape(-1, 2)).tolist()
    inside = [
        0 <= i < maze.rows and 0 <= j < maze.columns and maze.cells[i][j] != 1 for i, j in cells
    ]
    return np.array(inside).reshape(-1, 4).all(axis=1)


@given(
    st.sampled_from([U_MAZE, ROOM]),
    st.sampled_from([1.0, 4.0]),
    st.floats(0.01, 0.49),
    st.integers(0, 1_000),
)
@settings(max_examples=25)
def test_nothing_free_is_nearer(cells: Any, scaling: float, share: float, seed: int) -> None:
    maze, clearance = Maze(cells, scaling, 0.4), share * scaling
    rng = np.random.default_rng(seed)
    side = 3 * scaling
    goals, tried = rng.uniform(-side, side, (20, 2)), rng.uniform(-side, side, (4_000, 2))
    found = maze.nearest(goals, clearance)
    assert is_free(maze, found, clearance - 1e-9).all()
    free = is_free(maze, goals, clearance)
    np.testing.assert_array_equal(found[free], goals[free])
    others = tried[is_free(maze, tried, clearance)]
    nearest = np.linalg.norm(goals[:, None] - others, axis=2).min(axis=1, initial=np.inf)
    assert (np.linalg.norm(goals - found, axis=1) <= nearest + 1e-9).all()


def test_each_state_is_of_its_goal_alone(decoder: GoalDecoder) -> None:
    goals = somewhere(decoder, 130)
    together = decoder(goals)
    np.testing.assert_array_equal(decoder(goals[[129, 3]]), together[[129, 3]])
    assert decoder(np.zeros((0, 2))).shape == (0, *decoder.space.shape)
    assert decoder.snapshot(np.zeros((0, 2))).rows == 0
    np.testing.assert_array_equal(
        decoder.snapshot(goals).take(np.array([100])).arrays["goal"][0], together[100, 2:4]
    )


def test_where_goals_move_the_next_one_is_set_too() -> None:
    moving = {"reset_target": True, "maze_map": ROOM}
    decoder, env = GoalDecoder(POINT, **moving), make(POINT, 2, **moving)
    env.reset(seed=0)
    env.restore(decoder.snapshot([[0.0, 1.5], [1.0, 0.5]]), rng="fresh")
    observation, _, _, _, info = env.step(np.zeros((2, 2)))
    np.testing.assert_array_equal(observation["desired_goal"], [[0.0, 1.5 - 0.104], [1.0, 0.5]])
    assert info["success"].all()


@pytest.mark.parametrize(
    ("goals", "message"),
    [
        ([0.0, 1.0], r"goals have shape \(2,\); give \[N, 2\]"),
        ([[0.0, 1.0, 2.0]], r"goals have shape \(1, 3\)"),
        ([[0.0, 1.0], [np.nan, 0.0]], r"row 1: goals holds \[nan, 0.0\]; give finite places"),
        ([[np.inf, 1.0]], "row 0: goals holds"),
    ],
)
def test_bad_goals_are_refused(decoder: GoalDecoder, goals: Any, message: str) -> None:
    for ask in (decoder, decoder.snapshot, decoder.nearest):
        with pytest.raises(ValueError, match=message):
            ask(goals)


def test_other_worlds_are_refused(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=f"'Ant-v5' is not sent to places; give {POINT} or {ANT}"):
        GoalDecoder("Ant-v5")
    with pytest.raises(ValueError, match="maze_mop"):
        GoalDecoder(POINT, maze_mop=U_MAZE)
    with pytest.raises(ValueError, match=r"no open cell has 0\.6 m free about its middle"):
        Maze(U_MAZE, 1.0, 0.4).nearest(np.zeros((1, 2)), 0.6)
    text = make(POINT, 1).task.model_path().read_text()
    swinging = tmp_path / "swinging.xml"
    swinging.write_text(text.replace('damping="1"', 'damping="0" stiffness="9"'))
    with pytest.raises(ValueError, match="the body still moves after 5000 steps; give an xml_file"):
        GoalDecoder(POINT, xml_file=str(swinging))
