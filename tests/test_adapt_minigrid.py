"""MiniGrid through `adapt`: grids of objects, texts in observations, worlds drawn at reset."""

from __future__ import annotations

from typing import Any

import gymnasium
import minigrid
import numpy as np
import pytest
from adapted_conformance import check_adapted, check_adapted_backtrack, check_backtrack
from gymnasium.vector import AutoresetMode
from minigrid.wrappers import FlatObsWrapper, ImgObsWrapper, RGBImgPartialObsWrapper

from delegate import envs

gymnasium.register_envs(minigrid)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(alternative render modes|infinity|normalized).*"),
    pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning"),
]

IDS = [
    "MiniGrid-DoorKey-5x5-v0",
    "MiniGrid-Dynamic-Obstacles-Random-5x5-v0",
    "MiniGrid-Empty-Random-5x5-v0",
    "MiniGrid-Fetch-5x5-N2-v0",
    "MiniGrid-GoToDoor-5x5-v0",
    "MiniGrid-KeyCorridorS3R1-v0",
    "MiniGrid-LavaGapS5-v0",
    "MiniGrid-MemoryS7-v0",
    "MiniGrid-MultiRoom-N2-S4-v0",
    "MiniGrid-ObstructedMaze-1Dl-v0",
]
MORE = ["MiniGrid-FourRooms-v0", "MiniGrid-LavaCrossingS9N1-v0", "BabyAI-GoToLocal-v0"]


@pytest.mark.parametrize("id", IDS)
def test_fidelity_with_its_negative_control(id: str) -> None:
    check_adapted(id, matters=("objects", "random"), max_episode_steps=9, rows=2, save_points=3)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("id", [*IDS, *MORE])
def test_fidelity_for_longer_in_every_mode(id: str, mode: AutoresetMode) -> None:
    check_adapted(id, mode=mode, max_episode_steps=14, steps=42, rows=4, save_points=6)


@pytest.mark.parametrize("id", IDS)
def test_backtrack_passes_gymnasiums_check(id: str) -> None:
    check_backtrack(id, max_episode_steps=9)


@pytest.mark.parametrize("wrapper", [ImgObsWrapper, FlatObsWrapper, RGBImgPartialObsWrapper])
def test_its_own_wrappers(wrapper: Any) -> None:
    def make() -> gymnasium.Env[Any, Any]:
        return wrapper(gymnasium.make("MiniGrid-DoorKey-5x5-v0", max_episode_steps=5))

    check_adapted(make, steps=10, rows=2, save_points=2)


@pytest.mark.parametrize("id", IDS)
def test_fidelity_under_backtracking_with_its_negative_control(id: str) -> None:
    check_adapted_backtrack(id, max_episode_steps=9)


@pytest.mark.slow
@pytest.mark.parametrize("id", [*IDS, *MORE])
def test_fidelity_under_backtracking_for_longer(id: str) -> None:
    check_adapted_backtrack(id, max_episode_steps=14, steps=42, rows=4, save_points=12)


def test_texts_are_rows_too() -> None:
    env = envs.adapt("MiniGrid-GoToDoor-5x5-v0", 4)
    shown, _ = env.reset(seed=0)
    assert shown["mission"].shape == (4,)
    assert shown["mission"][1].startswith("go to the ")
    assert env.observation_space.contains(shown)
    for seed in range(4):
        single, _ = gymnasium.make("MiniGrid-GoToDoor-5x5-v0").reset(seed=seed)
        assert shown["mission"][seed] == single["mission"]
        np.testing.assert_array_equal(shown["image"][seed], single["image"])
    saved, before = env.snapshot(), env.observe()
    env.reset(seed=9)
    env.restore(saved)
    assert env.observe()["mission"].tolist() == before["mission"].tolist()


def test_what_the_agent_carries_is_put_back() -> None:
    env = envs.adapt("MiniGrid-DoorKey-5x5-v0", 1)
    for seed in range(200):
        env.reset(seed=seed)
        world = env.envs[0].unwrapped
        front = world.grid.get(*world.front_pos)
        if front is not None and front.type == "key":
            break
    saved, place = env.snapshot(), tuple(world.front_pos)
    env.step(np.array([3]))
    assert world.carrying is not None
    assert world.grid.get(*place) is None
    env.restore(saved)
    assert world.carrying is None
    assert world.grid.get(*place).type == "key"
