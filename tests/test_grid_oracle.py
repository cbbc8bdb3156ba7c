"""The batched worlds against the plain loop: every number equal, every step."""

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from delegate import envs
from delegate.envs.grid import GridVectorEnv, PlainGrid

WORLDS = [
    ("Corner", {"size": 5, "max_steps": 9, "mix": 0.5}),
    ("Corner", {"size": 13, "max_steps": 30, "mix": 0.5, "corner_size": 3, "slip": 0.25}),
    ("FourRooms", {"size": 7, "max_steps": 17, "mix": 0.5, "doors": "random"}),
    ("FourRooms", {"size": 11, "max_steps": 40, "slip": 1.0, "start": "corner"}),
    ("TrapGrid", {"size": 6, "max_steps": 12, "mix": 0.5, "step_cost": 0.01}),
    (
        "TrapGrid",
        {
            "size": 8,
            "max_steps": 25,
            "mix": 0.5,
            "slip": 0.1,
            "step_cost": 0.07,
            "trap_reward": -0.3,
            "terminal_traps": False,
            "irreversible": True,
            "start": "random",
        },
    ),
]
ROWS = 6
STEPS = 150


def make_both(
    world: str, settings: dict[str, Any], **options: Any
) -> tuple[GridVectorEnv, list[PlainGrid]]:
    batched = envs.make(world, ROWS, num_levels=20, **settings, **options)
    plain = [PlainGrid(batched.rules, batched.levels, row, **options) for row in range(ROWS)]
    return batched, plain


def assert_lockstep(batched: GridVectorEnv, plain: list[PlainGrid], seed: int = 3) -> int:
    """Drive both with the same actions; returns how many episodes ended."""
    observation, _ = batched.reset(seed=seed)
    expected = [row.reset(seed=seed) for row in plain]
    np.testing.assert_array_equal(observation, expected)
    rng = np.random.default_rng(0)
    ended = 0
    for step in range(STEPS):
        action = rng.integers(0, 4, ROWS)
        observation, reward, terminated, truncated, info = batched.step(action)
        rows = [row.step(int(a)) for row, a in zip(plain, action, strict=True)]
        np.testing.assert_array_equal(observation, [row[0] for row in rows], f"step {step}")
        for index, array in enumerate((reward, terminated, truncated), start=1):
            np.testing.assert_array_equal(array, [row[index] for row in rows], f"step {step}")
        for name in ("proxy_reward", "intended_reached", "proxy_reached", "state"):
            np.testing.assert_array_equal(info[name], [row[4][name] for row in rows], name)
        finals = np.flatnonzero(["final_obs" in row[4] for row in rows])
        np.testing.assert_array_equal(
            np.flatnonzero(info.get("_final_obs", np.zeros(ROWS, bool))), finals
        )
        for row in finals:
            np.testing.assert_array_equal(info["final_obs"][row], rows[row][4]["final_obs"])
        assert_same_state(batched, plain)
        ended += int((terminated | truncated).sum())
    return ended


def assert_same_state(batched: GridVectorEnv, plain: list[PlainGrid]) -> None:
    state = batched.state
    for name in ("level", "clock", "damage", "proxy_paid", "terminated", "truncated"):
        np.testing.assert_array_equal(
            getattr(state, name), [getattr(row, name) for row in plain], name
        )
    np.testing.assert_array_equal(state.key.tolist(), [[row.key, row.counter] for row in plain])


@pytest.mark.parametrize("autoreset_mode", list(AutoresetMode))
@pytest.mark.parametrize(("world", "settings"), WORLDS)
def test_batched_steps_equal_the_plain_loop(
    world: str, settings: dict[str, Any], autoreset_mode: AutoresetMode
) -> None:
    ended = assert_lockstep(*make_both(world, settings, autoreset_mode=autoreset_mode))
    assert ended > 0


@pytest.mark.parametrize(("world", "settings"), WORLDS[:3])
def test_integer_observation_and_levels_in_order(world: str, settings: dict[str, Any]) -> None:
    assert_lockstep(*make_both(world, settings, observation="integer", assign="in_order"))


@pytest.mark.parametrize("change", ["max_steps", "slip", "goal_reward", "key"])
def test_the_comparison_notices_a_difference(change: str) -> None:
    """Negative control: each of these must be caught."""
    batched, plain = make_both("Corner", {"size": 5, "max_steps": 9, "slip": 0.2})
    settings = {"size": 5, "max_steps": 9, "slip": 0.2}
    if change in settings:
        plain[1].rules = envs.make_rules("Corner", {**settings, change: 1})
    elif change == "goal_reward":
        plain[0].rules = envs.make_rules("Corner", settings)
        plain[0].rules.goal_reward = 2.0
    else:
        plain[2].row = 3
    with pytest.raises(AssertionError):
        assert_lockstep(batched, plain)


def test_a_row_that_ended_holds_still_when_autoreset_is_disabled() -> None:
    batched, _ = make_both("TrapGrid", WORLDS[4][1], autoreset_mode=AutoresetMode.DISABLED)
    batched.reset(seed=0)
    for _ in range(12):
        batched.step(np.full(ROWS, 1))
    before = batched.snapshot()
    assert (batched.state.terminated | batched.state.truncated).all()
    _, reward, terminated, truncated, info = batched.step(np.full(ROWS, 2))
    after = batched.snapshot()
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(after.arrays[name], array, name)
    np.testing.assert_array_equal(reward, 0.0)
    np.testing.assert_array_equal(info["proxy_reward"], 0.0)
    np.testing.assert_array_equal(terminated, before.arrays["terminated"])
    np.testing.assert_array_equal(truncated, before.arrays["truncated"])
