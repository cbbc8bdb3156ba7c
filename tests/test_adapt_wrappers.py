"""Gymnasium's wrappers around an adapted environment, inside it, and around each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from adapted_conformance import check_adapted, check_backtrack
from gymnasium import wrappers
from gymnasium.utils.env_checker import check_env
from nasty_worlds import Walk

from delegate import envs

Env = gymnasium.Env[Any, Any]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(alternative render modes|infinity|normalized).*"),
    pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning"),
    pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version.*"),
]


def shifted_by_how_often(env: Env) -> Env:
    """An observation that depends on a number in a closure: hidden state of a function."""
    calls = 0

    def shift(observation: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        return observation + calls

    space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    return wrappers.TransformObservation(env, shift, space)


def rendered(env: Env) -> Env:
    picture = gymnasium.make("CartPole-v1", render_mode="rgb_array", max_episode_steps=4)
    return wrappers.AddRenderObservation(picture)


WRAPPED: dict[str, Callable[[Env], Env]] = {
    "TimeLimit": lambda env: env,
    "RecordEpisodeStatistics": wrappers.RecordEpisodeStatistics,
    "NormalizeObservation": wrappers.NormalizeObservation,
    "NormalizeReward": wrappers.NormalizeReward,
    "FrameStackObservation": lambda env: wrappers.FrameStackObservation(env, 3),
    "DelayObservation": lambda env: wrappers.DelayObservation(env, 2),
    "MaxAndSkipObservation": lambda env: wrappers.MaxAndSkipObservation(env, 2),
    "TimeAwareObservation": wrappers.TimeAwareObservation,
    "StickyAction": lambda env: wrappers.StickyAction(env, 0.5),
    "TransformObservation": shifted_by_how_often,
    "TransformReward": lambda env: wrappers.TransformReward(env, lambda reward: 2 * reward),
    "Autoreset": wrappers.Autoreset,
    "AddRenderObservation": rendered,
    "all of them": lambda env: wrappers.RecordEpisodeStatistics(
        wrappers.NormalizeReward(
            wrappers.NormalizeObservation(
                wrappers.FrameStackObservation(
                    shifted_by_how_often(wrappers.StickyAction(env, 0.3)), 2
                )
            )
        )
    ),
}
PENDULUM: dict[str, Callable[[Env], Env]] = {
    "ClipAction": wrappers.ClipAction,
    "RescaleAction": lambda env: wrappers.RescaleAction(env, -1, 1),
    "ClipReward": lambda env: wrappers.ClipReward(env, -1, 1),
}


def limited(wrap: Callable[[Env], Env]) -> Callable[[], Env]:
    return lambda: wrap(wrappers.TimeLimit(Walk(), 5))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "AddRenderObservation" else ())
        for name in WRAPPED
    ],
)
def test_fidelity_with_its_negative_control(name: str) -> None:
    check_adapted(limited(WRAPPED[name]), matters=("objects",), steps=14, rows=2, save_points=3)


@pytest.mark.parametrize("name", PENDULUM)
def test_fidelity_with_continuous_actions(name: str) -> None:
    def make() -> Env:
        return PENDULUM[name](gymnasium.make("Pendulum-v1", max_episode_steps=5))

    check_adapted(make, matters=("objects", "random"))


@pytest.mark.parametrize("name", WRAPPED)
def test_backtrack_passes_gymnasiums_check(name: str) -> None:
    if name in ("NormalizeObservation", "TransformObservation", "all of them"):
        # they remember across resets, so equal seeds do not give equal observations
        with pytest.raises(AssertionError, match="Deterministic step observations are not"):
            check_env(limited(WRAPPED[name])(), skip_render_check=True)
    else:
        check_backtrack(limited(WRAPPED[name]))


def test_statistics_of_an_episode_go_back_without_the_clock() -> None:
    env = envs.adapt(limited(wrappers.RecordEpisodeStatistics), 2, autoreset_mode="Disabled")
    env.reset(seed=0)
    stay = np.ones(2, np.int64)
    env.step(stay)
    saved = env.snapshot()
    told = []
    for _ in range(2):
        env.restore(saved)
        info: dict[str, Any] = {}
        while "episode" not in info:
            *_, info = env.step(stay)
        told.append(info["episode"])
    assert told[0].keys() == told[1].keys() == {"r", "_r", "l", "_l"}
    for name, value in told[0].items():
        np.testing.assert_array_equal(value, told[1][name])
    assert {len(each.length_queue) for each in env.envs} <= {0, 1}


def test_running_means_go_back() -> None:
    env = envs.adapt(limited(wrappers.NormalizeObservation), 1)
    env.reset(seed=0)
    saved, mean = env.snapshot(), env.envs[0].obs_rms.mean.copy()
    for _ in range(3):
        env.step(np.array([2]))
    assert not np.array_equal(env.envs[0].obs_rms.mean, mean)
    env.restore(saved)
    np.testing.assert_array_equal(env.envs[0].obs_rms.mean, mean)


def test_clipped_actions_may_be_out_of_range() -> None:
    env = envs.adapt(lambda: wrappers.ClipAction(gymnasium.make("Pendulum-v1")), 2)
    env.reset(seed=0)
    env.step(np.array([[50.0], [-50.0]]))
    with pytest.raises(ValueError, match=r"row 1: action.0. is nan; .*look for NaN"):
        env.step(np.array([[50.0], [np.nan]]))


def test_our_own_single_environments_can_be_adapted() -> None:
    check_adapted(
        lambda: gymnasium.make("delegate/TrapGrid-v0", max_steps=6),
        matters=("objects", "random"),
        steps=14,
        rows=2,
        save_points=3,
    )
    assert envs.adapt("delegate/TrapGrid-v0").codec == "rows"
