"""Estimates of the bounds on log p(R > L) against their exact values."""

from __future__ import annotations

import numpy as np
import pytest
from finite_worlds import dense, maze

from delegate import envs
from delegate.recall import ExactBacktrackingModel, Traces, TransitionTable
from delegate.recall.variational import estimated_bounds, exact_bounds


def grid() -> tuple[TransitionTable, np.ndarray, np.ndarray, np.ndarray]:
    """FourRooms, a policy, where it begins, and states around the goal, likelier at the goal."""
    world = envs.make("FourRooms", 1, size=7, num_levels=1, observation="integer")
    table = world.transition_table()
    rng = np.random.default_rng(0)
    policy = rng.dirichlet(np.full(table.num_actions, 5.0), table.num_states)
    inside = table.valid[0] & ~table.terminal[0]
    start = np.where(inside, rng.gamma(2.0, size=len(inside)), 0)
    goal = np.flatnonzero(table.terminal[0])[0]
    ends = np.where(ExactBacktrackingModel(table).steps_back(goal[None], 2)[0] >= 0, 1.0, 0)
    ends[goal] = 3
    return table, policy, start / start.sum(), ends / ends.sum()


def of_the_policy(
    table: TransitionTable,
    policy: np.ndarray,
    start: np.ndarray,
    event: np.ndarray,
    model: ExactBacktrackingModel,
    length: int,
    count: int,
) -> Traces:
    """Runs simulated forwards, those kept that end in the event. Deterministic moves only."""
    rng = np.random.default_rng(3)
    states = np.full((count, length + 1), -1)
    actions = np.full((count, length), -1)
    states[:, 0] = rng.choice(len(start), count, p=start)
    alive = np.ones(count, bool)
    for t in range(length):
        here = states[:, t]
        alive &= ~table.terminal[0, here]
        drawn = rng.random(count)[:, None] > policy[here].cumsum(axis=1)
        actions[:, t] = np.minimum(drawn.sum(axis=1), policy.shape[1] - 1)
        states[:, t + 1] = table.next_state[0, here, actions[:, t], 0]
    kept = alive & event[states[:, -1]]
    states, actions = states[kept][:, ::-1], actions[kept][:, ::-1]
    log_prob = model.log_prob(
        states[:, 1:].ravel(), actions.ravel(), states[:, :-1].ravel()
    ).reshape(actions.shape)
    return Traces(states, actions, log_prob, np.ones(actions.shape, bool))


def test_estimates_agree_with_the_exact_bounds_of_a_grid() -> None:
    table, policy, start, ends = grid()
    assert table.num_outcomes == 1
    length, model = 6, ExactBacktrackingModel(table, "moving")
    exact = exact_bounds(model, table, policy, start, ends, length)
    P = dense(table)
    with np.errstate(divide="ignore"):
        log_policy, log_P, log_start, log_ends = map(np.log, (policy, P, start, ends))
    rng = np.random.default_rng(1)
    drawn = rng.choice(len(ends), 20_000, p=ends)
    recalled = model.sample_traces(drawn, length, 1, rng=rng)
    remembered = of_the_policy(table, policy, start, ends > 0, model, length, 100_000)
    densities = {
        "log_policy": lambda s, a: log_policy[s, a],
        "log_forward": lambda s, a, after: log_P[s, a, after],
        "log_start": lambda s: log_start[s],
        "log_ends": lambda s: log_ends[s],
    }

    def spread(traces: Traces) -> float:
        """Standard error of either mean, from a hundred parts of the traces."""
        parts = [
            estimated_bounds(traces.take(np.arange(k, len(traces), 100)), None, **densities)
            for k in range(100)
        ]
        return float(np.std([part.lower for part in parts]) / 10)

    found = estimated_bounds(recalled, remembered, **densities, log_evidence=exact.log_evidence)
    assert found.log_evidence == exact.log_evidence
    assert abs(found.lower - exact.lower) < 4 * spread(recalled) < 0.2
    assert abs(found.upper - exact.upper) < 4 * spread(remembered) < 0.2
    assert exact.upper - exact.lower > 1, "or there would be nothing to tell apart"
    worse = exact_bounds(ExactBacktrackingModel(table), table, policy, start, ends, length)
    assert abs(worse.lower - exact.lower) > 4 * spread(recalled)


def test_traces_that_stop_only_lower_the_share() -> None:
    """As exactly: a quarter of the traces of this world find no past before T steps."""
    table = maze(["...G"])
    weights = np.array([[0, 1.0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]])
    model = ExactBacktrackingModel(table, weights)
    policy, start = np.full((4, 4), 0.25), np.array([0.4, 0.4, 0.2, 0])
    ends = np.array([0, 0, 0.5, 0.5])
    exact = exact_bounds(model, table, policy, start, ends, 3)
    recalled = model.sample_traces(np.repeat([2, 3], 20_000), 3, 1, rng=0)
    assert recalled.valid.all(axis=1).mean() == pytest.approx(0.75, abs=0.02)
    P = dense(table)
    with np.errstate(divide="ignore"):
        log_P, log_start = np.log(P), np.log(start)
    found = estimated_bounds(
        recalled,
        None,
        log_policy=lambda s, a: np.log(policy[s, a]),
        log_forward=lambda s, a, after: log_P[s, a, after],
        log_start=lambda s: log_start[s],
        log_ends=lambda s: np.full(len(s), np.log(0.5)),
    )
    assert found.lower == pytest.approx(exact.lower, abs=0.03)
    assert np.isnan([found.upper, found.log_evidence]).all()
    short = recalled.take(np.flatnonzero(~recalled.valid.all(axis=1)))
    zeros = {
        "log_policy": lambda s, a: np.zeros(len(s)),
        "log_forward": lambda s, a, after: np.zeros(len(s)),
        "log_start": lambda s: np.zeros(len(s)),
    }
    whole = recalled.take(np.flatnonzero(recalled.valid.all(axis=1)))
    unheard = estimated_bounds(short, whole, **zeros, log_ends=lambda s: np.zeros(len(s)))
    assert (unheard.lower, unheard.upper) == (-np.inf, np.inf)
    with pytest.raises(ValueError, match="remembered holds a run that is cut short"):
        estimated_bounds(whole, short, **zeros, log_ends=lambda s: np.zeros(len(s)))
    with pytest.raises(ValueError, match=r"log_ends gave shape \(1,\); make it give one number"):
        estimated_bounds(whole, None, **zeros, log_ends=lambda s: np.zeros(1))
    with pytest.raises(ValueError, match="recalled holds no traces"):
        estimated_bounds(
            whole.take(np.zeros(0, int)), None, **zeros, log_ends=lambda s: np.zeros(1)
        )
