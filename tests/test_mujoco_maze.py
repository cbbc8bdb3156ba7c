"""Mazes of the MuJoCo tasks: where cells lie, where one may be sent, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delegate.envs.mujoco import make
from delegate.envs.mujoco.maze import NEAR, U_MAZE, Maze

OPEN_CELLS = [(1, 1), (1, 2), (1, 3), (2, 3), (3, 1), (3, 2), (3, 3)]


def test_the_u_has_seven_cells() -> None:
    maze = Maze(U_MAZE, 1, 0.4)
    expected = [[-1, 1], [0, 1], [1, 1], [1, 0], [-1, -1], [0, -1], [1, -1]]
    np.testing.assert_array_equal(maze.goals, expected)
    np.testing.assert_array_equal(maze.starts, expected)


@given(st.sampled_from(OPEN_CELLS), st.sampled_from([1, 4]), st.floats(-0.49, 0.49))
def test_a_cell_holds_its_middle_and_what_lies_about_it(
    cell: tuple[int, int], scaling: float, noise: float
) -> None:
    maze = Maze(U_MAZE, scaling, 0.4)
    place = maze.position(cell) + noise * scaling
    assert tuple(maze.cell(place[None])[0]) == cell


def test_letters_say_where_episodes_begin_and_end() -> None:
    cells = [[1, 1, 1, 1, 1], [1, "r", 0, "g", 1], [1, 1, 1, 1, 1]]
    maze = Maze(cells, 1, 0.4)
    np.testing.assert_array_equal(maze.starts, [[-1, 0]])
    np.testing.assert_array_equal(maze.goals, [[1, 0]])
    only_goals = Maze([[1, 1, 1, 1, 1], [1, 0, 0, "g", 1], [1, 1, 1, 1, 1]], 1, 0.4)
    np.testing.assert_array_equal(only_goals.starts, [[-1, 0], [0, 0]])


@pytest.mark.parametrize("id", ["PointMaze_UMaze-v3", "AntMaze_UMaze-v5"])
def test_one_is_sent_where_one_is_told(id: str) -> None:
    env = make(id, 7)
    starts = np.array([(3, 1)] * 7)
    observation, _ = env.reset(seed=0, options={"goal_cell": OPEN_CELLS, "reset_cell": starts})
    maze = env.task.maze
    assert maze.cell(observation["desired_goal"]).tolist() == [list(cell) for cell in OPEN_CELLS]
    np.testing.assert_array_equal(maze.cell(observation["achieved_goal"]), starts)
    observation, _ = env.reset(options={"goal_cell": (1, 1)})
    assert (maze.cell(observation["desired_goal"]) == 1).all()


def test_the_goal_ends_an_episode_where_it_should() -> None:
    env = make("PointMaze_UMaze-v3", 2, continuing_task=False, autoreset_mode="Disabled")
    cells = {"goal_cell": (3, 2), "reset_cell": (3, 1)}
    observation, info = env.reset(seed=1, options=cells)
    assert not info["success"].any()
    ended = np.zeros(2, bool)
    for _ in range(300):
        offset = observation["desired_goal"] - observation["achieved_goal"]
        observation, _, terminated, _, info = env.step(np.clip(offset * 4, -1, 1))
        near = np.linalg.norm(observation["desired_goal"] - observation["achieved_goal"], axis=1)
        np.testing.assert_array_equal(terminated, near <= NEAR)
        np.testing.assert_array_equal(
            info["success"], terminated & ~ended, "only in the step that got there"
        )
        ended = terminated
        if ended.all():
            break
    assert ended.all()


def test_walls_hold() -> None:
    """Pushed about for long, the point never leaves the open cells."""
    env = make("PointMaze_UMaze-v3", 8, max_episode_steps=10_000)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    visited = set()
    for time in range(600):
        if time % 30 == 0:
            push = rng.choice([-1.0, 1.0], (8, 2))
        observation, *_ = env.step(push)
        visited |= {tuple(cell) for cell in env.task.maze.cell(observation["achieved_goal"])}
    assert visited <= set(OPEN_CELLS)
    assert len(visited) > 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"maze_map": [[1, 1], [1, 0]]}, "another cell to begin in"),
        ({"maze_map": [[1, 0, 0], [1, 0]]}, "rows differ in length"),
        ({"maze_map": [[1, 2, 0]]}, r"maze_map\[0\]\[1\] is 2; give 0, 1, "),
        ({"reward_type": "rare"}, "reward_type"),
        ({"position_noise_range": 0.7}, "position_noise_range"),
    ],
)
def test_bad_mazes_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make("PointMaze_UMaze-v3", 1, **settings)


def test_an_ant_in_a_maze_takes_no_noise_of_its_own() -> None:
    with pytest.raises(ValueError, match="reset_noise_scale"):
        make("AntMaze_UMaze-v5", 1, reset_noise_scale=0.1)
    with pytest.raises(ValueError, match="exclude_current_positions"):
        make("AntMaze_UMaze-v5", 1, exclude_current_positions_from_observation=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal_cell": (2, 2)}, r"row 0: goal_cell \(2, 2\) is a wall"),
        ({"reset_cell": [(1, 1), (1, 9)]}, r"row 1: reset_cell \(1, 9\) is outside"),
        ({"goal_cell": (1.0, 1.0)}, "float64"),
        ({"goal_cell": [(1, 1)] * 3}, r"\(3, 2\); give"),
        ({"goal": (1, 1)}, "'goal' is not known"),
    ],
)
def test_bad_cells_are_refused(options: dict[str, Any], message: str) -> None:
    env = make("PointMaze_UMaze-v3", 2)
    env.reset(seed=0)
    before = env.snapshot()
    with pytest.raises(ValueError, match=message):
        env.reset(options=options)
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(env.snapshot().arrays[name], array)
