"""Copying what Python objects hold: sharing, views, closures, rings, and what is refused."""

from __future__ import annotations

import collections
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from delegate.envs.adapted.graph import Graph, difference


class Box(gymnasium.Env[Any, Any]):
    """An environment that only holds things."""

    def __init__(self, **held: Any) -> None:
        vars(self).update(held)


def save(env: gymnasium.Env[Any, Any]) -> Graph:
    return Graph(env)


def restore(env: Any, saved: Graph, fresh: bool = False) -> None:
    saved.restore(env, () if fresh else saved.states)


@dataclass
class Door:
    is_open: bool
    key: Any = None


class Slotted:
    __slots__ = ("__hidden", "value")

    def __init__(self, value: Any) -> None:
        self.value, self.__hidden = value, [value]

    @property
    def hidden(self) -> Any:
        return self.__hidden


def counter() -> Callable[[], int]:
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return count

    return step


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.builds(collections.deque, st.lists(inner, max_size=3))
    ),
    max_leaves=12,
) | arrays(np.float64, (3, 2))


@given(plain)
def test_a_saved_value_is_equal_and_comes_back(value: Any) -> None:
    env = Box(value=value, other=[value])
    saved = save(env)
    env.value = "gone"
    env.later = 1
    restore(env, saved)
    assert difference(env.value, value) is None
    assert env.other[0] is env.value or isinstance(value, int | float | str | bytes | None | tuple)
    assert not hasattr(env, "later")
    assert difference(save(env), saved) is None


def test_later_changes_do_not_reach_what_was_saved() -> None:
    env = Box(grid=[[Door(False)]], cells=np.zeros(3), bag={"a": {1}}, queue=collections.deque([1]))
    saved = save(env)
    for _ in range(2):
        env.grid[0][0].is_open = True
        env.cells[:] = 7
        env.bag["a"].add(2)
        env.queue.append(2)
        restore(env, saved)
        assert env.grid == [[Door(False)]]
        assert env.cells.tolist() == [0, 0, 0]
        assert env.bag == {"a": {1}}
        assert list(env.queue) == [1]


@pytest.mark.parametrize("other", [False, True], ids=["own row", "another row"])
def test_one_object_stays_one_object(other: bool) -> None:
    key, ring = ["key"], list[Any]()
    ring.append(ring)
    env = Box(door=Door(False, key), bag={"key": key}, ring=ring)
    env.me = env
    env.again = Door(True, env)
    into = Box(door=Door(True, ["its own"])) if other else env
    restore(into, save(env))
    assert into.door.key is into.bag["key"]
    assert (into.door.key is key) == (not other)
    assert into.door.key == ["key"]
    assert into.ring[0] is into.ring
    assert into.me is into
    assert into.again.key is into


def test_what_was_one_object_and_was_split_is_one_again() -> None:
    """And the reverse; the objects are those that they were."""
    bag: list[int] = []
    env = Box(first=bag, second=bag)
    one = save(env)
    env.second = []
    two = save(env)
    assert difference(one, two) is not None
    restore(env, one)
    assert env.first is env.second is bag
    restore(env, two)
    assert env.first is not env.second


@pytest.mark.parametrize("other", [False, True], ids=["own row", "another row"])
def test_views_look_into_the_same_memory_afterwards(other: bool) -> None:
    whole = np.arange(12.0).reshape(3, 4)
    env = Box(whole=whole, row=whole[1], part=whole[::-1, 1:3], turned=whole.T)
    saved = save(env)
    if other:
        env = Box()
    whole[:] = 0
    restore(env, saved)
    assert env.whole[2, 3] == 11
    env.whole[1, 1] = 99
    assert (env.whole is whole) == (not other)
    assert env.row[1] == 99
    assert env.part[1, 0] == 99
    assert env.turned[1, 1] == 99
    np.testing.assert_array_equal(env.part, env.whole[::-1, 1:3])


def test_order_of_memory_is_kept() -> None:
    env = Box(columns=np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    restore(env, save(env))
    assert env.columns.flags.f_contiguous
    assert not env.columns.flags.c_contiguous


def test_closures_slots_and_bound_methods() -> None:
    class Engine:
        def __init__(self) -> None:
            self.turns = 0

        def turn(self) -> int:
            self.turns += 1
            return self.turns

    engine = Engine()
    env = Box(count=counter(), slotted=Slotted([1]), engine=engine, turn=engine.turn)
    env.count()
    env.turn()
    saved = save(env)
    first = [env.count(), env.turn(), [[1]]]
    env.slotted.hidden.append(2)
    restore(env, saved)
    assert [env.count(), env.turn(), env.slotted.hidden] == first
    assert first[:2] == [2, 2]
    assert env.engine.turns == 2, "the method is bound to the copy"


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.random.default_rng(0),
        lambda: np.random.Generator(np.random.MT19937(0)),
        lambda: np.random.Generator(np.random.Philox(0)),
        lambda: np.random.RandomState(0),
        lambda: random.Random(0),
    ],
)
def test_generators_go_back_or_go_on(make: Callable[[], Any]) -> None:
    env = Box(stream=make(), bag={"same": None})
    env.bag["same"] = env.stream
    env.draw = env.stream.random
    stream = env.stream

    def gauss() -> float:  # half of a pair is kept in some generators
        return float(stream.gauss(0, 1) if isinstance(stream, random.Random) else stream.normal())

    gauss()
    saved = save(env)
    first = [gauss(), env.draw(), gauss()]
    restore(env, saved)
    assert env.stream is stream, "the generator lives on"
    assert [gauss(), env.draw(), gauss()] == first
    after = save(env).states
    restore(env, saved, fresh=True)
    assert difference(save(env).states, after) is None, "fresh: the stream has not moved"
    assert [gauss(), env.draw(), gauss()] != first


def test_a_row_that_has_none_gets_a_generator_of_its_own() -> None:
    first, second = Box(stream=np.random.default_rng(3)), Box(stream=None)
    restore(second, save(first))
    assert second.stream is not first.stream
    assert second.stream.random() == first.stream.random()


def test_spaces_stay_and_only_their_generators_go_back() -> None:
    env = Box(action_space=gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(1000)}))
    env.action_space.seed(0)
    space = env.action_space
    saved = save(env)
    first = [space.sample()["a"] for _ in range(4)]
    restore(env, saved)
    assert env.action_space is space
    assert [space.sample()["a"] for _ in range(4)] == first


def test_an_environment_that_was_replaced_comes_back() -> None:
    inner = Box(value=1)
    env = Box(inner=inner)
    saved = save(env)
    env.inner, inner.value = None, 2
    restore(env, saved)
    assert env.inner is inner
    assert inner.value == 1
    other = Box()
    restore(other, saved)
    assert other.inner is not inner
    assert other.inner.value == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (0.0, -0.0),
        (1, 1.0),
        (1, True),
        (np.float32(1), np.float64(1)),
        (np.zeros(2), np.zeros(2, np.float32)),
        (np.zeros(2), np.array([0.0, -0.0])),
        (np.zeros((2, 1)), np.zeros((1, 2))),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([1, [2]], [1, [3]]),
        (Door(True), Door(False)),
        (Slotted(1), Slotted(2)),
        (collections.deque([1]), collections.deque([1, 1])),
        (collections.Counter("a"), collections.Counter("ab")),
        (np.array([Door(True), None]), np.array([Door(False), None])),
    ],
)
def test_difference_finds_what_differs(first: Any, second: Any) -> None:
    assert difference(first, second) is not None
    assert difference([first], [first]) is None


def test_difference_takes_nan_for_nan_and_names_the_place() -> None:
    assert difference([np.nan, np.array([np.nan])], [np.nan, np.array([np.nan])]) is None
    assert difference(np.float32("nan"), np.float32("nan")) is None
    words = difference({"a": [Door(True, 3)]}, {"a": [Door(True, 4)]}, "env")
    assert words == "env['a'][0].key was int 3, is int 4"


def test_difference_finds_a_closure_that_moved_on() -> None:
    first, second = counter(), counter()
    assert difference(first, second) is None
    second()
    assert difference(first, second) is not None
