"""Bounds on log p(R > L) against every trajectory of a tiny world."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from finite_worlds import bayes, dense, maze, random_table
from hypothesis import given, settings
from hypothesis import strategies as st

from delegate.recall import ExactBacktrackingModel
from delegate.recall.variational import Bounds, exact_bounds


def enumerated(
    P: np.ndarray,
    q: np.ndarray,
    policy: np.ndarray,
    start: np.ndarray,
    ends: np.ndarray,
    event: np.ndarray,
    length: int,
) -> Bounds:
    """The definitions, trajectory by trajectory. P: [S, A, S'] · q: [S', S, A]"""
    states, actions = policy.shape
    pairs = []
    for visited in product(range(states), repeat=length + 1):
        for taken in product(range(actions), repeat=length):
            p_path, q_path = start[visited[0]], ends[visited[-1]]
            for s, a, after in zip(visited, taken, visited[1:], strict=False):
                p_path *= policy[s, a] * P[s, a, after]
                q_path *= q[after, s, a]
            pairs.append((p_path, q_path, event[visited[-1]]))
    p, by_model, hit = np.array(pairs).T
    evidence, whole = p[hit > 0].sum(), by_model.sum()
    if evidence == 0:
        return Bounds(-np.inf, -np.inf, -np.inf)
    if whole == 0:
        return Bounds(-np.inf, np.log(evidence), np.inf)
    by_model = by_model / whole
    posterior = p * hit / evidence
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(p) - np.log(by_model)
    return Bounds(
        (by_model[by_model > 0] * ratio[by_model > 0]).sum(),
        np.log(evidence),
        (posterior[posterior > 0] * ratio[posterior > 0]).sum(),
    )


def numbers(bounds: Bounds) -> list[float]:
    return [bounds.lower, bounds.log_evidence, bounds.upper]


def some_policy(seed: int, states: int = 4, actions: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(actions), states)


@pytest.mark.parametrize("length", [0, 1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_they_are_those_of_every_trajectory(seed: int, length: int) -> None:
    table = random_table(seed, levels=2, states=4, ends=seed % 2 == 0)
    rng, level = np.random.default_rng(seed), seed % 2
    policy, start = some_policy(seed), rng.dirichlet(np.ones(4))
    weights = rng.gamma(1.0, size=(4, 2))
    model, q = ExactBacktrackingModel(table, weights), bayes(dense(table, level), weights)
    ends = np.array([0, 0.3, 0, 0.7])
    event = np.array([False, True, True, True])
    expected = enumerated(dense(table, level), q, policy, start, ends, event, length)
    for given_model in (model, q):
        found = exact_bounds(
            given_model, table, policy, start, ends, length, event=event, level=level
        )
        np.testing.assert_allclose(numbers(found), numbers(expected), rtol=0, atol=1e-10)


def test_longer_in_a_maze_with_slips() -> None:
    table = maze(["..", ".G"], slip=0.3)
    policy, start = np.full((4, 4), 0.25), np.array([0.5, 0.25, 0.25, 0])
    ends = np.array([0, 0, 0, 1.0])
    expected = enumerated(
        dense(table), bayes(dense(table), np.ones((4, 4))), policy, start, ends, ends > 0, 4
    )
    found = exact_bounds(ExactBacktrackingModel(table), table, policy, start, ends, 4)
    np.testing.assert_allclose(numbers(found), numbers(expected), rtol=0, atol=1e-10)
    assert found.lower < found.log_evidence - 0.01
    assert found.upper > found.log_evidence + 0.01


@given(
    seed=st.integers(0, 10_000),
    states=st.integers(1, 5),
    actions=st.integers(1, 3),
    length=st.integers(0, 5),
    ends_there=st.booleans(),
    own=st.booleans(),
)
@settings(max_examples=80, deadline=None)
def test_the_evidence_lies_between(
    seed: int, states: int, actions: int, length: int, ends_there: bool, own: bool
) -> None:
    table = random_table(seed, 1, states, actions, 2, ends=ends_there)
    rng = np.random.default_rng(seed)
    q = bayes(dense(table), rng.gamma(1.0, size=(states, actions)))
    if not own:  # any conditional, supported where the world is or not
        q = rng.dirichlet(np.full(states * actions, 0.3), states).reshape(states, states, actions)
    event = rng.random(states) < 0.6
    event[rng.integers(states)] = True
    ends = np.where(event, rng.gamma(1.0, size=states), 0)
    bounds = exact_bounds(
        q,
        table,
        some_policy(seed, states, actions),
        rng.dirichlet(np.ones(states)),
        ends / ends.sum(),
        length,
        event=event,
    )
    assert bounds.lower <= bounds.log_evidence + 1e-9
    assert bounds.log_evidence <= bounds.upper + 1e-9
    assert bounds.log_evidence <= 1e-9


def stationary(P: np.ndarray, policy: np.ndarray) -> np.ndarray:
    occupancy = np.full(len(P), 1 / len(P))
    for _ in range(3000):
        occupancy = np.einsum("s,sa,sat->t", occupancy, policy, P)
    return occupancy


@pytest.mark.parametrize(("length", "settled"), [(1, False), (1, True), (6, True)])
def test_the_true_posterior_leaves_no_gap_and_a_wrong_model_does(
    length: int, settled: bool
) -> None:
    """Run backwards, one step or a stationary process is the same at every step."""
    table = random_table(5, states=4, ends=False)
    P, policy = dense(table), some_policy(1)
    start = stationary(P, policy) if settled else np.array([0.1, 0.2, 0.3, 0.4])
    event = np.array([True, False, True, False])
    reached = start @ np.linalg.matrix_power(np.einsum("sa,sat->st", policy, P), length)
    ends = np.where(event, reached, 0) / reached[event].sum()
    model = ExactBacktrackingModel(table, start[:, None] * policy)
    tight = exact_bounds(model, table, policy, start, ends, length)
    np.testing.assert_allclose(numbers(tight), np.log(reached[event].sum()), rtol=0, atol=1e-9)

    wrong = ExactBacktrackingModel(table, start[:, None] * policy[:, ::-1])
    loose = exact_bounds(wrong, table, policy, start, ends, length)
    assert loose.log_evidence == tight.log_evidence
    assert loose.lower < tight.lower - 0.01
    assert loose.upper > tight.upper + 0.01
    permuted = bayes(P, start[:, None] * policy)[:, :, ::-1]
    assert exact_bounds(permuted, table, policy, start, ends, length).lower < tight.lower - 0.01


def test_where_one_cannot_follow_the_other() -> None:
    table, policy = maze(["...G"]), np.full((4, 4), 0.25)
    corner, goal = np.eye(4)[0], np.eye(4)[3]
    anywhere = np.array([1, 1, 1, 0]) / 3
    model = ExactBacktrackingModel(table)
    onwards = ExactBacktrackingModel(table, np.repeat(np.eye(4)[1][None], 4, axis=0))
    far = exact_bounds(model, table, policy, corner, goal, 2)
    assert numbers(far) == [-np.inf, -np.inf, -np.inf]
    some = exact_bounds(model, table, policy, corner, goal, 4)
    assert some.lower == -np.inf
    assert np.isfinite([some.log_evidence, some.upper]).all()
    blind = exact_bounds(onwards, table, policy, anywhere, goal, 3)
    assert np.isfinite([blind.lower, blind.log_evidence]).all()
    assert blind.upper == np.inf
    none = exact_bounds(onwards, table, policy, anywhere, goal, 4)
    assert none.lower == -np.inf
    assert none.upper == np.inf
    # The event is wider than where the model ends its traces: that costs something, on both sides.
    wide = exact_bounds(model, table, policy, anywhere, goal, 4, event=np.array([0, 0, 1, 1]) > 0)
    narrow = exact_bounds(model, table, policy, anywhere, goal, 4)
    assert wide.log_evidence > narrow.log_evidence
    assert wide.lower == narrow.lower
    assert wide.upper == np.inf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": None}, "level is missing and the table has 2 levels"),
        ({"level": 2}, "level 2 is not there; give 0 to 1"),
        ({"length": -1}, "length is -1 steps; give 0 or more"),
        ({"policy": np.ones((4, 3)) / 3}, r"policy has shape \(4, 3\); give \(4, 2\)"),
        ({"policy": np.ones((4, 2))}, "policy, state 0: probabilities sum to 2; make them sum"),
        ({"policy": np.full((4, 2), np.nan)}, "policy holds a negative or non-finite"),
        ({"start": np.ones(4)}, "start: probabilities sum to 4"),
        ({"ends": np.array([2, -1, 0, 0])}, "ends holds a negative or non-finite probability"),
        ({"event": np.ones(4)}, r"event is float64 \(4,\); give bool \(4,\)"),
        ({"event": np.zeros(4, bool)}, "ends: state 3 is not in the event"),
        ({"model": np.ones((4, 4, 2))}, "model, state 0: probabilities sum to 8"),
        ({"model": np.ones((4, 2, 4))}, r"model has shape \(4, 2, 4\); give \(4, 4, 2\)"),
        (
            {"model": ExactBacktrackingModel(random_table(0, levels=2, states=5))},
            r"model has \(2, 5, 2\) levels, states and actions, and the table \(2, 4, 2\)",
        ),
    ],
)
def test_errors_name_argument_cause_and_remedy(change: dict[str, object], message: str) -> None:
    table = random_table(1, levels=2, ends=False)
    fine: dict[str, object] = {
        "model": ExactBacktrackingModel(table),
        "table": table,
        "policy": np.full((4, 2), 0.5),
        "start": np.full(4, 0.25),
        "ends": np.eye(4)[3],
        "length": 2,
        "level": 1,
    }
    exact_bounds(**fine)  # type: ignore[arg-type]
    with pytest.raises((ValueError, IndexError), match=message):
        exact_bounds(**{**fine, **change})  # type: ignore[arg-type]
