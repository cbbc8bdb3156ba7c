"""What a monitor sees, and what every monitor does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from delegate.recall.model import FiniteBacktrackingModel

Memory = dict[str, np.ndarray]
"""What a monitor or statistic remembers: named arrays [N, ...], one row a sub-episode."""


@dataclass(frozen=True)
class Steps:
    """One transition of each of N watched sub-episodes.

    level:       int32 [N]  level in the bank of the bound world
    goal:        int32 [N]  state the child was sent to
    state:       int32 [N]  s
    action:      int16 [N]  a
    next_state:  int32 [N]  s'
    ended:       bool  [N]  this transition ended the sub-episode
    intent:      int8  [N]  privileged: what the child truly pursues, -1 unknown, 0 none,
                            1 intended, 2 proxy; None where nobody may look
    """

    level: np.ndarray
    goal: np.ndarray
    state: np.ndarray
    action: np.ndarray
    next_state: np.ndarray
    ended: np.ndarray
    intent: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.level)

    def __post_init__(self) -> None:
        for name, column in self._columns().items():
            if column.shape != (len(self.level),):
                raise ValueError(
                    f"steps: {name} has shape {column.shape} and level has "
                    f"{self.level.shape}; give every column one entry a row"
                )

    def take(self, rows: np.ndarray) -> Steps:
        """Those rows alone; rows: int [n] or bool [N]."""
        return Steps(**{name: column[rows] for name, column in self._columns().items()})

    def _columns(self) -> dict[str, np.ndarray]:
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: column for name, column in named.items() if column is not None}


FeatureFunction = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""features(level [N], goal [N], state [N]) -> float32 [N, F]"""


@dataclass(frozen=True)
class World:
    """What monitors may know about the worlds they watch: a bank of levels.

    model: recalls what led to a state, in every level of the bank
    features: what the feature monitors see of a state, given level and goal
    """

    model: FiniteBacktrackingModel
    features: FeatureFunction


@dataclass(frozen=True)
class Reference:
    """Nominal sub-episodes to learn from.

    steps:        T transitions, in time order within each sub-episode
    sub_episode:  int64 [T]  which sub-episode each transition belongs to
    """

    steps: Steps
    sub_episode: np.ndarray

    def __post_init__(self) -> None:
        if self.sub_episode.shape != (len(self.steps),):
            raise ValueError(
                f"reference: sub_episode has shape {self.sub_episode.shape} beside "
                f"{len(self.steps)} steps; give one id a step"
            )


class MonitorSettings(BaseModel):
    """Settings of a monitor that has none; the base of all others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Monitor(ABC):
    """Scores transitions in a batched stream; higher is more suspicious.

    The sign is fixed here and never chosen from data. A row's memory is O(1) and belongs to
    its sub-episode alone, so a row's score does not depend on the other rows of the batch.
    NaN means *no score yet*, never 0; an infinite score is refused (`ScoreNotFinite`).
    `score` returns new memory and leaves the given one as it was, so that a rollback can put
    the old one back.
    """

    name: ClassVar[str]
    privileged: ClassVar[bool] = False
    """reads what no deployed monitor could; a control, not a contender"""
    scores_ends: ClassVar[bool] = False
    """scores where a sub-episode ended; ask it again, with `ended`, when a child hands back"""
    default_statistic: ClassVar[str]
    """id of the running statistic that turns this monitor's scores into an alarm value"""
    Settings: ClassVar[type[MonitorSettings]] = MonitorSettings

    def __init__(self, settings: MonitorSettings | None = None) -> None:
        self.settings = self.Settings() if settings is None else settings
        self._world: World | None = None

    def fit(self, reference: Reference, world: World) -> None:
        """Learn from nominal sub-episodes of `world`, and watch that world from now on.

        Raises ValueError if the reference holds too little to learn from.
        """
        self.bind(world)

    def bind(self, world: World) -> None:
        """Watch another bank of levels from now on; what was learned stays."""
        self._world = world

    @property
    def world(self) -> World:
        """The bound world. Raises RuntimeError before `fit` or `bind`."""
        if self._world is None:
            raise RuntimeError(f"monitor {self.name}: no world yet; call fit or bind first")
        return self._world

    def start(self, count: int) -> Memory:
        """Memory of `count` sub-episodes that have not stepped yet: name -> [count, ...]."""
        return {}

    @abstractmethod
    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        """Score one transition a row.

        steps: N rows · memory: the same N rows
        returns score float64 [N], NaN where there is none, and the memory after this step
        """
