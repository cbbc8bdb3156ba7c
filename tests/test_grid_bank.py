"""Banks of grid worlds say what the worlds' own solvers and pictures say."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from delegate import envs
from delegate.envs.grid import Level
from delegate.envs.grid.observation import draw_cells

SIZE = {"size": 7, "max_steps": 20}


@pytest.fixture(scope="module")
def levels() -> Level:
    return envs.levels("Corner", "shifted", seeds=range(20), settings=SIZE)


def test_the_truth_is_that_of_the_solvers(levels: Level) -> None:
    bank = envs.make_bank("Corner", levels, **SIZE)
    facts = envs.make("Corner", 1, levels=levels, **SIZE).facts()
    known = bank.solution.returns()
    np.testing.assert_array_equal(known.reference, facts.optimal_return)
    np.testing.assert_array_equal(known.proxy, facts.proxy_optimal_return)
    np.testing.assert_array_equal(known.random, facts.random_return)
    assert not known.error.any()
    np.testing.assert_array_equal(bank.solution.distinguishing, facts.distinguishing)
    level, state = np.mgrid[:20, :49].reshape(2, -1)
    np.testing.assert_array_equal(bank.solution.diverged(level, state), facts.divergent.reshape(-1))


def test_distances_and_the_table_are_those_of_the_maze(levels: Level) -> None:
    bank = envs.make_bank("Corner", levels, **SIZE)
    table, planner = bank.table(), bank.planner
    assert table is not None
    assert planner is not None
    assert not table.terminal.any(), "endings are left out"
    for level in range(levels.count):
        way = nx.grid_2d_graph(7, 7)
        way.remove_nodes_from([tuple(wall) for wall in np.argwhere(levels.walls[level])])
        goal = divmod(int(levels.goal[level]), 7)
        lengths = nx.single_source_shortest_path_length(way, goal)
        cells = np.array([7 * row + column for row, column in lengths])
        asked = np.full((len(cells), 1), levels.goal[level])
        found = planner.distance(np.full(len(cells), level), asked, cells)
        assert found[:, 0].tolist() == list(lengths.values())


def test_the_drawing_is_the_picture(levels: Level) -> None:
    """Wherever a rectangle lies, the picture shows that; in the order of painting."""
    bank = envs.make_bank("Corner", levels, **SIZE)
    numbers = {"wall": 1, "trap": 2, "proxy": 3, "goal": 4}
    for level in range(levels.count):
        painted = np.zeros((7, 7), int)
        for shape in bank.drawing(level)["shapes"]:
            column, row = (int(at - 0.5) for at in shape["at"])
            if shape["role"] in numbers:
                painted[row, column] = numbers[shape["role"]]
        start = int(levels.start[level])
        painted[divmod(start, 7)] = 5
        np.testing.assert_array_equal(painted, draw_cells(levels, level, start))


def test_the_layout_is_the_walls_alone(levels: Level) -> None:
    bank = envs.make_bank("Corner", levels, **SIZE)
    layout = bank.layout(np.array([3, 0]))
    assert layout is not None
    assert layout.dtype == np.float32
    np.testing.assert_array_equal(layout.reshape(2, 7, 7) > 0, levels.walls[[3, 0]])


def test_a_bank_refuses_what_a_world_refuses(levels: Level) -> None:
    with pytest.raises(ValueError, match="did you mean"):
        envs.make_bank("Corner", levels, observaton="integer")
    with pytest.raises(ValueError, match="Corner"):
        envs.make_bank("Cornr", levels)
    with pytest.raises(ValueError, match="cannot be joined"):
        envs.concatenate(levels, envs.levels("Corner", seeds=range(2), settings={"size": 9}))
