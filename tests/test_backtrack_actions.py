"""The widened action spaces, masks, and actions that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from chain_world import ChainWorld
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from delegate import envs
from delegate.backtrack import VectorBacktrack
from delegate.backtrack.spaces import BoxActions, DiscreteActions, widen


def test_discrete_actions_are_widened_at_the_end() -> None:
    actions = DiscreteActions(spaces.Discrete(3, start=2), 2, rows=4, name="world")
    assert actions.space == spaces.Discrete(5, start=2)
    world, choice = actions.split(np.array([2, 4, 5, 6]))
    assert world[:2].tolist() == [2, 4]
    assert (choice < 0).tolist() == [True, True, False, False]
    assert choice[2:].tolist() == [0, 1]
    assert actions.idle == 2, "idle is in the world's space"


def test_a_box_gains_one_coordinate() -> None:
    box = spaces.Box(np.float32([0.5, -2]), np.float32([1, 2]))
    actions = BoxActions(box, 2, threshold=0.5, rows=6, name="world")
    assert actions.space == spaces.Box(np.float32([0.5, -2, -1]), np.float32([1, 2, 1]))
    last = [-1, 0.5, 0.51, 0.75, 0.76, 1]
    world, choice = actions.split(np.array([[0.75, 1, x] for x in last], np.float32))
    assert choice.tolist() == [-1, -1, 0, 1, 1, 1]
    assert world.tolist() == [[0.75, 1]] * 6
    assert world.dtype == np.float32
    assert actions.idle.tolist() == [0.5, 0], "idle is inside the box"


@given(
    last=st.floats(-1, 1, width=32),
    depths=st.integers(1, 5),
    threshold=st.floats(-1, 0.875, width=32),
)
def test_the_bands_of_the_last_coordinate(last: float, depths: int, threshold: float) -> None:
    actions = BoxActions(spaces.Box(-1, 1, (1,), np.float64), depths, threshold, 1, "world")
    _, choice = actions.split(np.array([[0.0, last]]))
    assert (choice[0] >= 0) == (last > threshold)
    if choice[0] >= 0:
        assert choice[0] < depths
        assert last < 1 or choice[0] == depths - 1


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([2, 2]), spaces.Box(-1, 1, (2, 2))])
def test_other_spaces_cannot_be_widened(space: spaces.Space) -> None:
    with pytest.raises(TypeError, match="needs Discrete or a 1-D float Box"):
        widen(space, 1, 0.5, 1, "world")


DISCRETE_NONSENSE = [
    (np.array([0, 1]), r"shape \(2,\); give \(3,\)"),
    (np.array([[0], [1], [2]]), r"shape \(3, 1\); give \(3,\)"),
    (np.array([0, 4, 0]), "ChainWorld: row 1: action is 4; give 0 to 3"),
    (np.array([0, 0, -1]), "row 2: action is -1; give 0 to 3"),
    (np.array([0, np.nan, 1]), "actions are float64; give integers, 0 to 3"),
    (np.array([0, 1.0, 1]), "actions are float64; give integers, 0 to 3"),
    (np.array(["a", "b", "c"]), "give integers"),
    (np.array([0, 2**63, 0], np.uint64), "row 1: action is 9223372036854775808"),
]


@pytest.mark.parametrize(("actions", "why"), DISCRETE_NONSENSE)
def test_bad_actions_name_the_row_and_change_nothing(actions: np.ndarray, why: str) -> None:
    env = VectorBacktrack(ChainWorld(3), cost=0.5)
    env.reset(seed=0)
    before = env.snapshot().arrays
    with pytest.raises(ValueError, match=why):
        env.step(actions)
    for name, array in env.snapshot().arrays.items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    env.step(np.array([1, 2, 3]))
    assert env.ledger.interactions.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("actions", "why"),
    [
        (np.zeros((3, 2)), r"shape \(3, 2\); give \(3, 3\)"),
        (
            np.array([[0, 0, 0], [0, np.nan, 0], [0, 0, 0]]),
            r"row 1: action\[1\] is nan; .* NaN in the policy",
        ),
        (
            np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1.5]]),
            r"row 2: action\[2\] is 1.5; give -1.0 to 1.0",
        ),
        (np.array([["a"] * 3] * 3), "give floats"),
    ],
)
def test_bad_continuous_actions(actions: np.ndarray, why: str) -> None:
    env = VectorBacktrack(ChainWorld(3, actions="box"), cost=0.5)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=why):
        env.step(actions)


def test_continuous_actions_do_what_discrete_ones_do() -> None:
    """The same play through both faces of the same world."""
    as_box = {0: [-1, 0, 0], 1: [1, 0, 0], 2: [1, 1, 0], 3: [0, 0, 0.7], 4: [0, 0, 1]}
    discrete = VectorBacktrack(ChainWorld(4), depths=(1, 3), cost=0.75)
    box = VectorBacktrack(ChainWorld(4, actions="box"), depths=(1, 3), cost=0.75, observe=())
    discrete.reset(seed=1)
    box.reset(seed=1)
    rng, undone = np.random.default_rng(1), 0
    for _ in range(200):
        actions = rng.integers(0, 5, 4)
        first = discrete.step(actions)
        second = box.step(np.array([as_box[a] for a in actions], np.float32))
        assert discrete.decode(first[0])["observation"].tolist() == second[0].tolist()
        for one, other in zip(first[1:4], second[1:4], strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(first[4]["refusal"], second[4]["refusal"])
        undone += second[4]["undone_steps"].sum()
    assert undone > 20
    with pytest.raises(TypeError, match="use can_backtrack"):
        box.action_masks()
    np.testing.assert_array_equal(box.can_backtrack(), discrete.can_backtrack())


def test_what_rounding_took_out_of_bounds_is_taken() -> None:
    env = VectorBacktrack(ChainWorld(2, actions="box"), cost=0.5)
    env.reset(seed=3)
    env.step(np.array([[1 + 1e-7, 0, 0], [0, 0, -1 - 1e-7]]))
    with pytest.raises(ValueError, match=r"row 0: action\[0\] is 1.00001"):
        env.step(np.array([[1 + 1e-5, 0, 0], [0, 0, 0]]))


def test_seeds_may_be_one_a_row() -> None:
    env = VectorBacktrack(envs.make("TrapGrid", 2, autoreset_mode="Disabled"), cost=0.5)
    env.reset(seed=[3, 4])
    both = env.env.observe()
    env.env.reset(seed=[3, 4])
    np.testing.assert_array_equal(env.env.observe(), both)
    env.env.reset(seed=[4, 3])
    assert not np.array_equal(env.env.observe(), both)
