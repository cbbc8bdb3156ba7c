"""What is shown of a backtrack, in every kind of observation."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from chain_world import ChainWorld
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from delegate.backtrack import VectorBacktrack
from delegate.backtrack.config import Part
from delegate.backtrack.spaces import observation_of

RIGHT, DIG = 1, 2
ALL: tuple[Part, ...] = ("flag", "depth", "action", "origin", "budget", "held")
KINDS: list[Literal["integer", "vector", "picture", "dict"]] = [
    "integer",
    "vector",
    "picture",
    "dict",
]


def walked(kind: Any, actions: list[int], **settings: Any) -> tuple[VectorBacktrack, Any]:
    """Two rows from cell 1 of a still world; the second only digs."""
    world = ChainWorld(2, size=9, noise=False, observation=kind)
    env = VectorBacktrack(world, depths=(1, 2), cost=0.5, budget=4, **settings)
    observation, _ = env.reset(seed=0)
    world.state["cell"][:] = 1
    for action in actions:
        observation = env.step(np.array([action, DIG]))[0]
    return env, observation


def test_one_integer_by_hand() -> None:
    env, observation = walked("integer", [RIGHT, DIG, 4], observe=("depth", "action", "origin"))
    assert env.single_observation_space == spaces.Discrete(9 * 3 * 4 * 9)
    # At cell 1 again after depth number 2; the first action undone was RIGHT; from cell 2.
    assert observation[0] == 1 + 9 * (2 + 3 * ((RIGHT + 1) + 4 * 2))
    assert observation[1] == 1 + 9 * (0 + 3 * (0 + 4 * 1)), "nothing undone: origin is here"


@given(
    size=st.integers(1, 50),
    start=st.integers(-3, 3),
    actions=st.integers(1, 6),
    depths=st.integers(1, 4),
    budget=st.integers(0, 9),
    parts=st.lists(st.sampled_from(ALL), unique=True, min_size=1),
    data=st.data(),
)
def test_integers_are_a_bijection(
    size: int,
    start: int,
    actions: int,
    depths: int,
    budget: int,
    parts: list[Part],
    data: st.DataObject,
) -> None:
    world = spaces.Discrete(size, start=start)
    encoding = observation_of(world, spaces.Discrete(actions), parts, depths, budget)
    assert isinstance(encoding.space, spaces.Discrete)
    code = np.array([data.draw(st.integers(0, int(encoding.space.n) - 1)) for _ in range(3)])
    decoded = encoding.decode(code)
    assert list(decoded) == ["observation", *parts]
    assert world.contains(decoded["observation"][0])
    np.testing.assert_array_equal(encoding.encode(decoded), code)


def test_one_vector_by_hand() -> None:
    env, observation = walked("vector", [RIGHT, DIG, 4], observe=ALL)
    place, budget = np.float32([1 / 9, 0]), 3 / 4
    origin = np.float32([2 / 9, 2 / 8])
    expected = [*place, 1, 0, 1, 0, 1, 0, *origin, budget, 0]
    np.testing.assert_array_equal(observation[0], np.float32(expected))
    assert observation.dtype == env.single_observation_space.dtype == np.float32
    here = np.float32([1 / 9, 3 / 8])
    np.testing.assert_array_equal(observation[1], np.float32([*here, *[0] * 6, *here, 1, 0]))


def test_a_dict_by_hand() -> None:
    env, observation = walked("picture", [RIGHT, DIG, 4])
    assert isinstance(env.single_observation_space, spaces.Dict)
    assert set(observation) == {"observation", *ALL}
    assert observation["flag"].tolist() == [1, 0]
    assert observation["depth"].tolist() == [2, 0]
    assert observation["action"].tolist() == [RIGHT + 1, 0]
    assert observation["budget"].tolist() == [3, 4]
    assert observation["held"].tolist() == [0, 0]
    assert observation["origin"][0, 0, :, 0].argmax() == 2
    np.testing.assert_array_equal(observation["origin"][1], observation["observation"][1])


@pytest.mark.parametrize("kind", KINDS)
def test_shown_until_the_next_step_and_through_idle_ticks(kind: Any) -> None:
    env, observation = walked(kind, [RIGHT, 3])
    shown = env.decode(observation)
    assert (shown["flag"][0], shown["depth"][0], shown["action"][0]) == (1, 1, RIGHT + 1)
    observation = env.step(np.array([3, DIG]))[0]
    refused = env.decode(observation)
    assert (refused["flag"][0], refused["depth"][0], refused["action"][0]) == (1, 1, RIGHT + 1)
    observation = env.step(np.array([RIGHT, DIG]))[0]
    after = env.decode(observation)
    assert (after["flag"][0], after["depth"][0], after["action"][0]) == (0, 0, 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("observe", [(), ("origin",), ALL, ("held", "flag"), ("action",)])
def test_every_observation_is_in_its_space(kind: Any, observe: tuple[Part, ...]) -> None:
    env = VectorBacktrack(
        ChainWorld(3, observation=kind, size=5), depths=(1, 2), cost=0.5, observe=observe
    )
    observation, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(60):
        assert env.observation_space.contains(observation)
        for row in range(3):
            assert env.single_observation_space.contains(row_of(observation, row))
        equal(observation, env.observe())
        equal(row_of(observation, np.array([2, 0])), env.observe(np.array([2, 0])))
        observation = env.step(rng.integers(0, 5, 3))[0]


def row_of(observation: Any, row: Any) -> Any:
    if isinstance(observation, dict):
        return {name: row_of(value, row) for name, value in observation.items()}
    return observation[row]


def equal(first: Any, second: Any) -> None:
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            equal(first[name], second[name])
    else:
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_and_dicts_decode_to_what_they_encode(kind: Any) -> None:
    env = VectorBacktrack(ChainWorld(4, observation=kind), depths=(1, 2), cost=0.5)
    observation, _ = env.reset(seed=0)
    rng, shown = np.random.default_rng(3), 0
    for _ in range(40):
        parts = env.decode(observation)
        equal(env.encode(parts), observation)
        equal(parts["observation"], env.env.observe())
        assert parts["budget"].tolist() == env.progress.budget_left.tolist()
        assert parts["depth"].tolist() == env.progress.depth.tolist()
        assert parts["action"].tolist() == env.progress.action.tolist()
        shown += parts["flag"].sum()
        observation = env.step(rng.integers(0, 5, 4))[0]
    assert shown > 5


def test_observations_handed_out_do_not_change_later() -> None:
    env, observation = walked("picture", [RIGHT, 3])
    kept = {name: value.copy() for name, value in observation.items()}
    for _ in range(5):
        env.step(np.array([RIGHT, 3]))
    equal(observation, kept)


def test_too_many_integers_are_refused() -> None:
    with pytest.raises(ValueError, match="too many for one observation; observe fewer parts"):
        observation_of(spaces.Discrete(2**40), spaces.Discrete(2), ("origin",), 1, 8)


def test_integers_with_continuous_actions_become_a_dict_when_the_action_is_shown() -> None:
    world, action = spaces.Discrete(9), spaces.Box(-1, 1, (2,))
    shown = observation_of(world, action, ("flag", "action"), 1, 8).space
    assert shown == spaces.Dict(
        {"observation": world, "flag": spaces.Discrete(2), "action": action}
    )
    assert observation_of(world, action, ("flag",), 1, 8).space == spaces.Discrete(18)
