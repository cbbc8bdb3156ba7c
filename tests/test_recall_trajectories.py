"""The trajectory buffer against plain lists, and the choice of targets."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium.spaces import Box
from hypothesis import given, settings
from hypothesis import strategies as st

from delegate.recall.targets import choose, most, worth, worthy
from delegate.recall.trajectories import Steps, TrajectoryBuffer
from delegate.recall.transitions import Transitions

ROWS, DISCOUNT, STEP = 2, 0.5, np.array([1.0, 0.0])


def fill(buffer: TrajectoryBuffer, over: list[tuple[bool, bool]]) -> list[dict[str, float]]:
    """Step t of row r leads from (t, r) to (t + 1, r) with reward t + 10 r; as a plain list."""
    plain, number, started = [], [0, 1], 2
    for t, ends in enumerate(over):
        state = np.array([[t, 0.0], [t, 1.0]])
        reward = np.array([t, t + 10.0])
        buffer.add(state, np.array([t, -t]), state + STEP, reward, np.array(ends))
        for row in range(ROWS):
            plain.append({"t": t, "row": row, "reward": reward[row], "number": number[row]})
        for row in np.flatnonzero(ends):
            number[row], started = started, started + 1
    for step in plain:
        step["over"] = step["number"] not in number
    return plain


def empty(capacity: int = 10_000) -> TrajectoryBuffer:
    return TrajectoryBuffer(capacity, ROWS, np.zeros(2), np.zeros((), np.int64), DISCOUNT)


@given(
    over=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40),
    kept=st.integers(1, 50),
    share=st.sampled_from([0.01, 0.3, 0.5, 1.0]),
)
@settings(max_examples=200)
def test_the_best_are_those_of_a_plain_list(
    over: list[tuple[bool, bool]], kept: int, share: float
) -> None:
    buffer = empty(kept * ROWS)
    plain = fill(buffer, over)
    first = max(0, len(over) - kept)
    there = [step for step in plain if step["t"] >= first and step["over"]]
    numbers = sorted({step["number"] for step in there})
    assert buffer.finished == len(numbers)
    if not numbers:
        with pytest.raises(ValueError, match="no trajectory of the buffer is over"):
            buffer.best(share)
        return
    gained = {n: sum(s["reward"] for s in plain if s["number"] == n) for n in numbers}
    ranked = sorted(numbers, key=lambda n: (-gained[n], -n))
    chosen = ranked[: max(1, round(share * len(ranked)))]
    expected = sorted((s["t"], s["row"]) for s in there if s["number"] in chosen)
    best = buffer.best(share)
    mine = {(s["t"], s["row"]): s["number"] for s in there}
    numbers_of = [mine[t, row] for t, row in best.transitions.state.astype(int).tolist()]
    assert numbers_of == sorted(numbers_of)
    np.testing.assert_array_equal(best.last, np.append(np.diff(numbers_of) != 0, True))
    assert (np.diff(best.transitions.state[:, 0])[~best.last[:-1]] == 1).all(), "in order"
    found, to_go = best.transitions, best.to_go
    assert sorted(map(tuple, found.state.astype(int).tolist())) == expected
    np.testing.assert_array_equal(found.next_state, found.state + STEP)
    np.testing.assert_array_equal(found.action, found.state[:, 0] * (1 - 2 * found.state[:, 1]))
    for (t, row), value in zip(found.state.astype(int).tolist(), to_go, strict=True):
        mine = next(s for s in plain if (s["t"], s["row"]) == (t, row))
        later = [s for s in plain if s["number"] == mine["number"] and s["t"] >= t]
        assert value == pytest.approx(sum(s["reward"] * DISCOUNT ** (s["t"] - t) for s in later))


def test_what_a_reset_cuts_short_never_counts() -> None:
    buffer = empty()
    fill(buffer, [(False, False)] * 3)
    buffer.begin()
    assert buffer.finished == 0
    with pytest.raises(ValueError, match="no trajectory of the buffer is over"):
        buffer.best()
    buffer.add(np.zeros((2, 2)), np.zeros(2), np.zeros((2, 2)), np.array([5.0, 7.0]), np.ones(2))
    assert len(buffer.best()) == 2
    assert buffer.best_return == 7.0, "nothing of before"
    assert len(buffer.latest(4)) == 4


def test_the_best_return_is_not_that_of_a_forgotten_trajectory() -> None:
    buffer, zero, both = empty(2 * ROWS), np.zeros((2, 2)), np.ones(2, bool)
    for reward in (9.0, 3.0, 2.0):
        buffer.add(zero, np.zeros(2), zero, np.array([reward, 0.0]), both)
    assert buffer.best_return == 3.0


def test_memory_does_not_grow() -> None:
    buffer = empty(20)
    fill(buffer, [(t % 3 == 0, t % 2 == 0) for t in range(500)])
    assert len(buffer) == 20
    assert buffer.steps == 1_000
    assert buffer.finished <= 3 * 20
    assert buffer.best_return >= 0


def test_saved_and_loaded_it_goes_on_alike() -> None:
    one, other = empty(12), empty(12)
    fill(one, [(t % 3 == 0, t % 2 == 0) for t in range(17)])
    other.load({name: array.copy() for name, array in one.state_arrays().items()})
    for buffer in (one, other):
        fill(buffer, [(True, False), (False, True)])
    for name, array in one.state_arrays().items():
        np.testing.assert_array_equal(array, other.state_arrays()[name])


def test_what_does_not_fit_changes_nothing() -> None:
    one = empty(12)
    fill(one, [(True, True)] * 3)
    before = {name: array.copy() for name, array in one.state_arrays().items()}
    wide = TrajectoryBuffer(12, ROWS, np.zeros(3), np.zeros((), np.int64), DISCOUNT)
    with pytest.raises(ValueError, match=r"state has shape .* does not fit"):
        one.load(wide.state_arrays())
    large = empty(14)
    fill(large, [(True, True)] * 7)
    with pytest.raises(ValueError, match="does not fit"):
        one.load(large.state_arrays())
    for name, array in one.state_arrays().items():
        np.testing.assert_array_equal(array, before[name])
    wrapped = empty(12)
    fill(wrapped, [(t % 3 == 0, t % 2 == 0) for t in range(17)])
    with pytest.raises(ValueError, match="the buffer_size it was saved under"):
        empty(40).load(wrapped.state_arrays())
    torn = one.state_arrays() | {"action": one.state_arrays()["action"][:-1]}
    with pytest.raises(ValueError, match=r"action has shape \(5,\), which does not fit"):
        one.load(torn)
    other = TrajectoryBuffer(12, ROWS, np.zeros(2), np.zeros((), np.int64), 0.9)
    with pytest.raises(ValueError, match=r"discount is 0.5, and here 0.9; resume with the gamma"):
        other.load(one.state_arrays())
    assert len(other) == 0
    with pytest.raises(ValueError, match="cannot hold a step of 2"):
        empty(1)


def test_targets() -> None:
    state = np.arange(10.0)[:, None]
    reward, rng = np.array([5.0, *[0.0] * 9]), np.random.default_rng(0)
    over = np.arange(10) == 9
    steps = Steps(Transitions(state, np.zeros(10), state + 1), reward, np.arange(10.0), over, over)

    def value(states: np.ndarray) -> np.ndarray:
        return -states[:, 0]

    by = {name: worth(name, steps, value, DISCOUNT) for name in ("critic", "reward", "return")}
    np.testing.assert_allclose(by["critic"][[0, 1, 8, 9]], np.array([5 - 0.5, -1, -4.5, 0]))
    assert {name: int(most(array, 0.1)[0]) for name, array in by.items()} == {
        "critic": 0,
        "reward": 0,
        "return": 9,
    }
    space = Box(-np.inf, np.inf, (1,))
    chosen = choose("return", steps, by["return"], 0.2, 50, rng, space)
    assert set(chosen.states[:, 0]) == {9.0, 10.0}, "the states entered"
    np.testing.assert_array_equal(chosen.terminal, chosen.states[:, 0] == 10)
    assert (chosen.reward == 0).all()
    given_states = np.array([[3.0], [4.0]])
    among = choose(given_states, steps, None, 0.1, 50, rng, space)
    assert set(among.states[:, 0]) == {3.0, 4.0}
    assert not among.terminal.any()
    assert (among.reward == 0.5).all(), "the mean of what is remembered"
    drawn = choose(lambda n, r: np.full((n, 1), 7.0), steps, None, 0.1, 5, rng, space)
    assert drawn.states.tolist() == [[7.0]] * 5
    by_hand = 0.5 / 2 + DISCOUNT * -7
    np.testing.assert_allclose(drawn.entering(value, DISCOUNT, 2.0), by_hand)


def test_where_rewards_are_rare_no_trace_ends_without_one() -> None:
    ranked = np.zeros(100)
    ranked[[20, 70]] = 1.0
    assert worthy(ranked, 0.1).tolist() == [70, 20], "ten were asked for, and two earned anything"
    assert len(most(ranked, 0.1)) == 10, "the model learns from ten"
    assert most(ranked, 0.03).tolist() == [70, 20, 99], "of equals the last ones first"
    assert sorted(worthy(ranked, 1.0)) == list(range(100)), "all are asked for"
    assert len(worthy(np.zeros(100), 0.1)) == 10
