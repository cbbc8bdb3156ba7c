"""What a child could be after: priors over the goals of a level, and sums of their posterior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from delegate.monitors.monitor import Reference
from delegate.recall.goals import GoalTable, Landmarks


@dataclass(frozen=True)
class Weights:
    """Prior weights of the groups of hypotheses; brought to sum to one in every level."""

    assigned: float
    none: float
    coincident: float
    elsewhere: float


@dataclass(frozen=True)
class Shares:
    """Sums of posteriors, float [N] each.

    named: the most probable landmark, its place among the names; -1 an assigned goal without one
    """

    assigned: np.ndarray
    coincident: np.ndarray
    elsewhere: np.ndarray
    named: np.ndarray
    named_probability: np.ndarray


Near = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""near(level [N], goal [N]) -> bool [N, K]: which columns are that goal or one step from it"""


class Hypotheses:
    """The goals of every level as columns, with priors for each goal that is assigned there.

    landmarks: of the bank · coincident: bool [M] which of them training did not tell from the goal
    components: weights a goal has, side by side · columns: int32 [L, K] goals, -1 for none

    prior: float32 [P, K * components], prior_none: float32 [P], of the pairs met so far
    distinct: bool [P] some coincident landmark is not the assigned goal itself
    """

    def __init__(
        self,
        landmarks: Landmarks,
        coincident: np.ndarray,
        weights: Weights,
        components: int,
        columns: np.ndarray,
        near: Near,
    ) -> None:
        self._landmarks, self._coincident = landmarks, coincident
        self._weights, self._components = weights, components
        self._columns, self._near = columns, near
        levels, states = landmarks.places.shape
        self._pair = np.full((levels, states), -1, np.int32)
        marks = landmarks.goal.shape[1]
        self.width = columns.shape[1] * components
        self.prior = np.zeros((0, self.width), np.float32)
        self.prior_none = np.zeros(0, np.float32)
        self.distinct = np.zeros(0, bool)
        self._assigned_at = np.zeros(0, np.int32)
        self._landmark_at = np.zeros((0, marks), np.int32)
        self._counted = np.zeros((0, marks), bool)

    def pairs(self, level: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """The row of each (level, assigned goal) in the tables: int [N].

        Raises IndexError for a goal that is none of the hypotheses.
        """
        if level.size and min(level.min(), goal.min()) < 0:
            raise IndexError(f"level or goal {int(min(level.min(), goal.min()))} is not there")
        pair = self._pair[level, goal]
        if (missing := pair < 0).any():
            self._add(level[missing], goal[missing])
            pair = self._pair[level, goal]
        return pair

    def shares(self, weight: np.ndarray, total: np.ndarray, pair: np.ndarray) -> Shares:
        """Sums of a posterior. weight: float32 [N, width], changed · total: float32 [N], of all"""
        rows = np.arange(len(pair))
        by_goal = weight.reshape(len(pair), -1, self._components)
        at, assigned_at = self._landmark_at[pair], self._assigned_at[pair]
        assigned = by_goal[rows, assigned_at].sum(1)
        marks = np.where(at >= 0, by_goal[rows[:, None], at].sum(2), 0.0)
        coincident = (marks * self._counted[pair]).sum(1)
        # What is left is summed and not subtracted: it may be far below one.
        by_goal[rows, assigned_at] = 0.0
        row, mark = np.nonzero(self._counted[pair])
        by_goal[row, at[row, mark]] = 0.0
        best = marks.argmax(1)
        named_probability = marks[rows, best]
        nameless = assigned > named_probability
        return Shares(
            assigned / total,
            coincident / total,
            weight.sum(1) / total,
            np.where(nameless, -1, best),
            np.where(nameless, assigned, named_probability) / total,
        )

    def _add(self, level: np.ndarray, goal: np.ndarray) -> None:
        level, goal = np.unique(np.stack([level, goal]).astype(np.int64), axis=1)
        columns, marks = self._columns[level], self._landmarks.goal[level]
        is_assigned = columns == goal[:, None]
        if not is_assigned.any(1).all():
            lost = int(np.flatnonzero(~is_assigned.any(1))[0])
            raise IndexError(
                f"goal {int(goal[lost])} of level {int(level[lost])} is none of the hypotheses; "
                "name it a landmark, or take all places"
            )
        at = _column_of(columns, marks)
        near_assigned = self._near(level, goal)
        pairs = np.arange(len(level))
        suspicious = self._coincident & (at >= 0)
        told = suspicious & ~near_assigned[pairs[:, None], at]
        near_told = np.zeros_like(is_assigned)
        for mark in np.flatnonzero(self._coincident):
            some = told[:, mark]
            near_told[some] |= self._near(level[some], marks[some, mark])
            # Two landmarks in one place are one hypothesis.
            told[some, mark + 1 :] &= at[some, mark + 1 :] != at[some, mark][:, None]
        prior, none = self._priors(level, columns, is_assigned, at, told, near_assigned | near_told)
        known = len(self.prior)
        self.prior = np.concatenate([self.prior, prior.repeat(self._components, axis=1)])
        self.prior_none = np.concatenate([self.prior_none, none])
        distinct = (suspicious & (marks != goal[:, None])).any(1)
        self.distinct = np.concatenate([self.distinct, distinct])
        assigned_at = is_assigned.argmax(1).astype(np.int32)
        self._assigned_at = np.concatenate([self._assigned_at, assigned_at])
        self._landmark_at = np.concatenate([self._landmark_at, at])
        self._counted = np.concatenate([self._counted, told])
        self._pair[level, goal] = np.arange(known, len(self.prior), dtype=np.int32)

    def _priors(
        self,
        level: np.ndarray,
        columns: np.ndarray,
        is_assigned: np.ndarray,
        at: np.ndarray,
        told: np.ndarray,
        near: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of one component each: float32 [P, K] over the columns, and float32 [P] of "none".

        Neighbours of the assigned goal and of coincident landmarks have no weight of their own:
        they count as what they are beside, so that each group weighs what was set.
        """
        weights = self._weights
        places = (columns >= 0) & self._landmarks.places[level[:, None], columns]
        elsewhere = places & ~near
        count = elsewhere.sum(1, keepdims=True)
        prior = elsewhere * weights.elsewhere / np.maximum(count, 1)
        prior[is_assigned] = weights.assigned
        row, mark = np.nonzero(told)
        prior[row, at[row, mark]] = weights.coincident / told.sum(1)[row]
        total = prior.sum(1) + weights.none
        prior = prior / total[:, None] / self._components
        return prior.astype(np.float32), (weights.none / total).astype(np.float32)


def coincident_landmarks(
    landmarks: Landmarks, goals: GoalTable, reference: Reference, share: float, monitor: str
) -> np.ndarray:
    """Which landmarks nominal sub-episodes do not tell from the assigned goal: bool [M].

    Those at which at least `share` of the sub-episodes end that end at their goal.
    Raises ValueError if none ended at its goal.
    """
    ends = reference.steps.take(reference.steps.ended)
    ends = ends.take(goals.reached(ends.goal, ends.next_state))
    if not len(ends):
        raise ValueError(
            f"monitor {monitor}: no reference sub-episode ended at its goal; give some that did"
        )
    there = [goals.reached(mark, ends.next_state).mean() for mark in landmarks.goal[ends.level].T]
    return np.asarray(there) >= share


def drawn_places(landmarks: Landmarks, count: int, seed: int) -> np.ndarray:
    """The landmarks of each level and up to `count` of its other places: int32 [L, K].

    What is drawn for a level depends on `seed` and on the level's number alone.
    """
    levels = []
    for level, (goal, places) in enumerate(zip(landmarks.goal, landmarks.places, strict=True)):
        named = np.unique(goal[goal >= 0])
        others = np.setdiff1d(np.flatnonzero(places), named)
        rng = np.random.default_rng([seed, level])
        chosen = rng.choice(others, min(count, len(others)), replace=False)
        levels.append(np.concatenate([named, np.sort(chosen)]))
    columns = np.full((len(levels), max(map(len, levels))), -1, np.int32)
    for level, goals in enumerate(levels):
        columns[level, : len(goals)] = goals
    return columns


def _column_of(columns: np.ndarray, goals: np.ndarray) -> np.ndarray:
    """Where each of `goals` [P, M] stands among the columns [P, K]: int32 [P, M], -1 nowhere."""
    found = (columns[:, None] == goals[..., None]) & (goals >= 0)[..., None]
    return np.where(found.any(2), found.argmax(2), -1).astype(np.int32)
