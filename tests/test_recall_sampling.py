"""How learned models recall traces: by which network, how likely, how far, and how of means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from recall_cases import EVERY_CASE, cells, made

from delegate.recall import (
    ForwardModel,
    LearnedBacktrackingModel,
    RandomBacktrackingModel,
    Transitions,
)
from delegate.recall.codes import GridState


def test_a_trace_is_recalled_by_one_member_throughout() -> None:
    model, seen = made("ensemble", support=None, components=1, members=2)
    model.observe(seen.state, seen.action, seen.next_state)
    values = model._parameters.values
    for name in ("state.2.weight", "state.2.bias"):
        values[name].zero_()
    values["state.2.bias"][0], values["state.2.bias"][1] = -1.0, 1.0
    values["state.log_std"].fill_(-7)
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


@pytest.mark.parametrize("settings", [{}, {"components": 3}, {"state_variance_from_input": True}])
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
        model._parameters.values["state.2.bias"].fill_(3.0)
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


def test_mean_actions_do_not_depend_on_chance() -> None:
    model, seen = made("vectors")
    model.fit(seen, 20, rng=0)
    traces = model.sample_traces(seen.state[:2], 1, 10, rng=0, mean_actions=True)
    first = traces.actions[:, 0].reshape(2, 10, 2)
    np.testing.assert_array_equal(first, np.broadcast_to(first[:, :1], first.shape))
    drawn = model.sample_traces(seen.state[:2], 1, 10, rng=0).actions[:, 0].reshape(2, 10, 2)
    assert drawn.std(1).min() > 0.05


def test_mean_changes_follow_from_the_action_alone() -> None:
    model, seen = made("vectors")
    model.fit(seen, 20, rng=0)
    ends = seen.state[:2]
    found = {
        mean: model.sample_traces(ends, 1, 10, rng=0, mean_actions=True, mean_changes=mean)
        for mean in (True, False)
    }
    spread = {mean: traces.states[:, 1].reshape(2, 10, -1).std(1) for mean, traces in found.items()}
    assert spread[True].max() < 1e-6
    assert spread[False].min() > 1e-3
    drawn = model.sample_traces(ends, 1, 10, rng=0, mean_changes=True)
    assert drawn.actions[:, 0].reshape(2, 10, -1).std(1).min() > 0.05
    # The likeliest change of the same action cannot be less likely than one that was drawn.
    other = model.sample_traces(ends, 1, 10, rng=0)
    np.testing.assert_array_equal(drawn.actions[:, 0], other.actions[:, 0])
    likely = model.log_prob(drawn.states[:, 1], drawn.actions[:, 0], drawn.states[:, 0])
    assert (
        likely >= model.log_prob(other.states[:, 1], other.actions[:, 0], other.states[:, 0])
    ).all()


@EVERY_CASE
def test_the_state_before_a_given_action_is_the_one_recalled(case: str) -> None:
    model, seen = made(case)
    model.fit(seen, 20, rng=0)
    some = seen.take(np.arange(20))
    given = {"goal": some.goal, "layout": some.layout}
    traces = model.sample_traces(some.next_state, 1, 1, **given, rng=0, mean_changes=True)
    valid = traces.valid[:, 0]
    assert valid.any()
    found = model.state_before(some.next_state, traces.actions[:, 0], **given, rng=0)
    if model.config.members == 1:  # otherwise another network may say it
        np.testing.assert_array_equal(found[valid], traces.states[valid, 1])
    else:
        assert found.dtype.kind == seen.state.dtype.kind
        assert found.shape == some.state.shape
    if isinstance(model.state_space, Box):  # the corridor is hardly known after 20 updates
        other = model.state_before(some.next_state, np.roll(some.action, 1, 0), **given, rng=0)
        assert not np.array_equal(found, other)
    with pytest.raises(ValueError, match="action has shape"):
        model.state_before(some.next_state, some.action[:3], **given)


def test_imagined_mean_changes_do_not_depend_on_chance() -> None:
    _, seen = made("vectors")
    model = ForwardModel(
        Box(-np.inf, np.inf, seen.state.shape[1:]), Box(-9, 9, seen.action.shape[1:])
    )
    model.fit(seen, 20, rng=0)

    def still(states: np.ndarray) -> np.ndarray:
        return np.zeros((len(states), *seen.action.shape[1:]), np.float32)

    for mean in (True, False):
        traces = model.sample_traces(seen.state[:1], still, 1, 10, rng=0, mean_changes=mean)
        assert (traces.states[:, 0].std(0).max() < 1e-6) == mean


@pytest.mark.parametrize("kind", [RandomBacktrackingModel, ForwardModel])
@pytest.mark.parametrize("grid", [None, (1, 6)])
def test_the_ablations_do_discrete_worlds_too(kind: Any, grid: Any) -> None:
    """In a corridor the earlier state and the action say the later one, but for the first cell."""
    seen = cells(2000)
    model = kind(Discrete(6), Discrete(2), hidden=(32,), learning_rate=1e-2, grid=grid)
    model.fit(seen, 300, rng=0)
    if kind is ForwardModel:
        assert model.log_prob(seen.state, seen.action, seen.next_state).min() > -0.2
        traces = model.sample_traces(np.array([1]), lambda s: np.ones(len(s), int), 3, 4, rng=0)
        np.testing.assert_array_equal(traces.states, [[4, 3, 2, 1]] * 4)
        np.testing.assert_array_equal(traces.actions, 1)
    else:
        inner = seen.take((seen.next_state > 0) & (seen.next_state < 5))
        log_prob = model.log_prob(inner.state, inner.action, inner.next_state)
        np.testing.assert_allclose(log_prob, np.log(0.5), atol=0.2)
        traces = model.sample_traces(np.array([3]), 1, 2000, rng=0)
        assert traces.actions.mean() == pytest.approx(0.5, abs=0.05)
    for k in range(traces.actions.shape[1]):
        asked = model.log_prob(traces.states[:, k + 1], traces.actions[:, k], traces.states[:, k])
        np.testing.assert_allclose(traces.log_prob[:, k], asked, atol=1e-5)


def test_a_grid_never_recalls_what_lies_outside() -> None:
    code = GridState(2, 3, 1, torch.device("cpu"))
    anchor = torch.tensor([0, 4])
    np.testing.assert_array_equal(
        code.choices(anchor), [[True, False, True, True, False], [True, True, True, False, True]]
    )
    every = torch.arange(6)
    reached = {int(a): code.target(a.expand(6), every).tolist() for a in anchor}
    assert reached == {0: [0, 2, -1, 3, -1, -1], 4: [-1, 1, -1, 4, 0, 2]}
    layout = torch.tensor([[1.0, 2, 3, 4, 5, 6]] * 2)
    seen = code.features(anchor, layout)
    assert seen.shape == (2, code.width)
    np.testing.assert_array_equal(seen[1, 6:15].view(3, 3), [[0, 0, 0], [0, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(seen[1, 15:].view(3, 3), [[1, 2, 3], [4, 5, 6], [0, 0, 0]])
    np.testing.assert_array_equal(seen[0, 15:].view(3, 3), [[0, 0, 0], [0, 1, 2], [0, 4, 5]])
    model, corridor = made("grid")
    model.fit(corridor, 5, rng=0)
    assert model.log_prob([0], [1], [4])[0] == -np.inf
    np.testing.assert_array_equal(model.sample_traces([0], 3, 50, rng=0).states >= 0, True)
