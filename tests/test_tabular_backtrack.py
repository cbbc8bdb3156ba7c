"""Q-learning where going back is an action: against plain loops, by hand, and the reward hack."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from chain_world import ChainWorld, PlainChain
from gymnasium.vector import AutoresetMode
from plain_backtrack import PlainBacktrack
from plain_q_learning import PlainQLearning
from test_tabular import courses

from delegate import envs
from delegate.backtrack import BacktrackConfig, FreeRefundWarning, VectorBacktrack
from delegate.policies.tabular import Decision, Price, QLearning, QLearningSettings, train

pytestmark = pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning")

SEEDS = np.array([2, 4, 6])
STEPS = 250


def backtracking(world: Any, **settings: Any) -> VectorBacktrack:
    return VectorBacktrack(world, autoreset_mode=AutoresetMode.DISABLED, **settings)


class OneChain:
    """A row of a chain with going back, in plain Python."""

    def __init__(self, config: BacktrackConfig, size: int, max_steps: int, seed: int) -> None:
        world = PlainChain(size, max_steps, True, -0.125)
        world.seed = seed
        self.env = PlainBacktrack(world, config, max_steps)

    def reset(self) -> int:
        self.env.reset()
        return self.env.observation()

    def masks(self) -> list[bool]:
        return self.env.masks()

    def step(self, action: int) -> tuple[int, float, bool, bool, bool]:
        out = self.env.step(action)
        env = self.env
        return env.observation(), out["reward"], env.terminated, env.truncated, env.held


@pytest.mark.parametrize("rate", [None, 0.3])
@pytest.mark.parametrize(
    ("settings", "config"),
    [
        ({}, {"depths": [1, 3], "observe": ["flag", "held"]}),
        ({"initial_value": 1.0}, {"observe": [], "budget": 2}),
        ({"going_back": "aside", "decay": 0.6, "step_size": 0.05}, {"observe": ["origin"]}),
        ({"going_back": "known", "epsilon": 0.3}, {"observe": [], "budget": 3}),
        (
            {"going_back": "known", "initial_value": 1.0, "discount": 0.5},
            {"observe": ["budget"], "refund": "discounted", "gamma": 0.5, "horizon": 1},
        ),
    ],
)
def test_equals_the_plain_loop(
    settings: dict[str, Any], config: dict[str, Any], rate: float | None
) -> None:
    setup, back = QLearningSettings(**settings), BacktrackConfig(cost=0.25, **config)
    env = backtracking(ChainWorld(3, size=6, max_steps=15), config=back)
    learner = QLearning.of(env, setup, SEEDS)
    learner.backtrack_rate = None if rate is None else np.full(3, rate)
    batched = courses(env, learner, STEPS, seed=7)
    went_back = 0
    for row, seed in enumerate(SEEDS):
        backtracks = len(back.depths)
        price = Price.of(env) if setup.going_back == "known" else Price(1.0, 0.0)
        plain = PlainQLearning(
            setup, int(seed), 3 + backtracks, backtracks, price.refund, price.cost, rate
        )
        assert batched[row] == plain.train(OneChain(back, 6, 15, 7_000 + row), STEPS)
        for (state, action), value in plain.table.items():
            assert learner.values[row, state, action] == value
        went_back += plain_backtracks(batched[row])
    assert went_back > 3


def plain_backtracks(course: list[tuple[Any, ...]]) -> int:
    return sum(decision[1] >= 3 for decision in course)


def one_trap(going_back: str) -> QLearning:
    """One seed: cell 0 leads to a trap (cell 1) by action 0; action 1 is worth 0.5 there."""
    setup = QLearningSettings(
        step_size=1.0, discount=0.5, epsilon=0.0, initial_value=0.0, going_back=going_back
    )
    learner = QLearning(setup, np.array([0]), 2, 3, 1, Price(1.0, 0.25))
    learner.values[0, 0] = [0.0, 0.5, 0.0]
    return learner


def step_on_it_and_undo(learner: QLearning) -> None:
    def update(state: int, action: int, reward: float, after: int, held: bool) -> None:
        masks = np.array([[True, True, held]])
        numbers = np.array([state]), np.array([action]), np.array([reward]), np.array([after])
        learner.act(numbers[0], np.array([[True, True, state == 1]]), np.array([state == 1]))
        learner.update(*numbers, np.array([False]), masks, np.array([held]))

    update(1, 2, 1.0 - 0.25, 0, False)
    update(0, 0, -1.0, 1, True)


def test_on_the_widened_task_an_undone_penalty_is_almost_forgiven() -> None:
    learner = one_trap("learned")
    step_on_it_and_undo(learner)
    # going back: 0.75 + 0.5 x 0.5 = 1; the step on the trap: -1 + 0.5 x 1
    assert learner.values[0].tolist() == [[-0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize("going_back", ["aside", "known"])
def test_otherwise_an_undone_penalty_sticks(going_back: str) -> None:
    learner = one_trap(going_back)
    step_on_it_and_undo(learner)
    assert learner.values[0].tolist() == [[-1.0, 0.5, 0.0], [0.0, 0.0, 1.0]]
    assert learner.greedy(np.array([0])).tolist() == [[[False, True]]]


@pytest.mark.parametrize(
    ("reward", "best_before", "held", "best_after", "goes_back"),
    [
        # 0.5 x 0.5 - reward - 0.25 against what going on is worth
        (-1.0, 0.5, True, 9.0, True),  # an ending is worth nothing, whatever the table says
        (1.0, 0.5, True, 0.0, False),
        (-1.0, 0.5, False, 0.75, True),
        (-1.0, 0.5, False, 1.0, False),  # as good is not better
        (0.0, 0.5, False, 0.0, False),
        (0.0, 0.5, False, -0.1, True),
    ],
)
def test_what_is_known_decides_by_hand(
    reward: float, best_before: float, held: bool, best_after: float, goes_back: bool
) -> None:
    learner = one_trap("known")
    learner.values[0, 0] = [-9.0, best_before, 0.0]
    learner.values[0, 1] = best_after
    here, there, over = np.array([0]), np.array([1]), np.array([False])
    learner.act(here, np.array([[True, True, False]]))
    masks = np.array([[True, True, True]])
    learner.update(here, here, np.array([reward]), there, over, masks, np.array([held]))
    assert (learner.act(there, masks, np.array([held]))[0] == 2) == goes_back
    masked = np.array([[True, True, False]])
    assert learner.act(there, masked, np.array([held]))[0] < 2


def test_what_was_just_undone_cannot_be_valued_again() -> None:
    learner = one_trap("known")
    learner.values[0, 0, :2] = -9.0
    masks, there = np.array([[True, True, True]]), np.array([1])
    learner.act(there, masks)
    no = np.array([False])
    learner.update(there, np.array([2]), np.array([0.75]), np.array([0]), no, masks, no)
    assert learner.act(np.array([0]), masks, no)[0] < 2


def test_only_one_step_has_a_known_price() -> None:
    env = backtracking(ChainWorld(3), depths=[1, 4], cost=0.5)
    with pytest.raises(ValueError, match="no known value"):
        QLearning.of(env, QLearningSettings(going_back="known"), SEEDS)
    discounted = backtracking(ChainWorld(3), cost=0.5, refund="discounted", gamma=0.5)
    assert Price.of(discounted) == Price(2.0, 0.5)


def trap_grid(cost: float, going_back: str, budget: int = 64, steps: int = 1_500) -> dict[str, Any]:
    """A 4x4 field with traps, a step cost of 0.01, eight seeds, after training."""
    world = envs.make(
        "TrapGrid",
        8,
        size=6,
        step_cost=0.01,
        max_steps=64,
        num_levels=8,
        observation="integer",
        assign="in_order",
        autoreset_mode=AutoresetMode.DISABLED,
    )
    env = backtracking(world, cost=cost, budget=budget, observe=())
    learner = QLearning.of(env, QLearningSettings(going_back=going_back), np.arange(8))
    went_back: list[np.ndarray] = []

    def watch(it: Decision) -> None:
        assert not it.info["backtrack_refused"].any()
        went_back.append(it.info["backtracked"])

    train(env, learner, steps, watch)
    assert (env.ledger.interactions == steps).all()
    facts, start = world.facts(), (np.arange(8), world.levels.start)
    optimal = (facts.intended_actions | ~learner.greedy(np.arange(36))).all(axis=2)[start]
    late = np.mean(went_back[-500:])
    return {"share": env.do_undo_share, "optimal": optimal.mean(), "late": late}


def test_a_free_refund_is_found_and_exploited() -> None:
    with pytest.warns(FreeRefundWarning):
        hacked = trap_grid(0.0, "learned")
    # nearly every other decision undoes the one before, and the goal is never learned
    assert hacked["share"] > 0.7
    assert hacked["late"] > 0.4
    assert hacked["optimal"] < 0.75
    with warnings.catch_warnings():
        warnings.simplefilter("error", FreeRefundWarning)
        priced = trap_grid(0.05, "learned")
    assert priced["share"] < 0.03
    assert priced["late"] < 0.05
    assert priced["optimal"] == 1.0


def test_knowing_what_going_back_does_teaches_the_task() -> None:
    known = trap_grid(0.05, "known")
    assert known["optimal"] == 1.0
    assert known["share"] < 0.03


def test_without_a_budget_it_is_the_plain_learner() -> None:
    for going_back in ("learned", "aside", "known"):
        env = backtracking(ChainWorld(3, size=6, max_steps=15), budget=0, observe=())
        setup = QLearningSettings(going_back=going_back, epsilon=0.0)
        learner = QLearning.of(env, setup, SEEDS)
        plain = QLearning.of(ChainWorld(3, size=6, max_steps=15), setup, SEEDS)
        train(env, learner, STEPS, seed=1)
        train(ChainWorld(3, size=6, max_steps=15), plain, STEPS, seed=1)
        np.testing.assert_array_equal(learner.values[:, :, :3], plain.values)


def test_states_without_going_back_are_told_by_the_encoding() -> None:
    env = backtracking(ChainWorld(3, size=6), cost=0.5, observe=("flag", "action", "held"))
    learner = QLearning.of(env, QLearningSettings(), SEEDS)
    cells, none = np.arange(6), np.zeros(6, np.int64)
    states = env.encode({"observation": cells, "flag": none, "action": none, "held": none})
    learner.values[:] = 1.0
    learner.values[:, states] = [0.0, 0.5, 0.0, 9.0]
    greedy = learner.greedy(states)
    assert greedy.shape == (3, 6, 3)
    assert greedy[:, :, 1].all()
    assert not greedy[:, :, [0, 2]].any()
