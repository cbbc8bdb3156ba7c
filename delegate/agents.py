"""Who can act in a delegation: agents decide; whoever has a crew may hand work to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel

from delegate.settings import NoSettings

if TYPE_CHECKING:
    from delegate.bank import Bank

HAND_BACK = -1
"""the integer action by which a policy says that it is done; see `Policy.done` for float ones"""

Memory = dict[str, np.ndarray]
"""an agent's memory: named arrays, one row an instance"""


class Intent(IntEnum):
    """What a child of known kind pursues; the truth that monitors are judged by."""

    UNKNOWN = -1
    NONE = 0
    INTENDED = 1
    PROXY = 2


NO_CODE = -1
"""no outcome or verdict yet"""


class Outcome(IntEnum):
    """How a sub-episode ended."""

    RETURNED = 0
    TIMED_OUT = 1
    INTERRUPTED = 2
    FAILED = 3


class Ruling(IntEnum):
    """What its parent made of it."""

    COMMITTED = 0
    ROLLED_BACK = 1
    ESCALATED = 2


class Decision(IntEnum):
    """What an agent may do. RETURN hands its work back; at the root it ends the episode, as STOP
    does, which nobody else may."""

    ACT = 0
    DELEGATE = 1
    BACKTRACK = 2
    RETURN = 3
    STOP = 4


@dataclass
class Decisions:
    """One decision a row.

    kind: int8 [n] Decision
    action: [n, ...] as the world's action space has it, for ACT
    child: int [n] place in the crew, goal: int [n], budget: int [n] steps, for DELEGATE
    target: int [n] sub-episode, for BACKTRACK
    gave_up: bool [n] with RETURN: it found no way
    """

    kind: np.ndarray
    action: np.ndarray
    child: np.ndarray
    goal: np.ndarray
    budget: np.ndarray
    target: np.ndarray
    gave_up: np.ndarray

    @classmethod
    def returns(cls, count: int) -> Decisions:
        """Everybody returns; an agent fills in what it wants instead."""
        kind = np.full(count, Decision.RETURN, np.int8)
        action, child, goal, budget, target = (np.zeros(count, np.int64) for _ in range(5))
        return cls(kind, action, child, goal, budget, target, np.zeros(count, bool))

    @classmethod
    def acts(cls, action: np.ndarray) -> Decisions:
        """Everybody acts. action: [n, ...]"""
        decisions = cls.returns(len(action))
        decisions.kind[:] = Decision.ACT
        decisions.action = action
        return decisions


@dataclass(frozen=True)
class View:
    """What an agent knows when it decides: its own work and what became of its delegations.

    obs: [n, ...] · goal: int [n] number of the goal it was given
    clock_left: int [n] steps it may still pay · spawns_left: int [n]
    may_delegate: bool [n] depth, spawns and crew allow it
    over: bool [n] the world has terminated: only BACKTRACK, RETURN and STOP are left
    last: int [n] its latest sub-episode, -1 for none · last_child: int [n] place in the crew
    last_outcome, last_verdict: int8 [n], NO_CODE (-1) for none · last_alarm: bool [n]
    let_down: bool [n, crew] whose work was taken back, or who gave up or failed
    crew: int [crew] the members it may choose from
    """

    obs: Any
    goal: np.ndarray
    clock_left: np.ndarray
    spawns_left: np.ndarray
    may_delegate: np.ndarray
    over: np.ndarray
    last: np.ndarray
    last_child: np.ndarray
    last_outcome: np.ndarray
    last_verdict: np.ndarray
    last_alarm: np.ndarray
    let_down: np.ndarray
    crew: np.ndarray


@dataclass(frozen=True)
class Briefing:
    """What scripted children of known kind are told beside their goal, and nobody else is.

    bank: the world they are in, with its planner · level: int [n]
    proxy: int [n] the goal that looked the same in training, -1 for none
    """

    bank: Bank
    level: np.ndarray
    proxy: np.ndarray


class Agent(ABC):
    """Whoever decides. Its memory is rows, saved and rolled back like state.

    It sees its observation, its goal and its own delegations: never a monitor, a threshold, the
    proxy goal or the true score. What it is handed are copies.
    Where it raises, or what it decides cannot be, its sub-episode ends as failed.
    """

    random_state: frozenset[str] = frozenset({"key"})
    """memory arrays that hold random state: a rollback leaves them running"""
    told: bool = False
    """of known kind: its delegations begin by `brief`"""

    def memory(self, seeds: np.ndarray) -> Memory:
        """Blank memory. seeds: uint64 [n], one a row · returns name -> [n, ...]"""
        return {}

    def begin(self, obs: Any, goal: np.ndarray, memory: Memory) -> Memory:
        """A delegation to it begins. obs: [n, ...] · goal: int [n]"""
        return memory

    def brief(self, obs: Any, goal: np.ndarray, briefing: Briefing, memory: Memory) -> Memory:
        """As `begin`, for an agent that is told."""
        return self.begin(obs, goal, memory)

    @abstractmethod
    def decide(self, view: View, memory: Memory) -> tuple[Decisions, Memory]:
        """One decision a row."""

    def intent(self, memory: Memory) -> np.ndarray | Intent:
        """What each instance pursues now: int8 [n] of Intent, or one for all."""
        return Intent.UNKNOWN


class Policy(Agent):
    """An agent that only acts.

    class Right(Policy):
        def act(self, obs, goal, memory):
            return np.ones(len(goal), int), memory
    """

    Settings: ClassVar[type[BaseModel]] = NoSettings
    """what a scenario may set"""

    def __init__(self, settings: BaseModel | None = None) -> None:
        self.settings: Any = self.Settings() if settings is None else settings

    @classmethod
    def for_world(cls, world: Any, settings: BaseModel) -> Self:
        """One for that world, as scenarios have it made. world: a WorldType

        Raises ValueError where it is not for such a world.
        """
        return cls(settings)

    @abstractmethod
    def act(self, obs: Any, goal: np.ndarray, memory: Memory) -> tuple[np.ndarray, Memory]:
        """Choose. obs: [n, ...] · goal: int [n] · returns actions [n, ...], memory

        Of integers HAND_BACK is none of the world's actions: it hands back.
        """

    def done(self, obs: Any, goal: np.ndarray, memory: Memory) -> np.ndarray | bool:
        """Who hands back now instead of acting: bool [n]; asked before `act`."""
        return False

    def decide(self, view: View, memory: Memory) -> tuple[Decisions, Memory]:
        done = self.done(view.obs, view.goal, memory) | view.over
        action, memory = self.act(view.obs, view.goal, memory)
        action = np.asarray(action)
        decisions = Decisions.acts(action)
        if action.dtype.kind in "iu" and action.ndim == 1:
            done = done | (action == HAND_BACK)
        decisions.kind[done] = Decision.RETURN
        return decisions, memory


@dataclass(frozen=True)
class Member:
    """Somebody who may be given work.

    name: as in the scenario · agent: what it does · trusted: known to pursue its goal
    crew: the members it may itself delegate to, empty for one that only acts
    """

    name: str
    agent: Agent
    trusted: bool = False
    crew: tuple[int, ...] = ()
