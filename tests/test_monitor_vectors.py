"""Monitors where states are vectors: the same as in finite worlds, and what cannot be there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import vonmises
from test_monitor_scores import NOMINAL, TRAINING, WORLD, walks

from delegate import envs, monitors, policies
from delegate.bank import Bank
from delegate.monitors import Monitor, Reference, Steps, Truth, World
from delegate.recall import GoalTable, LearnedReachability, Reachability, RememberedPairs

FINITE_ALONE = ("path", "destination", "value")
LEVELS, LONGEST = 12, 60
LAMBDAS = (0.9, 0.97)
SETTINGS: dict[str, dict[str, Any]] = {
    "goal_odds": {"discounts": LAMBDAS},
    "goal_odds_or_drift": {"discounts": LAMBDAS, "drift_discount": 0.9},
    "reach": {"discount": 0.9, "drift": True},
    "forward_ensemble": {"updates": 20, "members": 2},
    "random_network_distillation": {"updates": 20},
}


def made(world: str, kind: str) -> Any:
    levels = envs.levels(world, kind, seeds=range(400), count=LEVELS)
    return envs.make_bank(world, levels)


def played(bank: Any, policy: str) -> Reference:
    """Every level played alone for up to LONGEST steps, or until the world ends it."""
    env, child = bank.env, policies.make(policy, bank.world)
    env.reset(seed=0)
    goal, rows = bank.assigned, np.arange(bank.count)
    memory = child.memory(np.arange(bank.count, dtype=np.uint64))
    memory = child.begin(env.observe(), goal, memory)
    parts = []
    running = np.ones(bank.count, bool)
    for t in range(LONGEST):
        state = env.markov_state().copy()
        action, memory = child.act(env.observe(), goal, memory)
        *_, terminated, truncated, _ = env.step(action)
        after = env.markov_state().copy()
        over = terminated | truncated | (t == LONGEST - 1)
        some = running.copy()
        parts.append([x[some] for x in (rows, goal, state, action, after, over)])
        running &= ~over
        if not running.any():
            break
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    steps = Steps(*(column[order] for column in columns))
    return Reference(steps, steps.level.astype(np.int64), Truth(np.ones(len(steps), np.int8)))


def world_of(bank: Bank, critic: LearnedReachability) -> World:
    known = critic.of(bank.goals, critic.goals)
    return World(None, bank.features, known, bank.landmarks, bank.planner, bank.goals)


@pytest.fixture(scope="module", params=["point-maze", "reacher-pair"])
def setting(request: pytest.FixtureRequest) -> Any:
    """Training world and reference, and another bank of levels with what is played in it."""
    nominal, shifted = made(request.param, "nominal"), made(request.param, "shifted")
    reference = played(nominal, "intended")
    ends = reference.steps.take(reference.steps.ended)
    assert nominal.goals.reached(ends.goal, ends.next_state).any()
    columns = np.tile(np.arange(nominal.goals.count), (LEVELS, 1))
    critic = LearnedReachability(nominal.goals, columns, discounts=LAMBDAS, updates=30)
    steps = reference.steps
    critic.fit(RememberedPairs.of_steps(steps.state, steps.next_state, steps.level))
    return (
        world_of(nominal, critic),
        reference,
        world_of(shifted, critic),
        played(shifted, "random"),
    )


def fitted(name: str, setting: Any) -> Monitor:
    training, reference, deployed, _ = setting
    monitor = monitors.make(name, **SETTINGS.get(name, {}))
    monitor.fit(reference, training)
    monitor.bind(deployed)
    return monitor


@pytest.mark.parametrize("name", [name for name in monitors.ids() if name not in FINITE_ALONE])
def test_scores_are_of_the_row_alone(name: str, setting: Any) -> None:
    monitor, shown = fitted(name, setting), setting[3]
    statistic = monitors.make_statistic(monitor.default_statistic)
    score, _ = monitors.play(monitor, statistic, shown)
    assert not np.isnan(score).all() or name == "goal_odds_or_drift"
    of = shown.sub_episode == shown.sub_episode[-1]
    alone = Reference(shown.steps.take(of), shown.sub_episode[of], Truth(shown.truth.intent[of]))
    again, _ = monitors.play(monitor, statistic, alone)
    np.testing.assert_array_equal(again, score[of])


@pytest.mark.parametrize("name", FINITE_ALONE)
def test_what_needs_a_finite_world_says_so(name: str, setting: Any) -> None:
    training, reference, *_ = setting
    with pytest.raises(ValueError, match=rf"monitor {name}: .*vectors; leave it out of `monitors`"):
        monitors.make(name).fit(reference, training)


def test_landmarks_coincide_by_what_was_reached(setting: Any) -> None:
    monitor = fitted("goal_odds", setting)
    names = setting[0].landmarks.names
    expected = ("upper left",) if "upper left" in names else ("target 1", "target 2")
    assert monitor.coincident == expected  # type: ignore[attr-defined]


def test_arrival_is_whether_the_goal_was_reached(setting: Any) -> None:
    monitor, steps = fitted("arrival", setting), setting[1].steps
    score, _ = monitor.score(steps, {})
    reached = setting[0].goals.reached(steps.goal, steps.next_state)
    np.testing.assert_array_equal(score[steps.ended], ~reached[steps.ended])
    assert np.isnan(score[~steps.ended]).all()


def test_direction_error_is_von_mises_density(setting: Any) -> None:
    monitor, (_, _, deployed, shown) = fitted("likelihood", setting), setting
    steps, planner = shown.steps.take(slice(0, 40)), deployed.planner
    ways = planner.heading(steps.level, steps.goal, steps.state)
    moved = planner.position(steps.next_state) - planner.position(steps.state)
    angle = np.arctan2(moved[:, 1], moved[:, 0]) - np.arctan2(ways[:, 1], ways[:, 0])
    score, _ = monitor.score(steps, {})
    np.testing.assert_allclose(score, -vonmises.logpdf(angle, 1.0), atol=1e-6)
    against, _ = fitted("likelihood_cusum", setting).score(steps, {})
    np.testing.assert_allclose(against, score - np.log(2 * np.pi), atol=1e-12)
    stays = Steps(**{**vars(steps), "next_state": steps.state})
    assert (fitted("likelihood_cusum", setting).score(stays, {})[0] == 0).all()


def test_planner_odds_is_bayes_over_directions(setting: Any) -> None:
    """One step from the prior, all by hand."""
    monitor, (_, _, deployed, shown) = fitted("planner_odds", setting), setting
    first = np.unique(shown.steps.level, return_index=True)[1]
    steps = shown.steps.take(first)
    _, after = monitor.score(steps, monitor.start(len(steps)))
    moved = deployed.planner.position(steps.next_state) - deployed.planner.position(steps.state)
    turn = np.arctan2(moved[:, 1], moved[:, 0])
    suspicious = [deployed.landmarks.names.index(n) for n in monitor.coincident]  # type: ignore[attr-defined]
    for i, level in enumerate(steps.level):
        goals = np.flatnonzero(deployed.landmarks.places[level])
        marks = set(deployed.landmarks.goal[level, suspicious]) - {steps.goal[i]}
        weight = np.full(len(goals), 0.05 / (len(goals) - 1 - len(marks)))
        weight[np.isin(goals, list(marks))] = 0.2 / max(len(marks), 1)
        weight[goals == steps.goal[i]] = 0.5
        ways = deployed.planner.heading(
            np.repeat(level, len(goals)), goals, np.repeat(steps.state[[i]], len(goals), axis=0)
        )
        likely = vonmises.pdf(turn[i] - np.arctan2(ways[:, 1], ways[:, 0]), 0.1) * 2 * np.pi
        posterior = weight * likely
        known = np.isin(goals, deployed.landmarks.goal[level]) | (goals == steps.goal[i])
        share = posterior[known].max() / (posterior.sum() + 0.25)
        assert after["named_probability"][i] == pytest.approx(share, rel=1e-4)


class Numbered(Reachability):
    """That of a finite world, asked with states as vectors [n, 1]."""

    def __init__(self, finite: Reachability) -> None:
        self._finite = finite
        self.discounts, self.goals = finite.discounts, finite.goals

    def log_h(self, level: Any, goals: Any, state: Any) -> np.ndarray:
        return self._finite.log_h(level, goals, state[:, 0].astype(int))

    def near(self, level: Any, goals: Any, goal: Any) -> np.ndarray:
        return self._finite.near(level, goals, goal)

    def at(self, discounts: Any, goals: Any = None) -> Numbered:
        return Numbered(self._finite.at(discounts, goals))


@pytest.mark.parametrize("name", ["goal_odds", "goal_odds_or_drift", "reach", "arrival"])
def test_a_finite_world_in_vectors_gives_the_same(name: str) -> None:
    def vectors(given: World) -> World:
        assert given.model is not None
        assert given.reachability is not None
        places = np.arange(given.model.num_states, dtype=np.float32)[:, None]
        goals = GoalTable.of_states(places, np.array([0.5], np.float32))
        known = Numbered(given.reachability)
        return World(None, given.features, known, given.landmarks, None, goals)

    def shown(given: Reference) -> Reference:
        steps = {
            key: value[:, None].astype(np.float32) if "state" in key else value
            for key, value in vars(given.steps).items()
        }
        return Reference(Steps(**steps), given.sub_episode, given.truth)

    finite, other = monitors.make(name), monitors.make(name)
    finite.fit(NOMINAL, TRAINING)
    other.fit(shown(NOMINAL), vectors(TRAINING))
    finite.bind(WORLD)
    other.bind(vectors(WORLD))
    statistic = monitors.make_statistic(finite.default_statistic)
    asked = walks(20, 10, seed=5, towards=24, noise=0.3)
    expected, _ = monitors.play(finite, statistic, asked)
    found, _ = monitors.play(other, statistic, shown(asked))
    np.testing.assert_array_equal(found, expected)
    assert not np.isnan(expected).all()


def test_scores_at_random_follow_every_coordinate(setting: Any) -> None:
    monitor, steps = fitted("random", setting), setting[3].steps.take(slice(0, 8))
    score, _ = monitor.score(steps, monitor.start(8))
    changed = steps.next_state.copy()
    changed[:, -1] += 1e-3
    other = Steps(**{**vars(steps), "next_state": changed})
    assert (monitor.score(other, monitor.start(8))[0] != score).all()
    assert ((score >= 0) & (score < 1)).all()
