"""How learned models recall traces: by which network, how likely and how far."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from recall_cases import EVERY_CASE, cells, made

from delegate.recall import (
    ForwardModel,
    LearnedBacktrackingModel,
    RandomBacktrackingModel,
    Transitions,
)


def test_a_trace_is_recalled_by_one_member_throughout() -> None:
    model, seen = made("ensemble", support=None, components=1, members=2)
    model.observe(seen.state, seen.action, seen.next_state)
    state: Any = model.networks["state"]
    for member, way in zip(state.members, (-1.0, 1.0), strict=True):
        member[-1].weight.data.zero_()
        member[-1].bias.data.fill_(way)
    state.log_std.data.fill_(-7)
    traces = model.sample_traces(seen.state[:1], 6, 40, rng=0)
    ways = np.sign(np.diff(traces.states[:, :, 0], axis=1))
    assert (ways == ways[:, :1]).all()
    assert set(ways[:, 0]) == {-1, 1}


@EVERY_CASE
def test_traces_carry_their_own_log_prob(case: str) -> None:
    model, seen = made(case)
    model.fit(seen, 20, rng=0)
    given = [None if x is None else x[:3] for x in (seen.goal, seen.layout)]
    traces = model.sample_traces(seen.next_state[:3], 4, 5, *given, rng=1)
    assert len(traces) == 15
    discrete = isinstance(model.state_space, Discrete)
    assert traces.states.dtype == (np.int32 if discrete else np.float32)
    assert traces.actions.dtype == traces.states.dtype
    np.testing.assert_allclose(
        traces.states[:, 0], np.repeat(seen.next_state[:3], 5, 0).astype(traces.states.dtype)
    )
    for k in range(4):
        rows = traces.valid[:, k]
        asked = model.log_prob(
            traces.states[rows, k + 1],
            traces.actions[rows, k],
            traces.states[rows, k],
            *(None if x is None else np.repeat(x, 5, 0)[rows] for x in given),
        )
        np.testing.assert_allclose(traces.log_prob[rows, k], asked, atol=2e-3)
        for action in traces.actions[rows, k]:
            assert model.action_space.contains(action)
    again = model.sample_traces(seen.next_state[:3], 4, 5, *given, rng=1)
    np.testing.assert_array_equal(again.states, traces.states)
    other = model.sample_traces(seen.next_state[:3], 4, 5, *given, rng=2)
    assert (other.states != traces.states).any()


@pytest.mark.parametrize("settings", [{}, {"components": 3}])
def test_a_goal_that_stays_through_episodes_stays_in_traces(settings: dict[str, Any]) -> None:
    """The second coordinate differs between transitions and never changes; the third grows by a
    half with each step; one action is always the same."""
    rng = np.random.default_rng(0)
    before = rng.normal(size=(500, 3))
    action = np.stack([rng.uniform(-1, 1, 500), np.full(500, 0.25)], axis=1)
    change = np.stack([0.1 * rng.normal(size=500), np.zeros(500), np.full(500, 0.5)], axis=1)
    given = {"hidden": (16,), "support": None, **settings}
    spaces = Box(-np.inf, np.inf, (3,), np.float64), Box(-1, 1, (2,), np.float64)
    model = LearnedBacktrackingModel(*spaces, **given)
    model.fit(Transitions(before, action, before + change), 20, rng=0)
    ends = before[:10]
    traces = model.sample_traces(ends, 8, 5, rng=0)
    assert traces.valid.all()
    stays, grows = traces.states[:, :, 1], traces.states[:, :, 2]
    np.testing.assert_array_equal(
        stays, np.repeat(ends[:, 1:2], 5, 0).astype(np.float32) * np.ones(9)
    )
    np.testing.assert_allclose(np.diff(grows, axis=1), -0.5, atol=1e-6)
    np.testing.assert_allclose(traces.actions[:, :, 1], 0.25, atol=1e-7)
    assert np.diff(traces.states[:, :, 0], axis=1).std() > 0.05
    asked = model.log_prob(traces.states[:, 1], traces.actions[:, 0], traces.states[:, 0])
    np.testing.assert_allclose(traces.log_prob[:, 0], asked, atol=2e-3)


def test_traces_stay_where_there_were_data() -> None:
    model, seen = made("vectors", support=2.0)
    model.fit(seen, 20, rng=0)
    lengths = {}
    for support in (2.0, None):
        model, _ = made("vectors", support=support)
        model.fit(seen, 20, rng=0)
        last: Any = list(model.networks["state"].modules())[-1]
        last.bias.data.fill_(3.0)
        traces = model.sample_traces(seen.state[:4], 200, 5, rng=0)
        valid = traces.valid
        assert (valid[:, 1:] <= valid[:, :-1]).all(), "once over, a trace stays over"
        lengths[support] = valid.sum(1)
        np.testing.assert_array_equal(traces.states[:, 1:][~valid], 0)
        np.testing.assert_array_equal(traces.actions[~valid], 0)
        np.testing.assert_array_equal(traces.log_prob[~valid], 0)
        if support:
            far = np.abs(traces.states[:, 1:] - seen.next_state.mean(0)) / seen.next_state.std(0)
            assert far[valid].max() <= 2.0 + 1e-4
    assert lengths[2.0].max() < 200
    assert (lengths[None] == 200).all()


@pytest.mark.parametrize(("ends", "length", "count"), [(0, 3, 2), (2, 0, 2), (2, 3, 0)])
def test_nothing_asked_nothing_recalled(ends: int, length: int, count: int) -> None:
    model, seen = made("vectors")
    traces = model.sample_traces(seen.state[:ends], length, count, rng=0)
    assert traces.states.shape == (ends * count, length + 1, 3)
    assert traces.actions.shape == (ends * count, length, 2)


@pytest.mark.parametrize("grid", [None, (1, 6)])
def test_the_ablations_do_discrete_worlds_too(grid: Any) -> None:
    """In a corridor the earlier state and the action say the later one, but for the first cell."""
    seen = cells(2000)
    settings: dict[str, Any] = {"hidden": (32,), "learning_rate": 1e-2, "grid": grid}
    forwards = ForwardModel(Discrete(6), Discrete(2), **settings)
    forwards.fit(seen, 300, rng=0)
    assert forwards.log_prob(seen.state, seen.action, seen.next_state).min() > -0.2
    np.testing.assert_array_equal(
        forwards.sample(np.arange(6), np.ones(6, int), rng=0), [1, 2, 3, 4, 5, 5]
    )
    random = RandomBacktrackingModel(Discrete(6), Discrete(2), **settings)
    random.fit(seen, 300, rng=0)
    inner = seen.take((seen.next_state > 0) & (seen.next_state < 5))
    log_prob = random.log_prob(inner.state, inner.action, inner.next_state)
    np.testing.assert_allclose(log_prob, np.log(0.5), atol=0.2)
    traces = random.sample_traces(np.array([3]), 1, 2000, rng=0)
    assert traces.actions.mean() == pytest.approx(0.5, abs=0.05)
    asked = random.log_prob(traces.states[:, 1], traces.actions[:, 0], traces.states[:, 0])
    np.testing.assert_allclose(traces.log_prob[:, 0], asked, atol=1e-5)


def test_a_grid_never_recalls_what_lies_outside() -> None:
    model, corridor = made("grid")
    model.fit(corridor, 5, rng=0)
    assert model.log_prob([0], [1], [4])[0] == -np.inf
    assert (model.sample_traces([0], 3, 50, rng=0).states >= 0).all()
