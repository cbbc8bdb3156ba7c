"""What goal_odds is compared with, against plain formulas: a planner's distances, values and
likelihoods, outcome alone, episodes' deviations, small networks; and its pair with a drift
alarm."""

from __future__ import annotations

import itertools
from typing import Any

import networkx as nx
import numpy as np
import pytest
from finite_worlds import dense, maze
from test_monitor_goal_odds import (
    CORNER,
    DEPLOYED,
    GOAL,
    NOMINAL,
    TRAINING,
    WAY,
    fitted,
    path,
    told,
)

from delegate import monitors
from delegate.monitors import Reference, Steps, TablePlanner, World
from delegate.recall import ExactBacktrackingModel

UP, RIGHT, DOWN, LEFT = range(4)
ROOM = ["....#", ".##..", "..#..", "#...#"]


def graph(rows: list[str]) -> Any:
    """Every move of a maze as an edge; bumps left out."""
    table = maze(rows)
    edges = [
        (int(s), int(n))
        for s in np.flatnonzero(table.valid[0])
        for n in table.next_state[0, s].ravel()
        if n != s
    ]
    return nx.DiGraph(edges)


@pytest.mark.parametrize("slip", [0.0, 0.3])
def test_distances_are_those_of_the_graph(slip: float) -> None:
    table, steps = maze(ROOM, slip), dict(nx.all_pairs_shortest_path_length(graph(ROOM)))
    planner = TablePlanner(table)
    states = np.flatnonzero(table.valid[0])
    found = planner.distance(np.zeros(len(states), int), None, states)
    for i, s in enumerate(states):
        for k, goal in enumerate(planner.goals[0]):
            assert found[i, k] == steps[s].get(goal, -1)
    asked = planner.distance(np.zeros(2, int), np.array([[17, 0], [8, 3]]), np.array([0, 16]))
    expected = [[steps[0][17], 0], [steps[16].get(8), steps[16][3]]]
    np.testing.assert_array_equal(asked, expected)
    with pytest.raises(IndexError, match="state 4 of level 0 is not there"):
        planner.distance(np.zeros(1, int), None, np.array([4]))


def test_best_actions_come_one_step_nearer() -> None:
    table, planner = maze(ROOM), TablePlanner(maze(ROOM))
    states = np.flatnonzero(table.valid[0])
    zero = np.zeros(len(states), int)
    for goal in states:
        best = planner.best(zero, zero + goal, states)
        away = planner.distance(zero, zero[:, None] + goal, states)[:, 0]
        for s, row, far in zip(states, best, away, strict=True):
            lands = table.next_state[0, s, :, 0]
            nearer = planner.distance(np.zeros(4, int), np.full((4, 1), goal), lands)[:, 0]
            np.testing.assert_array_equal(row, (nearer == far - 1) & (far > 0))


@pytest.mark.parametrize("slip", [0.0, 0.4])
def test_values_satisfy_bellmans_equation(slip: float) -> None:
    table = maze(ROOM, slip)
    planner, leads, gamma = TablePlanner(table), dense(table), 0.9
    states = np.flatnonzero(table.valid[0])
    zero = np.zeros(len(states), int)
    for goal in (0, 17):
        value = planner.value(zero, zero + goal, states, gamma)
        whole = np.zeros(table.num_states)
        whole[states] = value
        backed_up = gamma * (leads[states] @ whole).max(1)
        np.testing.assert_allclose(value[states != goal], backed_up[states != goal], atol=1e-8)
        assert value[states == goal] == 1.0
        if not slip:
            away = planner.distance(zero, zero[:, None] + goal, states)[:, 0]
            np.testing.assert_allclose(value, gamma**away, atol=1e-8)


def test_distance_and_value_say_what_a_step_cost() -> None:
    steps = path([12, 7, 7, 2])
    np.testing.assert_array_equal(told(fitted("distance"), steps)["score"], [1, 0, 1])
    away = np.array([4, 5, 5, 6])
    lost = 0.99 ** away[:-1] - 0.99 ** away[1:]
    np.testing.assert_allclose(told(fitted("value"), steps)["score"], lost, atol=1e-9)


def test_likelihood_is_that_of_the_noisy_policy() -> None:
    """From 13, right and down come nearer; from 10 right alone; at the goal anything goes."""
    at = np.array([13, 13, 10, 24])
    action, best = np.array([DOWN, UP, RIGHT, UP]), np.array([0.5, 0.0, 1.0, 0.25])
    lands = DEPLOYED.model.table.next_state[0, at, action, 0]  # type: ignore[attr-defined]
    zero = np.zeros(4, int)
    steps = Steps(zero, zero + GOAL, at, action, lands, zero > 0)
    expected = -np.log(0.8 * best + 0.2 / 4)
    score, _ = fitted("likelihood", noise=0.2).score(steps, {})
    np.testing.assert_allclose(score, expected)
    against_random, _ = fitted("likelihood_cusum", noise=0.2).score(steps, {})
    np.testing.assert_allclose(against_random, expected - np.log(4))
    assert monitors.make("likelihood").default_statistic == "mean"
    assert monitors.make("likelihood_cusum").default_statistic == "cusum"


def test_arrival_knows_the_end_alone_and_constant_nothing() -> None:
    for way, missed in ((WAY, 1.0), ([12, 13, 18, 23, 24], 0.0)):
        score = told(fitted("arrival"), path(way))["score"]
        assert np.isnan(score[:-1]).all()
        assert score[-1] == missed
    assert (told(fitted("constant"), path(WAY))["score"] == 0).all()


def by_planner(way: list[int], noise: float | None, beta: float, smoothing: float) -> list[float]:
    """Log odds of the corner along a way, one goal at a time. noise None: Boltzmann."""
    steps = dict(
        nx.all_pairs_shortest_path_length(graph([".....", ".#.#.", ".....", "#.#..", "....."]))
    )
    table = DEPLOYED.model.table  # type: ignore[attr-defined]
    states = np.flatnonzero(table.valid[0]).tolist()
    beside = {s: {n for n in states if steps[s][n] <= 1} for s in (GOAL, CORNER)}
    others = [s for s in states if s not in beside[GOAL] | beside[CORNER]]
    prior = {GOAL: 0.5, CORNER: 0.2, "none": 0.25, **{s: 0.05 / len(others) for s in others}}
    belief, found = dict(prior), []
    for s, after in itertools.pairwise(way):
        lands = table.next_state[0, s, :, 0].tolist()
        hits = [a for a in range(4) if lands[a] == after]
        for goal in [g for g in belief if g != "none"]:
            away = [np.inf if n == s else steps[n][goal] for n in lands]
            if noise is None:
                weight = np.array(
                    [0 if np.isinf(d) else np.exp(-beta * (d - min(away))) for d in away]
                )
                chance = weight / weight.sum()
            else:
                aims = np.array([d == min(away) for d in away])
                chance = (1 - noise) * aims / aims.sum() + noise / 4
            ratio = (chance[hits].sum() + smoothing) / (len(hits) / 4)
            belief[goal] *= 1.0 if noise is None and s == after else ratio
        total = sum(belief.values())
        belief = {each: weight / total for each, weight in belief.items()}
        found.append(np.log(belief[CORNER] / (1 - belief[CORNER])))
    return found


@pytest.mark.parametrize(("child", "noise"), [("noisy", 0.3), ("boltzmann", None)])
def test_planner_odds_is_bayes_rule_with_a_planners_likelihoods(
    child: str, noise: float | None
) -> None:
    given = {"child": child, "beta": 0.7, "smoothing": 0.02, "switching": [0.0]}
    given |= {} if noise is None else {"noise": noise}
    score = told(fitted("planner_odds", **given), path(WAY))["score"]
    np.testing.assert_allclose(score, by_planner(WAY, noise, 0.7, 0.02), rtol=1e-4, atol=1e-5)
    drawn = told(fitted("planner_odds", places=4, **given), path(WAY))["score"]
    np.testing.assert_allclose(drawn, score, atol=0.3)


def test_a_pair_alarms_for_either_reason_each_with_half_of_alpha() -> None:
    """The odds less where they begin; the rank of the drift among that of the reference."""
    plain, drift = fitted(), fitted("reach", drift=True)
    straight = path([2, 1, 0], CORNER)
    columns = [straight] * 3 + [path([2, 7, 2, 1, 0], CORNER)]
    steps = Steps(*(np.concatenate([getattr(w, n) for w in columns]) for n in vars(straight)))
    reference = Reference(steps, np.repeat([0, 1, 2, 3], [2, 2, 2, 4]))
    drift.bind(TRAINING)
    _, value = monitors.play(drift, monitors.make_statistic("drawdown"), reference)
    _, peaks = monitors.peaks(value, reference.sub_episode)
    assert (peaks[:3] == 0).all()
    assert peaks[3] > 0
    drift.bind(DEPLOYED)
    pacing = path([12, 11, 12, 11, 12, 11, 12, 7, 2, 1, 0])
    for way, patience, louder in ((pacing, 2.0, "drift"), (path([14, 9, 4, 3, 2, 1, 0]), 50.0, "")):
        pair = monitors.make("goal_odds_or_drift", patience=patience)
        pair.fit(reference, TRAINING)
        nominal = told(pair, straight)["score"]
        assert np.isfinite(nominal).all(), "where there are no odds the drift alarm still stands"
        pair.bind(DEPLOYED)
        odds = told(plain, way)["score"] - np.log(0.2 / 0.5)
        alone = Reference(way, np.zeros(len(way), int))
        _, drifted = monitors.play(drift, monitors.make_statistic("drawdown"), alone)
        above = (patience * peaks[None] >= drifted[:, None]).sum(1)
        rarity = -np.log((1 + above) / 5)
        found = told(pair, way)["score"]
        np.testing.assert_allclose(found, np.maximum(odds, rarity), rtol=1e-5)
        assert (rarity[-1] > odds[-1]) == (louder == "drift")


def test_episode_deviation_is_the_distance_of_mean_and_deviation_so_far() -> None:
    table = np.random.default_rng(0).normal(size=(9, 3))
    world = World(
        ExactBacktrackingModel(maze(["...", "...", "..."])), lambda level, goal, state: table[state]
    )
    rng = np.random.default_rng(1)
    states, zero = rng.integers(0, 9, (20, 10)), np.zeros(200, int)
    nominal = Steps(zero, zero, zero, zero, states.ravel(), zero > 0)
    monitor = monitors.make("episode_deviation")
    monitor.fit(Reference(nominal, np.repeat(np.arange(20), 10)), world)
    seen = table[states]
    whole = np.hstack([seen.mean(1), seen.std(1)])
    memory, so_far = monitor.start(1), []
    for t, state in enumerate(rng.integers(0, 9, 6)):
        one = np.zeros(1, int)
        so_far.append(table[state])
        score, memory = monitor.score(Steps(one, one, one, one, one + state, one > 0), memory)
        now = np.hstack([np.mean(so_far, axis=0), np.std(so_far, axis=0)])
        away = (now - whole.mean(0)) / np.maximum(whole.std(0), 1e-3)
        np.testing.assert_allclose(score[0], np.sqrt((away**2).mean()), rtol=1e-7), t


def moved(count: int, seed: int, turned: bool = False) -> Steps:
    """Random moves on a torus of 5 x 5 cells; `turned`: up goes down and down goes up."""
    rng = np.random.default_rng(seed)
    state, action = rng.integers(0, 25, count), rng.integers(0, 4, count)
    down, right = np.array([[-1, 0], [0, 1], [1, 0], [0, -1]])[action].T
    down = -down if turned else down
    after = (state // 5 + down) % 5 * 5 + (state % 5 + right) % 5
    zero = np.zeros(count, int)
    return Steps(zero, zero, state, action, after, zero > 0)


def test_networks_are_surprised_by_what_the_reference_never_did() -> None:
    """Other dynamics, for the forward models; other places, for the imitated network."""
    side = np.stack([np.arange(25) // 5, np.arange(25) % 5], axis=1) / 4.0
    angle = np.concatenate([np.sin(2 * np.pi * side), np.cos(2 * np.pi * side)], axis=1)
    world = World(ExactBacktrackingModel(maze(["....."] * 5)), lambda level, goal, s: angle[s])
    for name in ("forward_ensemble", "random_network_distillation"):
        monitor = monitors.make(name, updates=200, max_reference=2000)
        seen = moved(3000, 0)
        if name == "random_network_distillation":
            seen = seen.take(seen.next_state < 12)
        monitor.fit(Reference(seen, np.zeros(len(seen), int)), world)
        usual = moved(300, 1)
        if name == "random_network_distillation":
            groups = usual.take(usual.next_state < 12), usual.take(usual.next_state >= 12)
        else:
            groups = usual, moved(300, 1, turned=True).take(np.flatnonzero(usual.action % 2 == 0))
        known, unknown = (monitor.score(each, {})[0].mean() for each in groups)
        assert unknown > 3 * known, name
        again = monitors.make(name, updates=200, max_reference=2000)
        again.fit(Reference(seen, np.zeros(len(seen), int)), world)
        np.testing.assert_array_equal(
            again.score(usual, {})[0], monitor.score(usual, {})[0], f"{name} is the same each time"
        )


def test_the_odds_need_no_planner_and_the_planner_no_recall() -> None:
    from dataclasses import replace

    for name, without in (("goal_odds", "planner"), ("planner_odds", "reachability")):
        monitor = monitors.make(name)
        monitor.fit(NOMINAL, replace(TRAINING, **{without: None}))
        monitor.bind(replace(DEPLOYED, **{without: None}))
        assert np.isfinite(told(monitor, path(WAY))["score"]).all()
