"""What is no action of an adapted environment is refused; what fits is taken as it is."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary
from nasty_worlds import Walk

from delegate import envs


@pytest.mark.parametrize(
    ("id", "actions", "words"),
    [
        ("CartPole-v1", [0, 2, 1], "CartPole-v1: row 1: action is 2; give 0 to 1"),
        ("CartPole-v1", [0, 1], r"actions have shape \(2,\); give \(3,\), one a row"),
        ("CartPole-v1", [0.0, 1.0, 0.0], "actions are float64; give integers, 0 to 1"),
        (
            "Pendulum-v1",
            [[0.0], [np.nan], [0.0]],
            r"row 1: action.0. is nan; give -2\.0 to 2\.0; look for NaN",
        ),
        ("Pendulum-v1", [[0.0], [0.0], [3.0]], r"row 2: action.0. is 3.0; give -2.0 to 2.0"),
        ("Pendulum-v1", [0.0, 0.0, 0.0], r"actions have shape \(3,\); give \(3, 1\)"),
        ("CartPole-v1", [0, np.nan, 0], "actions are float64; give integers"),
        ("CartPole-v1", [0, 1, [1]], r"actions differ in length; give \(3,\), one a row"),
        ("Pendulum-v1", [[0.0], [0.0, 1.0], [0.0]], r"actions differ in length; give \(3, 1\)"),
        ("Pendulum-v1", [[0.0], [0.0], [[0.0], []]], r"actions differ in length; give \(3, 1\)"),
    ],
)
def test_bad_actions_name_the_row_and_move_none(id: str, actions: Any, words: str) -> None:
    env = envs.adapt(id, 3)
    env.reset(seed=0)
    before = env.snapshot()
    with pytest.raises(ValueError, match=words):
        env.step(actions)
    for name, array in env.snapshot().arrays.items():
        np.testing.assert_array_equal(array, before.arrays[name])


class _Takes(Walk):
    """A walk that shows what it was given."""

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        super().__init__()
        self.action_space, self.given = space, list[Any]()

    def step(self, action: Any) -> Any:
        self.given.append(action)
        return super().step(1)


BYTES, FLOATS = Box(0, 255, (1,), np.uint8), Box(-np.inf, np.inf, (1,), np.float32)
PAIR = Dict({"push": Box(-1, 1, (2,)), "turn": Discrete(3)})


@pytest.mark.parametrize(
    ("space", "actions", "words"),
    [
        (
            MultiBinary(2),
            [[0, 1], [256, 257]],
            r"row 1: action.0. is 256; give 0 to 1",
        ),
        (BYTES, [[300], [0]], r"row 0: action.0. is 300; give 0 to 255"),
        (BYTES, [[0], [-1]], r"row 1: action.0. is -1; give 0"),
        (Discrete(3), np.array([0, 2**64 - 1], np.uint64), r"row 1: action is 184\d+; give 0 to 2"),
        (
            FLOATS,
            [[0.0], [1e300]],
            r"row 1: action \[1e\+300\] does not fit into float32; give sma",
        ),
        (Box(-1, 1, (1,)), [[0.0], [1e300]], r"row 1: action.0. is 1e\+300; give -1.0 to 1.0"),
        (
            PAIR,
            {"push": np.zeros((2, 2), np.float32), "turn": np.array([0, 3])},
            "row 1: .* not in",
        ),
        (
            PAIR,
            {"push": np.zeros((1, 2), np.float32), "turn": np.array([0])},
            "are of 1 rows; give 2",
        ),
        (
            PAIR,
            {"push": np.zeros((2, 2), np.float32)},
            "are not a batch of Dict.*'turn'.; give Dict",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_cast(
    space: gymnasium.Space[Any], actions: Any, words: str
) -> None:
    env = envs.adapt(lambda: _Takes(space), 2)
    env.reset(seed=0)
    before = [list(each.given) for each in env.envs]
    with pytest.raises(ValueError, match=words):
        env.step(actions)
    assert [each.given for each in env.envs] == before


@pytest.mark.parametrize(
    ("space", "actions", "taken"),
    [
        (MultiBinary(2), [[0, 1], [True, True]], [[0, 1], [1, 1]]),
        (BYTES, [[255], [0]], [[255], [0]]),
        (FLOATS, [[1e30], [3]], [[np.float32(1e30)], [3]]),
        (Box(-0.7, 0.7, (1,)), [[0.7], [-0.7]], [[np.float32(0.7)], [np.float32(-0.7)]]),
    ],
)
def test_what_fits_is_taken_in_the_spaces_own_numbers(
    space: gymnasium.Space[Any], actions: Any, taken: Any
) -> None:
    env = envs.adapt(lambda: _Takes(space), 2)
    env.reset(seed=0)
    env.step(actions)
    for each, expected in zip(env.envs, taken, strict=True):
        assert each.given[-1].dtype == space.dtype
        assert each.given[-1].tolist() == expected


def test_actions_stay_the_callers_own() -> None:
    """An environment may keep or change the action it was given."""
    env = envs.adapt(lambda: _Takes(PAIR), 1)
    env.reset(seed=0)
    actions = {"push": np.zeros((1, 2), np.float32), "turn": np.array([1])}
    env.step(actions)
    env.envs[0].given[-1]["push"][:] = 1
    assert actions["push"].tolist() == [[0, 0]]
