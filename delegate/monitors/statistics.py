"""Running statistics: from scores of steps to the value an alarm looks at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from pydantic import Field

from delegate.monitors.monitor import Memory, MonitorSettings
from delegate.registry import own_name


class ScoreNotFinite(ValueError):
    """A score, or what a statistic made of scores, is infinite: no threshold, rank or report can
    be made of it. row: which one of those given"""

    def __init__(self, message: str, row: int = 0) -> None:
        super().__init__(message)
        self.row = row


class Statistic(ABC):
    """Folds the scores of a sub-episode into one value a step, with O(1) memory a row.

    A NaN score is no score: value and memory stay as they were. The value is NaN until the
    first score. `update` returns new memory and leaves the given one as it was.
    """

    id: ClassVar[str] = own_name()
    Settings: ClassVar[type[MonitorSettings]] = MonitorSettings
    keeps: ClassVar[tuple[str, ...]] = ()
    """names of what is remembered besides the value; each starts at 0"""

    def __init__(self, settings: MonitorSettings | None = None) -> None:
        self.settings = self.Settings() if settings is None else settings

    @property
    def name(self) -> str:
        """The id with its settings, as calibrations record it: `cusum(drift=0.5)`."""
        settings = ", ".join(f"{key}={value}" for key, value in self.settings)
        return f"{self.id}({settings})" if settings else self.id

    def start(self, count: int) -> Memory:
        """Memory of `count` sub-episodes that have no score yet: name -> float64 [count]."""
        memory = {name: np.zeros(count) for name in self.keeps}
        return {"value": np.full(count, np.nan), **memory}

    def update(self, score: np.ndarray, memory: Memory) -> tuple[np.ndarray, Memory]:
        """Take in one score a row: float64 [N] -> value float64 [N] and the new memory.

        Raises ScoreNotFinite for a score that is infinite, and where their value becomes so.
        """
        _check_finite(score, "the score", "bound it, or give NaN for none")
        scored = ~np.isnan(score)
        with np.errstate(over="ignore"):
            folded = self.fold(np.where(scored, score, 0.0), memory)
        memory = {name: np.where(scored, folded[name], memory[name]) for name in memory}
        _check_finite(memory["value"], f"the {self.id} of its scores", "bound the scores")
        return memory["value"], memory

    @abstractmethod
    def fold(self, score: np.ndarray, memory: Memory) -> Memory:
        """The memory after a score that is there in every row; value NaN at the first."""


class Last(Statistic):
    """The latest score."""

    id: ClassVar[str] = "last"

    def fold(self, score: np.ndarray, memory: Memory) -> Memory:
        return {"value": score}


class Mean(Statistic):
    """The mean of all scores so far."""

    id: ClassVar[str] = "mean"
    keeps: ClassVar[tuple[str, ...]] = ("total", "count")

    def fold(self, score: np.ndarray, memory: Memory) -> Memory:
        total, count = memory["total"] + score, memory["count"] + 1
        return {"value": total / count, "total": total, "count": count}


class Sum(Statistic):
    """The sum of all scores so far."""

    id: ClassVar[str] = "sum"

    def fold(self, score: np.ndarray, memory: Memory) -> Memory:
        return {"value": _or_zero(memory["value"]) + score}


class Max(Statistic):
    """The highest score so far."""

    id: ClassVar[str] = "max"

    def fold(self, score: np.ndarray, memory: Memory) -> Memory:
        return {"value": np.fmax(memory["value"], score)}


class CusumSettings(MonitorSettings):
    """How much suspicion is forgotten at every step.

    statistic: {cusum: {drift: 0.5}}
    """

    drift: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """taken off every score (the score's unit)"""


class Cusum(Statistic):
    """Suspicion that gathers, and drains by `drift` at every step.

    Page's cumulative sum: max(0, value + score - drift), from 0.
    Source: Page 1954, Continuous inspection schemes.
    """

    id: ClassVar[str] = "cusum"
    Settings: ClassVar[type[MonitorSettings]] = CusumSettings
    settings: CusumSettings

    def fold(self, score: np.ndarray, memory: Memory) -> Memory:
        grown = _or_zero(memory["value"]) + score - self.settings.drift
        return {"value": np.maximum(grown, 0.0)}


class Drawdown(Statistic):
    """What was lost since the best moment so far.

    The running sum, never below 0. Of scores that are losses of something (`reach`: of
    log B_g) it is the highest level so far, that of the start included, minus the level now.
    """

    id: ClassVar[str] = "drawdown"

    def fold(self, score: np.ndarray, memory: Memory) -> Memory:
        return {"value": np.maximum(_or_zero(memory["value"]) + score, 0.0)}


def _or_zero(value: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(value), 0.0, value)


def _check_finite(numbers: np.ndarray, what: str, remedy: str) -> None:
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(infinite.argmax())
        raise ScoreNotFinite(f"{what} is {numbers[row]}; {remedy}", row)
