"""A critic of reachability: against exact tables on a chain, its pairs, its files, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finite_worlds import maze
from gymnasium.spaces import Box
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from delegate.recall import (
    ExactReachability,
    GoalTable,
    LearnedBacktrackingModel,
    LearnedReachability,
    Pairs,
    RecalledPairs,
    RememberedPairs,
    Transitions,
)
from delegate.recall.pairs import PairBatch

CELLS, LENGTH, WALKS = 7, 40, 150
LAMBDAS = (0.8, 0.9)
CHAIN = maze(["." * CELLS])
PLACES = np.stack([np.arange(CELLS) / 3, np.zeros(CELLS)], axis=1).astype(np.float32)
TABLE = GoalTable.of_states(PLACES, np.array([0.1, np.inf], np.float32))
SMALL: dict[str, Any] = {"discounts": LAMBDAS, "hidden": (48, 48), "width": 24, "updates": 1200}
EVERY = np.arange(CELLS)[None]


def walks(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Uniformly random walks: cells int [WALKS, LENGTH], and the second coordinate, which is
    noise that says nothing, float [WALKS, LENGTH]."""
    rng = np.random.default_rng(seed)
    cells = np.zeros((WALKS, LENGTH), int)
    cells[:, 0] = rng.integers(0, CELLS, WALKS)
    for t in range(1, LENGTH):
        cells[:, t] = CHAIN.next_state[0, cells[:, t - 1], rng.integers(0, 4, WALKS), 0]
    return cells, rng.normal(0, 0.3, cells.shape)


def remembered(seed: int = 0) -> RememberedPairs:
    cells, noise = walks(seed)
    state = np.stack([cells.ravel() / 3, noise.ravel()], axis=1)
    return RememberedPairs(state, np.repeat(np.arange(WALKS), LENGTH))


class Shuffled(Pairs):
    """The same states and goals, paired at random."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs, self.states = pairs, pairs.states

    def draw(self, discounts: tuple[float, ...], count: int, rng: np.random.Generator) -> PairBatch:
        batch = self._pairs.draw(discounts, count, rng)
        return batch._replace(goal=batch.goal[:, rng.permutation(count)])


def fitted(pairs: Pairs, seed: int = 0, **changed: Any) -> LearnedReachability:
    critic = LearnedReachability(TABLE, EVERY, seed=seed, **{**SMALL, **changed})
    critic.fit(pairs)
    return critic


@pytest.fixture(scope="module")
def learned() -> LearnedReachability:
    return fitted(remembered())


def agreement(critic: LearnedReachability) -> tuple[float, float]:
    """Rank correlation of log h with the exact one, and mean error of its steps (nats).

    Within four cells of the goal: further off there are next to no pairs at these λ.
    """
    level = np.zeros(CELLS, int)
    found = critic.log_h(level, None, PLACES)
    exact = ExactReachability(CHAIN, LAMBDAS, "uniform", staying=True)
    expected = exact.log_h(level, None, np.arange(CELLS))
    near = np.abs(np.arange(CELLS)[:, None] - np.arange(CELLS)) <= 4
    steps = (np.diff(found, axis=0) - np.diff(expected, axis=0))[near[1:] & near[:-1]]
    correlation = spearmanr(found[near].ravel(), expected[near].ravel()).statistic
    return float(correlation), float(np.abs(steps).mean())


def test_log_h_is_that_of_the_chain(learned: LearnedReachability) -> None:
    correlation, error = agreement(learned)
    assert correlation > 0.95
    assert error < 0.4  # steps are of 0.65 to 1.6 nats


def test_pairs_at_random_teach_nothing() -> None:
    """Negative control."""
    correlation, error = agreement(fitted(Shuffled(remembered()), updates=600))
    assert correlation < 0.5
    assert error > 0.6


def test_recalled_traces_teach_the_same() -> None:
    cells, noise = walks()
    state = np.stack([cells / 3, noise], axis=2)
    before, after = state[:, :-1].reshape(-1, 2), state[:, 1:].reshape(-1, 2)
    action = np.sign(np.diff(cells, axis=1)).reshape(-1, 1)
    model = LearnedBacktrackingModel(
        Box(-9, 9, (2,)), Box(-1, 1, (1,)), seed=0, hidden=(48,), components=2
    )
    model.fit(Transitions(before, action.astype(float), after), steps=1200)
    pairs = RecalledPairs(model, state.reshape(-1, 2), ends=1500, length=25, rng=0)
    correlation, _ = agreement(fitted(pairs))
    assert correlation > 0.9


def test_h_of_a_goal_is_one_at_it_and_at_most_one(learned: LearnedReachability) -> None:
    found = learned.log_h(np.zeros(CELLS, int), None, PLACES)
    assert found.shape == (CELLS, CELLS, len(LAMBDAS))
    assert found.dtype == np.float32
    assert (found <= 0).all()
    assert (found[np.arange(CELLS), np.arange(CELLS)] == 0).all()


def test_an_infinite_scale_does_not_count_for_goals(learned: LearnedReachability) -> None:
    elsewhere = TABLE.state + np.array([0, 5], np.float32)
    moved = GoalTable.of_states(elsewhere, TABLE.scale)
    state, level = PLACES[[2]], np.zeros(1, int)
    for a, b in ((0, 1), (4, 6)):  # up to c(g), which comes of where f(g, g) is asked
        found, same = (
            each.log_h(level, None, PLACES[[a]]) - each.log_h(level, None, PLACES[[b]])
            for each in (learned, learned.of(moved, EVERY))
        )
        inside = (found != 0) & (same != 0) & (np.arange(CELLS)[:, None] == 2)
        np.testing.assert_allclose(found[0][inside[0]], same[0][inside[0]], atol=1e-5)
    assert learned.log_h(level, None, state).shape == (1, CELLS, len(LAMBDAS))


def test_two_examples_are_their_weighted_logsumexp(learned: LearnedReachability) -> None:
    scale = TABLE.scale
    either = GoalTable(np.array([0, 2, 3]), PLACES[[0, 6, 3]], np.array([0.25, 0.75, 1.0]), scale)
    both = learned.of(either, np.array([[0, 1]]))
    state = PLACES[[1, 2, 4, 5]]
    f = learned._critic(state)[:, [0, 6]] + np.log([0.25, 0.75])[:, None]
    np.testing.assert_allclose(both._critic(state)[:, 0], np.logaddexp.reduce(f, axis=1), atol=1e-9)
    own = learned._critic(PLACES[[0, 6]])[:, [0, 6]] + np.log([0.25, 0.75])[:, None]
    at_goal = np.logaddexp.reduce(
        np.logaddexp.reduce(own, axis=1) + np.log([0.25, 0.75])[:, None], axis=0
    )
    expected = np.minimum(np.logaddexp.reduce(f, axis=1) - at_goal, 0)
    found = both.log_h(np.zeros(4, int), None, state)[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_fewer_discounts_and_goals_are_a_part(learned: LearnedReachability) -> None:
    level, state = np.zeros(CELLS, int), PLACES
    every = learned.log_h(level, None, state)
    part = learned.at((0.9,), np.array([[5, 2, -1]]))
    found = part.log_h(level, None, state)
    np.testing.assert_array_equal(found[:, :2, 0], every[:, [5, 2], 1])
    assert (found[:, 2] == 0).all()
    asked = learned.log_h(level, np.full((CELLS, 1), 4), state)
    np.testing.assert_array_equal(asked[:, 0], every[:, 4])
    near = learned.near(level, None, np.arange(CELLS))
    np.testing.assert_array_equal(near, np.eye(CELLS, dtype=bool))


def test_rows_do_not_touch(learned: LearnedReachability) -> None:
    rng = np.random.default_rng(3)
    state = rng.normal(size=(60, 2))
    together = learned.log_h(np.zeros(60, int), None, state)
    alone = [learned.log_h(np.zeros(1, int), None, state[[i]]) for i in range(60)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_the_same_seed_learns_the_same(tmp_path: Path) -> None:
    one, two, other = (fitted(remembered(), seed, updates=30) for seed in (4, 4, 5))
    level = np.zeros(CELLS, int)
    found = [each.log_h(level, None, PLACES) for each in (one, two, other)]
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def test_a_file_gives_it_back_bit_for_bit_and_it_goes_on_as_before(tmp_path: Path) -> None:
    one = fitted(remembered(), updates=30)
    one.save(tmp_path / "critic.safetensors")
    two = LearnedReachability(TABLE, EVERY, seed=9, **{**SMALL, "updates": 30})
    level = np.zeros(CELLS, int)
    before = two.log_h(level, None, PLACES)
    two.load(tmp_path / "critic.safetensors")
    found = one.log_h(level, None, PLACES)
    assert (before != found).any()
    np.testing.assert_array_equal(two.log_h(level, None, PLACES), found)
    np.testing.assert_array_equal(one.fit(remembered()), two.fit(remembered()))
    np.testing.assert_array_equal(one.log_h(level, None, PLACES), two.log_h(level, None, PLACES))
    other = LearnedReachability(TABLE, EVERY, **{**SMALL, "updates": 30, "width": 8})
    with pytest.raises(ValueError, match="width is 24, and here it is 8"):
        other.load(tmp_path / "critic.safetensors")


@given(st.integers(0, 2**32), st.sampled_from((0.5, 0.9, 0.99)))
@settings(max_examples=20, deadline=None)
def test_pairs_lie_in_one_episode_in_order(seed: int, discount: float) -> None:
    """The states tell their episode and their place in it."""
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 30, 12)
    episode = np.repeat(np.arange(12), length)
    place = np.concatenate([np.arange(n) for n in length])
    pairs = RememberedPairs(np.stack([episode, place], axis=1).astype(float), episode)
    state, goal, others = pairs.draw((discount,), 200, rng)
    np.testing.assert_array_equal(state[..., 0], goal[..., 0])
    assert (goal[..., 1] >= state[..., 1]).all()
    assert others.shape == (200, 2)


def test_pairs_are_apart_in_proportion_to_powers_of_the_discount() -> None:
    """Of one long episode and 40,000 pairs: k is geometric, up to the episode's end."""
    place = np.arange(2000.0)
    pairs = RememberedPairs(np.stack([place, place], axis=1), np.zeros(2000, int))
    state, goal, _ = pairs.draw((0.5, 0.9), 40_000, np.random.default_rng(0))
    for i, discount in enumerate((0.5, 0.9)):
        k = (goal[i, :, 0] - state[i, :, 0]).astype(int)
        share = np.bincount(k, minlength=6)[:6] / len(k)
        expected = (1 - discount) * discount ** np.arange(6)
        np.testing.assert_allclose(share, expected, atol=4 * np.sqrt(expected.max() / len(k)))


def test_transitions_keep_the_last_state_of_each_episode() -> None:
    state = np.array([[0.0], [10], [1], [11]])
    after = np.array([[1.0], [11], [2], [12]])
    pairs = RememberedPairs.of_steps(state, after, np.array([0, 1, 0, 1]))
    assert pairs.states.ravel().tolist() == [0, 1, 2, 10, 11, 12]


@pytest.mark.parametrize(
    ("state", "episode", "message"),
    [
        (np.zeros((3, 2)), np.zeros(2, int), "one number a state"),
        (np.zeros((3, 2), int), np.zeros(3, int), "floats"),
        (np.zeros((0, 2)), np.zeros(0, int), "one or more"),
        (np.array([[0.0], [np.nan]]), np.zeros(2, int), "row 1: state is not finite"),
        (np.zeros((3, 2)), np.array([0, 1, 0]), "in pieces"),
    ],
)
def test_what_is_no_memory_is_refused(state: Any, episode: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RememberedPairs(state, episode)


def test_bad_input_is_refused(learned: LearnedReachability) -> None:
    level = np.zeros(1, int)
    with pytest.raises(ValueError, match=r"discount 0.5 was not learned; give some of \(0.8, 0.9"):
        learned.at((0.5,))
    with pytest.raises(ValueError, match="discounts is empty"):
        learned.at(())
    with pytest.raises(ValueError, match=r"state has shape \(1, 3\); give \[1, 2\]"):
        learned.log_h(level, None, np.zeros((1, 3)))
    with pytest.raises(IndexError, match="goal 7 is not there"):
        learned.log_h(level, np.array([[7]]), PLACES[:1])
    with pytest.raises(IndexError, match="level"):
        learned.log_h(np.array([1]), None, PLACES[:1])
    with pytest.raises(ValueError, match="goals of a critic are float states"):
        LearnedReachability(GoalTable.of_states(np.arange(3)), EVERY)
    with pytest.raises(ValueError, match="goals has shape"):
        LearnedReachability(TABLE, np.array([[0, 9]]))
    with pytest.raises(ValueError, match="name one twice"):
        LearnedReachability(TABLE, EVERY, discounts=(0.5, 0.5))
    with pytest.raises(ValueError, match="did you mean"):
        LearnedReachability(TABLE, EVERY, discount=(0.5,))
    with pytest.raises(ValueError, match="3 coordinates and goals 2"):
        learned.fit(RememberedPairs(np.zeros((4, 3)), np.zeros(4, int)))
    with pytest.raises(ValueError, match="other coordinates count"):
        learned.of(GoalTable.of_states(PLACES, np.ones(2, np.float32)), EVERY)
