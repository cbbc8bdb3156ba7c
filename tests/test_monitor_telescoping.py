"""Why path alone fails: with q exact it adds up to how normal the road was, whatever its end.

For a stationary reference process, q(s, a | s') = μ(s) π(a|s) P(s'|s, a) / μ(s'), so that
sum over t of log q(s_t, a_t | s_{t+1}) = log P_ref(trajectory | last state).
The right side is computed here without q: by enumerating every trajectory of the process.
"""

from __future__ import annotations

import numpy as np
import pytest
from finite_worlds import dense, random_table

from delegate import monitors
from delegate.monitors import Steps, World
from delegate.recall import ExactBacktrackingModel, ExactReachability, TransitionTable

STEPS = 4


def deterministic_table(seed: int) -> TransitionTable:
    """Four states, two actions, one outcome each; action 0 is a cycle, so all states recur."""
    rng = np.random.default_rng(seed)
    lands = np.stack([np.roll(np.arange(4), -1), rng.integers(0, 4, 4)], axis=1)
    return TransitionTable(
        lands[None, :, :, None],
        np.ones((1, 4, 2, 1)),
        np.zeros((1, 4), bool),
        np.ones((1, 4), bool),
    )


TABLES = {
    "stochastic": [random_table(seed, states=3, outcomes=2, ends=False) for seed in (1, 4, 7)],
    "deterministic": [deterministic_table(seed) for seed in (0, 1, 2)],
}


def stationary(P: np.ndarray, policy: np.ndarray) -> np.ndarray:
    """The occupancy μ [S] that the process keeps. P: [S, A, S'] · policy: [S, A]"""
    chain = np.einsum("sa,sat->st", policy, P)
    equations = np.vstack([chain.T - np.eye(len(P)), np.ones(len(P))])
    return np.linalg.lstsq(equations, np.append(np.zeros(len(P)), 1.0), rcond=None)[0]


def trajectories(
    P: np.ndarray, policy: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Every trajectory of STEPS steps with its probability, nothing pruned but the impossible.

    returns states and actions woven together int [N, 2 * STEPS + 1], and probability [N]
    """
    found = [((s,), p) for s, p in enumerate(start) if p > 0]
    for _ in range(STEPS):
        found = [
            ((*way, a, after), p * policy[way[-1], a] * P[way[-1], a, after])
            for way, p in found
            for a in range(policy.shape[1])
            for after in range(len(P))
            if policy[way[-1], a] * P[way[-1], a, after] > 0
        ]
    return np.array([way for way, _ in found]), np.array([p for _, p in found])


def path_sums(model: ExactBacktrackingModel, ways: np.ndarray) -> np.ndarray:
    """What the path monitor's scores add up to along each trajectory, float64 [N]."""
    monitor = monitors.make("path", ceiling=1e6)
    monitor.bind(World(model, lambda level, goal, state: np.zeros((len(state), 1), np.float32)))
    zeros = np.zeros(len(ways), np.int32)
    total, memory = np.zeros(len(ways)), monitor.start(len(ways))
    for t in range(STEPS):
        state, action, after = ways[:, 2 * t], ways[:, 2 * t + 1], ways[:, 2 * t + 2]
        ended = np.full(len(ways), t == STEPS - 1)
        score, memory = monitor.score(Steps(zeros, zeros, state, action, after, ended), memory)
        total += score
    return total


def reference(table: TransitionTable, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A process: P [S, A, S'], a lopsided policy [S, A] and the occupancy [S] it keeps."""
    P = dense(table)
    policy = np.random.default_rng(seed).dirichlet([0.7, 0.7], len(P))
    return P, policy, stationary(P, policy)


def given_last_state(ways: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """log P_ref(trajectory | last state) [N]: each probability over all that end there."""
    ending = np.bincount(ways[:, -1], weights=probability)
    return np.log(probability / ending[ways[:, -1]])


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("which", range(3))
def test_path_telescopes_to_the_trajectory_given_its_end(kind: str, which: int) -> None:
    table = TABLES[kind][which]
    P, policy, occupancy = reference(table, which)
    ways, probability = trajectories(P, policy, occupancy)
    assert len(ways) > 20
    np.testing.assert_allclose(probability.sum(), 1.0)
    exact = ExactBacktrackingModel(table, occupancy[:, None] * policy)
    np.testing.assert_allclose(
        path_sums(exact, ways), -given_last_state(ways, probability), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("which", range(3))
def test_a_wrong_q_breaks_the_identity(kind: str, which: int) -> None:
    """Negative control: neither another policy nor another occupancy passes the test above."""
    table = TABLES[kind][which]
    P, policy, occupancy = reference(table, which)
    ways, probability = trajectories(P, policy, occupancy)
    truth = -given_last_state(ways, probability)
    wrong = {
        "uniform": np.ones_like(policy),
        "policy alone": policy,
        "actions swapped": occupancy[:, None] * policy[:, ::-1],
    }
    for name, weights in wrong.items():
        sums = path_sums(ExactBacktrackingModel(table, weights), ways)
        assert np.abs(sums - truth).max() > 0.01, name


def crossroads() -> tuple[TransitionTable, np.ndarray]:
    """A stem 0-1-2, then 3-4 to the left or 5-6 to the right; both ends lead back to 0.

    The reference process goes either way equally often. returns table and policy [S, A]
    """
    lands = [[1, 1], [2, 2], [3, 5], [4, 4], [0, 0], [6, 6], [0, 0]]
    table = TransitionTable(
        np.array(lands)[None, :, :, None],
        np.ones((1, 7, 2, 1)),
        np.zeros((1, 7), bool),
        np.ones((1, 7), bool),
    )
    return table, np.full((7, 2), 0.5)


def test_a_normal_road_to_the_wrong_place_scores_as_normal() -> None:
    table, policy = crossroads()
    # The chain has period 5; its occupancy is still the one that a step leaves unchanged.
    model = ExactBacktrackingModel(table, stationary(dense(table), policy)[:, None] * policy)
    sent_to = 4
    states = {"intended": [0, 1, 2, 3, 4], "proxy": [0, 1, 2, 5, 6]}
    actions = {"intended": [0, 0, 0, 0], "proxy": [0, 0, 1, 0]}
    sums: dict[str, dict[str, float]] = {}
    for monitor in (
        monitors.make("path"),
        monitors.make("reach", discount=0.9),
    ):
        name = monitor.name
        reach = ExactReachability(table, weights=policy)
        monitor.bind(World(model, lambda level, goal, state: np.zeros((len(state), 1)), reach))
        sums[name] = {}
        for child, way in states.items():
            zeros = np.zeros(4, np.int32)
            score, _ = monitor.score(
                Steps(
                    level=zeros,
                    goal=zeros + sent_to,
                    state=np.array(way[:-1]),
                    action=np.array(actions[child]),
                    next_state=np.array(way[1:]),
                    ended=np.array([False, False, False, True]),
                ),
                monitor.start(4),
            )
            sums[name][child] = score.sum()
    assert sums["path"]["proxy"] == pytest.approx(sums["path"]["intended"], abs=1e-9)
    # From 2 it is two steps with probability one half, else five steps and as from 2 again; from 6
    # it is three steps to 2. The sum is what was lost of log h from 0 to the last state.
    from_two = 0.5 * 0.9**2 / (1 - 0.5 * 0.9**5)
    assert sums["reach"]["intended"] == pytest.approx(np.log(0.9**2 * from_two), abs=1e-6)
    assert sums["reach"]["proxy"] == pytest.approx(np.log(0.9**2) - np.log(0.9**3), abs=1e-6)
