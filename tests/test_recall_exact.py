"""The exact model against Bayes' rule, counting against truth, sampling against both; its table."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from finite_worlds import bayes, dense, maze, random_table
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from delegate.recall import ExactBacktrackingModel, TransitionTable, moving_weights


def posterior(model: ExactBacktrackingModel, level: int = 0) -> np.ndarray:
    """q(s, a | s') as [S', S, A], asked of `log_prob` one triple a row."""
    S, A = model.num_states, model.num_actions
    after, state, action = np.array(list(product(range(S), range(S), range(A)))).T
    log_prob = model.log_prob(state, action, after, np.full(len(after), level))
    return np.exp(log_prob).reshape(S, S, A)


@pytest.mark.parametrize("seed", range(8))
def test_log_prob_is_bayes_rule(seed: int) -> None:
    table = random_table(seed, levels=3)
    weights = np.random.default_rng(seed).gamma(1.0, size=(3, 4, 2))
    model = ExactBacktrackingModel(table, weights)
    uniform = ExactBacktrackingModel(table)
    for level in range(3):
        P = dense(table, level)
        np.testing.assert_allclose(posterior(model, level), bayes(P, weights[level]), atol=1e-14)
        np.testing.assert_allclose(posterior(uniform, level), bayes(P, np.ones((4, 2))), atol=1e-14)


@given(
    seed=st.integers(0, 10_000),
    states=st.integers(1, 6),
    actions=st.integers(1, 4),
    outcomes=st.integers(1, 3),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_what_led_there_sums_to_one(
    seed: int, states: int, actions: int, outcomes: int, data: st.DataObject
) -> None:
    table = random_table(seed, 1, states, actions, outcomes)
    drawn = st.lists(st.sampled_from([0.0, 1e-30, 0.5, 7.0]), min_size=states * actions)
    weights = np.array(data.draw(drawn)[: states * actions]).reshape(states, actions)
    total = posterior(ExactBacktrackingModel(table, weights)).sum((1, 2))
    led_to = (weights[:, :, None] * dense(table)).sum((0, 1)) > 0
    np.testing.assert_allclose(total, np.where(led_to, 1.0, 0.0), atol=1e-12)


def test_weights_for_all_levels_are_those_of_each() -> None:
    table = random_table(3, levels=2)
    weights = np.random.default_rng(0).gamma(1.0, size=(4, 2))
    shared = ExactBacktrackingModel(table, weights)
    spelled_out = ExactBacktrackingModel(table, np.stack([weights, weights]))
    for level in range(2):
        np.testing.assert_array_equal(posterior(shared, level), posterior(spelled_out, level))


def test_moving_weights_are_in_proportion_to_leaving() -> None:
    """A corridor of two cells with slip: up and down stay put but for the slips."""
    table = maze([".."], slip=0.4)
    leaves = np.array([[0.1, 0.7, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7]])
    np.testing.assert_allclose(moving_weights(table, 0.2), 0.2 + 0.8 * leaves[None])
    np.testing.assert_array_equal(moving_weights(table, 1.0), np.ones((1, 2, 4)))
    by_name = posterior(ExactBacktrackingModel(table, "moving"))
    np.testing.assert_array_equal(
        by_name, posterior(ExactBacktrackingModel(table, moving_weights(table, 0.05)))
    )
    with pytest.raises(ValueError, match="staying is"):
        moving_weights(table, 1.5)


def test_uniform_weights_tell_ends_and_little_else() -> None:
    """Four pasts of every cell, bumps included, but fewer at the end and beside it."""
    model = ExactBacktrackingModel(maze(["....", ".#..", "...G"]))
    q = posterior(model)
    beside, end = (7, 10), 11
    for cell in (0, 1, 2, 3, 4, 6, 8, 9):
        assert set(q[cell][q[cell] > 0]) == {0.25}
    for cell in beside:
        np.testing.assert_allclose(q[cell][q[cell] > 0], 1 / 3)
    np.testing.assert_allclose(q[end][q[end] > 0], 1 / 2)


def test_nothing_leads_out_of_a_terminal_state() -> None:
    model = ExactBacktrackingModel(maze(["..G"]))
    goal, action = np.array([2]), np.array([3])
    assert model.log_prob(goal, action, np.array([1]))[0] == -np.inf
    assert model.log_prob(np.array([1]), np.array([1]), goal)[0] == 0.0


def walk(P: np.ndarray, policy: np.ndarray, steps: int, seed: int) -> np.ndarray:
    """One long walk: int [steps, 3] of state, action, next state. P: [S, A, S']"""
    rng = np.random.default_rng(seed)
    seen = np.zeros((steps, 3), np.int64)
    state = 0
    for t in range(steps):
        action = rng.choice(policy.shape[1], p=policy[state])
        after = rng.choice(len(P), p=P[state, action])
        seen[t] = state, action, after
        state = after
    return seen


def test_counting_converges_to_the_exact_posterior() -> None:
    """How often each action was taken, as weights."""
    table = random_table(5, states=4, ends=False)
    P = dense(table)
    policy = np.random.default_rng(1).dirichlet([1.0, 1.0], 4)
    occupancy = np.full(4, 0.25)
    for _ in range(2000):
        occupancy = np.einsum("s,sa,sat->t", occupancy, policy, P)
    truth = bayes(P, occupancy[:, None] * policy)
    visited = (occupancy > 1e-6)[:, None, None]
    error = {}
    seen = walk(P, policy, 30_000, seed=2)
    for steps in (300, 30_000):
        state, action, _ = seen[:steps].T
        counts = np.ones((4, 2))
        np.add.at(counts, (state, action), 1)
        counted = ExactBacktrackingModel(table, counts)
        error[steps] = np.abs((posterior(counted) - truth) * visited).max()
    assert error[30_000] < 0.02
    assert error[30_000] < error[300] / 2
    uniform = np.abs((posterior(ExactBacktrackingModel(table)) - truth) * visited).max()
    assert uniform > 0.1, "this world must not be one where counting changes nothing"


def test_sampled_traces_follow_log_prob() -> None:
    table = random_table(11, states=4, ends=False)
    model = ExactBacktrackingModel(table, np.random.default_rng(3).gamma(1.0, size=(4, 2)))
    q = posterior(model)
    end, count = 2, 40_000
    traces = model.sample_traces(np.array([end]), 2, count, rng=7)
    seen = np.zeros((4, 2, 4, 2))
    first, second = traces.states[:, 1], traces.states[:, 2]
    np.add.at(seen, (first, traces.actions[:, 0], second, traces.actions[:, 1]), 1)
    expected = np.einsum("sa,stb->satb", q[end], q) * count
    assert seen[expected == 0].sum() == 0
    likely = expected > 5
    assert expected[~likely].sum() < 1e-9, "every pair of steps here is either likely or impossible"
    assert chisquare(seen[likely], expected[likely]).pvalue > 1e-3
    assert chisquare(seen[likely], np.roll(expected[likely], 1)).pvalue < 1e-9


def test_traces_carry_their_own_log_prob_and_run_backwards() -> None:
    table = random_table(4, levels=3)
    model = ExactBacktrackingModel(table)
    level = np.array([2, 0])
    traces = model.sample_traces(np.array([1, 3]), 5, 50, level, rng=0)
    assert len(traces) == 100
    np.testing.assert_array_equal(traces.states[:, 0], np.repeat([1, 3], 50))
    for k in range(5):
        rows = traces.valid[:, k]
        asked = model.log_prob(
            traces.states[rows, k + 1],
            traces.actions[rows, k],
            traces.states[rows, k],
            np.repeat(level, 50)[rows],
        )
        np.testing.assert_array_equal(traces.log_prob[rows, k], asked)
        assert np.isfinite(asked).all()


def test_a_trace_stops_where_nothing_leads() -> None:
    """Cells 0 -> 1 -> 2, one way; nothing leads to cell 0."""
    table = TransitionTable(
        np.array([[[[1]], [[2]], [[0]]]]),
        np.array([[[[1.0]], [[1.0]], [[0.0]]]]),
        np.array([[False, False, True]]),
        np.ones((1, 3), bool),
    )
    traces = ExactBacktrackingModel(table).sample_traces(np.array([2, 0]), 4, 1, rng=0)
    np.testing.assert_array_equal(traces.states, [[2, 1, 0, -1, -1], [0, -1, -1, -1, -1]])
    np.testing.assert_array_equal(traces.actions, [[0, 0, -1, -1], [-1] * 4])
    np.testing.assert_array_equal(traces.valid, [[True, True, False, False], [False] * 4])
    np.testing.assert_array_equal(traces.log_prob, np.zeros((2, 4)))


def test_same_seed_same_traces() -> None:
    model = ExactBacktrackingModel(random_table(8))
    first, again, other = (
        model.sample_traces(np.array([0, 1]), 6, 20, rng=seed).states for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m: m.log_prob(np.array([4]), np.array([0]), np.array([0])), "level is missing"),
        (lambda m: m.log_prob(*np.array([[4], [0], [0], [0]])), "state 4 is not there"),
        (lambda m: m.log_prob(*np.array([[0], [-1], [0], [0]])), "action -1 is not there"),
        (lambda m: m.log_prob(*np.array([[0], [0], [9], [0]])), "next_state 9 is not there"),
        (lambda m: m.log_prob(*np.array([[0], [0], [0], [2]])), "level 2 is not there"),
        (lambda m: m.reachability([7], 3, 0.9, [0]), "goal 7 is not there; give 0 to 3"),
        (lambda m: m.reachability([0], 3, 1.1, [0]), "discount is 1.1"),
        (lambda m: m.reachability([0], -1, 0.9, [0]), "length is -1"),
        (lambda m: m.steps_back([-1], 3, [0]), "goal -1 is not there"),
        (lambda m: m.sample_traces([4], 3, 1, [0]), "end_state 4 is not there"),
        (lambda m: m.sample_traces([1.5], 3, 1, [0]), "end_state is float64; give integers from 0"),
        (lambda m: m.sample_traces([1], -1, 1, [0]), "length is -1; give 0 or more"),
        (lambda m: m.sample_traces([1], 3, -1, [0]), "count is -1; give 0 or more"),
        (lambda m: m.log_prob([0.5], [0], [0], [0]), "state is float64; give integers from 0 to 3"),
        (
            lambda m: ExactBacktrackingModel(m.table, "uniforn"),
            'backward "uniforn" is not known; did you mean "uniform"',
        ),
        (lambda m: ExactBacktrackingModel(m.table, np.ones((2, 4))), r"give \(4, 2\) for all"),
        (lambda m: ExactBacktrackingModel(m.table, -np.ones((4, 2))), "negative or non-finite"),
    ],
)
def test_errors_name_cause_and_remedy(ask: object, message: str) -> None:
    model = ExactBacktrackingModel(random_table(0, levels=2))
    with pytest.raises((ValueError, IndexError, TypeError), match=message):
        ask(model)  # type: ignore[operator]


def arrays(**changed: Any) -> dict[str, np.ndarray]:
    """Two levels of three states, two actions, one outcome: everything leads to state 1."""
    given = {
        "next_state": np.ones((2, 3, 2, 1), np.int32),
        "probability": np.ones((2, 3, 2, 1)),
        "terminal": np.zeros((2, 3), bool),
        "valid": np.ones((2, 3), bool),
    }
    return {**given, **changed}


def test_sizes_are_named() -> None:
    table = TransitionTable(**arrays())
    assert (table.num_levels, table.num_states, table.num_actions, table.num_outcomes) == (
        2,
        3,
        2,
        1,
    )
    assert table.next_state.dtype == np.int32
    assert table.probability.dtype == np.float64


def put(name: str, place: tuple[int, ...], value: Any) -> dict[str, np.ndarray]:
    given = arrays()
    given[name][place] = value
    return given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (put("next_state", (1, 2, 0, 0), 3), "level 1, state 2, action 0, outcome 0 leads to"),
        (put("next_state", (0, 0, 1, 0), -1), "leads to state -1; states are 0 to 2"),
        (put("probability", (1, 0, 1, 0), 0.5), "level 1, state 0, action 1 .* sum to 0.5"),
        (put("probability", (0, 1, 0, 0), -0.1), "level 0, state 1, action 0, outcome 0 has"),
        (put("probability", (0, 1, 0, 0), np.nan), "has probability nan"),
        (put("terminal", (1, 2), True), "level 1, state 2, action 0 leads out of a terminal"),
        (put("valid", (0, 2), False), "level 0, state 2, action 0 leads out of a terminal or inv"),
        (arrays(terminal=np.zeros((2, 4), bool)), r"terminal has shape \(2, 4\)"),
        (arrays(probability=np.ones((2, 3, 2))), r"probability has shape \(2, 3, 2\)"),
        (arrays(next_state=np.ones((3, 2, 1), int)), "give .levels, states, actions, outcomes"),
        (arrays(valid=np.ones((2, 3))), "valid is float64; give bool"),
    ],
)
def test_nonsense_is_refused_where_it_stands(given: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransitionTable(**given)


def test_leading_into_a_wall_is_refused() -> None:
    given = put("valid", (0, 1), False)
    given["probability"][0, 1] = 0
    with pytest.raises(ValueError, match="leads to state 1, which is not valid"):
        TransitionTable(**given)


def test_random_tables_have_ends_and_repeated_outcomes() -> None:
    """What the other tests rely on to be hard enough."""
    tables = [random_table(seed) for seed in range(20)]
    assert any(table.terminal.any() for table in tables)
    assert any(
        len(set(outcomes)) < 3 for table in tables for outcomes in table.next_state.reshape(-1, 3)
    )
