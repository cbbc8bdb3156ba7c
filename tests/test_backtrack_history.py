"""The ring of past steps against a plain list, and its memory."""

from __future__ import annotations

import numpy as np
import pytest
from chain_world import ChainWorld
from hypothesis import given
from hypothesis import strategies as st

from delegate.backtrack import SnapshotExpired, VectorBacktrack
from delegate.backtrack.progress import History

moves = st.lists(
    st.tuples(st.sampled_from(["push", "push", "push", "rewind", "clear"]), st.integers(0, 6)),
    max_size=60,
)


@given(moves=moves, horizon=st.integers(1, 5))
def test_equals_a_list(moves: list[tuple[str, int]], horizon: int) -> None:
    examples = {"number": np.zeros(2), "pair": np.zeros((2, 2), np.int8), "any": np.full(2, None)}
    history = History(examples, horizon)
    row, plain, forgotten = np.array([1]), [], 0
    for count, (move, depth) in enumerate(moves):
        if move == "push":
            history.next["number"][...] = count / 2
            history.next["pair"][...] = [[7, 7], [count % 9, 1]]
            history.next["any"][...] = [None, str(count)]
            history.push(np.array([False, True]))
            plain.append(count)
            forgotten = max(forgotten, len(plain) - horizon)
        elif move == "clear":
            history.clear(row)
            plain, forgotten = [], 0
        elif 1 <= depth <= len(plain) - forgotten:
            then = history.at(row, np.array([depth]))
            assert then["number"].tolist() == [plain[-depth] / 2]
            assert then["pair"].tolist() == [[plain[-depth] % 9, 1]]
            assert then["any"].tolist() == [str(plain[-depth])]
            values, meant = history.last("number", row, np.array([depth]))
            assert values[meant].tolist() == [number / 2 for number in plain[::-1][:depth]]
            history.rewind(row, np.array([depth]))
            plain = plain[:-depth]
        else:
            for ask in (history.at, history.rewind):
                with pytest.raises(SnapshotExpired, match="row 1: "):
                    ask(row, np.array([depth]))
        assert history.position.tolist() == [0, len(plain)]
        assert history.kept.tolist() == [0, len(plain) - forgotten]


def test_an_expired_step_is_named_with_the_remedy() -> None:
    history = History({"x": np.zeros(3)}, 4)
    for _ in range(9):
        history.push(np.array([False, False, True]))
    message = "row 2: step 3 is 6 steps old and only 4 are kept.*raise backtrack.horizon"
    with pytest.raises(SnapshotExpired, match=message):
        history.at(np.array([2]), np.array([6]))
    with pytest.raises(SnapshotExpired, match="row 2: 10 steps back from step 9 is not on"):
        history.at(np.array([2]), np.array([10]))


def test_memory_does_not_grow_with_the_episode() -> None:
    env = VectorBacktrack(ChainWorld(4, max_steps=None, noise=False), horizon=8, cost=0.5)
    env.reset(seed=0)
    before, saved = env.progress.history.nbytes, env.snapshot().nbytes
    for tick in range(300):
        env.step(np.full(4, 2 if tick % 3 else 3))
    assert env.progress.history.position.min() > 100, "no episode ended"
    assert env.progress.history.nbytes == before
    assert env.snapshot().nbytes == saved


def test_memory_is_proportional_to_the_horizon() -> None:
    sizes = [
        sum(
            array.nbytes
            for name, array in VectorBacktrack(ChainWorld(4), horizon=horizon)
            .progress.history.state_arrays()
            .items()
            if name not in ("position", "kept")
        )
        for horizon in (8, 16)
    ]
    assert sizes[1] == 2 * sizes[0]
