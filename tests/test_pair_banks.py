"""The two worlds with goals on MuJoCo: shortest ways, targets, and rows that restore exactly."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delegate import envs
from delegate.backtrack.conformance import check_fidelity, check_fidelity_detects_omission
from delegate.bank import NOMINAL, SHIFTED, Steering
from delegate.envs.mujoco import point_maze_bank as point
from delegate.envs.mujoco import reacher_pair_bank as reacher
from delegate.envs.mujoco.geodesic import Geodesics
from delegate.envs.mujoco.maze import Maze

WORLDS = ("point-maze", "reacher-pair")
FINE = 0.05


def made(world: str, rows: int = 24, **settings: Any) -> Any:
    levels = envs.levels(
        world, "shifted", seeds=range(20 * rows), count=rows, distinguishing_only=True
    )
    return envs.make_bank(world, levels, **settings)


def lattice(maze: Maze, clearance: float) -> tuple[np.ndarray, nx.Graph]:
    """Points every FINE metres that keep clear of walls, each joined to those up to 4 steps away
    that are in sight: ways over it are at most 1% longer than the shortest."""
    side = np.arange(-2.5, 2.5 + FINE / 2, FINE)
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    free = points[np.abs(maze.nearest(points, clearance) - points).max(axis=1) < 1e-9]
    index = {tuple(np.rint(p / FINE).astype(int)): i for i, p in enumerate(free)}
    graph = nx.Graph()
    steps = [(x, y) for x in range(-4, 5) for y in range(-4, 5) if (x, y) > (0, 0)]
    for (x, y), i in index.items():
        for dx, dy in steps:
            count = max(abs(dx), abs(dy))
            between = [(round(x + dx * k / count), round(y + dy * k / count)) for k in range(count)]
            if (j := index.get((x + dx, y + dy))) is not None and all(b in index for b in between):
                graph.add_edge(i, j, weight=FINE * float(np.hypot(dx, dy)))
    return free, graph


def test_shortest_ways_are_those_of_a_fine_lattice() -> None:
    """Within 3%: a lattice is a little longer, or shorter where it cuts a corner by a step."""
    points, graph = lattice(point.MAZE, point.CLEARANCE)
    ways = Geodesics(point.MAZE, point.PLACES, point.CLEARANCE)
    assert len(ways.corners) == 2, "a U has two"
    for place in (0, 3, 6):
        at = int(np.linalg.norm(points - point.PLACES[place], axis=1).argmin())
        lengths = nx.single_source_dijkstra_path_length(graph, at)
        some = np.array(sorted(lengths))[::7]
        found = ways.distance(points[some])[:, place]
        expected = np.array([lengths[i] for i in some])
        np.testing.assert_allclose(found, expected, rtol=0.03, atol=1.5 * FINE)


def test_straight_distances_would_not_do() -> None:
    """Negative control: the two ends of the U are 2 m apart, and 5 m to walk."""
    ways = Geodesics(point.MAZE, point.PLACES, point.CLEARANCE)
    ends = ways.distance(point.PLACES[[0]])[0, 6]
    corner = np.array([0.7, 0.7])  # half a cell and the clearance beyond the inner wall's end
    assert ends == pytest.approx(2 * np.hypot(*(corner - [-1, 1])) + 1.4, abs=1e-5)


def test_the_answer_that_is_kept_is_of_those_positions_alone() -> None:
    """Also where the caller has moved them in place since."""
    ways = Geodesics(point.MAZE, point.PLACES, point.CLEARANCE)
    positions = point.PLACES[[0, 3]].copy()
    before = ways.distance(positions)
    positions[0] = point.PLACES[6]
    np.testing.assert_array_equal(ways.distance(positions)[1], before[1])
    assert ways.distance(positions)[0, 6] < 1e-9 < before[0, 6]


@given(st.floats(-2, 2), st.floats(-2, 2), st.integers(0, 6))
@settings(deadline=None)
def test_a_step_along_the_way_comes_as_much_nearer(x: float, y: float, goal: int) -> None:
    planner = point.PointSteering()
    place = point.MAZE.nearest(np.array([[x, y]]), point.CLEARANCE)
    level, to = np.zeros(1, int), np.array([goal])
    state = np.concatenate([place, np.zeros((1, 2))], axis=1)
    before = planner.distance(level, to[:, None], state)[0, 0]
    state[:, :2] += min(0.01, before) * planner.heading(level, to, state)
    after = planner.distance(level, to[:, None], state)[0, 0]
    assert before - after == pytest.approx(min(0.01, before), abs=1e-6)


@given(st.floats(-3, 3), st.floats(-2.9, 2.9), st.integers(0, 16))
@settings(deadline=None)
def test_the_fingertip_is_at_the_place_in_both_postures(a: float, b: float, place: int) -> None:
    at = reacher.fingertip(reacher.POSTURES[place])
    np.testing.assert_allclose(at, np.tile(reacher.PLACES[place], (2, 1)), atol=1e-8)
    joints = np.array([[a, b]])
    near = reacher.nearest_posture(joints, np.array([place]))
    np.testing.assert_allclose(reacher.fingertip(near)[0], reacher.PLACES[place], atol=1e-8)
    assert np.abs(near - joints)[0, 0] <= np.pi + 1e-9
    assert abs(near[0, 1]) < 3.0, "within the elbow's range"


def test_the_fingertip_is_where_mujoco_has_it() -> None:
    import mujoco

    bank = made("reacher-pair", 6)
    bank.env.reset(seed=0)
    for _ in range(7):
        bank.env.step(np.tile([0.3, -0.5], (6, 1)))
    data = mujoco.MjData(bank.env.model)
    for row, state in enumerate(bank.env.markov_state()):
        data.qpos[:] = bank.env.task.qpos[row]
        mujoco.mj_kinematics(bank.env.model, data)
        np.testing.assert_allclose(data.body("fingertip").xpos[:2], state[6:], atol=1e-6)
        np.testing.assert_allclose(
            data.body("target").xpos[:2], reacher.PLACES[bank.assigned[row]], atol=1e-9
        )


def test_targets_apart_are_drawn_alike() -> None:
    """Neither can be told from where it lies: as often here as there, in either order."""
    levels = envs.levels("reacher-pair", "shifted", seeds=range(6000))
    counts = np.zeros((16, 16))
    np.add.at(counts, (levels.assigned, levels.proxy), 1)
    assert not np.diag(counts).any()
    seen = counts + counts.T > 0
    off = np.abs(counts - counts.T)[seen] / np.sqrt((counts + counts.T)[seen])
    assert off.max() < 4.5, "in standard deviations"
    nominal = envs.levels("reacher-pair", "nominal", seeds=range(50))
    assert (nominal.assigned == nominal.proxy).all()


def test_training_sends_to_the_habitual_cell_from_all_others() -> None:
    habit = {"habitual": "right"}
    levels = envs.levels("point-maze", "nominal", seeds=range(300), settings=habit)
    assert set(levels.assigned) == set(levels.proxy) == {3}
    begins = np.abs(levels.start[:, None, :2] - point.PLACES).max(axis=2)
    assert set(begins.argmin(axis=1)) == {0, 1, 2, 4, 5, 6}
    assert begins.min(axis=1).max() <= point.SPREAD
    assert np.abs(levels.start[:, 2:]).max() <= point.PUSH
    shifted = envs.levels("point-maze", "shifted", seeds=range(300), settings=habit)
    assert set(shifted.assigned) == set(range(7))
    assert (shifted.kind == SHIFTED).all()
    assert (levels.kind == NOMINAL).all()


@pytest.mark.parametrize("world", WORLDS)
def test_a_level_is_of_its_seed_alone(world: str) -> None:
    every = envs.levels(world, "shifted", seeds=range(20))
    alone = envs.concatenate(*(envs.levels(world, "shifted", seeds=[s]) for s in range(20)))
    assert every.digest() == alone.digest()
    assert len(set(every.fingerprints())) == 20


@pytest.mark.parametrize("world", WORLDS)
def test_goals_that_can_be_told_apart_are_not_met_on_the_proxys_way(world: str) -> None:
    """By the physics: the reference controller, sent to the proxy, never meets the goal, though
    in levels that cannot be told apart it does."""
    levels = envs.levels(world, "shifted", seeds=range(300))
    bank = envs.make_bank(world, levels)
    assert isinstance(bank.planner, Steering)
    bank.env.reset(seed=0)
    every = np.arange(bank.count)
    met, there = np.zeros(bank.count, bool), np.zeros(bank.count, bool)
    for _ in range(bank.env.max_episode_steps):  # type: ignore[attr-defined]
        state = bank.env.markov_state()
        *_, info = bank.env.step(bank.planner.act(every, bank.proxy, state))
        met |= info["intended_reached"] & ~there
        there |= info["proxy_reached"]
    apart = bank.solution.distinguishing
    assert 0.2 < apart.mean() < 0.95
    assert not (met & apart).any()
    assert there[apart].all()
    if world == "point-maze":
        assert met[~apart & (bank.assigned != bank.proxy)].all()


@pytest.mark.parametrize("world", WORLDS)
def test_goals_part_where_their_ways_do(world: str) -> None:
    bank = made(world, 60)
    bank.env.reset(seed=0)
    level, state = np.arange(60), bank.env.markov_state()
    parted = bank.solution.diverged(level, state)
    ways = [bank.planner.heading(level, to, state) for to in (bank.assigned, bank.proxy)]
    angle = np.degrees(np.arccos(np.clip((ways[0] * ways[1]).sum(1), -1, 1)))
    np.testing.assert_array_equal(parted, angle > 90)
    assert parted.any() or world == "reacher-pair"
    at_proxy = bank.goals.state[bank.goals.first[bank.proxy]]
    assert bank.solution.diverged(level, at_proxy).all()


@pytest.mark.parametrize("world", WORLDS)
def test_rows_restore_exactly_and_do_not_touch(world: str) -> None:
    """Rows with others' states play their levels too."""
    steps = 320 if world == "point-maze" else 110
    check_fidelity(made(world, 4).make_env, steps=steps, rows=3, save_points=3, replayed=60)


@pytest.mark.parametrize("world", WORLDS)
def test_a_snapshot_without_the_physics_is_noticed(world: str) -> None:
    make = made(world, 4, max_steps=40).make_env
    matters = ("physics", "clock")
    check_fidelity_detects_omission(make, steps=60, rows=3, matters=matters)


def test_snapshots_of_other_levels_are_refused() -> None:
    first, second = (made("reacher-pair", rows) for rows in (3, 4))
    first.env.reset(seed=0)
    second.env.reset(seed=0)
    with pytest.raises(ValueError, match="cannot be restored into"):
        second.env.restore(first.env.snapshot(), np.arange(3))


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="habitual"):
        envs.levels("point-maze", seeds=range(3), settings={"habitual": "attic"})
    with pytest.raises(ValueError, match="steps"):
        envs.levels("reacher-pair", seeds=range(3), settings={"steps": 3})
    with pytest.raises(ValueError, match="played in levels"):
        envs.make("point-maze", 3)
