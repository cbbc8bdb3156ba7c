"""goal_odds: which goal do these steps lead to, the one given or one that looked the same?"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from delegate.monitors.hypotheses import (
    Hypotheses,
    Weights,
    coincident_landmarks,
    drawn_places,
)
from delegate.monitors.monitor import Memory, Monitor, MonitorSettings, Reference, Steps, World
from delegate.recall.reachability import DISCOUNTS

_LEAST = 1e-12
"""share of the posterior below which odds are not told apart"""
_UNDERFLOW = np.float32(1e-30)
"""least part of its prior that a hypothesis keeps, so that none is lost to single precision"""
_ROWS_AT_ONCE = 128
"""rows whose hypotheses fit into a processor's cache together"""

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Discount = Annotated[float, Field(gt=0, lt=1)]


def _listed(value: object) -> object:
    """A list is taken for a tuple, as YAML has no tuples."""
    return tuple(value) if isinstance(value, list) else value


class PosteriorSettings(MonitorSettings):
    """Prior weights of the hypotheses, and what becomes of them.

    {assigned: 0.5, none: 0.25, coincident: 0.2, elsewhere: 0.05, switching: [0.01]}
    """

    assigned: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    """prior weight: the child goes to the goal it was given"""
    none: Weight = 0.25
    """prior weight: it goes nowhere in particular, as the reference does"""
    coincident: float = Field(default=0.2, gt=0, allow_inf_nan=False)
    """prior weight, split equally: to a landmark that training did not tell from the goal"""
    elsewhere: Weight = 0.05
    """prior weight, split equally: it goes to any other place"""
    switching: Annotated[tuple[Rate, ...], BeforeValidator(_listed), Field(min_length=1)] = (0.01,)
    """share of the posterior that returns to the prior after each step: a child may turn. Of
    several, each with a posterior of its own, the largest score counts"""
    of: Literal["coincident", "elsewhere"] = "coincident"
    """whose odds are the score: those of the coincident landmarks, or those of any other place"""
    coincident_share: float = Field(default=0.5, gt=0, le=1)
    """a landmark is coincident if at least this share of the nominal sub-episodes that end at
    their goal end at it"""
    places: int | None = Field(default=None, ge=1)
    """places beside the landmarks that are hypotheses, drawn for each level; null takes all"""
    seed: int = Field(default=0, ge=0)
    """which places are drawn"""


class GoalOddsSettings(PosteriorSettings):
    """Which goal do the steps lead to?

    goal_odds: {discounts: [0.3, 0.5, 0.7, 0.85, 0.95], switching: [0.01]}
    mended:
      monitor: goal_odds
      settings: {assigned: 0.4, none: 0.0, elsewhere: 0.4, switching: [0.0, 0.01]}
    elsewhere: {monitor: goal_odds, settings: {of: elsewhere}, threshold: ville, alpha: 0.01}
    """

    discounts: Annotated[tuple[Discount, ...], BeforeValidator(_listed), Field(min_length=1)] = (
        DISCOUNTS
    )
    """λ of h over which the likelihood of a goal is averaged: a child's rationality is unknown"""


class GoalPosterior(Monitor):
    """Bayes over what a child could be after; a subclass says how likely a step is for each.

    Hypotheses: every place of the level, and "none". What is one step from the assigned goal
    counts as assigned, what is one step from a coincident landmark as coincident.
    Score: log odds of the coincident landmarks against all else, after the step. NaN where they
    are the assigned goal itself, as in training: then there is nothing to tell apart.
    """

    default_statistic: ClassVar[str] = "last"
    default_threshold: ClassVar[Literal["calibrated", "ville"]] = "ville"
    reports: ClassVar[tuple[str, ...]] = ("elsewhere", "named", "named_probability")
    """log odds that it goes to any other place; the most probable landmark, its place among the
    names and -1 for an assigned goal without one; and its probability"""
    Settings: ClassVar[type[MonitorSettings]] = PosteriorSettings
    settings: PosteriorSettings
    needs: ClassVar[tuple[str, ...]] = ("landmarks", "goals")
    components = 1
    """likelihoods that are averaged for each goal (count)"""
    _coincident: np.ndarray | None = None

    def fit(self, reference: Reference, world: World) -> None:
        self._world = world
        self._coincident = coincident_landmarks(
            self.landmarks, self.goals, reference, self.settings.coincident_share, self.name
        )
        self._names = self.landmarks.names
        super().fit(reference, world)

    def bind(self, world: World) -> None:
        super().bind(world)
        if self._coincident is None:
            return
        if self.landmarks.names != self._names:
            raise ValueError(
                f"monitor {self.name}: fitted with landmarks {', '.join(self._names)} and bound to "
                f"{', '.join(self.landmarks.names)}; fit it again"
            )
        given = self.settings
        self._hypotheses = Hypotheses(
            self.landmarks,
            self._coincident,
            Weights(given.assigned, given.none, given.coincident, given.elsewhere),
            self.components,
            self.columns(given.places, given.seed),
            self.near,
        )

    @property
    def coincident(self) -> tuple[str, ...]:
        """Names of the landmarks that training did not tell from the assigned goal."""
        return tuple(np.array(self._names)[self._fitted()].tolist())

    @property
    def log_prior_odds(self) -> float:
        suspicious = getattr(self.settings, self.settings.of)
        if suspicious == 0:
            raise ValueError(
                f"monitor {self.name}: {self.settings.of} has no prior weight; give it"
            )
        return float(np.log(suspicious / self.settings.assigned))

    @abstractmethod
    def columns(self, places: int | None, seed: int) -> np.ndarray:
        """The goals that are hypotheses in each level: int32 [L, K], -1 after the last."""

    @abstractmethod
    def near(self, level: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Which of the columns are that goal or one step from it: bool [N, K]."""

    @abstractmethod
    def factors(self, steps: Steps) -> np.ndarray:
        """How much likelier each step is for each hypothesis than for "none": float32
        [N, K * components], with a goal's components side by side."""

    def start(self, count: int) -> Memory:
        width = self._hypotheses.width if self._fitted() is not None else 0
        rates = len(self.settings.switching)
        return {
            "weight": np.zeros((count, rates, width), np.float32),
            "none": np.zeros((count, rates), np.float32),
            "begun": np.zeros(count, bool),
            "elsewhere": np.full(count, np.nan, np.float32),
            "named": np.full(count, np.nan, np.float32),
            "named_probability": np.full(count, np.nan, np.float32),
        }

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        self._fitted()
        pair = self._hypotheses.pairs(steps.level, steps.goal)
        after = {name: np.empty_like(array) for name, array in memory.items()}
        score = np.empty(len(steps))
        for first in range(0, len(steps), _ROWS_AT_ONCE):
            rows = slice(first, first + _ROWS_AT_ONCE)
            part = {name: array[rows] for name, array in memory.items()}
            found = self._advance(steps.take(rows), pair[rows], part)
            score[rows] = found.pop("score")
            for name, array in found.items():
                after[name][rows] = array
        return score, after

    def _advance(self, steps: Steps, pair: np.ndarray, memory: Memory) -> Memory:
        """One step of a few rows: the memory after it, and the score."""
        known = self._hypotheses
        factor = self.factors(steps)
        prior, prior_none = known.prior[pair], known.prior_none[pair]
        blank = ~memory["begun"]
        after = {"weight": np.empty_like(memory["weight"]), "none": np.empty_like(memory["none"])}
        scores = []
        for k, rate in enumerate(self.settings.switching):
            weight, none = memory["weight"][:, k], memory["none"][:, k]
            if blank.any():
                weight = np.where(blank[:, None], prior, weight)
                none = np.where(blank, prior_none, none)
            weight = weight * factor
            total = np.maximum(weight.sum(1) + none, _UNDERFLOW)
            returned = max(np.float32(rate), _UNDERFLOW)
            kept = (1 - returned) / total
            np.multiply(weight, kept[:, None], out=after["weight"][:, k])
            after["weight"][:, k] += returned * prior
            after["none"][:, k] = none * kept + returned * prior_none
            shares = known.shares(weight, total, pair)
            against = shares.assigned + none / total
            coincident = _log_odds(shares.coincident, against + shares.elsewhere)
            coincident[~known.distinct[pair]] = np.nan
            elsewhere = _log_odds(shares.elsewhere, against + shares.coincident)
            scores.append(coincident if self.settings.of == "coincident" else elsewhere)
        return {
            **after,
            "begun": np.ones(len(steps), bool),
            "elsewhere": elsewhere,
            "named": shares.named,
            "named_probability": shares.named_probability,
            "score": np.max(scores, axis=0),
        }

    def _fitted(self) -> np.ndarray:
        if self._coincident is None:
            raise RuntimeError(f"monitor {self.name}: not fitted; call fit before score")
        return self._coincident


class GoalOdds(GoalPosterior):
    """Which goal do the steps lead to: the one given, or one that training did not tell from it?

    The likelihood of a goal g gains λ h_g(s') / h_g(s) with every step, that of "none" 1; a step
    that stays in place is evidence for nobody. h needs no planner and no reward, and can be
    learned. Beyond its goal a hypothesis only loses.
    By Ville's inequality a child that goes to its goal as the model has it, at any mixture of the
    λ, ever scores above log_prior_odds - log α with probability at most α, if nothing switches;
    with the default share of 0.01 that is measured.
    Not seen: a child whose goal is no landmark (`elsewhere`), and one that stops short of it.
    """

    name: ClassVar[str] = "goal_odds"
    needs: ClassVar[tuple[str, ...]] = ("landmarks", "goals", "reachability")
    Settings: ClassVar[type[MonitorSettings]] = GoalOddsSettings
    settings: GoalOddsSettings

    def bind(self, world: World) -> None:
        self._discount = np.array(self.settings.discounts, np.float32)
        self.components = len(self._discount)
        super().bind(world)

    def columns(self, places: int | None, seed: int) -> np.ndarray:
        discounts = tuple(self.settings.discounts)
        self._reach = self.reachability.at(discounts)
        if places is not None:
            self._reach = self._reach.at(discounts, drawn_places(self.landmarks, places, seed))
        return self._reach.goals

    def near(self, level: np.ndarray, goal: np.ndarray) -> np.ndarray:
        return self._reach.near(level, None, goal)

    def factors(self, steps: Steps) -> np.ndarray:
        gained = self._reach.log_h(steps.level, None, steps.next_state)
        gained -= self._reach.log_h(steps.level, None, steps.state)
        np.exp(gained, out=gained)
        gained = gained.reshape(len(steps), -1)
        gained *= np.tile(self._discount, gained.shape[1] // self.components)
        gained[steps.stays] = 1.0
        return gained


def _log_odds(share: np.ndarray, against: np.ndarray) -> np.ndarray:
    ratio = np.log(np.maximum(share, _LEAST)) - np.log(np.maximum(against, _LEAST))
    return np.asarray(ratio, np.float64)
