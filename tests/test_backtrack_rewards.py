"""What a backtrack gives back, what it costs, and the do-undo loop that a free refund invites."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from chain_world import ChainWorld
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from delegate import envs
from delegate.backtrack import FreeRefundWarning, StatefulVectorEnv, VectorBacktrack
from delegate.backtrack.progress import SAMPLES, StandingStill

RIGHT, DIG, BACK = 1, 2, 3


def one_row(world: ChainWorld | None = None, **settings: Any) -> VectorBacktrack:
    world = world or ChainWorld(1, size=30, noise=False, max_steps=None)
    env = VectorBacktrack(world, autoreset_mode=AutoresetMode.DISABLED, **settings)
    env.reset(seed=0)
    return env


action_lists = st.lists(st.sampled_from([0, 1, 1, 2, 3, 4, 3]), min_size=1, max_size=80)


@pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning")
@settings(max_examples=60, deadline=None)
@given(actions=action_lists, seed=st.integers(0, 99), gamma=st.sampled_from([None, 0.9, 0.99]))
def test_returns_are_the_surviving_paths_less_costs(
    actions: list[int], seed: int, gamma: float | None
) -> None:
    refund: dict[str, Any] = {} if gamma is None else {"refund": "discounted", "gamma": gamma}
    env = one_row(
        ChainWorld(1, size=6), depths=(1, 3), budget=20, cost=0.25, refused_cost=0.0625, **refund
    )
    env.reset(seed=seed)
    discount = gamma or 1.0
    emitted, costs, path = 0.0, 0.0, list[float]()
    for tick, action in enumerate(actions):
        _, reward, terminated, truncated, info = env.step(np.array([action]))
        weight = discount**tick
        emitted += weight * reward[0]
        if info["backtracked"][0]:
            costs += 0.25 * weight
            del path[-info["undone_steps"][0] :]
        elif info["backtrack_refused"][0]:
            costs += 0.0625 * weight
        elif info["path_clock"][0] > len(path):
            path.append(weight * reward[0])
        assert info["path_clock"][0] == len(path)
        if gamma is None:
            assert emitted == sum(path) - costs
        else:
            assert emitted == pytest.approx(sum(path) - costs, rel=1e-12, abs=1e-12)
        if terminated[0] or truncated[0]:
            break


def test_a_refund_by_hand() -> None:
    env = one_row(depths=(1, 2), cost=0.5, refund="discounted", gamma=0.5)
    for tick, (action, expected) in enumerate(
        [
            (RIGHT, -0.125),
            (RIGHT, -0.125),
            (BACK, 0.125 * 0.5**-1 - 0.5),  # paid at 1, refunded at 2
            (RIGHT, -0.125),
            (BACK + 1, 0.125 * 0.5**-4 + 0.125 * 0.5**-1 - 0.5),  # paid at 0 and at 3
        ]
    ):
        _, reward, *_, info = env.step(np.array([action]))
        assert reward[0] == expected, tick
    assert info["path_clock"][0] == 0
    assert info["clock"][0] == 5


def test_a_refund_too_large_for_a_float_names_the_row_and_changes_nothing() -> None:
    env = one_row(budget=2000, cost=0.5, refund="discounted", gamma=0.01, depths=(1, 2))
    env.step(np.array([RIGHT]))
    for _ in range(100):
        env.step(np.array([DIG]))
        env.step(np.array([BACK]))
    env.step(np.array([DIG]))
    before = env.snapshot()
    message = "row 0: the refund of rewards up to 202 interactions old is inf at gamma 0.01"
    with pytest.raises(OverflowError, match=message):
        env.step(np.array([BACK + 1]))
    for name, array in env.snapshot().arrays.items():
        np.testing.assert_array_equal(array, before.arrays[name], err_msg=name)


def returns(env: VectorBacktrack, actions: list[int], ticks: int) -> float:
    """What repeating those actions for so long earns."""
    env.reset(seed=0)
    return sum(
        float(env.step(np.array([actions[tick % len(actions)]]))[1][0]) for tick in range(ticks)
    )


@pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning")
@pytest.mark.parametrize("depth", [1, 3])
def test_the_do_undo_loop_pays_unless_it_costs_more_than_it_saves(depth: int) -> None:
    """Step cost 1/8: a loop of depth d spends d + 1 ticks, walking on would cost (d + 1) / 8."""
    saved = (depth + 1) * 0.125
    loop, walk, ticks = [DIG] * depth + [BACK], [DIG], 40 * (depth + 1)
    gains = {
        cost: returns(one_row(depths=(depth,), budget=1000, cost=cost), loop, ticks)
        - returns(one_row(depths=(depth,), budget=1000, cost=cost), walk, ticks)
        for cost in (0.0, saved, saved + 0.125)
    }
    assert gains[0.0] == 40 * saved, "free refunds: standing still costs nothing"
    assert gains[saved] == 0.0
    assert gains[saved + 0.125] == -40 * 0.125


@pytest.mark.parametrize(("depths", "cost", "warns"), [((1,), 0.25, True), ((1,), 0.2501, False)])
def test_a_declared_step_cost_is_judged_at_once(
    depths: tuple[int, ...], cost: float, warns: bool
) -> None:
    world = ChainWorld(1)
    world.step_cost = 0.125  # type: ignore[attr-defined]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        VectorBacktrack(world, depths=depths, cost=cost)
    assert [warning.category for warning in caught] == [FreeRefundWarning] * warns
    assert all(warning.filename == __file__ for warning in caught), "it points at the caller"


def test_the_deepest_backtrack_decides_what_is_cheap() -> None:
    world = ChainWorld(1)
    world.step_cost = 0.125  # type: ignore[attr-defined]
    with pytest.warns(FreeRefundWarning, match=r"does not exceed 0.625.*set backtrack.cost above"):
        VectorBacktrack(world, depths=(1, 4), cost=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        VectorBacktrack(world, depths=(1, 4), cost=0.7)
        VectorBacktrack(world, depths=(1, 4), cost=0.0, budget=0)


def test_an_undeclared_step_cost_is_learned_from_rewards_and_warned_of_once() -> None:
    env = one_row(cost=0.25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(SAMPLES - 1):
            env.step(np.array([DIG]))
    with pytest.warns(FreeRefundWarning, match=r"at a step cost of 0.125 \(the median so far\)"):
        env.step(np.array([DIG]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2 * SAMPLES):
            env.step(np.array([DIG]))


def test_a_warning_that_is_an_error_leaves_a_whole_step() -> None:
    strict, free = one_row(cost=0.25), one_row(cost=0.25)
    for _ in range(SAMPLES - 1):
        strict.step(np.array([DIG]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FreeRefundWarning):
            strict.step(np.array([DIG]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(SAMPLES):
            free.step(np.array([DIG]))
    for name, array in free.snapshot().arrays.items():
        np.testing.assert_array_equal(strict.snapshot().arrays[name], array, err_msg=name)


def test_a_grid_world_with_step_costs_is_warned_of() -> None:
    with pytest.warns(FreeRefundWarning, match=r"does not exceed 0.1\b.*at a step cost of 0.05"):
        walk_about(envs.make("TrapGrid", 64, step_cost=0.05, autoreset_mode=AutoresetMode.DISABLED))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        walk_about(envs.make("TrapGrid", 64, autoreset_mode=AutoresetMode.DISABLED))


def walk_about(world: StatefulVectorEnv) -> None:
    env = VectorBacktrack(world, cost=0.02)
    env.reset(seed=0)
    for action in (1, 3, 1, 3):
        env.step(np.full(64, action))


def test_free_steps_are_not_warned_of() -> None:
    env = one_row(ChainWorld(1, step_reward=0.0, noise=False, max_steps=None), cost=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2 * SAMPLES):
            env.step(np.array([DIG]))


def test_rare_rewards_do_not_mislead_the_median() -> None:
    few, most = SAMPLES // 8, SAMPLES - SAMPLES // 8
    with pytest.warns(FreeRefundWarning, match="a step cost of 0.125"):
        StandingStill(0.25, 1, None).see(np.array([-0.125] * most + [10.0] * few))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        StandingStill(0.25, 1, None).see(np.array([0.0] * most + [-10.0] * few))


@pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning")
def test_the_share_of_do_undo_loops_is_known() -> None:
    env = one_row(budget=100, cost=0.5)
    for _ in range(4):
        assert not env.step(np.array([DIG]))[-1]["do_undo_loop"][0]
    # Going back after a real walk is no loop; doing and undoing there is.
    assert not env.step(np.array([BACK]))[-1]["do_undo_loop"][0]
    env.step(np.array([DIG]))
    assert env.step(np.array([BACK]))[-1]["do_undo_loop"][0]
    assert not env.step(np.array([BACK]))[-1]["do_undo_loop"][0]
    assert env.do_undo_share == 2 / 8
    env.reset(seed=0)
    for _ in range(46):
        env.step(np.array([DIG]))
        env.step(np.array([BACK]))
    assert env.do_undo_share == (2 + 92) / 100
