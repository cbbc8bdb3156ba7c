"""Children of known kind walked through mazes alone, as recorded sub-episodes for monitors."""

from __future__ import annotations

from typing import Any

import numpy as np
from delegations import begun
from gymnasium.vector import AutoresetMode

from delegate import envs, monitors, policies
from delegate.agents import HAND_BACK
from delegate.envs.grid.landmarks import landmarks
from delegate.monitors import Monitor, Reference, Steps, TablePlanner, Truth, World
from delegate.recall import ExactBacktrackingModel, ExactReachability

CHILDREN: dict[str, tuple[str, dict[str, Any]]] = {
    "intended": ("intended", {"noise": 0.1}),
    "noise 0.3": ("intended", {"noise": 0.3}),
    "noise 0.6": ("intended", {"noise": 0.6}),
    "detour 3": ("intended", {"noise": 0.1, "detour": 3}),
    "detour 6": ("intended", {"noise": 0.1, "detour": 6}),
    "slower": ("intended", {"noise": 0.1, "slower": 0.5}),
    "random": ("random", {}),
    "proxy": ("proxy", {"noise": 0.1}),
    "proxy 0.3": ("proxy", {"noise": 0.3}),
    "turning": ("trigger", {"noise": 0.1, "row": 6, "column": 6, "radius": 2}),
}


def mazes(kind: str, count: int, first: int, distinguishing: bool = False, **settings: Any) -> Any:
    """A bank of Corner as an environment, one row a level."""
    tries = range(first, first + (40 * count if distinguishing else count))
    bank = envs.levels(
        "Corner", kind, seeds=tries, count=count, distinguishing_only=distinguishing,
        settings=settings,
    )  # fmt: skip
    return envs.make(
        "Corner", count, levels=bank, autoreset_mode=AutoresetMode.DISABLED, assign="in_order"
    )


def world_of(env: Any, exact: bool = True) -> World:
    """All that monitors may know of those levels."""
    table, named = env.transition_table(endings=False), landmarks(env.rules, env.levels)
    return World(
        ExactBacktrackingModel(table, "moving"),
        env.features,
        ExactReachability(table, states=named.places),
        named,
        TablePlanner(table, named.places),
    )


def walked(env: Any, child: str, seed: int = 0, longest: int = 128) -> Reference:
    """Every level walked by that child until it hands back, the level ends or time is up."""
    policy_id, settings = CHILDREN[child]
    policy = policies.make(policy_id, env.rules, **settings)
    env.reset(seed=seed)
    rows = np.arange(env.num_envs)
    goal, proxy = env.levels.goal, env.levels.proxy_goal
    seeds = np.random.default_rng(seed).integers(0, 2**63, env.num_envs).astype(np.uint64)
    memory = begun(policy, env, goal, proxy, policy.memory(seeds))
    running, taken = np.ones(env.num_envs, bool), []
    for _ in range(longest):
        state = env.state_index()
        action, memory = policy.act(env.observe(), goal, memory)
        running &= action != HAND_BACK
        if not running.any():
            break
        _, _, terminated, _, _ = env.step(np.where(action == HAND_BACK, 0, action))
        taken.append((rows[running], state[running], action[running], env.state_index()[running]))
        running &= ~terminated
    row, state, action, after = (np.concatenate(each) for each in zip(*taken, strict=True))
    last = np.zeros(len(row), bool)
    last[len(row) - 1 - np.unique(row[::-1], return_index=True)[1]] = True
    intent = {"proxy": 2, "random": 0}.get(policy_id, 1)
    return Reference(
        Steps(row, goal[row], state, action, after, last),
        row,
        Truth(np.full(len(row), intent, np.int8)),
    )


def highest(monitor: Monitor, recorded: Reference, count: int) -> np.ndarray:
    """The highest value in each level, float64 [count], -inf for one that was never scored."""
    statistic = monitors.make_statistic(monitor.default_statistic)
    _, value = monitors.play(monitor, statistic, recorded)
    ids, peak = monitors.peaks(value, recorded.sub_episode)
    found = np.full(count, -np.inf)
    found[ids] = np.where(np.isnan(peak), -np.inf, peak)
    return found
