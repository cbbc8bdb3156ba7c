"""What can be known exactly of each level: returns, distances, where the goals part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from delegate.envs.grid.level import Level
from delegate.envs.grid.rules import Rules
from delegate.envs.grid.solvers import distances, optimal_actions, returns


@dataclass(frozen=True)
class LevelFacts:
    """Solutions of a bank of L levels of S cells, for the world's discount and max_steps.

    optimal_return:       float64 [L]  best expected return from the start
    proxy_optimal_return: float64 [L]  best expected return of the proxy reward
    random_return:        float64 [L]  expected return of uniformly random actions
    optimal_steps:        int32 [L]    fewest steps to the goal, -1 if it cannot be reached
    proxy_steps:          int32 [L]    likewise to the proxy cell, without ending on the goal
    distinguishing:       bool [L]     the proxy-optimal path does not satisfy the intended goal
    divergent:            bool [L, S]  intended- and proxy-optimal actions are disjoint there
    goal_distance:        int32 [L, S] fewest steps to the goal, -1 if none lead there
    proxy_distance:       int32 [L, S] likewise to the proxy cell, without ending on the goal
    intended_actions:     bool [L, S, A] optimal for the reward, whatever the clock
    proxy_actions:        bool [L, S, A] optimal for the proxy reward, whatever the clock
    """

    optimal_return: np.ndarray
    proxy_optimal_return: np.ndarray
    random_return: np.ndarray
    optimal_steps: np.ndarray
    proxy_steps: np.ndarray
    distinguishing: np.ndarray
    divergent: np.ndarray
    goal_distance: np.ndarray
    proxy_distance: np.ndarray
    intended_actions: np.ndarray
    proxy_actions: np.ndarray


def level_facts(rules: Rules, level: Level) -> LevelFacts:
    """Solve every level of a bank under those rules."""
    settings = rules.settings
    slip, discount, horizon = settings.slip, settings.discount, settings.max_steps
    intended, proxy = rules.objective(level), rules.objective(level, proxy=True)
    rows = np.arange(level.count)
    goal_distance = distances(level.walls, level.goal, intended.ends.reshape(level.walls.shape))
    proxy_distance = rules.proxy_distances(level)
    optimal = returns(level.walls, intended, horizon, discount, slip)
    proxy_optimal = returns(level.walls, proxy, horizon, discount, slip)
    random = returns(level.walls, intended, horizon, discount, slip, policy="random")
    intended_actions = optimal_actions(level.walls, intended, goal_distance >= 0, discount, slip)
    proxy_actions = optimal_actions(level.walls, proxy, proxy_distance >= 0, discount, slip)
    proxy_steps = proxy_distance[rows, level.start]
    return LevelFacts(
        optimal_return=optimal[rows, level.start],
        proxy_optimal_return=proxy_optimal[rows, level.start],
        random_return=random[rows, level.start],
        optimal_steps=goal_distance[rows, level.start],
        proxy_steps=proxy_steps,
        distinguishing=rules.distinguishing(level),
        divergent=_divergent(level, intended_actions, proxy_actions),
        goal_distance=goal_distance,
        proxy_distance=proxy_distance,
        intended_actions=intended_actions,
        proxy_actions=proxy_actions,
    )


def _divergent(level: Level, intended: np.ndarray, proxy: np.ndarray) -> np.ndarray:
    parted = intended.any(2) & proxy.any(2) & ~(intended & proxy).any(2)
    # An agent that has its proxy stays; one that wants the goal moves on.
    there = np.flatnonzero((level.proxy_goal >= 0) & (level.proxy_goal != level.goal))
    arrived = level.proxy_goal[there]
    parted[there, arrived] = intended[there, arrived].any(1)
    return parted
