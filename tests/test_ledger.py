"""The ledger: the path rewinds, what was paid never does."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delegate.backtrack import Ledger


def test_counts_by_hand() -> None:
    ledger = Ledger(3)
    for _ in range(4):
        ledger.step()
    ledger.step(np.array([0, 2]))
    ledger.undo(np.array([0, 1]), np.array([3, 1]))
    ledger.restore(np.array([True, True, False]))
    ledger.spawn(np.array([1, 1]))
    ledger.model(np.array([2]), 7)
    ledger.idle(np.array([0]))
    ledger.effect(np.array([0]), np.array([5]))
    assert ledger.committed.tolist() == [2, 3, 5]
    assert ledger.undone.tolist() == [3, 1, 0]
    assert ledger.restores.tolist() == [1, 1, 0]
    assert ledger.spawns.tolist() == [0, 2, 0]
    assert ledger.model_steps.tolist() == [0, 0, 7]
    assert ledger.env_steps.tolist() == [5, 4, 5]
    assert ledger.interactions.tolist() == [7, 5, 5]
    assert ledger.to_dict() == {
        "committed": 10,
        "undone": 4,
        "restores": 2,
        "idled": 1,
        "spawns": 2,
        "model_steps": 7,
        "effects": 5,
        "env_steps": 14,
        "interactions": 17,
    }
    assert json.loads(json.dumps(ledger.to_dict())) == ledger.to_dict()


operations = st.lists(
    st.tuples(st.sampled_from(["step", "undo", "restore", "idle"]), st.integers(0, 2)), max_size=60
)


@given(operations)
def test_what_was_paid_never_falls(operations: list[tuple[str, int]]) -> None:
    ledger, paid = Ledger(3), np.zeros(3, np.int64)
    for operation, row in operations:
        rows = np.array([row])
        if operation == "undo":
            ledger.undo(rows, ledger.committed[rows] // 2)
        else:
            getattr(ledger, operation)(rows)
        assert (ledger.env_steps >= paid).all()
        paid = ledger.env_steps.copy()
    assert paid.sum() == sum(operation == "step" for operation, _ in operations)


def test_addition_and_total() -> None:
    first, second = Ledger(2), Ledger(2)
    first.step(np.array([0]))
    second.step()
    second.undo(np.array([1]), 1)
    both = first + second
    assert both.committed.tolist() == [2, 0]
    assert both.undone.tolist() == [0, 1]
    assert both.total().env_steps.tolist() == [3]
    assert both.to_dict() == both.total().to_dict()
    assert first.committed.tolist() == [1, 0], "addition leaves its terms alone"
    with pytest.raises(ValueError, match="2 and 3 rows cannot be added"):
        first + Ledger(3)


def test_snapshot_is_a_copy_and_loads_into_other_rows() -> None:
    ledger = Ledger(3)
    ledger.step(np.array([0, 0, 1]))
    saved = ledger.snapshot(np.array([0]))
    ledger.step()
    assert saved["committed"].tolist() == [2]
    ledger.load(saved, np.array([2]))
    assert ledger.committed.tolist() == [3, 2, 2]
    with pytest.raises(ValueError, match="differ in spawns"):
        ledger.load({name: saved[name] for name in saved if name != "spawns"})


def test_errors_name_the_row_and_change_nothing() -> None:
    ledger = Ledger(2)
    ledger.step()
    with pytest.raises(ValueError, match="row 1: 2 steps undone of 1 committed"):
        ledger.undo(np.array([0, 1]), np.array([1, 2]))
    with pytest.raises(ValueError, match=r"row 0: model_steps of -1.*never negative"):
        ledger.model(np.array([0]), -1)
    with pytest.raises(IndexError):
        ledger.step(np.array([2]))
    with pytest.raises(ValueError, match="at least 1"):
        Ledger(0)
    assert ledger.committed.tolist() == [1, 1]
    assert ledger.undone.tolist() == [0, 0]
