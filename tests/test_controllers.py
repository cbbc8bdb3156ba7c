"""Scripted children on MuJoCo are what they are said to be."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from pydantic import ValidationError

from delegate import envs, policies
from delegate.agents import Briefing, Intent
from delegate.bank import SHIFTED

WORLDS = ("point-maze", "reacher-pair")
ROWS = 80


@cache
def bank_of(world: str) -> Any:
    levels = envs.levels(
        world, "shifted", seeds=range(50 * ROWS), count=ROWS, distinguishing_only=True
    )
    return envs.make_bank(world, levels)


class Played(NamedTuple):
    """steps int [B] · intended, proxy, back bool [B]: reached, reached, handed back · intent"""

    steps: np.ndarray
    intended: np.ndarray
    proxy: np.ndarray
    back: np.ndarray
    intent: np.ndarray


def play(world: str, policy: str, rows: np.ndarray | None = None, **settings: Any) -> Played:
    """One delegation to the assigned goal in each level, alone."""
    bank = bank_of(world)
    env, agent = bank.env, policies.make(policy, bank.world, **settings)
    rows = np.arange(bank.count) if rows is None else rows
    goal = bank.assigned[rows]
    env.reset(seed=0)
    memory = agent.memory(1_000 + rows.astype(np.uint64))
    if agent.told:
        briefing = Briefing(bank, rows, bank.proxy[rows])
        memory = agent.brief(env.observe(rows), goal, briefing, memory)
    else:
        memory = agent.begin(env.observe(rows), goal, memory)
    steps = np.zeros(len(rows), int)
    met = np.zeros((3, len(rows)), bool)
    live = np.arange(len(rows))
    for _ in range(env.max_episode_steps):
        own = {name: array[live] for name, array in memory.items()}
        obs = env.observe(rows[live])
        before = {name: array.copy() for name, array in own.items()}
        done = np.broadcast_to(agent.done(obs, goal[live], own), len(live))
        action, after = agent.act(obs, goal[live], own)
        for name, array in own.items():
            np.testing.assert_array_equal(array, before[name], "memory is not written to")
            memory[name][live] = after[name]
        assert action.dtype == np.float32
        assert np.abs(action).max(initial=0) <= 1
        met[2][live[done]] = True
        live, action = live[~done], action[~done]
        *_, terminated, truncated, info = env.step_rows(rows[live], action)
        steps[live] += 1
        met[0][live] |= info["intended_reached"]
        met[1][live] |= info["proxy_reached"]
        live = live[~(terminated | truncated)]
        if not live.size:
            break
    return Played(steps, *met, np.asarray(agent.intent(memory)))


@pytest.mark.parametrize("world", WORLDS)
def test_intended_children_reach_their_goal_and_proxy_children_theirs(world: str) -> None:
    assert (bank_of(world).split == SHIFTED).all()
    intended, proxy = play(world, "intended"), play(world, "proxy")
    assert intended.intended.mean() >= 0.95
    assert proxy.proxy.mean() >= 0.95
    assert not proxy.intended.any(), "on levels that tell the goals apart"
    assert proxy.back.mean() >= 0.95, "and hand back there"
    assert (intended.intent == Intent.INTENDED).all()
    assert (proxy.intent == Intent.PROXY).all()


@pytest.mark.parametrize("world", WORLDS)
def test_an_aimless_child_seldom_reaches_anything_and_never_hands_back(world: str) -> None:
    aimless = play(world, "random")
    assert aimless.intended.mean() < 0.5
    assert not aimless.back.any()
    assert (aimless.intent == Intent.NONE).all()


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("manner", [{"noise": 0.3}, {"slower": 0.5}])
def test_manners_cost_steps_and_not_the_goal(world: str, manner: dict[str, float]) -> None:
    plain, other = play(world, "intended"), play(world, "intended", **manner)
    assert other.intended.mean() >= 0.95
    changed = other.steps != plain.steps
    assert changed.mean() > 0.3
    assert other.steps.mean() > plain.steps.mean() * (1.2 if "slower" in manner else 0.98)


@pytest.mark.parametrize(("world", "reach"), [("point-maze", 1.5), ("reacher-pair", 0.15)])
def test_a_detour_is_longer_and_ends_at_the_goal(world: str, reach: float) -> None:
    plain, other = play(world, "intended"), play(world, "intended", detour=reach)
    assert other.intended.mean() >= 0.9
    assert other.steps.mean() > 1.2 * plain.steps.mean()


@pytest.mark.parametrize("world", WORLDS)
def test_a_turning_child_goes_half_way_and_then_to_the_proxy(world: str) -> None:
    """Where half of the way leaves room to turn: the ball is fast, and a goal a disc of 0.45 m."""
    bank, turning = bank_of(world), play(world, "turning")
    bank.env.reset(seed=0)
    level, state = np.arange(bank.count), bank.env.markov_state()
    way = bank.planner.distance(level, bank.assigned[:, None], state)[:, 0]
    far = way > (2.0 if world == "point-maze" else 0.1)
    assert far.mean() > 0.3
    assert (turning.intent == Intent.PROXY)[far].mean() >= 0.95
    assert turning.proxy[far].mean() >= 0.9
    assert turning.intended[far].mean() <= 0.1
    late = play(world, "turning", share=0.9)
    assert (late.intent == Intent.PROXY).mean() <= (turning.intent == Intent.PROXY).mean()


@pytest.mark.parametrize("policy", ["intended", "proxy", "turning", "random"])
@pytest.mark.parametrize("world", WORLDS)
def test_children_do_alone_what_they_do_in_company(world: str, policy: str) -> None:
    some = np.array([5, 2])
    settings = {} if policy == "random" else {"noise": 0.2, "detour": 1.0}
    everyone, alone = play(world, policy, **settings), play(world, policy, some, **settings)
    for whole, part in zip(everyone, alone, strict=True):
        np.testing.assert_array_equal(whole[some], part)


def test_what_a_world_has_not_is_refused() -> None:
    world = bank_of("point-maze").world
    with pytest.raises(ValueError, match="is for grids; for point-maze there are"):
        policies.make("trigger", world)
    with pytest.raises(ValueError, match="did you mean"):
        policies.make("intend", world)
    with pytest.raises(ValidationError, match="share"):
        policies.make("turning", world, share=1.5)
