"""Stepping some rows: as they would step alone, and no other row moves by a bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from chain_world import ChainWorld
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delegate import VectorBacktrack, envs
from delegate.backtrack.spaces import take
from delegate.backtrack.state import StatefulVectorEnv

Make = Callable[[int], StatefulVectorEnv]
OFF = AutoresetMode.DISABLED


def walled(rows: int, **settings: Any) -> StatefulVectorEnv:
    fixed = {"num_levels": 3, "assign": "in_order", "max_steps": 9, "autoreset_mode": OFF}
    return envs.make("Corner", rows, size=7, slip=0.2, **fixed, **settings)


def trapped(rows: int) -> StatefulVectorEnv:
    return envs.make("TrapGrid", rows, num_levels=2, max_steps=9, autoreset_mode=OFF)


def physical(id: str) -> Make:
    return lambda rows: envs.make(id, rows, num_threads=1, max_episode_steps=9, autoreset_mode=OFF)


WORLDS: dict[str, Make] = {
    "pictures": walled,
    "integers": lambda rows: walled(rows, observation="integer"),
    "traps": trapped,
    "point maze": physical("PointMaze_UMaze-v3"),
    "reacher": physical("Reacher-v5"),
    "hopper": physical("Hopper-v5"),
    "adapted": lambda rows: envs.adapt("CartPole-v1", rows, autoreset_mode=OFF),
    "default": ChainWorld,
    "backtrack": lambda rows: VectorBacktrack(walled(rows), cost=1.0, autoreset_mode=OFF),
}
ROWS = 5


def sampled(env: StatefulVectorEnv, count: int, seed: int) -> np.ndarray:
    """Actions of that many rows. [count, ...]"""
    env.single_action_space.seed(seed)
    return np.array([env.single_action_space.sample() for _ in range(count)])


def same(first: Any, second: Any) -> None:
    """Equal to the last bit, down to dicts."""
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for name, part in first.items():
            same(part, second[name])
    else:
        np.testing.assert_array_equal(first, second)
        assert np.asarray(first).dtype == np.asarray(second).dtype


@pytest.fixture(scope="module")
def made() -> dict[str, StatefulVectorEnv]:
    return {name: make(ROWS) for name, make in WORLDS.items()}


@pytest.mark.parametrize("name", WORLDS)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 99), order=st.permutations(range(ROWS)), count=st.integers(0, ROWS))
def test_rows_step_as_in_company_and_the_others_stay(
    made: Any, name: str, seed: int, order: list[int], count: int
) -> None:
    env, rows = made[name], np.array(order[:count], np.int64)
    env.reset(seed=seed)
    for step in range(seed % 11):
        env.step(sampled(env, ROWS, 1_000 * seed + step))
    actions, before = sampled(env, ROWS, seed), env.snapshot()
    shown, *company, told = env.step(actions)
    after = env.snapshot()
    env.restore(before)
    observation, *result, info = env.step_rows(rows, actions[rows])
    same(observation, take(shown, rows))
    for part, whole in zip(result, company, strict=True):
        same(part, whole[rows])
    for key, values in info.items() if count else ():
        if isinstance(values, np.ndarray) and values.dtype != object:
            same(values, told[key][rows])
    stayed = np.delete(np.arange(ROWS), rows)
    now = env.snapshot().arrays
    for key, array in now.items():
        same(array[rows], after.arrays[key][rows])
        same(array[stayed], before.arrays[key][stayed])


@pytest.mark.parametrize("name", WORLDS)
def test_rows_that_make_no_sense_are_refused_and_nothing_moves(name: str) -> None:
    env = WORLDS[name](3)
    env.reset(seed=0)
    before = env.observe()
    with pytest.raises(ValueError, match="row 1 is named twice"):
        env.step_rows(np.array([1, 0, 1]), sampled(env, 3, 0))
    with pytest.raises(IndexError, match="row 3 does not exist"):
        env.step_rows(np.array([3]), sampled(env, 1, 0))
    same(before, env.observe())


@pytest.mark.parametrize("name", ["pictures", "reacher", "adapted"])
def test_a_bad_action_names_its_row_in_the_batch(name: str) -> None:
    env = WORLDS[name](4)
    env.reset(seed=0)
    actions = sampled(env, 2, 0)
    actions[1] = 9
    with pytest.raises(ValueError, match="row 3: action"):
        env.step_rows(np.array([2, 3]), actions)


def test_rows_step_alone_only_where_none_resets_itself() -> None:
    env = envs.make("Corner", 2, size=7, num_levels=1)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="only where none resets itself"):
        env.step_rows(np.array([0]), np.array([1]))


@pytest.mark.parametrize("name", WORLDS)
def test_markov_states_lie_in_the_space_and_are_copies(name: str) -> None:
    env = WORLDS[name](3)
    env.reset(seed=0)
    if name == "default":
        with pytest.raises(NotImplementedError, match="see state_space"):
            env.markov_state()
        return
    state, space = env.markov_state(), env.state_space
    assert isinstance(space, Discrete | Box)
    assert state.dtype == (np.int32 if isinstance(space, Discrete) else np.float32)
    assert all(space.contains(one) for one in state)
    np.testing.assert_array_equal(env.markov_state(np.array([2, 0])), state[[2, 0]])
    before = env.snapshot()
    state[:] = 0
    for key, array in env.snapshot().arrays.items():
        assert array.dtype.hasobject or np.array_equal(array, before.arrays[key]), key


def test_what_cannot_be_flattened_is_refused_with_a_remedy() -> None:
    class Pair(gymnasium.Env[Any, Any]):
        observation_space: Any = gymnasium.spaces.Dict({"a": Discrete(2)})
        action_space: Any = Discrete(2)

        def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
            super().reset(seed=seed)
            return {"a": 0}, {}

        def step(self, action: Any) -> Any:
            return {"a": 0}, 0.0, False, False, {}

    with pytest.raises(NotImplementedError, match="FlattenObservation"):
        _ = envs.adapt(Pair, 1).state_space
