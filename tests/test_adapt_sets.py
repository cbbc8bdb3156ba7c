"""A set goes the way that it went before: the same order, after removals and pops too."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from delegate.envs.adapted import kinds

changes = st.lists(
    st.tuples(
        st.sampled_from(["add", "discard", "pop", "update", "clear"]),
        st.integers(0, 60) | st.text("ab", max_size=3) | st.tuples(st.integers(0, 9)),
    ),
    max_size=80,
)


def changed(members: set[Any], steps: list[tuple[str, Any]]) -> list[list[Any]]:
    """The order of a set after each change."""
    orders = []
    for how, what in steps:
        if how == "update":
            members.update((what, number) for number in range(20))
        elif how in ("clear", "pop"):
            if members:
                getattr(members, how)()
        else:
            getattr(members, how)(what)
        orders.append(list(members))
    return orders


@given(changes, changes)
def test_a_set_goes_the_same_way_again(before: Any, after: Any) -> None:
    members: set[Any] = set()
    changed(members, before)
    saved, held = kinds.Layout.of(members), list(members)
    first = changed(members, after)
    saved.write(members, held)
    assert list(members) == held
    assert changed(members, after) == first


def test_pythons_copy_of_a_set_goes_another_way() -> None:
    """The negative control: removed members leave their places behind."""
    members = {(row, column) for row in range(8) for column in range(8)}
    for row in range(6):
        members -= {(row, column) for column in range(8)}
    assert members.copy() == members
    assert list(members.copy()) != list(members)
    exact: set[Any] = set()
    kinds.Layout.of(members).write(exact, list(members))
    assert list(exact) == list(members)
