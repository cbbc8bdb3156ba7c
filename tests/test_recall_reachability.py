"""log B_g(s) against every backward path, against sampling, and where numbers get small."""

from __future__ import annotations

import numpy as np
import pytest
from finite_worlds import bayes, dense, maze, random_table
from hypothesis import given, settings
from hypothesis import strategies as st

from delegate.recall import ExactBacktrackingModel, TransitionTable


def enumerated(q: np.ndarray, goal: int, length: int, discount: float) -> np.ndarray:
    """B_g [S], one backward path at a time. q: [S', S, A]"""
    total = np.zeros(len(q))

    def recall(state: int, k: int, probability: float) -> None:
        total[state] += discount**k * probability
        if k < length:
            for before, action in zip(*np.nonzero(q[state]), strict=True):
                recall(before, k + 1, probability * q[state, before, action])

    recall(goal, 0, 1.0)
    return total


@given(
    seed=st.integers(0, 10_000),
    length=st.integers(0, 4),
    discount=st.sampled_from([1e-3, 0.3, 0.95, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_reachability_is_the_sum_over_backward_paths(
    seed: int, length: int, discount: float
) -> None:
    table = random_table(seed, levels=2, states=4, actions=2, outcomes=2)
    weights = np.random.default_rng(seed).gamma(0.5, size=(2, 4, 2))
    model = ExactBacktrackingModel(table, weights)
    goal, level = np.array([0, 1, 2, 3, 3]), np.array([0, 1, 0, 1, 1])
    log_b = model.reachability(goal, length, discount, level)
    assert log_b.shape == (5, 4)
    for row, (g, lv) in enumerate(zip(goal, level, strict=True)):
        expected = enumerated(bayes(dense(table, lv), weights[lv]), g, length, discount)
        np.testing.assert_allclose(np.exp(log_b[row]), expected, rtol=1e-10)
        np.testing.assert_array_equal(np.isneginf(log_b[row]), expected == 0)


def test_reachability_is_what_traces_visit() -> None:
    table = random_table(2, states=5, actions=3)
    model = ExactBacktrackingModel(table)
    goal, length, discount, count = 1, 6, 0.8, 20_000
    traces = model.sample_traces(np.array([goal]), length, count, rng=5)
    weight = discount ** np.arange(length + 1)
    per_trace = np.stack([(traces.states == s) @ weight for s in range(5)], axis=1)
    mean, error = per_trace.mean(0), per_trace.std(0) / np.sqrt(count)
    exact = np.exp(model.reachability(np.array([goal]), length, discount)[0])
    assert (np.abs(mean - exact) <= 4 * error + 1e-12).all()
    other = np.exp(model.reachability(np.array([goal]), length - 1, discount)[0])
    assert (np.abs(mean - other) > 4 * error + 1e-12).any(), "the check must tell lengths apart"


def test_k_runs_from_zero_to_length() -> None:
    """On a one-way corridor every state is exactly one number of steps back."""
    cells = 6
    lands = np.minimum(np.arange(cells) + 1, cells - 1)[None, :, None, None]
    terminal = np.arange(cells)[None] == cells - 1
    table = TransitionTable(
        lands, 1.0 * ~terminal[:, :, None, None], terminal, np.ones((1, cells), bool)
    )
    log_b = ExactBacktrackingModel(table).reachability(np.array([5, 3]), 3, 0.5)
    half = np.log(0.5)
    np.testing.assert_allclose(log_b[0], [-np.inf, -np.inf, 3 * half, 2 * half, half, 0.0])
    np.testing.assert_allclose(log_b[1], [3 * half, 2 * half, half, 0.0, -np.inf, -np.inf])


def test_goals_do_not_influence_each_other() -> None:
    model = ExactBacktrackingModel(random_table(9, levels=3, states=6))
    goal, level = np.arange(6).repeat(3), np.tile([0, 1, 2], 6)
    together = model.reachability(goal, 20, 0.9, level)
    alone = [
        model.reachability(goal[[g]], 20, 0.9, level[[g]])[0] for g in reversed(range(len(goal)))
    ]
    np.testing.assert_array_equal(together, alone[::-1])


def corridor(cells: int) -> TransitionTable:
    """Cells in a row, the last one terminal; action 0 goes one on, action 1 stays."""
    on = np.minimum(np.arange(cells) + 1, cells - 1)
    terminal = np.arange(cells) == cells - 1
    leads = 1.0 * np.repeat(~terminal[:, None], 2, axis=1)
    return TransitionTable(
        np.stack([on, np.arange(cells)], axis=1)[None, :, :, None],
        leads[None, :, :, None],
        terminal[None],
        np.ones((1, cells), bool),
    )


def test_tiny_discounts_are_not_lost() -> None:
    """1e-5 a step for 120 steps is 1e-600: below double precision, yet on the support."""
    model = ExactBacktrackingModel(corridor(121), np.tile([1.0, 0.0], (121, 1)))
    goal = np.array([3, 120, 50])
    log_b = model.reachability(goal, 200, 1e-5)
    for row, g in enumerate(goal):
        back = g - np.arange(121)
        expected = np.where(back >= 0, back * np.log(1e-5), -np.inf)
        np.testing.assert_allclose(log_b[row], expected, rtol=1e-12)


def test_tiny_probabilities_are_not_lost() -> None:
    """Nearly every recalled step stays, so 120 steps that all move have probability 1e-714."""
    moves = 1e-6
    model = ExactBacktrackingModel(corridor(121), np.tile([moves, 1.0], (121, 1)))
    log_b = model.reachability(np.array([119]), 119, 1.0)[0]
    np.testing.assert_allclose(log_b[0], 119 * np.log(moves / (1 + moves)), rtol=1e-9)
    assert log_b[0] < -745, "below what a double can hold"


def test_log_domain_agrees_with_plain_numbers() -> None:
    """The same long recall, through a bound that calls it safe and one that does not."""
    model = ExactBacktrackingModel(maze(["....", ".#..", "...G"], slip=0.2))
    plain = model.reachability(np.array([0, 11]), 60, 0.9)
    mended = plain.copy()
    model._redo_underflowed(mended, np.array([0, 11]), 60, 0.9, np.zeros(2, int))
    np.testing.assert_array_equal(plain, mended)
    scaled = np.full_like(plain, -1e9)
    model._redo_underflowed(scaled, np.array([0, 11]), 60, 0.9, np.zeros(2, int))
    np.testing.assert_allclose(scaled, plain, rtol=1e-10)


@pytest.mark.parametrize("length", [0, 2, 50])
def test_steps_back_is_the_shortest_walk(length: int) -> None:
    rows = ["....#", ".##..", "..#.G", "#...."]
    table = maze(rows)
    model = ExactBacktrackingModel(table)
    goals = np.flatnonzero(table.valid[0])
    found = model.steps_back(goals, length)
    P = dense(table).sum(1) > 0
    for row, goal in enumerate(goals):
        expected = np.full(table.num_states, -1)
        expected[goal] = 0
        for k in range(1, length + 1):
            leads = (P & (expected == k - 1)[None]).any(1)
            expected[leads & (expected < 0)] = k
        np.testing.assert_array_equal(found[row], expected)
        on_support = np.isfinite(model.reachability(goals[[row]], length, 0.9)[0])
        np.testing.assert_array_equal(on_support, found[row] >= 0)
