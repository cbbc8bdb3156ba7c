"""The trajectory buffer against plain lists, and the choice of targets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st

from delegate.recall import RecallConfig, Transitions
from delegate.recall.stable_baselines.buffer import (
    Steps,
    TrajectoryBuffer,
    draw_targets,
    priority,
    top,
)

ROWS, STEP, DISCOUNT = 2, np.array([1.0, 0.0]), 0.5
PLANE, ACTIONS = Box(-np.inf, np.inf, (2,)), Discrete(100)


def empty(capacity: int = 10_000, states: Box = PLANE) -> TrajectoryBuffer:
    return TrajectoryBuffer(capacity, ROWS, states, ACTIONS)


def fill(buffer: TrajectoryBuffer, done: list[tuple[bool, bool]]) -> list[dict[str, float]]:
    """Step t of row r leads from (t, r) to (t + 1, r) with reward t + 10 r, and was truncated
    where t is odd; as a plain list."""
    plain, number, started = [], [0, 1], 2
    for t, ends in enumerate(done):
        state = np.array([[t, 0.0], [t, 1.0]])
        reward = np.array([t, t + 10.0])
        over = np.array(ends)
        buffer.add(state, np.array([t, -t]), state + STEP, reward, over, over & (t % 2 == 0))
        for row in range(ROWS):
            plain.append({"t": t, "row": row, "reward": reward[row], "number": number[row]})
        for row in np.flatnonzero(ends):
            number[row], started = started, started + 1
    for step in plain:
        step["over"] = step["number"] not in number
    return plain


@given(
    done=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40),
    kept=st.integers(1, 50),
    share=st.sampled_from([0.01, 0.3, 0.5, 1.0]),
)
@settings(max_examples=200)
def test_the_best_are_those_of_a_plain_list(
    done: list[tuple[bool, bool]], kept: int, share: float
) -> None:
    buffer = empty(kept * ROWS)
    plain = fill(buffer, done)
    first = max(0, len(done) - kept)
    there = [step for step in plain if step["t"] >= first and step["over"]]
    numbers = sorted({step["number"] for step in there})
    assert buffer.finished == len(numbers)
    if not numbers:
        assert np.isnan(buffer.best_return)
        with pytest.raises(ValueError, match="no trajectory of the buffer is finished"):
            buffer.best(share)
        return
    gained = {n: sum(s["reward"] for s in plain if s["number"] == n) for n in numbers}
    assert buffer.best_return == max(gained.values())
    ranked = sorted(numbers, key=lambda n: (-gained[n], -n))
    chosen = ranked[: max(1, round(share * len(ranked)))]
    expected = sorted((s["t"], s["row"]) for s in there if s["number"] in chosen)
    best = buffer.best(share)
    mine = {(s["t"], s["row"]): s["number"] for s in there}
    numbers_of = [mine[t, row] for t, row in best.transitions.state.astype(int).tolist()]
    assert numbers_of == sorted(numbers_of)
    np.testing.assert_array_equal(best.done, np.append(np.diff(numbers_of) != 0, True))
    assert (np.diff(best.transitions.state[:, 0])[~best.done[:-1]] == 1).all(), "in order"
    found = best.transitions
    assert sorted(map(tuple, found.state.astype(int).tolist())) == expected
    np.testing.assert_array_equal(found.next_state, found.state + STEP)
    np.testing.assert_array_equal(found.action, found.state[:, 0] * (1 - 2 * found.state[:, 1]))
    np.testing.assert_array_equal(best.terminal, best.done & (found.state[:, 0] % 2 == 0))


@given(steps=st.integers(1, 30), kept=st.integers(1, 20), count=st.integers(0, 70))
def test_the_latest_are_those_of_a_plain_list(steps: int, kept: int, count: int) -> None:
    buffer = empty(kept * ROWS)
    fill(buffer, [(False, False)] * steps)
    first = max(0, steps - kept, steps - -(-count // ROWS))
    found = buffer.latest(count).state.astype(int).tolist()
    assert found == [[t, row] for t in range(first, steps) for row in range(ROWS)]


def test_the_wait_for_a_trajectory_looks_at_none_of_the_steps() -> None:
    """It is asked before every rollout, of a buffer as large as memory allows."""
    buffer = empty()
    fill(buffer, [(t % 3 == 0, False) for t in range(9)])
    del buffer._arrays["trajectory"]
    assert buffer.finished == 3


def test_what_a_reset_cuts_short_never_counts() -> None:
    buffer = empty()
    fill(buffer, [(False, False)] * 3)
    buffer.begin()
    assert buffer.finished == 0
    with pytest.raises(ValueError, match="no trajectory of the buffer is finished"):
        buffer.best()
    zero, both = np.zeros((2, 2)), np.ones(2, bool)
    buffer.add(zero, np.zeros(2), zero, np.array([5.0, 7.0]), both, both)
    assert len(buffer.best().reward) == 2
    assert buffer.best_return == 7.0, "nothing of before"
    assert len(buffer.latest(4)) == 4


def test_memory_does_not_grow() -> None:
    buffer = empty(20)
    fill(buffer, [(t % 3 == 0, t % 2 == 0) for t in range(500)])
    assert len(buffer) == 20
    assert buffer.steps == 1_000
    assert buffer.finished <= 20
    assert sum(array.shape[0] for array in buffer.state_dict().values()) < 20 * 10


def test_saved_and_loaded_it_goes_on_alike() -> None:
    one, other = empty(12), empty(12)
    fill(one, [(t % 3 == 0, t % 2 == 0) for t in range(17)])
    other.load_state_dict({name: array.copy() for name, array in one.state_dict().items()})
    for buffer in (one, other):
        fill(buffer, [(True, False), (False, True)])
    for name, array in one.state_dict().items():
        np.testing.assert_array_equal(array, other.state_dict()[name])


def test_what_does_not_fit_changes_nothing() -> None:
    one = empty(12)
    fill(one, [(True, True)] * 3)
    before = {name: array.copy() for name, array in one.state_dict().items()}
    wide = empty(12, Box(-1, 1, (3,)))
    large, wrapped = empty(14), empty(12)
    fill(large, [(True, True)] * 7)
    fill(wrapped, [(t % 3 == 0, t % 2 == 0) for t in range(17)])
    whole = one.state_dict()
    for buffer, saved, message in (
        (one, wide.state_dict(), r"state is float32 \(0, 3\) in what was .* float32 \(0, 2\) here"),
        (one, large.state_dict(), "go on with the environments and the buffer_size of then"),
        (empty(40), wrapped.state_dict(), "the buffer_size of then"),
        (one, whole | {"action": whole["action"][:-1]}, r"action is int64 \(5,\) in what"),
        (one, whole | {"reward": whole["reward"].astype("f4")}, "reward is float32"),
        (one, {}, "differs in action, counts, done"),
    ):
        with pytest.raises(ValueError, match=message):
            buffer.load_state_dict(saved)
    for name, array in one.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    with pytest.raises(ValueError, match="cannot hold a step of 2"):
        empty(1)


def learner(space: Any, discount: float = DISCOUNT, unit: float = 1.0) -> Any:
    """A critic that expects the less, the higher the first coordinate."""
    return SimpleNamespace(
        original=SimpleNamespace(reward_scale=unit, space=space),
        discount=discount,
        value=lambda states: -np.asarray(states, float).reshape(len(states), -1)[:, 0],
    )


def line(reward: list[float], done: list[int], terminal: list[int]) -> Steps:
    """Each step leads from its number to the next."""
    place = np.arange(float(len(reward)))
    flags = (np.isin(place, ends) for ends in (done, terminal))
    moved = Transitions(place[:, None], np.zeros(len(place)), place[:, None] + 1)
    return Steps(moved, np.array(reward), *flags)


@pytest.mark.parametrize("unit", [1.0, 2.0])
def test_priorities_by_hand(unit: float) -> None:
    steps, critic = line([4.0, 2, 0, 8, 0], [1, 4], [1]), learner(None, unit=unit)
    np.testing.assert_array_equal(priority("reward", steps, critic), [4, 2, 0, 8, 0])
    values = np.array([-1.0, 0, -3, -4, -5])  # of what was entered, and none beyond an end
    expected = np.array([4.0, 2, 0, 8, 0]) / unit + DISCOUNT * values
    np.testing.assert_allclose(priority("critic", steps, critic), expected)
    last = DISCOUNT * -5.0  # truncated there
    back = [8 / unit + DISCOUNT * last, DISCOUNT * 8 / unit + DISCOUNT**2 * last]
    expected = np.array([4 / unit + DISCOUNT * 2 / unit, 2 / unit, back[1], back[0], last])
    np.testing.assert_allclose(priority("return", steps, critic), expected)


def chosen(asked: Any, priorities: Any, steps: Steps, space: Any, **given: Any) -> Any:
    config = RecallConfig(**given)
    rng = np.random.default_rng(0)
    return draw_targets(asked, steps, np.asarray(priorities, float), learner(space), config, rng)


def test_targets_are_among_the_best_states_entered() -> None:
    steps, space = line([0.0] * 10, [9], [9]), Box(-np.inf, np.inf, (1,))
    ends, terminal = chosen("return", np.arange(10), steps, space, targets=0.2, count=50)
    assert set(ends[:, 0]) == {9.0, 10.0}
    np.testing.assert_array_equal(terminal, ends[:, 0] == 10)


def test_given_and_drawn_targets_are_as_they_are() -> None:
    steps, space = line([0.0] * 10, [9], [9]), Box(-np.inf, np.inf, (1,))
    ends, terminal = chosen(np.array([[3], [4]]), [], steps, space, count=50)
    assert set(ends[:, 0]) == {3.0, 4.0}
    assert ends.dtype == np.float64, "that of what is remembered"
    assert not terminal.any()
    ends, _ = chosen(lambda count, rng: np.full((count, 1), 7.0), [], steps, space, count=5)
    assert ends.tolist() == [[7.0]] * 5


def test_a_given_cell_is_known_to_end_an_episode() -> None:
    cell = np.array([3, 5, 3, 7])
    ended = np.array([False, True, False, False])
    steps = Steps(Transitions(cell, cell, cell), np.zeros(4), ended, ended)
    ends, terminal = chosen(np.array([3, 5, 6]), [], steps, Discrete(9), count=40)
    np.testing.assert_array_equal(terminal, ends == 5)
    assert set(ends) == {3, 5, 6}


def test_where_rewards_are_rare_no_trace_ends_without_one() -> None:
    steps, space = line([0.0] * 100, [99], []), Box(-np.inf, np.inf, (1,))
    priorities = np.zeros(100)
    priorities[[20, 70]] = 1.0

    def among(priorities: np.ndarray, share: float) -> set[int]:
        ends, _ = chosen("reward", priorities, steps, space, targets=share, count=3_000)
        return {int(end) - 1 for end in ends[:, 0]}

    assert among(priorities, 0.1) == {70, 20}, "ten were asked for, and two earned anything"
    assert among(priorities, 1.0) == set(range(100)), "all are asked for"
    assert len(among(np.zeros(100), 0.1)) == 10
    assert len(top(priorities, 0.1)) == 10, "the model learns from ten"
    assert top(priorities, 0.03).tolist() == [70, 20, 99], "of equals the last ones first"
