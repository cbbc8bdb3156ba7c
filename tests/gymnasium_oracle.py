"""Single Gymnasium environments, played and written down, that batches are held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from delegate.envs.mujoco import MujocoVectorEnv


@dataclass
class Row:
    """What one environment gave: of the reset, then of each step; None where it was reset."""

    first: tuple[Any, dict[str, Any]]
    steps: list[tuple[Any, ...]] = field(default_factory=list)


def play_gymnasium(
    id: str, seed: int, actions: np.ndarray, settings: dict[str, Any] | None = None
) -> list[Row]:
    """One environment a row, reset after each episode at the cost of a step. actions: [T, B, nu]"""
    rows = []
    for row in range(actions.shape[1]):
        env = gymnasium.make(id, disable_env_checker=True, **(settings or {}))
        played = Row(env.reset(seed=seed + row))
        ended = False
        for action in actions[:, row]:
            if ended:
                observation, info = env.reset()
                step: tuple[Any, ...] = (observation, 0.0, False, False, info)
            else:
                step = env.step(action)
            ended = bool(step[2] or step[3]) and not ended
            played.steps.append(step)
        env.close()
        rows.append(played)
    return rows


def compare(env: MujocoVectorEnv, oracle: list[Row], seed: int, actions: np.ndarray) -> int:
    """Play the batch and require every number to be equal; returns how many episodes ended.

    The batch may have fewer rows than the oracle.
    """
    assert env.autoreset_mode is AutoresetMode.NEXT_STEP
    observation, info = env.reset(seed=seed)
    for row in range(env.num_envs):
        first, first_info = oracle[row].first
        equal(first, of_row(observation, row), f"row {row}, reset")
        compare_info(first_info, info, row, f"row {row}, reset")
    endings = 0
    for time in range(len(actions)):
        played = env.step(actions[time, : env.num_envs])
        for row in range(env.num_envs):
            where = f"row {row}, step {time}"
            expected = oracle[row].steps[time]
            equal(expected[0], of_row(played[0], row), f"{where}, observation")
            assert played[1].dtype == np.float64
            assert float(expected[1]) == played[1][row], f"{where}, reward"
            for place, name in ((2, "terminated"), (3, "truncated")):
                assert bool(expected[place]) == played[place][row], f"{where}, {name}"
            compare_info(expected[4], played[4], row, where)
            endings += bool(expected[2] or expected[3])
    return endings


def compare_info(expected: dict[str, Any], given: dict[str, Any], row: int, where: str) -> None:
    """Every entry that Gymnasium gives is given, and equal."""
    for name, value in expected.items():
        equal(np.asarray(value, given[name].dtype), given[name][row], f"{where}, info {name}")


def of_row(value: Any, row: int) -> Any:
    """That row of an observation."""
    if isinstance(value, dict):
        return {name: inner[row] for name, inner in value.items()}
    return value[row]


def equal(expected: Any, given: Any, where: str) -> None:
    """Equal to the last bit, in the same type."""
    if isinstance(expected, dict):
        assert expected.keys() == given.keys()
        for name, value in expected.items():
            equal(value, given[name], f"{where} {name}")
        return
    expected, given = np.asarray(expected), np.asarray(given)
    assert expected.dtype == given.dtype, f"{where}: {given.dtype} instead of {expected.dtype}"
    np.testing.assert_array_equal(given, expected, err_msg=where, strict=True)


def random_actions(env: MujocoVectorEnv, steps: int, dtype: Any = np.float32) -> np.ndarray:
    """Uniform within the bounds, [steps, B, nu]."""
    space = env.single_action_space
    rng = np.random.default_rng(0)
    shape = (steps, env.num_envs, *space.shape)
    return rng.uniform(space.low, space.high, shape).astype(dtype).clip(space.low, space.high)
