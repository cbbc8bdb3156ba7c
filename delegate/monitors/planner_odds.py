"""planner_odds: the question of goal_odds, answered with a planner instead of with recall."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from delegate.monitors.goal_odds import GoalPosterior, PosteriorSettings
from delegate.monitors.hypotheses import drawn_places
from delegate.monitors.likelihood import direction
from delegate.monitors.monitor import MonitorSettings, Steps


class PlannerOddsSettings(PosteriorSettings):
    """How a child that knows the way is thought to walk.

    planner_odds: {child: noisy, noise: 0.1}
    boltzmann: {monitor: planner_odds, settings: {child: boltzmann, beta: 1.0}}
    """

    child: Literal["noisy", "boltzmann"] = "noisy"
    """noisy: any best action, and a random one with probability `noise`; boltzmann: a move in
    proportion to exp(-beta * steps left)"""
    noise: float = Field(default=0.1, gt=0, le=1)
    """share of random actions of the noisy child"""
    beta: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """how much the boltzmann child prefers shorter ways (per step)"""
    concentration: float = Field(default=0.1, gt=0, le=100)
    """where actions are continuous: κ of the von Mises distribution of the direction of a step
    around the shortest way. Steps of a body that has a mass are alike, so each tells little"""
    smoothing: float = Field(default=0.01, gt=0, lt=1)
    """added to the probability of every move, so that no single step rules a goal out"""


class PlannerOdds(GoalPosterior):
    """Which goal do the steps lead to, by the likelihoods of a planner?

    Everything but the likelihood of a step is as in `goal_odds`. It knows the world, and of the
    noisy child how noisy it is.
    """

    name: ClassVar[str] = "planner_odds"
    needs: ClassVar[tuple[str, ...]] = ("landmarks", "planner")
    Settings: ClassVar[type[MonitorSettings]] = PlannerOddsSettings
    settings: PlannerOddsSettings

    def columns(self, places: int | None, seed: int) -> np.ndarray:
        self._drawn = None if places is None else drawn_places(self.landmarks, places, seed)
        if self._drawn is None and self.steering is not None:
            self._drawn = drawn_places(self.landmarks, self.landmarks.places.shape[1], seed)
        return self.table_planner.goals if self._drawn is None else self._drawn

    def near(self, level: np.ndarray, goal: np.ndarray) -> np.ndarray:
        if self._drawn is not None and self.steering is not None:
            columns = self._drawn[level]
            return (columns >= 0) & self.goals.alike()[goal[:, None], np.maximum(columns, 0)]
        away = self._distance(level, goal)
        return (away >= 0) & (away <= 1)

    def factors(self, steps: Steps) -> np.ndarray:
        if self._drawn is not None and (steering := self.steering) is not None:
            columns = np.maximum(self._drawn[steps.level], 0)
            likely = [
                direction(steering, steps, goal, self.settings.concentration) for goal in columns.T
            ]
            return np.exp(np.stack(likely, axis=1)).astype(np.float32)
        planner, states = self.table_planner, self.model.num_states
        lands = planner.lands(steps.level, steps.state)
        actions = lands.shape[1]
        away = self._distance(np.repeat(steps.level, actions), lands.ravel())
        away = away.reshape(len(steps), actions, -1)
        away = np.where(away < 0, states, away).astype(np.float32)
        moves = (lands != steps.state[:, None])[..., None]
        taken = (lands == steps.next_state[:, None])[..., None]
        at_random = taken.sum((1, 2)) / actions
        settings = self.settings
        far = np.float32(2 * states)
        best = np.where(moves, away, far)
        best = best - best.min(1, keepdims=True)
        if settings.child == "noisy":
            aims = (best == 0) & moves
            chance = (1 - settings.noise) * aims / np.maximum(aims.sum(1, keepdims=True), 1)
            chance = chance + settings.noise / actions
        else:
            chance = np.exp(-settings.beta * best) * moves
            chance /= np.maximum(chance.sum(1, keepdims=True), 1e-30)
        likely = (chance * taken).sum(1) + settings.smoothing
        # A step off the table is as unlikely for "none" as smoothing makes it for everybody.
        factor = likely / np.maximum(at_random, settings.smoothing)[:, None]
        if settings.child == "boltzmann":
            factor[steps.state == steps.next_state] = 1.0
        return np.asarray(factor, np.float32)

    def _distance(self, level: np.ndarray, state: np.ndarray) -> np.ndarray:
        if self._drawn is None:
            return self.table_planner.distance(level, None, state)
        goals = self._drawn[level]
        known = np.where(goals < 0, state[:, None], goals)
        return np.where(goals < 0, -1, self.planner.distance(level, known, state))
