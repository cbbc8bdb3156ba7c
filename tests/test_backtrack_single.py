"""Backtrack, the face for one environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from chain_world import ChainWorld
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from delegate import envs
from delegate.backtrack import Backtrack, VectorBacktrack

WORLDS = [
    *[(name, {"observation": kind}) for name in envs.ids() for kind in ("boolean", "integer")],
    ("TrapGrid", {"irreversible": True, "step_cost": 0.01}),
]

CONFIGS: list[dict[str, Any]] = [
    {},
    {"depths": (1, 4, 16), "observe": ()},
    {"refund": "discounted", "gamma": 0.9, "observe": ("held", "origin")},
]


@pytest.mark.filterwarnings("ignore:.*(alternative render modes|infinity|normalized).*:UserWarning")
@pytest.mark.parametrize("settings", CONFIGS)
@pytest.mark.parametrize(("name", "world"), WORLDS)
def test_passes_gymnasiums_check(
    name: str, world: dict[str, Any], settings: dict[str, Any]
) -> None:
    env = gymnasium.make(f"delegate/{name}-v0", **world)
    check_env(Backtrack(env, **settings))


@pytest.mark.filterwarnings("ignore:.*(alternative render modes|infinity|normalized).*:UserWarning")
@pytest.mark.parametrize("observation", ["integer", "vector", "picture", "dict"])
@pytest.mark.parametrize("actions", ["discrete", "box"])
def test_passes_gymnasiums_check_on_other_spaces(observation: Any, actions: Any) -> None:
    check_env(Backtrack(ChainWorld(1, observation=observation, actions=actions)))


def test_it_does_what_the_batch_does() -> None:
    single = Backtrack(ChainWorld(1), depths=(1, 2), cost=0.5)
    batch = VectorBacktrack(
        ChainWorld(1), depths=(1, 2), cost=0.5, autoreset_mode=AutoresetMode.DISABLED
    )
    rng, undone = np.random.default_rng(0), 0
    for seed in range(8):
        first, info = single.reset(seed=seed)
        second, infos = batch.reset(seed=seed)
        assert first == second[0]
        assert info["start"] == infos["start"][0]
        done = False
        while not done:
            np.testing.assert_array_equal(single.action_masks(), batch.action_masks()[0])
            action = int(rng.integers(0, 5))
            one, many = single.step(action), batch.step(np.array([action]))
            assert one[:4] == tuple(value[0] for value in many[:4])
            assert (type(one[1]), type(one[2]), type(one[3])) == (float, bool, bool)
            assert one[4]["clock"] == many[4]["clock"][0]
            assert one[4]["effects_kept"] == {"holes": many[4]["effects_kept"]["holes"][0]}
            assert ("moved" in one[4]) == ("moved" in many[4] and bool(many[4]["_moved"][0]))
            undone += one[4]["undone_steps"]
            done = one[2] or one[3]
    assert undone > 5
    assert single.ledger.to_dict() == batch.ledger.to_dict()


def test_saved_and_restored() -> None:
    env = Backtrack(ChainWorld(1, size=20), cost=0.5)
    env.reset(seed=0)
    env.step(1)
    saved = env.snapshot()
    first = [env.step(action)[:4] for action in (1, 3, 2, 3)]
    env.restore(saved)
    assert [env.step(action)[:4] for action in (1, 3, 2, 3)] == first


def test_render_shows_the_restored_world() -> None:
    env = Backtrack(gymnasium.make("delegate/TrapGrid-v0", render_mode="rgb_array"), cost=0.5)
    assert env.render_mode == "rgb_array"
    env.reset(seed=0)
    before = env.render()
    env.step(2)
    after = env.render()
    env.step(4)
    np.testing.assert_array_equal(env.render(), before)
    assert not np.array_equal(after, before)


def test_what_is_accepted_is_said() -> None:
    with pytest.raises(TypeError, match="CartPoleEnv cannot be restored; give a StatefulVectorEnv"):
        Backtrack(gymnasium.make("CartPole-v1").unwrapped)
    limited = gymnasium.make("delegate/TrapGrid-v0", max_episode_steps=5)
    with pytest.raises(TypeError, match="TimeLimit keeps state that could not be restored"):
        Backtrack(limited)
    with pytest.raises(ValueError, match="has 3 rows; give one, or use VectorBacktrack"):
        Backtrack(ChainWorld(3))
    env = Backtrack(ChainWorld(1))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="row 0: action is 9; give 0 to"):
        env.step(9)


def test_closing_closes_the_world() -> None:
    world = ChainWorld(1)
    Backtrack(world).close()
    assert world.closed
