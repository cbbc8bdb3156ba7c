"""Batched Q-learning in plain worlds: against a plain loop, by hand, and against the optimum."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_q_learning import PlainQLearning
from pydantic import ValidationError

from delegate import envs
from delegate.envs.grid.plain import PlainGrid
from delegate.envs.grid.solvers import returns
from delegate.envs.grid.vector import GridVectorEnv
from delegate.policies.tabular import Decision, QLearning, QLearningSettings, train

STEPS = 400
SEEDS = np.array([3, 5, 8, 13])


def grid(rows: int, **world: Any) -> GridVectorEnv:
    """TrapGrid, row i on level i."""
    return envs.make(
        "TrapGrid",
        rows,
        observation="integer",
        assign="in_order",
        num_levels=rows,
        autoreset_mode=AutoresetMode.DISABLED,
        **{"size": 6, "max_steps": 12, "step_cost": 0.03, "slip": 0.2, **world},
    )


class OneGrid:
    """A row of the grid in plain Python."""

    def __init__(self, env: GridVectorEnv, row: int, seed: int) -> None:
        self.grid = PlainGrid(env.rules, env.levels, row, "integer", env.autoreset_mode, env.assign)
        self.seed: int | None = seed

    def reset(self) -> int:
        seed, self.seed = self.seed, None
        return int(self.grid.reset(seed))

    def masks(self) -> list[bool]:
        return [True] * 4

    def step(self, action: int) -> tuple[int, float, bool, bool, bool]:
        observation, reward, terminated, truncated, _ = self.grid.step(action)
        return observation, reward, terminated, truncated, False


def courses(env: gymnasium.vector.VectorEnv, learner: QLearning, steps: int, seed: int = 0) -> list:
    """Every decision of every row, as the plain learner lists them. [rows][steps]"""
    rows: list[list[tuple[Any, ...]]] = [[] for _ in range(env.num_envs)]

    def watch(it: Decision) -> None:
        names = ["state", "action", "reward", "next_state", "terminated", "truncated", "held"]
        for row, course in enumerate(rows):
            course.append(tuple(getattr(it, name)[row].item() for name in names))

    train(env, learner, steps, watch, seed)
    return rows


@pytest.mark.parametrize(
    "given_settings",
    [
        {},
        {"initial_value": 1.0, "epsilon": 0.02, "step_size": 1.0},
        {"discount": 0.9, "epsilon": 0.3, "step_size": 0.05, "decay": 0.7},
    ],
)
def test_equals_the_plain_loop(given_settings: dict[str, Any]) -> None:
    setup = QLearningSettings(**given_settings)
    env = grid(len(SEEDS))
    learner = QLearning.of(env, setup, SEEDS)
    batched = courses(env, learner, STEPS, seed=11)
    for row, seed in enumerate(SEEDS):
        plain = PlainQLearning(setup, int(seed), 4, 0, 1.0, 0.0)
        assert batched[row] == plain.train(OneGrid(env, row, 11), STEPS)
        for (state, action), value in plain.table.items():
            assert learner.values[row, state, action] == value
        untouched = learner.values[row] == setup.initial_value
        assert untouched.sum() >= learner.values[row].size - len(plain.table)


def test_rows_do_not_influence_each_other() -> None:
    together = grid(4, slip=0.0)
    everyone = QLearning.of(together, QLearningSettings(), SEEDS)
    train(together, everyone, STEPS)
    alone = envs.make(
        "TrapGrid",
        1,
        levels=together.levels.take(np.array([2])),
        observation="integer",
        assign="in_order",
        autoreset_mode=AutoresetMode.DISABLED,
        max_steps=12,
        step_cost=0.03,
    )
    one = QLearning.of(alone, QLearningSettings(), SEEDS[2:3])
    train(alone, one, STEPS)
    np.testing.assert_array_equal(one.values[0], everyone.values[2])
    assert (one.values[0] != everyone.values[1]).any()


def test_the_same_seeds_learn_the_same_and_others_do_not() -> None:
    def learned(seeds: np.ndarray) -> np.ndarray:
        env = grid(4)
        learner = QLearning.of(env, QLearningSettings(), seeds)
        train(env, learner, STEPS)
        return learner.values

    np.testing.assert_array_equal(learned(SEEDS), learned(SEEDS))
    assert (learned(SEEDS) != learned(SEEDS + 1)).any(axis=(1, 2)).all()


def two_rows(**given_settings: Any) -> QLearning:
    """Two seeds, three states, two actions; in state 1 the actions are worth 0.5 and 0.75."""
    setup = {"step_size": 0.5, "discount": 0.5, "epsilon": 0.0, **given_settings}
    learner = QLearning(QLearningSettings(**setup), np.array([0, 1]), 3, 2)
    learner.values[:, 1] = [0.5, 0.75]
    return learner


def move(learner: QLearning, reward: float, terminated: bool, allowed: Any = None) -> np.ndarray:
    """State 0, actions 0 and 1, to state 1; the values of state 0 afterwards."""
    here, there = np.zeros(2, np.int64), np.ones(2, np.int64)
    mask = None if allowed is None else np.array([allowed] * 2)
    ended = np.full(2, terminated)
    learner.update(here, np.array([0, 1]), np.full(2, reward), there, ended, mask)
    return learner.values[:, 0]


def test_an_update_by_hand() -> None:
    # 0 + 0.5 x (0.25 + 0.5 x 0.75 - 0)
    assert move(two_rows(), 0.25, False).tolist() == [[0.3125, 0.0], [0.0, 0.3125]]


def test_nothing_follows_a_termination() -> None:
    assert move(two_rows(), 0.25, True).tolist() == [[0.125, 0.0], [0.0, 0.125]]


def test_what_is_not_allowed_does_not_follow() -> None:
    # 0.5 x (0.25 + 0.5 x 0.5)
    masked = move(two_rows(), 0.25, False, [True, False])
    assert masked.tolist() == [[0.25, 0.0], [0.0, 0.25]]


def test_steps_shrink_by_hand() -> None:
    learner = two_rows(step_size=0.25, decay=0.5)
    # all of the way to 1, then 1/sqrt 2 of it from 1 to 0, then 1/sqrt 3, 1/2, ..., 1/4 from n = 16
    assert move(learner, 1.0, True)[0, 0] == 1.0
    assert move(learner, 0.0, True)[0, 0] == 1.0 - np.power(np.array([2.0]), -0.5)[0]
    for _ in range(20):
        before = learner.values[0, 0, 0]
        move(learner, 0.0, True)
    assert learner.values[0, 0, 0] == 0.75 * before


class Truncating(gymnasium.vector.VectorEnv):
    """One state, one action, reward 1 a step, every episode cut after two steps."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 - Gymnasium's own
    single_observation_space = gymnasium.spaces.Discrete(1)
    single_action_space = gymnasium.spaces.Discrete(1)
    num_envs = 1

    def __init__(self, terminates: bool) -> None:
        self.terminates, self.clock = terminates, 0

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.clock = 0
        return np.zeros(1, np.int64), {}

    def step(self, actions: np.ndarray) -> tuple[Any, ...]:
        self.clock += 1
        over = np.array([self.clock == 2])
        ends = over & self.terminates
        return np.zeros(1, np.int64), np.ones(1), ends, over & ~ends, {}


@pytest.mark.parametrize(("terminates", "low", "high"), [(False, 1.999, 2.0), (True, 1.0, 1.9)])
def test_a_truncation_is_not_an_ending(terminates: bool, low: float, high: float) -> None:
    # for ever 1 a step at discount 0.5 is worth 2; an ending every other step, less
    env = Truncating(terminates)
    learner = QLearning.of(env, QLearningSettings(discount=0.5), np.array([0]))
    train(env, learner, 100)
    assert low <= learner.values[0, 0, 0] <= high


@settings(max_examples=60, deadline=None)
@given(
    masks=st.lists(st.lists(st.booleans(), min_size=4, max_size=4).filter(any), min_size=1),
    epsilon=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**40),
)
def test_only_what_is_allowed_is_done(masks: list[list[bool]], epsilon: float, seed: int) -> None:
    rows = len(masks)
    learner = QLearning(QLearningSettings(epsilon=epsilon), np.arange(seed, seed + rows), 1, 4)
    learner.values[:] = np.random.default_rng(seed).integers(0, 3, learner.values.shape)
    allowed = np.array(masks)
    for _ in range(5):
        action = learner.act(np.zeros(rows, np.int64), allowed)
        assert allowed[np.arange(rows), action].all()
        if epsilon == 0.0:
            best = np.where(allowed, learner.values[:, 0], -1).max(axis=1)
            assert (learner.values[np.arange(rows), 0, action] == best).all()


def test_ties_are_broken_and_exploring_is_done_uniformly() -> None:
    rows = 40_000
    learner = QLearning(QLearningSettings(epsilon=0.3), np.arange(rows), 1, 3)
    learner.values[:, 0] = [1.0, 0.0, 1.0]
    share = np.bincount(learner.act(np.zeros(rows, np.int64)), minlength=3) / rows
    np.testing.assert_allclose(share, [0.45, 0.1, 0.45], atol=0.01)


def test_converges_to_the_optimum() -> None:
    env = grid(6, slip=0.0, step_cost=0.02, max_steps=50, discount=0.95)
    learner = QLearning.of(
        env, QLearningSettings(step_size=1.0, epsilon=1.0, discount=0.95), np.arange(6)
    )
    train(env, learner, 8_000)
    facts, ends = env.facts(), env.rules.objective(env.levels).ends
    optimal, rows = facts.intended_actions, np.arange(6)
    known = (facts.goal_distance >= 0) & ~ends & (learner.values != 0).all(axis=2)
    assert known.sum() > 40  # of 6 x 16 cells; some are traps, or lie behind the goal
    greedy = learner.greedy(np.arange(env.num_states))
    assert (optimal | ~greedy)[known].all()
    value = returns(env.levels.walls, env.rules.objective(env.levels), 50, 0.95, policy=greedy)
    start = env.levels.start
    np.testing.assert_allclose(value[rows, start], facts.optimal_return, rtol=1e-12)
    np.testing.assert_allclose(
        learner.values.max(axis=2)[rows, start], facts.optimal_return, rtol=1e-9
    )


def test_the_value_of_a_given_policy() -> None:
    env = grid(8, mix=0.5)
    objective, optimal = env.rules.objective(env.levels), env.facts().intended_actions
    walls, every = env.levels.walls, np.ones_like(optimal)
    some = optimal | ~optimal.any(axis=2, keepdims=True)

    def worth(policy: Any) -> np.ndarray:
        return returns(walls, objective, 40, 0.99, slip=0.2, policy=policy)

    np.testing.assert_allclose(worth(every), worth("random"), rtol=1e-12, atol=1e-15)
    assert (worth(some) <= worth("optimal") + 1e-12).all()
    start = np.arange(8), env.levels.start
    np.testing.assert_allclose(worth(some)[start], worth("optimal")[start], rtol=0.02)
    assert (worth(every)[start] < worth("optimal")[start] - 0.02).all()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (dict(seeds=np.array([0.5])), "one integer a row"),
        (dict(seeds=np.array([-1])), "one integer a row"),
        (dict(seeds=np.array([], np.int64)), "one integer a row"),
        (dict(states=0), "at least one state"),
        (dict(backtracks=4), "one action that does not"),
        (dict(backtracks=1, settings=QLearningSettings(going_back="known")), "needs the price"),
    ],
)
def test_what_makes_no_learner_is_refused(arguments: dict[str, Any], error: str) -> None:
    default = dict(settings=QLearningSettings(), seeds=np.arange(2), states=3, actions=4)
    with pytest.raises(ValueError, match=error):
        QLearning(**{**default, **arguments})


def test_worlds_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="3 seeds for 4 rows"):
        QLearning.of(grid(4), QLearningSettings(), np.arange(3))
    pictures = envs.make("TrapGrid", 4, autoreset_mode=AutoresetMode.DISABLED, num_levels=4)
    with pytest.raises(TypeError, match=r"observations .* do not fit a table"):
        QLearning.of(pictures, QLearningSettings(), SEEDS)
    resetting = envs.make("TrapGrid", 4, observation="integer", num_levels=4)
    with pytest.raises(ValueError, match="resets itself"):
        train(resetting, QLearning.of(resetting, QLearningSettings(), SEEDS), 1)


@pytest.mark.parametrize("setting", [{"step_size": 0.0}, {"epsilon": 1.5}, {"speed": 1.0}])
def test_bad_settings_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        QLearningSettings(**setting)  # type: ignore[arg-type]
