"""What a monitor sees, and what every monitor does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, cast

import numpy as np
from pydantic import BaseModel, ConfigDict

from delegate.bank import Planner, Steering
from delegate.planner import TablePlanner
from delegate.recall.goals import GoalTable, Landmarks
from delegate.recall.model import FiniteBacktrackingModel
from delegate.recall.reachability import Reachability

Memory = dict[str, np.ndarray]
"""What a monitor or statistic remembers: named arrays [N, ...], one row a sub-episode."""


@dataclass(frozen=True)
class Steps:
    """One transition of each of N watched sub-episodes.

    level:       int32 [N]  level in the bank of the bound world
    goal:        int32 [N]  number of the goal the child was sent to
    state:       int32 [N] or float32 [N, d]  s, as the world's `markov_state` gives it
    action:      int16 [N] or float32 [N, k]  a
    next_state:  as state   s'
    ended:       bool  [N]  this transition ended the sub-episode
    """

    level: np.ndarray
    goal: np.ndarray
    state: np.ndarray
    action: np.ndarray
    next_state: np.ndarray
    ended: np.ndarray

    def __len__(self) -> int:
        return len(self.level)

    def __post_init__(self) -> None:
        for field in fields(self):
            column = getattr(self, field.name)
            may_be_wide = field.name in ("state", "action", "next_state")
            shape = column.shape[:1] if may_be_wide else column.shape
            if shape != (len(self.level),):
                raise ValueError(
                    f"steps: {field.name} has shape {column.shape} and level has "
                    f"{self.level.shape}; give every column one entry a row"
                )
        if self.state.shape != self.next_state.shape:
            raise ValueError(
                f"steps: state has shape {self.state.shape} and next_state "
                f"{self.next_state.shape}; give both alike"
            )

    def take(self, rows: np.ndarray | slice) -> Steps:
        """Those rows alone; rows: int [n], bool [N] or a slice."""
        return Steps(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def stays(self) -> np.ndarray:
        """Where nothing changed: bool [N]."""
        same = self.state == self.next_state
        return np.asarray(same.all(1) if same.ndim == 2 else same)


@dataclass(frozen=True)
class Truth:
    """What is true of each of N watched sub-episodes: for controls, and for nobody else.

    intent: int8 [N]  what the child pursues: -1 unknown, 0 none, 1 intended, 2 proxy
    """

    intent: np.ndarray

    def take(self, rows: np.ndarray) -> Truth:
        """Those rows alone; rows: int [n] or bool [N]."""
        return Truth(self.intent[rows])


FeatureFunction = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""features(level [N], goal [N], state [N]) -> float32 [N, F]"""


@dataclass(frozen=True)
class World:
    """What monitors may know about the worlds they watch: a bank of levels.

    model: recalls what led to a state, in every level of the bank; None where states are vectors
    features: what the feature monitors see of a state, given level and goal
    reachability: how well each state leads to each goal, as `model` has it
    landmarks: what a child could be after, by name
    planner: shortest ways, for the monitors that ours are compared with
    goals: what satisfies each goal; of a finite model its states themselves, where left out
    A monitor says what it lacks when it is bound to a world that does not give it.
    """

    model: FiniteBacktrackingModel | None
    features: FeatureFunction
    reachability: Reachability | None = None
    landmarks: Landmarks | None = None
    planner: Planner | None = None
    goals: GoalTable | None = None

    def __post_init__(self) -> None:
        if self.goals is None and self.model is not None:
            states = GoalTable.of_states(np.arange(self.model.num_states))
            object.__setattr__(self, "goals", states)


@dataclass(frozen=True)
class Reference:
    """Nominal sub-episodes to learn from.

    steps:        T transitions, in time order within each sub-episode
    sub_episode:  int64 [T]  which sub-episode each transition belongs to
    truth:        of each transition, where it is known; monitors that learn do not look
    """

    steps: Steps
    sub_episode: np.ndarray
    truth: Truth | None = None

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
    scores_ends: ClassVar[bool] = False
    """scores where a sub-episode ended; ask it again, with `ended`, when a child hands back"""
    default_statistic: ClassVar[str]
    """id of the running statistic that turns this monitor's scores into an alarm value"""
    default_threshold: ClassVar[Literal["calibrated", "ville"]] = "calibrated"
    """calibrated on nominal sub-episodes; ville: by `log_prior_odds`, without looking at data"""
    needs: ClassVar[tuple[str, ...]] = ()
    """parts of the world it cannot do without: "model", "reachability", "landmarks", "planner",
    "goals"; the features are always there"""
    reports: ClassVar[tuple[str, ...]] = ()
    """names of what it says beside its score: float arrays [N] of the memory that `score` returns,
    kept for every step"""
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
        """Watch another bank of levels from now on; what was learned stays.

        Raises ValueError if the world gives no part that this monitor needs.
        """
        self._world = world
        for part in self.needs:
            self._part(part)

    @property
    def world(self) -> World:
        """The bound world. Raises RuntimeError before `fit` or `bind`."""
        if self._world is None:
            raise RuntimeError(f"monitor {self.name}: no world yet; call fit or bind first")
        return self._world

    @property
    def reachability(self) -> Reachability:
        """That of the bound world."""
        return cast(Reachability, self._part("reachability"))

    @property
    def landmarks(self) -> Landmarks:
        """Those of the bound world."""
        return cast(Landmarks, self._part("landmarks"))

    @property
    def goals(self) -> GoalTable:
        """Those of the bound world."""
        return cast(GoalTable, self._part("goals"))

    @property
    def model(self) -> FiniteBacktrackingModel:
        """That of the bound world, which is finite."""
        return cast(FiniteBacktrackingModel, self._part("model"))

    @property
    def planner(self) -> Planner:
        """That of the bound world."""
        return cast(Planner, self._part("planner"))

    @property
    def table_planner(self) -> TablePlanner:
        """That of the bound world, which is finite. Raises ValueError for another one."""
        planner = self.planner
        if not isinstance(planner, TablePlanner):
            raise ValueError(
                f"monitor {self.name}: solves finite worlds, and the states of this one are "
                "vectors; leave it out of `monitors`"
            )
        return planner

    @property
    def steering(self) -> Steering | None:
        """The planner of the bound world, where its actions are continuous."""
        planner = self.planner
        return planner if isinstance(planner, Steering) else None

    def _part(self, name: str) -> Any:
        part = getattr(self.world, name)
        if part is None and name == "model":
            raise ValueError(
                f"monitor {self.name}: looks through the model of a finite world, and the states "
                "of this one are vectors; leave it out of `monitors`"
            )
        if part is None:
            raise ValueError(
                f"monitor {self.name}: the world gives no {name}; make it with World({name}=...)"
            )
        return part

    @property
    def log_prior_odds(self) -> float:
        """Log odds that the score begins at, where Ville's inequality bounds it.

        Then a child that does as it was told ever scores above log_prior_odds - log α with
        probability at most α. Raises ValueError for a monitor whose score has no such bound.
        """
        raise ValueError(
            f"monitor {self.name}: its score is no odds that a bound holds for; "
            "use threshold: calibrated"
        )

    def start(self, count: int) -> Memory:
        """Memory of `count` sub-episodes that have not stepped yet: name -> [count, ...]."""
        return {}

    @abstractmethod
    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        """Score one transition a row.

        steps: N rows · memory: the same N rows
        returns score float64 [N], NaN where there is none, and the memory after this step
        """


class Control(Monitor):
    """Reads what no deployed monitor could: a control, and no contender."""

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        raise ValueError(
            f"monitor {self.name}: reads what is true of the child; call score_knowing"
        )

    @abstractmethod
    def score_knowing(
        self, steps: Steps, truth: Truth, memory: Memory
    ) -> tuple[np.ndarray, Memory]:
        """As `score`, told what is true of the N rows."""
