"""The learned models against exact ones: Bayes' rule, closed forms, numerical integrals."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from finite_worlds import maze, random_table
from gymnasium.spaces import Box, Discrete
from scipy.stats import multivariate_normal

from delegate.recall import (
    ExactBacktrackingModel,
    ForwardModel,
    LearnedBacktrackingModel,
    RandomBacktrackingModel,
    Transitions,
    TransitionTable,
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def real(size: int) -> Box:
    return Box(-np.inf, np.inf, (size,))


def drawn(table: TransitionTable, count: int, seed: int, level: int = 0) -> Transitions:
    """Transitions from uniformly drawn states and actions that lead anywhere."""
    rng = np.random.default_rng(seed)
    starts = np.argwhere(table.probability[level].sum(-1) > 0)
    state, action = starts[rng.integers(len(starts), size=count)].T
    chances = table.probability[level, state, action].cumsum(-1)
    outcome = (rng.random((count, 1)) < chances / chances[:, -1:]).argmax(-1)
    return Transitions(state, action, table.next_state[level, state, action, outcome])


def divergence(
    table: TransitionTable, model: LearnedBacktrackingModel, level: int = 0, **given: Any
) -> float:
    """KL(exact || learned), nats, averaged over s' as often as it is reached."""
    S, A = table.num_states, table.num_actions
    state, action, after = np.array(list(product(range(S), range(A), range(S)))).T
    at = np.full(len(state), level)
    log_exact = ExactBacktrackingModel(table).log_prob(state, action, after, at)
    possible = log_exact > -np.inf
    state, action, after, log_exact = (x[possible] for x in (state, action, after, log_exact))
    leads = table.next_state[level, state, action] == after[:, None]
    reached = (table.probability[level, state, action] * leads).sum(-1)
    given = {name: np.repeat(value[None], len(state), 0) for name, value in given.items()}
    log_learned = model.log_prob(state, action, after, **given)
    return float((reached * (log_exact - log_learned)).sum() / reached.sum())


WORLDS = {
    "random": (random_table(3, states=6, ends=False), {}),
    "maze": (maze(["...", ".#.", "..G"], slip=0.2), {}),
    "maze, as a grid": (maze(["...", ".#.", "..G"], slip=0.2), {"grid": (3, 3)}),
}
CLOSE = 0.03
"""nats from the exact model"""


@pytest.mark.parametrize("name", WORLDS)
def test_a_finite_world_is_learned_with_data(name: str) -> None:
    table, settings = WORLDS[name]
    spaces = Discrete(table.num_states), Discrete(table.num_actions)
    gap = {}
    for count in (30, 20_000):
        model = LearnedBacktrackingModel(*spaces, hidden=(64, 64), learning_rate=3e-3, **settings)
        seen = drawn(table, count, seed=1)
        model.fit(seen, 600, 256, rng=2)
        gap[count] = divergence(table, model)
        assert gap[count] > -1e-6, "a divergence is never negative"
    assert gap[20_000] < CLOSE < gap[30] / 3
    rng = np.random.default_rng(0)
    wrong = Transitions(seen.state, rng.permutation(seen.action), rng.permutation(seen.next_state))
    if not settings:
        model.fit(wrong, 600, 256, rng=2)
        assert divergence(table, model) > 10 * CLOSE, "what does not belong together was learned"


def picture(rng: np.random.Generator) -> list[str]:
    cells = np.where(rng.random((4, 4)) < 0.3, "#", ".")
    return ["".join(row) for row in cells]


def walls(table: TransitionTable) -> np.ndarray:
    return (~table.valid[0]).astype(np.float64)


def test_layouts_teach_about_other_layouts() -> None:
    rng = np.random.default_rng(0)
    mazes = [maze(picture(rng)) for _ in range(60)]
    parts = [(drawn(table, 200, seed=1), walls(table)) for table in mazes]
    seen = Transitions(
        *(
            np.concatenate([getattr(part, name) for part, _ in parts])
            for name in ("state", "action", "next_state")
        ),
        layout=np.repeat([layout for _, layout in parts], 200, 0),
    )
    model = LearnedBacktrackingModel(
        Discrete(16), Discrete(4), grid=(4, 4), layout_size=16, hidden=(64,), learning_rate=3e-3
    )
    model.fit(seen, 1200, 256, rng=3)
    new = [maze(picture(rng)) for _ in range(10)]
    right = np.mean([divergence(table, model, layout=walls(table)) for table in new])
    wrong = np.mean([divergence(table, model, layout=walls(mazes[0])) for table in new])
    assert right < 0.15
    assert wrong > 4 * right, "the layout must be what tells them apart"


A, B = np.array([0.9, -0.5]), np.array([0.8, 0.3])
SPREAD, NOISE, OFFSET = np.array([2.0, 0.5]), np.array([0.3, 0.4]), np.array([5.0, -1.0])
DRIVE = 0.7


def linear(count: int, seed: int) -> Transitions:
    """s' = A s + B a + noise, coordinate by coordinate, with one action."""
    rng = np.random.default_rng(seed)
    s = OFFSET + SPREAD * rng.normal(size=(count, 2))
    a = DRIVE * rng.normal(size=(count, 1))
    return Transitions(s, a, A * s + B * a + NOISE * rng.normal(size=(count, 2)))


def backwards(after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [T, 3] and covariance [3, 3] of (s, a) given s', from the joint Gaussian."""
    known = np.diag([*SPREAD**2, DRIVE**2])
    lead = np.column_stack([np.diag(A), B])
    of_after = lead @ known @ lead.T + np.diag(NOISE**2)
    gain = known @ lead.T @ np.linalg.inv(of_after)
    mean = np.array([*OFFSET, 0.0]) + (after - A * OFFSET) @ gain.T
    return mean, known - gain @ lead @ known


def log_truth(seen: Transitions) -> np.ndarray:
    mean, covariance = backwards(seen.next_state)
    off = np.column_stack([seen.state, seen.action]) - mean
    return np.asarray(multivariate_normal(np.zeros(3), covariance).logpdf(off))


@pytest.fixture(scope="module")
def fitted() -> LearnedBacktrackingModel:
    model = LearnedBacktrackingModel(real(2), real(1), hidden=(32, 32), support=None)
    seen = linear(20_000, seed=0)
    for rate in (3e-3, 3e-4):
        model.optimizer.param_groups[0]["lr"] = rate
        model.fit(seen, 1000, 256, rng=1)
    return model


def test_a_linear_system_runs_backwards_as_in_closed_form(fitted: LearnedBacktrackingModel) -> None:
    fresh = linear(4000, seed=5)
    gap = log_truth(fresh) - fitted.log_prob(fresh.state, fresh.action, fresh.next_state)
    assert abs(gap.mean()) < 0.02
    ends = linear(5, seed=6).next_state
    mean, covariance = backwards(ends)
    traces = fitted.sample_traces(ends, 1, 20_000, rng=0)
    recalled = np.concatenate([traces.states[:, 1], traces.actions[:, 0]], 1).reshape(5, 20_000, 3)
    std = np.sqrt(np.diag(covariance))
    assert (np.abs(recalled.mean(1) - mean) < 0.15 * std).all()
    np.testing.assert_allclose(recalled.std(1), np.broadcast_to(std, (5, 3)), rtol=0.07)
    between = [np.corrcoef(rows.T)[0, 2] for rows in recalled]
    wanted = covariance[0, 2] / (std[0] * std[2])
    assert abs(wanted) > 0.2, "the state must depend on the action"
    np.testing.assert_allclose(between, wanted, atol=0.07)


def test_pairs_torn_apart_are_not_learned_as_if_they_belonged() -> None:
    """The control of the test above."""
    seen, fresh = linear(20_000, seed=0), linear(4000, seed=5)
    torn = Transitions(
        seen.state, seen.action, np.random.default_rng(0).permutation(seen.next_state)
    )
    model = LearnedBacktrackingModel(real(2), real(1), hidden=(32, 32))
    model.fit(torn, 500, 256, rng=1)
    gap = log_truth(fresh) - model.log_prob(fresh.state, fresh.action, fresh.next_state)
    assert gap.mean() > 0.5


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"learn_action_variance": False},
        {"components": 3},
        {"members": 2, "components": 2},
    ],
)
def test_the_density_integrates_to_one_in_the_units_of_the_data(settings: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    s, a = 40 + 5 * rng.normal(size=(500, 1)), 0.01 * rng.normal(size=(500, 1))
    seen = Transitions(s, a, s + 3 * rng.normal(size=(500, 1)))
    model = LearnedBacktrackingModel(real(1), real(1), hidden=(16,), learning_rate=1e-2, **settings)
    model.fit(seen, 100, 64, rng=0)
    state, action = np.linspace(-40, 120, 1001), np.linspace(-0.12, 0.12, 201)
    grid = np.stack(np.meshgrid(state, action, indexing="ij"), -1).reshape(-1, 2)
    after = np.full((len(grid), 1), 41.0)
    density = np.exp(model.log_prob(grid[:, :1], grid[:, 1:], after))
    cell = (state[1] - state[0]) * (action[1] - action[0])
    assert density.sum() * cell == pytest.approx(1, abs=2e-3)
    volume = (seen.next_state - s).std() * a.std()
    assert density.sum() * cell * volume < 0.5, "the volume matters here"


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_mixture_learns_two_ways(seed: int) -> None:
    """The state came from one side or the other, which one Gaussian cannot say."""
    rng = np.random.default_rng(0)
    after = rng.normal(size=(4000, 1))
    seen = Transitions(
        after + rng.choice([-2.0, 2.0], (4000, 1)) + 0.1 * rng.normal(size=(4000, 1)),
        rng.normal(size=(4000, 1)),
        after,
    )
    settings = {"hidden": (32,), "learning_rate": 1e-2, "support": None, "seed": seed}
    nll = {}
    for components in (1, 2):
        model = LearnedBacktrackingModel(real(1), real(1), components=components, **settings)
        nll[components] = model.fit(seen, 500, 256, rng=0)[-50:].mean()
    assert nll[2] < nll[1] - 1
    change = np.diff(model.sample_traces(np.zeros((1, 1)), 1, 2000, rng=0).states[:, :, 0])
    assert 0.4 < (change > 0).mean() < 0.6
    assert (np.abs(np.abs(change) - 2) < 0.6).mean() > 0.97


def test_goals_are_heeded() -> None:
    rng = np.random.default_rng(0)
    goal = rng.choice([-1.0, 1.0], (4000, 1))
    action = goal + 0.1 * rng.normal(size=(4000, 1))
    after = rng.normal(size=(4000, 1))
    model = LearnedBacktrackingModel(
        real(1), Box(-2, 2, (1,)), goal_size=1, hidden=(32,), learning_rate=1e-2
    )
    model.fit(Transitions(after - action, action, after, goal), 300, 256, rng=0)
    ends, goals = np.zeros((2, 1)), np.array([[-1.0], [1.0]])
    traces = model.sample_traces(ends, 3, 50, goals, rng=0)
    sides = traces.actions[:, 0, 0].reshape(2, 50)
    np.testing.assert_allclose(sides.mean(1), [-1, 1], atol=0.1)
    np.testing.assert_allclose(sides, np.broadcast_to(goals, (2, 50)), atol=0.6)
    moved = (traces.states[:, 0] - traces.states[:, 1])[:, 0].reshape(2, 50)
    np.testing.assert_allclose(moved.mean(1), [-1, 1], atol=0.3)


def test_random_actions_fill_their_space_and_the_change_is_learned() -> None:
    rng = np.random.default_rng(0)
    action, after = rng.uniform(0, 0.1, (4000, 1)), rng.normal(size=(4000, 1))
    seen = Transitions(after - 3 * action, action, after)
    model = RandomBacktrackingModel(real(1), Box(-1, 3, (1,)), hidden=(32,), learning_rate=1e-2)
    nll = model.fit(seen, 400, 256, rng=0)
    one = seen.take(np.arange(256))
    scored = model.log_prob(one.state, one.action, one.next_state)
    assert scored.mean() == pytest.approx(-nll[-1], abs=0.5)
    outside = model.log_prob(np.zeros((1, 1)), np.array([[3.5]]), np.zeros((1, 1)))
    assert outside[0] == -np.inf
    traces = model.sample_traces(np.zeros((1, 1)), 1, 4000, rng=0)
    chosen = traces.actions[traces.valid[:, 0], 0, 0]
    assert chosen.min() < -0.9
    assert chosen.max() > 1
    near = (traces.actions[:, 0, 0] < 0.1) & (traces.actions[:, 0, 0] > 0) & traces.valid[:, 0]
    change = traces.states[near, 0, 0] - traces.states[near, 1, 0]
    np.testing.assert_allclose(change, 3 * traces.actions[near, 0, 0], atol=0.1)
    with pytest.raises(ValueError, match="give bounds"):
        RandomBacktrackingModel(real(1), real(1))


def test_random_actions_are_learned_beside_others_too() -> None:
    """As a policy's that are clipped only for the environment."""
    seen = Transitions(np.zeros((8, 1)), np.full((8, 1), 7.0), np.ones((8, 1)))
    model = RandomBacktrackingModel(real(1), Box(-1, 3, (1,)), hidden=(8,))
    assert np.isfinite(model.fit(seen, 2)).all()
    assert (model.log_prob(seen.state, seen.action, seen.next_state) == -np.inf).all()


def test_the_forward_model_goes_where_the_world_does() -> None:
    rng = np.random.default_rng(0)
    state, action = rng.normal(size=(4000, 1)), rng.normal(size=(4000, 1))
    seen = Transitions(state, action, 0.5 * state + action)
    model = ForwardModel(real(1), real(1), hidden=(32,), learning_rate=1e-2)
    model.fit(seen, 600, 256, rng=0)
    lived = [np.repeat([[1.0], [-1.0]], 20, 0)]
    for _ in range(3):
        lived.append(model.sample(lived[-1], 0.25 * lived[-1], rng=0))
    expected = np.repeat([[1.0], [-1.0]], 20, 0) * 0.75 ** np.arange(4)
    np.testing.assert_allclose(np.concatenate(lived, 1), expected, atol=0.3)
    backwards = model.log_prob(seen.next_state, seen.action, seen.state)
    assert backwards.mean() < model.log_prob(state, action, seen.next_state).mean() - 1


def test_a_forward_model_is_exact_where_the_closed_form_is() -> None:
    """s' given s and a is Gaussian with the noise of the system."""
    seen, fresh = linear(20_000, seed=0), linear(4000, seed=5)
    model = ForwardModel(real(2), real(1), hidden=(32, 32), learning_rate=3e-3)
    model.fit(seen, 1000, 256, rng=1)
    off = fresh.next_state - (A * fresh.state + B * fresh.action)
    truth = multivariate_normal(np.zeros(2), np.diag(NOISE**2)).logpdf(off)
    gap = truth - model.log_prob(fresh.state, fresh.action, fresh.next_state)
    assert abs(gap.mean()) < 0.05
