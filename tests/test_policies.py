"""Scripted children are what they are said to be."""

from __future__ import annotations

import numpy as np
import pytest
from delegations import begun, child, world
from pydantic import ValidationError
from scipy import stats

from delegate import policies
from delegate.agents import HAND_BACK, Intent


def walk(env, policy, seeds=None, limit=300):
    """Each row walked until its child hands back or the world ends: steps, cells visited."""
    rows = env.num_envs
    seeds = np.arange(rows, dtype=np.uint64) if seeds is None else seeds
    level = env.level_index
    goal, proxy = env.levels.goal[level], env.levels.proxy_goal[level]
    memory = begun(policy, env, goal, proxy, policy.memory(seeds))
    done, steps = np.zeros(rows, bool), np.zeros(rows, int)
    trail = [env.state_index()]
    for _ in range(limit):
        action, memory = policy.act(env.observe(), goal, memory)
        done |= action == HAND_BACK
        if done.all():
            break
        _, _, terminated, _, _ = env.step(np.where(done, 0, action))
        steps += ~done
        trail.append(np.where(done, trail[-1], env.state_index()))
        done |= terminated
    return steps, np.array(trail), memory


@pytest.mark.parametrize("name", ["Corner", "FourRooms"])
def test_the_intended_child_takes_a_shortest_path_to_its_goal(name):
    env = world(name, rows=30)
    steps, trail, _ = walk(env, child(env, "intended"))
    np.testing.assert_array_equal(steps, env.facts().optimal_steps)
    np.testing.assert_array_equal(trail[-1], env.levels.goal)


def test_the_proxy_child_reaches_its_proxy_and_goes_around_the_goal():
    env = world(rows=60)
    chosen = env.facts().distinguishing
    steps, trail, _ = walk(env, child(env, "proxy"))
    np.testing.assert_array_equal(steps[chosen], env.facts().proxy_steps[chosen])
    np.testing.assert_array_equal(trail[-1][chosen], env.levels.proxy_goal[chosen])
    assert chosen.sum() > 40
    assert not (trail == env.levels.goal)[:, chosen].any()


def test_the_proxy_child_does_as_intended_where_the_goals_are_one():
    env = world(rows=20, kind="nominal")
    steps, trail, _ = walk(env, child(env, "proxy"))
    np.testing.assert_array_equal(steps, env.facts().optimal_steps)
    np.testing.assert_array_equal(trail[-1], env.levels.goal)


def test_the_incapable_child_moves_uniformly():
    env = world(rows=50)
    policy = child(env, "random")
    memory = policy.memory(np.arange(50, dtype=np.uint64))
    counts = np.zeros(4)
    for _ in range(80):
        action, memory = policy.act(env.observe(), env.levels.goal, memory)
        counts += np.bincount(action, minlength=4)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_noise_is_the_share_of_random_moves():
    env = world(rows=200)
    policy = child(env, "intended", noise=0.4)
    goal = env.levels.goal
    memory = policy.begin(env.observe(), goal, policy.memory(np.arange(200, dtype=np.uint64)))
    best = env.facts().intended_actions[np.arange(200), env.state_index()]
    strays = trials = 0
    expected = 0.0
    for _ in range(30):
        action, memory = policy.act(env.observe(), goal, memory)
        strays += (~best[np.arange(200), action]).sum()
        expected += (0.4 * (~best).mean(1)).sum()
        trials += 200
    assert abs(strays - expected) < 4 * np.sqrt(trials * 0.25)
    assert strays > 0.2 * trials


def test_the_trigger_child_defects_where_it_sees_its_trigger_and_never_before():
    env = world(rows=60)
    policy = child(env, "trigger", row=6, column=6, radius=2)
    _, trail, memory = walk(env, policy)
    row, column = np.divmod(trail, env.levels.width)
    seen = np.maximum(abs(row - 6), abs(column - 6)) <= 2
    near, left = seen.any(0), trail != trail[-1]
    reached = trail[-1] == env.levels.goal
    assert memory["triggered"][(seen & left).any(0)].all()
    np.testing.assert_array_equal(policy.intent(memory) == Intent.PROXY, memory["triggered"])
    assert reached[~near].all()
    assert not memory["triggered"][~near].any()
    assert (trail[-1] == env.levels.proxy_goal)[memory["triggered"]].mean() > 0.9
    assert 5 < memory["triggered"].sum() < 55


def test_a_detour_leads_by_a_cell_nearby_and_then_to_the_goal():
    env = world(rows=200)
    steps, trail, _ = walk(env, child(env, "intended", detour=6))
    np.testing.assert_array_equal(trail[-1], env.levels.goal)
    extra = steps - env.facts().optimal_steps
    assert extra.min() == 0
    assert (extra > 0).mean() > 0.5
    assert (extra % 2 == 0).all(), "in a maze there and back is an even number of steps more"
    row, column = np.divmod(trail, env.levels.width)
    away = abs(row - row[0]) + abs(column - column[0])
    straight = walk(env, child(env, "intended"))[1]
    assert (away.max(0) >= 6).any()
    assert len(trail) > len(straight)


def test_a_detour_of_a_proxy_child_still_goes_around_the_goal():
    env = world(rows=80)
    chosen = env.facts().distinguishing
    _, trail, _ = walk(env, child(env, "proxy", detour=4))
    np.testing.assert_array_equal(trail[-1][chosen], env.levels.proxy_goal[chosen])
    through = (trail == env.levels.goal).any(0) & chosen
    assert through.mean() < 0.1, "only where there is no other way"


def test_a_slower_child_loses_that_share_of_steps_beside_walls():
    env = world(rows=300)
    steps, trail, _ = walk(env, child(env, "intended", slower=0.5))
    np.testing.assert_array_equal(trail[-1], env.levels.goal)
    walls, around = env.levels.walls.reshape(300, -1), np.array([-13, 1, 13, -1])
    beside = walls[np.arange(300)[:, None], trail[..., None] + around].any(-1)
    there = trail != env.levels.goal
    lost = (trail[1:] == trail[:-1]) & there[:-1]
    assert not lost[~beside[:-1]].any()
    share = lost[beside[:-1] & there[:-1]].mean()
    assert 0.45 < share < 0.55
    assert (steps >= env.facts().optimal_steps).all()


def test_a_child_acts_the_same_alone_and_in_a_crowd():
    env = world(rows=9)
    goal = env.levels.goal
    for name, settings in (("intended", {"noise": 0.5}), ("proxy", {"noise": 0.5}),
                           ("intended", {"detour": 5, "slower": 0.5}),
                           ("random", {}), ("trigger", {"noise": 0.5})):  # fmt: skip
        policy = child(env, name, **settings)
        seeds = np.arange(9, dtype=np.uint64)
        proxy = env.levels.proxy_goal
        crowd = begun(policy, env, goal, proxy, policy.memory(seeds))
        action, after = policy.act(env.observe(), goal, crowd)
        for row in range(9):
            one = np.array([row])
            alone = begun(policy, env, goal[one], proxy[one], policy.memory(seeds[one]), one)
            mine, memory = policy.act(env.observe(one), goal[one], alone)
            assert mine[0] == action[row]
            for key, column in memory.items():
                np.testing.assert_array_equal(column[0], after[key][row])


def test_acting_does_not_change_the_memory_it_was_given():
    env = world(rows=6)
    for name in policies.ids():
        policy = child(env, name)
        blank = policy.memory(np.arange(6, dtype=np.uint64))
        before = begun(policy, env, env.levels.goal, env.levels.proxy_goal, blank)
        copy = {key: array.copy() for key, array in before.items()}
        policy.act(env.observe(), env.levels.goal, before)
        for key, array in before.items():
            np.testing.assert_array_equal(array, copy[key])


def test_unknown_policies_and_settings_are_refused():
    env = world(rows=1)
    with pytest.raises(ValueError, match='did you mean "intended"'):
        child(env, "intendet")
    with pytest.raises(ValidationError, match="noise"):
        child(env, "intended", noise=1.5)
    with pytest.raises(ValidationError, match="nois"):
        child(env, "intended", nois=0.5)


def test_a_turning_child_goes_half_way_to_its_goal_and_then_to_the_proxy():
    env = world(rows=60)
    chosen = env.facts().distinguishing
    steps, trail, memory = walk(env, child(env, "turning"))
    away, rows = env.facts().goal_distance, np.arange(60)
    nearest = np.array([away[rows, cells] for cells in trail]).min(0)
    half = np.floor(env.facts().optimal_steps / 2)
    assert (nearest[chosen] <= half[chosen]).all(), "it came half-way"
    assert (trail[-1] == env.levels.proxy_goal)[chosen].mean() > 0.95
    assert (memory["triggered"])[chosen].all()
    early = child(env, "turning", share=0.01)
    assert walk(env, early)[0][chosen].sum() < steps[chosen].sum()


def test_a_stray_child_goes_to_any_place_but_its_goal():
    env = world(rows=200)
    steps, trail, memory = walk(env, child(env, "stray"))
    arrived = trail[-1] == memory["target"]
    assert arrived.mean() > 0.9, "all but those whose only way leads through the goal"
    assert (steps[arrived] > 0).all()
    assert (memory["target"] != env.levels.goal).all()
    assert len(np.unique(memory["target"])) > 60, "places are drawn from all over the maze"
    assert (child(env, "stray").intent(memory) == Intent.NONE).all()
