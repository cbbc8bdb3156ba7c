"""Landmarks of grid worlds, found by eye and by plain loops."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

from delegate import envs
from delegate.envs.grid import Level
from delegate.envs.grid.landmarks import landmarks
from delegate.envs.grid.rules import Rules

NAMES = (
    "cheese", "top-left corner", "top-right corner", "bottom-left corner",
    "bottom-right corner", "start", "nearest dead end",
)  # fmt: skip


def rules(world: str, size: int) -> Rules:
    return envs.registry.make_rules(world, {"size": size})


PICTURE = """\
#######
##...##
#.#.#.#
#...#.#
#####.#
#..S..#
#######
"""


def test_a_picture_has_the_landmarks_one_sees_in_it() -> None:
    """The upper left is cut off: what no way leads to is no landmark."""
    walls = np.array([[mark == "#" for mark in row] for row in PICTURE.split()])
    start, goal = 5 * 7 + 3, 2 * 7 + 5
    one = Level(
        walls=walls[None], traps=np.zeros_like(walls)[None], start=np.array([start]),
        goal=np.array([goal]), proxy_goal=np.array([-1]), seed=np.zeros(1), kind=np.zeros(1),
    )  # fmt: skip
    found = landmarks(rules("Corner", 7), one)
    assert found.names == NAMES
    reached = [(2, 5), (3, 5), (4, 5), (5, 1), (5, 2), (5, 3), (5, 4), (5, 5)]
    assert np.argwhere(found.places[0].reshape(7, 7)).tolist() == [list(each) for each in reached]
    cells = [divmod(int(each), 7) for each in found.goal[0]]
    # (5, 1) is the only dead end but for the goal, and as near as one comes to two of the corners.
    assert cells == [(2, 5), (5, 1), (2, 5), (5, 1), (5, 5), (5, 3), (5, 1)]


@pytest.mark.parametrize("world", envs.ids())
def test_landmarks_are_what_a_plain_search_finds(world: str) -> None:
    bank = envs.levels(world, "shifted", seeds=range(40), settings={"size": 9})
    found = landmarks(rules(world, 9), bank)
    assert found.names[1:] == NAMES[1:]
    assert found.names[0] == ("cheese" if world == "Corner" else "goal")
    without_end = 0
    for index in range(bank.count):
        open_ = nx.grid_2d_graph(9, 9)
        open_.remove_nodes_from([tuple(cell) for cell in np.argwhere(bank.walls[index])])
        start, goal = (divmod(int(bank.start[index]), 9), divmod(int(bank.goal[index]), 9))
        steps = nx.single_source_shortest_path_length(open_, start)
        assert {divmod(int(c), 9) for c in np.flatnonzero(found.places[index])} == set(steps)
        named = dict(zip(found.names, found.goal[index].tolist(), strict=True))
        assert divmod(named[found.names[0]], 9) == goal
        assert divmod(named["start"], 9) == start
        for name, corner in zip(NAMES[1:5], [(1, 1), (1, 7), (7, 1), (7, 7)], strict=True):
            away = {c: abs(c[0] - corner[0]) + abs(c[1] - corner[1]) for c in steps}
            assert away[divmod(named[name], 9)] == min(away.values())
        ends = [c for c in steps if open_.degree(c) == 1 and c not in (start, goal)]
        if not ends:
            without_end += 1
            assert named["nearest dead end"] == -1
        else:
            end = divmod(named["nearest dead end"], 9)
            assert end in ends
            assert steps[end] == min(steps[c] for c in ends)
    assert (without_end < bank.count) == (world == "Corner"), "rooms and fields have no dead end"


def test_where_the_proxy_lies_is_not_looked_at() -> None:
    bank = envs.levels("Corner", "shifted", seeds=range(30), settings={"size": 9})
    hidden = Level(**{**vars(bank), "proxy_goal": np.full(30, -1)})
    np.testing.assert_array_equal(
        landmarks(rules("Corner", 9), bank).goal, landmarks(rules("Corner", 9), hidden).goal
    )
