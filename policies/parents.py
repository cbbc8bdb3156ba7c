"""Parents that follow a rule: ask one child after the other, then manage alone or give up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from delegate.agents import (
    Agent,
    Briefing,
    Decision,
    Decisions,
    Memory,
    Policy,
    Ruling,
    View,
)
from delegate.backtrack.random_key import draw
from delegate.backtrack.spaces import take

ALONE = "alone/"
"""what the names of the memory begin with that belongs to the policy a parent follows itself"""


class Relay(Agent):
    """Hands its goal to its crew in a random order until one sub-episode stands.

    What comes back and is committed, it accepts: a parent cannot see whether its goal was
    meant. What is rolled back goes to the next in order. When nobody is left it gives up.

    budget: the most steps it grants one delegation; its own remaining ones bound it too
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget

    def memory(self, seeds: np.ndarray) -> Memory:
        """key: uint64 [n, 1] from which it draws whom to ask first"""
        return {"key": seeds[:, None].copy()}

    def decide(self, view: View, memory: Memory) -> tuple[Decisions, Memory]:
        decisions = Decisions.returns(len(view.goal))
        order = np.argsort(draw(memory["key"], np.arange(len(view.crew), dtype=np.uint64)), axis=1)
        untried = ~np.take_along_axis(view.let_down, order, axis=1)
        accepted = (view.last >= 0) & (view.last_verdict == Ruling.COMMITTED)
        asks = ~accepted & ~view.over & untried.any(1) & view.may_delegate & (view.clock_left > 0)
        decisions.kind[asks] = Decision.DELEGATE
        decisions.child = np.take_along_axis(order, untried.argmax(1)[:, None], axis=1)[:, 0]
        decisions.goal = view.goal.astype(np.int64)
        decisions.budget = np.minimum(view.clock_left, self.budget)
        stuck = ~asks & ~accepted & ~view.over
        return self._alone(stuck, decisions, view, memory)

    def _alone(
        self, stuck: np.ndarray, decisions: Decisions, view: View, memory: Memory
    ) -> tuple[Decisions, Memory]:
        """Nobody is left to ask in those rows: bool [n]."""
        decisions.gave_up = stuck
        return decisions, memory


class InTurn(Relay):
    """A relay at the root: when nobody is left to ask, it acts itself.

    alone: the policy it then follows
    """

    def __init__(self, budget: int, alone: Policy) -> None:
        super().__init__(budget)
        self.alone = alone
        self.told = alone.told
        self.random_state = frozenset({"key"}) | {ALONE + name for name in alone.random_state}

    def memory(self, seeds: np.ndarray) -> Memory:
        return _with(super().memory(seeds), self.alone.memory(seeds))

    def begin(self, obs: Any, goal: np.ndarray, memory: Memory) -> Memory:
        return _with(memory, self.alone.begin(obs, goal, _own(memory)))

    def brief(self, obs: Any, goal: np.ndarray, briefing: Briefing, memory: Memory) -> Memory:
        return _with(memory, self.alone.brief(obs, goal, briefing, _own(memory)))

    def _alone(
        self, stuck: np.ndarray, decisions: Decisions, view: View, memory: Memory
    ) -> tuple[Decisions, Memory]:
        rows = np.flatnonzero(stuck & (view.clock_left > 0))
        if not len(rows):
            return decisions, memory
        own = _own(memory)
        chosen, after = self.alone.decide(_in_rows(view, rows), take(own, rows))
        acts = chosen.kind == Decision.ACT
        decisions.kind[rows[acts]] = Decision.ACT
        action = np.zeros((len(stuck), *chosen.action.shape[1:]), chosen.action.dtype)
        action[rows] = chosen.action
        decisions.action = action
        for name, array in after.items():
            own[name] = own[name].copy()
            own[name][rows[acts]] = array[acts]
        return decisions, _with(memory, own)


def _own(memory: Memory) -> Memory:
    return {
        name.removeprefix(ALONE): array for name, array in memory.items() if name.startswith(ALONE)
    }


def _with(memory: Memory, own: Memory) -> Memory:
    return {**memory, **{ALONE + name: array for name, array in own.items()}}


def _in_rows(view: View, rows: np.ndarray) -> View:
    """What is known in those rows alone. rows: int [n]"""
    own = {name: part for name, part in vars(view).items() if name != "crew"}
    return replace(view, **take(own, rows))
