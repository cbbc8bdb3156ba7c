"""A transition table that makes no sense is refused, and the error names the place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from finite_worlds import random_table

from delegate.recall import TransitionTable


def arrays(**changed: Any) -> dict[str, np.ndarray]:
    """Two levels of three states, two actions, one outcome: everything leads to state 1."""
    given = {
        "next_state": np.ones((2, 3, 2, 1), np.int32),
        "probability": np.ones((2, 3, 2, 1)),
        "terminal": np.zeros((2, 3), bool),
        "valid": np.ones((2, 3), bool),
    }
    return {**given, **changed}


def test_sizes_are_named() -> None:
    table = TransitionTable(**arrays())
    assert (table.num_levels, table.num_states, table.num_actions, table.num_outcomes) == (
        2,
        3,
        2,
        1,
    )
    assert table.next_state.dtype == np.int32
    assert table.probability.dtype == np.float64


def put(name: str, place: tuple[int, ...], value: Any) -> dict[str, np.ndarray]:
    given = arrays()
    given[name][place] = value
    return given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (put("next_state", (1, 2, 0, 0), 3), "level 1, state 2, action 0, outcome 0 leads to"),
        (put("next_state", (0, 0, 1, 0), -1), "leads to state -1; states are 0 to 2"),
        (put("probability", (1, 0, 1, 0), 0.5), "level 1, state 0, action 1 .* sum to 0.5"),
        (put("probability", (0, 1, 0, 0), -0.1), "level 0, state 1, action 0, outcome 0 has"),
        (put("probability", (0, 1, 0, 0), np.nan), "has probability nan"),
        (put("terminal", (1, 2), True), "level 1, state 2, action 0 leads out of a terminal"),
        (put("valid", (0, 2), False), "level 0, state 2, action 0 leads out of a terminal or inv"),
        (arrays(terminal=np.zeros((2, 4), bool)), r"terminal has shape \(2, 4\)"),
        (arrays(probability=np.ones((2, 3, 2))), r"probability has shape \(2, 3, 2\)"),
        (arrays(next_state=np.ones((3, 2, 1), int)), "give .levels, states, actions, outcomes"),
        (arrays(valid=np.ones((2, 3))), "valid is float64; give bool"),
    ],
)
def test_nonsense_is_refused_where_it_stands(given: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransitionTable(**given)


def test_leading_into_a_wall_is_refused() -> None:
    given = put("valid", (0, 1), False)
    given["probability"][0, 1] = 0
    with pytest.raises(ValueError, match="leads to state 1, which is not valid"):
        TransitionTable(**given)


def test_random_tables_have_ends_and_repeated_outcomes() -> None:
    """What the other tests rely on to be hard enough."""
    tables = [random_table(seed) for seed in range(20)]
    assert any(table.terminal.any() for table in tables)
    assert any(
        len(set(outcomes)) < 3 for table in tables for outcomes in table.next_state.reshape(-1, 3)
    )
