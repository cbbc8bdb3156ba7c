"""Goals as numbers against plain loops, and what every bank of levels owes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from delegate import envs
from delegate.bank import NOMINAL, SHIFTED, Bank
from delegate.recall.goals import GoalTable

BANKS: dict[str, dict[str, Any]] = {
    "Corner": {"size": 7, "max_steps": 24},
    "FourRooms": {"size": 9, "max_steps": 30},
    "TrapGrid": {"size": 7, "max_steps": 60},
    "point-maze": {"max_steps": 300},
    "reacher-pair": {"max_steps": 50},
}
COUNT = 12


def made(world: str) -> Bank:
    seeds = range(COUNT // 2)
    drawn = [envs.levels(world, kind, seeds=seeds, settings=BANKS[world]) for kind in KINDS]
    return envs.make_bank(world, envs.concatenate(*drawn), **BANKS[world])


KINDS = ("nominal", "shifted")


@pytest.fixture(scope="module", params=BANKS)
def bank(request: pytest.FixtureRequest) -> Bank:
    return made(request.param)


@given(
    states=arrays(np.float32, (6, 3), elements=st.floats(-2, 2, width=32)),
    queries=arrays(np.float32, (5, 3), elements=st.floats(-2, 2, width=32)),
    goal=arrays(np.int32, 5, elements=st.integers(-1, 2)),
)
def test_a_goal_of_places_is_reached_near_one_of_them(
    states: np.ndarray, queries: np.ndarray, goal: np.ndarray
) -> None:
    """The third coordinate does not count; goal g has g + 1 examples."""
    scale = np.array([0.5, 1.0, np.inf], np.float32)
    table = GoalTable(np.array([0, 1, 3, 6]), states, np.ones(6), scale)
    for g, state, there in zip(goal, queries, table.reached(goal, queries), strict=True):
        examples = [] if g < 0 else states[[0, 1, 3, 6][g] : [0, 1, 3, 6][g + 1]]
        squares = [
            ((state[0] - e[0]) / np.float32(0.5)) ** 2 + (state[1] - e[1]) ** 2 for e in examples
        ]
        assert there == any(np.sqrt(square) <= 1 for square in squares)


def test_goals_of_sets_and_of_single_states_are_reached_in_them() -> None:
    sets = GoalTable(np.array([0, 2, 3]), np.array([4, 7, 1], np.int32), np.array([0.5, 0.5, 1]))
    goal, state = np.array([0, 0, 0, 1, -1]), np.array([4, 7, 1, 1, 1])
    assert sets.reached(goal, state).tolist() == [True, True, False, True, False]
    single = GoalTable.of_states(np.array([4, 1]))
    assert single.reached(goal, state).tolist() == [True, False, False, True, False]
    assert sets.examples(0)[0].tolist() == [4, 7]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"weight": np.ones(2)}, "give one weight a state"),
        ({"first": np.array([0, 0, 3])}, "goal 0 has no example"),
        ({"scale": np.ones(2)}, "scale belongs to float states"),
    ],
)
def test_goals_that_make_no_sense_are_refused(change: dict[str, Any], why: str) -> None:
    right: dict[str, Any] = dict(first=np.array([0, 2, 3]), state=np.arange(3), weight=np.ones(3))
    with pytest.raises(ValueError, match=why):
        GoalTable(**{**right, **change})


def test_every_row_plays_its_own_level_from_the_first_step_on(bank: Bank) -> None:
    """Also after a reset of some rows; and rows hold still at their end."""
    env = bank.env
    env.reset(seed=0)
    begun = bank.places(env.markov_state())
    assert len(bank.seed) == bank.count == env.num_envs == COUNT
    assert bank.split.tolist() == [NOMINAL] * (COUNT // 2) + [SHIFTED] * (COUNT // 2)
    rng = np.random.default_rng(0)
    for _ in range(9):
        env.step(np.array([env.single_action_space.sample() for _ in range(COUNT)]))
    some = rng.random(COUNT) < 0.5
    env.reset(options={"reset_mask": some})
    np.testing.assert_array_equal(bank.places(env.markov_state())[some], begun[some])


def test_what_a_step_reaches_and_pays_is_what_the_goals_say(bank: Bank) -> None:
    env, met, episodes = bank.env, np.zeros(2, int), 0
    env.action_space.seed(3)
    while met.min() == 0:
        episodes += 1
        assert episodes < 50, "both are to be seen"
        env.reset(seed=episodes)
        live = np.ones(bank.count, bool)
        while live.any():
            _, reward, terminated, truncated, info = env.step(env.action_space.sample())
            state = env.markov_state()
            reached = bank.goals.reached(bank.assigned, state) & live
            proxy = bank.goals.reached(bank.proxy, state) & live
            np.testing.assert_array_equal(info["intended_reached"], reached)
            np.testing.assert_array_equal(info["proxy_reached"], proxy)
            assert reward.dtype == info["proxy_reward"].dtype == np.float64
            met += [reached.sum(), proxy.sum()]
            assert not (reached & ~terminated).any(), "the goal ends the episode"
            live &= ~(terminated | truncated)


def test_nominal_levels_do_not_tell_the_goals_apart_and_shifted_ones_may(bank: Bank) -> None:
    apart = bank.solution.distinguishing
    nominal = bank.split == NOMINAL
    agree = bank.assigned == bank.proxy
    assert not (apart & agree).any()
    assert (apart & ~nominal).any()


def test_landmarks_are_goals_of_the_table_and_the_proxy_is_one(bank: Bank) -> None:
    marks = bank.landmarks
    assert len(marks.names) >= 5
    assert marks.goal.shape == (bank.count, len(marks.names))
    assert marks.places.shape == (bank.count, bank.goals.count)
    assert (marks.goal == bank.assigned[:, None]).any(1).all()


def test_a_level_is_drawn_as_json_inside_its_frame(bank: Bank) -> None:
    env = bank.env
    env.reset(seed=0)
    start, (goal, _) = bank.places(env.markov_state()), _assigned_places(bank)
    for level in range(bank.count):
        drawing = json.loads(json.dumps(bank.drawing(level)))
        width, height = drawing["size"]
        roles: dict[str, list[Any]] = {}
        for shape in drawing["shapes"]:
            (x, y), (wide, high) = shape["at"], shape["size"]
            assert shape["shape"] in ("rect", "circle")
            assert 0 <= x - wide / 2 <= x + wide / 2 <= width
            assert 0 <= y - high / 2 <= y + high / 2 <= height
            roles.setdefault(shape["role"], []).append(shape["at"])
        np.testing.assert_allclose(roles["goal"], [goal[level]], atol=1e-6)
        np.testing.assert_allclose(roles["start"], [start[level]], atol=1e-6)


def test_columns_are_one_value_a_level(bank: Bank) -> None:
    for name, column in bank.columns().items():
        assert len(column) == bank.count, name
    assert {"distinguishing", "random_return", "start"} <= bank.columns().keys()


def test_features_are_finite_floats(bank: Bank) -> None:
    bank.env.reset(seed=0)
    seen = bank.features(np.arange(bank.count), bank.assigned, bank.env.markov_state())
    assert seen.dtype == np.float32
    assert seen.ndim == 2
    assert np.isfinite(seen).all()


def test_reference_returns_are_better_than_chance(bank: Bank) -> None:
    known = bank.solution.returns()
    assert known.error.shape == (3, bank.count)
    assert (known.error >= 0).all()
    assert (known.reference >= known.random - 1e-12).mean() > 0.9
    assert (bank.solution.kind == "exact") == (not known.error.any() and bank.table() is not None)


def _assigned_places(bank: Bank) -> tuple[np.ndarray, np.ndarray]:
    """Where the first example of each level's goal lies in the drawing, and which it is."""
    first = bank.goals.first[bank.assigned]
    return bank.places(bank.goals.state[first]), first
