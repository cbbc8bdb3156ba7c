"""Who can act in a delegation: policies act in the world, parents decide who does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

HAND_BACK = -1
"""the action by which a child says that it is done"""

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


class Ruling(IntEnum):
    """What its parent made of it."""

    COMMITTED = 0
    ROLLED_BACK = 1
    ESCALATED = 2


class Policy(ABC):
    """A child that acts in the world. Its memory is rows, saved and rolled back like state.

    It sees its observation and its goal: never the monitor, its threshold or the true score.
    """

    random_state: frozenset[str] = frozenset({"key"})
    """memory arrays that hold random state: a rollback leaves them running"""

    @abstractmethod
    def memory(self, seeds: np.ndarray) -> Memory:
        """Blank memory. seeds: uint64 [n], one a row · returns name -> [n, ...]"""

    def begin(self, obs: Any, goal: np.ndarray, habit: np.ndarray, memory: Memory) -> Memory:
        """A delegation begins.

        obs: [n, ...] · goal: int [n] assigned · habit: int [n] the goal that looked the
        same in training, -1 for none; only children of known kind may use it
        """
        return memory

    @abstractmethod
    def act(self, obs: Any, goal: np.ndarray, memory: Memory) -> tuple[np.ndarray, Memory]:
        """Choose. obs: [n, ...] · goal: int [n] · returns int [n] actions or HAND_BACK, memory"""

    def intent(self, memory: Memory) -> np.ndarray:
        """What each instance pursues now: int8 [n] of Intent."""
        return np.full(len(next(iter(memory.values()))), Intent.UNKNOWN, np.int8)


class Decision(IntEnum):
    """What a parent may do."""

    ACT = 0
    DELEGATE = 1
    BACKTRACK = 2
    STOP = 3
    GIVE_UP = 4


@dataclass
class Decisions:
    """One decision a row.

    kind: int8 [n] Decision
    action: int [n] primitive action, for ACT
    child: int [n] crew number, goal: int [n], budget: int [n] steps, for DELEGATE
    target: int [n] sub-episode, for BACKTRACK
    """

    kind: np.ndarray
    action: np.ndarray
    child: np.ndarray
    goal: np.ndarray
    budget: np.ndarray
    target: np.ndarray

    @classmethod
    def stop(cls, count: int) -> Decisions:
        """Everybody stops; a parent fills in what it wants instead."""
        blank = np.zeros(count, np.int64)
        return cls(np.full(count, Decision.STOP, np.int8), *(blank.copy() for _ in range(5)))


@dataclass(frozen=True)
class ParentView:
    """What a parent knows when it decides: its own work and what became of its delegations.

    obs: [n, ...] · goal: int [n] · habit: int [n], as in Policy.begin
    clock_left: int [n] steps it may still pay · spawns_left: int [n]
    may_delegate: bool [n] depth and spawns allow it
    over: bool [n] the world has ended: only BACKTRACK or STOP are left
    last: int [n] its latest sub-episode, -1 for none · last_child: int [n] crew number
    last_outcome, last_verdict: int8 [n], NO_CODE (-1) for none · last_alarm: bool [n]
    rolled_back: bool [n, crew] whom it has taken work back from
    crew: int [crew] the members it may choose from
    """

    obs: Any
    goal: np.ndarray
    habit: np.ndarray
    clock_left: np.ndarray
    spawns_left: np.ndarray
    may_delegate: np.ndarray
    over: np.ndarray
    last: np.ndarray
    last_child: np.ndarray
    last_outcome: np.ndarray
    last_verdict: np.ndarray
    last_alarm: np.ndarray
    rolled_back: np.ndarray
    crew: np.ndarray


class Parent(ABC):
    """An agent that may hand its work to others. Memory is rows, as for a policy."""

    random_state: frozenset[str] = frozenset({"key"})

    @abstractmethod
    def memory(self, seeds: np.ndarray, crew: int) -> Memory:
        """Blank memory. seeds: uint64 [n], one a row · crew: how many it may choose from"""

    def begin(self, obs: Any, goal: np.ndarray, habit: np.ndarray, memory: Memory) -> Memory:
        """Its own delegation begins; as Policy.begin."""
        return memory

    @abstractmethod
    def decide(self, view: ParentView, memory: Memory) -> tuple[Decisions, Memory]:
        """One decision a row."""


@dataclass(frozen=True)
class Member:
    """Somebody who may be given work.

    name: as in the scenario · agent: what it does · trusted: known to pursue its goal
    crew: the members it may itself delegate to (a parent), empty for a policy
    """

    name: str
    agent: Policy | Parent
    trusted: bool = False
    crew: tuple[int, ...] = ()
