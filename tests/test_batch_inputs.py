"""What every batched world is given: seeds, reset masks, actions; and what its endings say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Text
from hypothesis import given
from hypothesis import strategies as st

from delegate import envs
from delegate.backtrack import StatefulVectorEnv
from delegate.backtrack.autoreset import reset_rows, row_seeds
from delegate.backtrack.spaces import ROUNDING, ActionCheck

ROWS = 3


def corner(rows: int, **settings: Any) -> StatefulVectorEnv:
    return envs.make("Corner", rows, num_levels=20, size=7, mix=1.0, **settings)


def hopper(rows: int, **settings: Any) -> StatefulVectorEnv:
    return envs.make("Hopper-v5", rows, num_threads=1, **settings)


def cart_pole(rows: int, **settings: Any) -> StatefulVectorEnv:
    return envs.adapt("CartPole-v1", rows, **settings)


Make = Callable[..., StatefulVectorEnv]
WORLDS = pytest.mark.parametrize("make", [corner, hopper, cart_pole])


def seen(env: StatefulVectorEnv, seed: Any, **options: Any) -> np.ndarray:
    return np.asarray(env.reset(seed=seed, options=options or None)[0])


@WORLDS
def test_every_world_takes_a_seed_a_row(make: Make) -> None:
    env = make(ROWS)
    first = seen(env, [5, 5, 8])
    np.testing.assert_array_equal(first[0], first[1])
    assert (first[0] != first[2]).any()
    for row, seed in enumerate([5, 5, 8]):
        alone = seen(make(1), [seed])[0]
        np.testing.assert_array_equal(first[row], alone)
        np.testing.assert_array_equal(alone, seen(make(1), seed)[0])
    np.testing.assert_array_equal(seen(env, np.int64(4)), seen(env, 4))


@WORLDS
def test_a_row_whose_seed_is_none_goes_on_with_its_stream(make: Make) -> None:
    one, other = make(ROWS), make(ROWS)
    seen(one, 3)
    seen(other, 3)
    mixed, plain = seen(one, [None, 9, None]), seen(other, None)
    np.testing.assert_array_equal(mixed[[0, 2]], plain[[0, 2]])
    assert (mixed[1] != plain[1]).any()


@pytest.mark.parametrize("make", [corner, hopper])
@pytest.mark.parametrize(
    ("seed", "message"),
    [
        ([1, 2], "2 seeds for 3 rows"),
        ([1, -2, 3], "row 1: seed -2 is negative"),
        ([1, 2.5, 3], "row 1: seed 2.5 is no integer"),
        ("abc", "seed is 'abc'; give an integer, one a row in a list, or None"),
        (0.5, "seed is 0.5"),
        (True, "seed is True"),
    ],
)
def test_seeds_that_do_not_fit(make: Make, seed: Any, message: str) -> None:
    env = make(ROWS)
    before = seen(env, np.array([5, 5, 8]))
    with pytest.raises(ValueError, match=message):
        env.reset(seed=seed)
    np.testing.assert_array_equal(env.observe(), before)


def test_seeds_count_up_from_one() -> None:
    assert row_seeds(7, 3) == [7, 8, 9]
    assert row_seeds([4, None, 1], 3) == [4, None, 1]
    assert row_seeds(None, 2) == [None, None]
    assert [type(seed) for seed in row_seeds(np.array([1, 2]), 2) if seed] == [int, int]


@WORLDS
@pytest.mark.parametrize("mask", [np.zeros(ROWS, bool), np.ones(2, bool), np.ones(ROWS, int)])
def test_reset_masks_that_do_not_fit(make: Make, mask: Any) -> None:
    env = make(ROWS)
    before = seen(env, 0)
    with pytest.raises(ValueError, match=r"reset_mask is .*; give bool \(3,\) with a True in it"):
        env.reset(options={"reset_mask": mask})
    np.testing.assert_array_equal(env.observe(), before)


def test_a_mask_names_rows() -> None:
    assert reset_rows(None, 2).tolist() == reset_rows({"level": 1}, 2).tolist() == [True, True]
    assert reset_rows({"reset_mask": [False, True]}, 2).tolist() == [False, True]
    with pytest.raises(ValueError, match="rows that never began"):
        reset_rows({"reset_mask": [False, True]}, 2, begun=False)


@pytest.mark.parametrize(
    ("make", "actions", "message"),
    [
        (corner, [0, 0.7, 1], "Corner: actions are float64; give integers, 0 to 3"),
        (corner, [0, 1, 4], "Corner: row 2: action is 4; give 0 to 3"),
        (corner, [[0], [1, 2], [3]], r"Corner: actions differ in length; give \(3,\)"),
        (hopper, [[0, 0, 0], [0, np.nan, 0], [0, 0, 0]], r"Hopper-v5: row 1: action\[1\] is nan"),
        (hopper, [[0, 0, 0], [0, 0, 2], [0, 0, 0]], r"Hopper-v5: row 1: action\[2\] is 2.0; give "),
        (hopper, np.zeros((3, 3), bool), "Hopper-v5: actions are bool; give floats, -1.0 to 1.0"),
    ],
)
def test_refused_actions_name_the_environment(make: Make, actions: Any, message: str) -> None:
    env = make(ROWS)
    before = seen(env, 0)
    with pytest.raises(ValueError, match=message):
        env.step(actions)
    np.testing.assert_array_equal(env.observe(), before)


def test_spaces_of_integers() -> None:
    check = ActionCheck(Discrete(3, start=-1), 2, "World")
    assert check(np.array([-1, 1], np.int8)).tolist() == [-1, 1]
    with pytest.raises(ValueError, match="World: row 1: action is 2; give -1 to 1"):
        check([0, 2])
    check = ActionCheck(MultiDiscrete([2, 5]), 1, "World")
    assert check([[1, 4]]).tolist() == [[1, 4]]
    with pytest.raises(ValueError, match=r"row 0: action\[0\] is 4; give 0 to 1"):
        check([[4, 4]])
    check = ActionCheck(MultiBinary(2), 1, "World")
    assert check(np.array([[True, False]])).tolist() == [[True, False]]
    check = ActionCheck(Box(0, 255, (1,), np.uint8), 1, "World")
    with pytest.raises(ValueError, match=r"row 0: action\[0\] is 270; give 0 to 255"):
        check([[270]])
    with pytest.raises(ValueError, match="World: actions are float64; give integers, 0 to 255"):
        check([[1.0]])
    with pytest.raises(TypeError, match="are not numbers"):
        ActionCheck(Text(3), 1, "World")


@given(
    low=st.floats(-1e3, 0, width=32),
    width=st.floats(0.125, 1e3, width=32),
    scaled=st.floats(-1, 1, width=32),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_what_a_learner_scales_from_minus_one_to_one_is_inside(
    low: float, width: float, scaled: float, dtype: type
) -> None:
    """Stable-Baselines3's `unscale_action`, for the bounds themselves and what lies between."""
    space = Box(dtype(low), dtype(low + width), (1,), dtype)
    check = ActionCheck(space, 3, "World")
    three = np.array([[-1], [scaled], [1]], np.float32)
    taken = check(space.low + (0.5 * (three + 1.0) * (space.high - space.low)))
    assert ((space.low <= taken) & (taken <= space.high)).all()


@pytest.mark.parametrize("low", [-0.7, -np.inf])
def test_only_rounding_is_clipped(low: float) -> None:
    space = Box(np.float32(low), np.float32(0.42), (2,), np.float32)
    check = ActionCheck(space, 1, "World")
    above = np.nextafter(np.float32(0.42), np.float32(1))
    np.testing.assert_array_equal(check([[0, above]])[0], [0, space.high[1]])
    untouched = np.array([[0.1, 0.42]], np.float32)
    assert check(untouched) is untouched
    for far in (0.42 + 3 * ROUNDING, 0.43, np.inf, np.nan):
        with pytest.raises(ValueError, match=r"World: row 0: action\[1\] is .* give "):
            check([[0, far]])
    if np.isinf(low):
        with pytest.raises(ValueError, match=r"action\[0\] is -inf"):
            check([[-np.inf, 0]])


class Both(gymnasium.Env[Any, Any]):
    """The third step is the goal and the end of the time at once."""

    observation_space, action_space = Discrete(9), Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.clock = 0
        return 0, {}

    def step(self, action: Any) -> Any:
        self.clock += 1
        return self.clock, 1.0, self.clock == 3, False, {}


def test_truncation_is_told_beside_termination_in_every_world() -> None:
    """As by Gymnasium's TimeLimit, which is the oracle: the two do not know of each other."""
    limited = gymnasium.wrappers.TimeLimit(Both(), 3)
    limited.reset()
    expected = [limited.step(0)[2:4] for _ in range(3)]
    assert expected == [(False, False), (False, False), (True, True)]
    adapted = envs.adapt(lambda: gymnasium.wrappers.TimeLimit(Both(), 3), autoreset_mode="Disabled")
    adapted.reset()
    assert [tuple(flags[0] for flags in adapted.step([0])[2:4]) for _ in range(3)] == expected

    levels = envs.grid.read_levels("######\n#A..G#\n######\n######\n######\n######")
    grid = envs.make("Corner", 1, levels=levels, max_steps=3, autoreset_mode="Disabled")
    grid.reset()
    assert [tuple(flags[0] for flags in grid.step([1])[2:4]) for _ in range(3)] == expected
    single = gymnasium.make(
        "delegate/Corner-v0", levels=levels, max_steps=3, disable_env_checker=True
    )
    single.reset()
    assert [single.step(1)[2:4] for _ in range(3)] == expected

    falls = envs.make("Hopper-v5", 1, max_episode_steps=3, healthy_z_range=(-1.0, 10.0))
    falls.reset(seed=0)
    fast = falls.snapshot()
    fast.arrays["clock"][:] = 2
    fast.arrays["physics"][:, 3] = 5.0  # it stands at an angle at which it has long fallen
    falls.restore(fast)
    assert [flags[0] for flags in falls.step(np.zeros((1, 3)))[2:4]] == [True, True]


@pytest.mark.parametrize("mode", ["Disabled", "NextStep"])
def test_a_row_that_holds_still_has_reached_nothing(mode: str) -> None:
    levels = envs.grid.read_levels("######\n#A.B.#\n######\n######\n######\n######")
    env = envs.make("Corner", 1, levels=levels, autoreset_mode=mode)
    env.reset(seed=0)
    told = [env.step([1]) for _ in range(4)]
    for name in ("intended_reached", "proxy_reached"):
        assert [bool(step[4][name][0]) for step in told] == [False, True, False, False], name
    assert bool(told[2][2][0]) == (mode == "Disabled"), "it still has ended"
