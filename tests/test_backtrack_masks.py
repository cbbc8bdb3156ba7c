"""Action masks of the world beneath, through the batch and under backtracking."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from chain_world import ChainWorld
from gymnasium.vector import AutoresetMode
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO

from delegate import StableVecEnv, VectorBacktrack, envs

LEFT, RIGHT, DIG, BACK = 0, 1, 2, 3


class Parity(gymnasium.Env[np.ndarray, int]):
    """At even times only actions 0 and 1 are allowed, at odd ones 2; 20 steps, then terminated."""

    observation_space = gymnasium.spaces.Box(0, 20, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self) -> None:
        self.t = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.t += 1
        return np.array([self.t], np.float32), 0.0, self.t >= 20, False, {}

    def action_masks(self) -> np.ndarray:
        if self.t >= 20:
            return np.zeros(3, bool)
        return np.array([self.t % 2 == 0, self.t % 2 == 0, self.t % 2 == 1])


class Watched(VectorBacktrack):
    """Counts how often the world is asked for what it forbids."""

    forbidden = 0

    def step(self, actions: Any) -> Any:
        allowed = self.env.action_masks()  # type: ignore[attr-defined]
        for row in np.flatnonzero((actions < 3) & allowed.any(axis=1)):
            self.forbidden += not allowed[row, actions[row]]
        return super().step(actions)


def adapted(rows: int = 2) -> Any:
    return envs.adapt(Parity, rows, autoreset_mode=AutoresetMode.DISABLED)


def test_an_adapted_batch_has_the_masks_of_its_environments() -> None:
    world = adapted()
    world.reset(seed=0)
    assert world.action_masks().tolist() == [[True, True, False]] * 2
    world.step_rows(np.array([0]), np.array([0]))
    assert world.action_masks().tolist() == [[False, False, True], [True, True, False]]
    assert not hasattr(envs.adapt("CartPole-v1"), "action_masks"), "which has none"


def test_masks_of_the_world_come_before_those_of_going_back() -> None:
    env = VectorBacktrack(adapted(), depths=(1, 2), cost=1.0)
    env.reset(seed=0)
    assert env.action_masks().tolist() == [[True, True, False, False, False]] * 2
    env.step(np.array([0, 0]))
    assert env.action_masks().tolist() == [[False, False, True, True, False]] * 2
    env.step(np.array([3, 2]))
    assert env.action_masks().tolist() == [
        [True, True, False, False, False],
        [True, True, False, True, True],
    ]


def test_a_held_ending_can_be_confirmed_though_the_world_allows_nothing_any_more() -> None:
    env = VectorBacktrack(adapted(1), cost=1.0)
    env.reset(seed=0)
    for t in range(20):
        *_, terminated, _, info = env.step(np.array([2 * (t % 2)]))
    assert info["held"][0]
    assert not terminated[0]
    assert not env.env.action_masks().any()
    assert env.action_masks().all()
    env.step(np.array([BACK]))
    assert env.action_masks()[0].tolist() == [False, False, True, True]


def test_a_dead_end_that_is_no_ending_leaves_only_the_way_back() -> None:
    world = ChainWorld(1, max_steps=None)
    world.action_masks = lambda: np.zeros((1, 3), bool)  # type: ignore[attr-defined]
    env = VectorBacktrack(world, cost=0.5)
    env.reset(seed=0)
    env.step(np.array([DIG]))
    assert env.action_masks()[0].tolist() == [False, False, False, True]


def test_the_worlds_own_masks_are_copied_and_must_fit() -> None:
    world = ChainWorld(2)
    own = np.array([[True, False, True], [False, True, True]])
    world.action_masks = lambda: own  # type: ignore[attr-defined]
    env = VectorBacktrack(world, depths=(1, 2), cost=0.5)
    env.reset(seed=0)
    given = env.action_masks()
    np.testing.assert_array_equal(given[:, :3], own)
    assert given.dtype == bool
    assert not given[:, 3:].any()
    given[:] = True
    assert own.tolist() == [[True, False, True], [False, True, True]]
    world.action_masks = lambda: own[0]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"ChainWorld.action_masks gives \(3,\); give \(2, 3\)"):
        env.action_masks()


def test_maskable_ppo_never_takes_a_forbidden_action() -> None:
    taken = {}
    for algorithm in (MaskablePPO, PPO):  # PPO is the negative control: it knows no masks
        env = Watched(adapted(4), depths=(1, 3), cost=1.0, budget=4)
        learns_from = StableVecEnv(env)
        assert is_masking_supported(learns_from)
        assert get_action_masks(learns_from).shape == (4, 5)
        model = algorithm("MlpPolicy", learns_from, n_steps=32, batch_size=32, seed=0, device="cpu")
        model.learn(512)
        taken[algorithm] = env.forbidden
        assert env.ledger.restores.sum() > 10
    assert taken[MaskablePPO] == 0
    assert taken[PPO] > 50
