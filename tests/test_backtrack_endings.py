"""Held terminations, truncation, clocks, refusals and resets."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from chain_world import ChainWorld
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from delegate import envs
from delegate.backtrack import VectorBacktrack

LEFT, RIGHT, DIG, BACK = 0, 1, 2, 3

pytestmark = pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning")


def before_the_pit(steps: int = 1, rows: int = 1, **settings: Any) -> VectorBacktrack:
    """A still world in which `steps` moves to the left fall into the pit."""
    world = ChainWorld(rows, size=9, noise=False, max_steps=settings.pop("max_steps", None))
    mode = settings.pop("autoreset_mode", AutoresetMode.NEXT_STEP)
    env = VectorBacktrack(world, cost=0.5, autoreset_mode=mode, **settings)
    env.reset(seed=0)
    world.state["cell"][:] = steps
    return env


def step(env: VectorBacktrack, *actions: int) -> tuple[Any, ...]:
    """The last of those decisions: observation, reward, terminated, truncated, info of row 0."""
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(np.full(env.num_envs, action))
    row = {name: value[0] for name, value in info.items() if isinstance(value, np.ndarray)}
    cell = env.decode(observation)["observation"][0]
    return cell, reward[0], terminated[0], truncated[0], row


def test_a_held_termination_is_taken_back() -> None:
    env = before_the_pit(2)
    cell, reward, terminated, truncated, info = step(env, LEFT, LEFT)
    assert (cell, reward, terminated, truncated) == (0, -1.125, False, False)
    assert info["held"]
    assert env.action_masks()[0].tolist() == [True, True, True, True]
    cell, reward, terminated, _, info = step(env, BACK)
    assert (cell, reward, terminated) == (1, 1.125 - 0.5, False)
    assert not info["held"]
    cell, reward, terminated, _, info = step(env, RIGHT)
    assert (cell, reward, terminated) == (2, -0.125, False), "the world goes on as if never ended"


@pytest.mark.parametrize("action", [LEFT, RIGHT, DIG])
def test_anything_else_confirms_a_held_termination(action: int) -> None:
    env = before_the_pit()
    step(env, LEFT)
    cell, reward, terminated, truncated, info = step(env, action)
    assert (cell, reward, terminated, truncated) == (0, 0.0, True, False)
    assert (info["clock"], info["path_clock"], info["held"]) == (2, 1, False)
    assert env.ledger.to_dict()["env_steps"] == 1
    assert env.ledger.to_dict()["idled"] == 1


def test_a_refused_backtrack_confirms_a_held_termination() -> None:
    env = before_the_pit(depths=(1, 3))
    step(env, LEFT)
    _, _, terminated, _, info = step(env, BACK + 1)
    assert terminated
    assert info["refusal"] == "path"
    assert env.ledger.idled.tolist() == [1], "one decision, one tick"


def test_nothing_is_held_without_a_way_back() -> None:
    spent = before_the_pit(2, budget=1)
    step(spent, LEFT, BACK)
    too_deep = before_the_pit(2, depths=(3,))
    last_tick = before_the_pit(2, time_limit=2)
    for env, actions in ((spent, [LEFT, LEFT]), (too_deep, [LEFT, LEFT]), (last_tick, [LEFT] * 2)):
        _, reward, terminated, truncated, info = step(env, *actions)
        assert reward == -1.125
        assert terminated
        assert not info["held"]
        assert truncated == (env is last_tick)


def test_without_budget_nothing_differs_from_the_bare_world() -> None:
    actions = np.random.default_rng(0).integers(0, 3, (200, 6))
    bare = ChainWorld(6, autoreset_mode=AutoresetMode.NEXT_STEP, max_steps=11)
    env = VectorBacktrack(ChainWorld(6, max_steps=11), budget=0, observe=(), depths=(1, 2))
    compare_from_reset(bare, env, actions)


def compare_from_reset(bare: ChainWorld, env: VectorBacktrack, actions: np.ndarray) -> None:
    first, second = bare.reset(seed=5), env.reset(seed=5)
    np.testing.assert_array_equal(first[0], second[0])
    endings = 0
    for action in actions:
        ended = bare.state["terminated"] | bare.state["truncated"]
        first, second = bare.step(action), env.step(action)
        for expected, got in zip(first[:4], second[:4], strict=True):
            assert expected.dtype == got.dtype
            np.testing.assert_array_equal(expected, got)
        np.testing.assert_array_equal(first[4]["moved"][~ended], second[4]["moved"][~ended])
        endings += int(first[2].sum() + first[3].sum())
    assert endings > 20


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), actions=st.lists(st.integers(0, 2), min_size=30, max_size=60))
def test_never_backtracking_gives_the_bare_world_but_for_the_confirming_tick(
    seed: int, actions: list[int]
) -> None:
    bare = ChainWorld(1, autoreset_mode=AutoresetMode.NEXT_STEP, max_steps=15)
    env = VectorBacktrack(ChainWorld(1, max_steps=15), observe=(), cost=0.5)
    bare.reset(seed=seed)
    env.reset(seed=seed)
    for action in actions:
        expected = bare.step(np.array([action]))
        given = env.step(np.array([action]))
        if given[4]["held"][0]:
            assert not given[2][0]
            confirmed = env.step(np.array([action]))
            np.testing.assert_array_equal(confirmed[0], given[0])
            assert confirmed[1][0] == 0.0
            given = (given[0], given[1], confirmed[2], given[3], given[4])
        for one, other in zip(expected[:4], given[:4], strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_worlds_own_truncation_is_never_undone() -> None:
    world = ChainWorld(1, size=9, noise=False, max_steps=3)
    env = VectorBacktrack(world, cost=0.5, time_limit=100)
    env.reset(seed=0)
    _, _, terminated, truncated, info = step(env, DIG, DIG, DIG)
    assert (terminated, truncated, info["held"]) == (False, True, False)
    assert not env.action_masks()[0, 3]
    _, reward, terminated, truncated, info = step(env, BACK)
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert not info["backtracked"]
    assert info["clock"] == 0, "this tick began the next episode"


def test_a_termination_at_the_worlds_truncation_is_not_held() -> None:
    env = before_the_pit(2, max_steps=2, time_limit=100)
    _, _, terminated, truncated, info = step(env, LEFT, LEFT)
    assert (terminated, truncated, info["held"]) == (True, True, False)


class FallsAt(gymnasium.Env[np.ndarray, int]):
    """Terminates at its fourth step."""

    observation_space = gymnasium.spaces.Box(0, 9, (1,), np.float64)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self.t = 0

    def reset(self, **how: Any) -> Any:
        super().reset(seed=how.get("seed"))
        self.t = 0
        return np.zeros(1), {}

    def step(self, action: int) -> Any:
        self.t += 1
        return np.array([self.t], float), 0.0, self.t >= 4, False, {}


@pytest.mark.parametrize("limit", [3, 4, 5])
def test_truncated_stands_beside_terminated_as_gymnasiums_time_limit_has_it(limit: int) -> None:
    """Where the clock runs out on the step that terminates, both are True."""
    limited = gymnasium.wrappers.TimeLimit(FallsAt(), limit)
    env = VectorBacktrack(
        envs.adapt(FallsAt, autoreset_mode="Disabled"), time_limit=limit, budget=0
    )
    limited.reset(seed=0)
    env.reset(seed=0)
    both = []
    for _ in range(min(limit, 4)):
        expected = limited.step(0)[2:4]
        *_, terminated, truncated, _ = env.step(np.array([0]))
        assert (terminated[0], truncated[0]) == expected
        both.append(expected)
    assert both[-1] == {3: (False, True), 4: (True, True), 5: (True, False)}[limit]


def test_the_time_limit_is_on_the_interaction_clock() -> None:
    env = before_the_pit(5, time_limit=6, budget=10)
    *_, truncated, info = step(env, DIG, BACK, DIG, BACK, BACK)
    assert not truncated
    assert (info["clock"], info["path_clock"], info["refusal"]) == (5, 0, "path")
    *_, truncated, info = step(env, DIG)
    assert truncated
    assert (info["clock"], info["path_clock"]) == (6, 1)


def test_the_worlds_limit_is_taken_over_to_the_interaction_clock() -> None:
    env = before_the_pit(5, max_steps=4)
    assert env.time_limit == 4
    *_, truncated, info = step(env, DIG, BACK, DIG, DIG)
    assert truncated
    assert info["path_clock"] == 2, "the path is shorter: undone steps were paid for"


def test_a_backtrack_on_the_last_tick_does_not_escape_the_limit() -> None:
    env = before_the_pit(1, time_limit=2)
    _, _, terminated, truncated, info = step(env, LEFT, BACK)
    assert (terminated, truncated) == (False, True)
    assert info["backtracked"]


@pytest.mark.parametrize(
    ("actions", "reason"),
    [
        ([DIG, BACK, DIG, BACK, DIG, BACK], "budget"),
        ([DIG, BACK + 1], "path"),
        ([DIG] * 6 + [BACK + 1, BACK], "horizon"),
    ],
)
def test_a_refused_backtrack_costs_a_tick_and_says_why(actions: list[int], reason: str) -> None:
    env = before_the_pit(5, depths=(1, 2), budget=2, horizon=2)
    _, _, _, _, before = step(env, *actions[:-1])
    idled = env.ledger.idled[0]
    assert not env.action_masks()[0, actions[-1]]
    _, reward, terminated, truncated, info = step(env, actions[-1])
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert info["backtrack_refused"]
    assert info["refusal"] == reason
    assert info["clock"] == before["clock"] + 1
    assert info["path_clock"] == before["path_clock"]
    assert info["budget_left"] == before["budget_left"]
    assert env.ledger.idled[0] == idled + 1


@settings(max_examples=30, deadline=None)
@given(actions=st.lists(st.sampled_from([1, 2, 3, 4, 5]), min_size=1, max_size=60))
def test_masks_tell_exactly_what_is_refused(actions: list[int]) -> None:
    env = before_the_pit(4, depths=(1, 2, 5), budget=4, horizon=6, max_steps=None)
    for action in actions:
        allowed = env.action_masks()[0, action]
        assert env.action_masks().shape == (1, 6)
        *_, terminated, truncated, info = step(env, action)
        if action >= BACK:
            assert info["backtracked"] == allowed
            assert info["backtrack_refused"] == (not allowed)
        if terminated or truncated:
            break
    assert env.ledger.restores[0] <= 4


def test_noise_is_fresh_after_a_backtrack() -> None:
    world = ChainWorld(64, size=40, max_steps=None)
    env = VectorBacktrack(world, cost=0.5, budget=4)
    env.reset(seed=0)
    world.state["cell"][:], world.state["wind"][:] = 20, 2
    outcomes = []
    for _ in range(3):
        env.step(np.full(64, RIGHT))
        outcomes.append(world.state["cell"].copy())
        env.step(np.full(64, BACK))
        assert (world.state["cell"] == 20).all()
    assert not np.array_equal(outcomes[0], outcomes[1])
    assert not np.array_equal(outcomes[1], outcomes[2])


def test_disabled_autoreset_holds_still_until_told() -> None:
    env = before_the_pit(1, rows=2, autoreset_mode=AutoresetMode.DISABLED, budget=0)
    env.env.state_arrays()["cell"][1] = 5
    env.step(np.array([LEFT, DIG]))
    for _ in range(3):
        before = env.snapshot(np.array([0])).arrays
        _, reward, terminated, truncated, _ = env.step(np.array([RIGHT, DIG]))
        assert (reward[0], terminated.tolist(), truncated.tolist()) == (
            0.0,
            [True, False],
            [False] * 2,
        )
        for name, array in env.snapshot(np.array([0])).arrays.items():
            np.testing.assert_array_equal(array, before[name], err_msg=name)
    _, info = env.reset(options={"reset_mask": np.array([True, False])})
    assert info["clock"].tolist() == [0, 4]
    assert not env.step(np.array([DIG, DIG]))[2].any()


class SometimesCannotBegin(ChainWorld):
    """A reset may fail, as of an environment that loads something."""

    fails = False

    def reset(self, **how: Any) -> Any:
        if self.fails:
            raise OSError("no levels left")
        return super().reset(**how)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_rows_whose_autoreset_raises_wait_for_the_next_one(mode: AutoresetMode) -> None:
    """The others' steps stand and are paid for once."""
    world = SometimesCannotBegin(2, size=9, noise=False, max_steps=None)
    env = VectorBacktrack(world, cost=0.5, autoreset_mode=mode, budget=0)
    env.reset(seed=0)
    world.state["cell"][:] = 1, 5
    if mode == AutoresetMode.NEXT_STEP:
        assert env.step(np.array([LEFT, DIG]))[2].tolist() == [True, False]
    world.fails = True
    with pytest.raises(OSError, match="no levels left"):
        env.step(np.array([LEFT, DIG]))
    paid = env.ledger.env_steps.tolist()
    assert paid == ([1, 2] if mode == AutoresetMode.NEXT_STEP else [1, 1])
    world.fails = False
    *_, info = env.step(np.array([LEFT, DIG]))
    assert info["clock"].tolist() == [0, paid[1] + 1]
    assert env.ledger.env_steps.tolist() == [1, paid[1] + 1]
    assert env.step(np.array([DIG, DIG]))[4]["clock"].tolist() == [1, paid[1] + 2]


@pytest.mark.parametrize("mask", [np.array([True]), np.array([1, 0]), np.array([False, False])])
def test_a_reset_mask_that_does_not_fit_is_refused(mask: np.ndarray) -> None:
    env = before_the_pit(1, rows=2)
    with pytest.raises(ValueError, match=r"reset_mask is .* give bool \(2,\)"):
        env.reset(options={"reset_mask": mask})


def test_step_before_reset() -> None:
    env = VectorBacktrack(ChainWorld(2))
    with pytest.raises(ResetNeeded, match="row 0: step before its first reset"):
        env.step(np.zeros(2, int))


def test_worlds_that_cannot_be_taken_back_are_refused() -> None:
    with pytest.raises(ValueError, match="make it with autoreset_mode"):
        VectorBacktrack(ChainWorld(1, autoreset_mode=AutoresetMode.NEXT_STEP))
    with pytest.raises(TypeError, match="str cannot be restored; give a StatefulVectorEnv"):
        VectorBacktrack("Corner")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="already has a backtrack action"):
        VectorBacktrack(VectorBacktrack(ChainWorld(1), autoreset_mode=AutoresetMode.DISABLED))
    with pytest.raises(TypeError, match="not both"):
        VectorBacktrack(ChainWorld(1), VectorBacktrack(ChainWorld(1)).config, budget=1)
