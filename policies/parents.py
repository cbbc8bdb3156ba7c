"""Parents that follow a rule: ask one child after the other, then manage alone or give up."""

from __future__ import annotations

from typing import Any

import numpy as np

from delegate.agents import (
    HAND_BACK,
    Decision,
    Decisions,
    Memory,
    Parent,
    ParentView,
    Policy,
    Ruling,
)
from delegate.backtrack.random_key import draw


class Relay(Parent):
    """Hands its goal to its crew in a random order until one sub-episode stands.

    What comes back and is committed, it accepts: a parent cannot see whether its goal was
    meant. What is rolled back goes to the next in order. When nobody is left it gives up.

    budget: the most steps it grants one delegation; its own remaining ones bound it too
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget

    def memory(self, seeds: np.ndarray, crew: int) -> Memory:
        """key: uint64 [n, 2] · order: int16 [n, crew] whom to ask first, from the key"""
        counter = np.arange(crew, dtype=np.uint64)
        order = np.argsort(draw(seeds[:, None], counter[None, :]), axis=1)
        return {
            "key": np.stack([seeds, np.full_like(seeds, crew)], axis=1),
            "order": order.astype(np.int16),
        }

    def decide(self, view: ParentView, memory: Memory) -> tuple[Decisions, Memory]:
        decisions = Decisions.stop(len(view.goal))
        asked = np.take_along_axis(view.rolled_back, memory["order"].astype(np.intp), axis=1)
        untried = ~asked
        accepted = (view.last >= 0) & (view.last_verdict == Ruling.COMMITTED)
        asks = ~accepted & ~view.over & untried.any(1) & view.may_delegate & (view.clock_left > 0)
        turn = untried.argmax(1)
        decisions.kind[asks] = Decision.DELEGATE
        decisions.child = memory["order"][np.arange(len(turn)), turn].astype(np.int64)
        decisions.goal = view.goal.astype(np.int64)
        decisions.budget = np.minimum(view.clock_left, self.budget)
        stuck = ~asks & ~accepted & ~view.over
        return self._alone(stuck, decisions, view, memory)

    def _alone(
        self, stuck: np.ndarray, decisions: Decisions, view: ParentView, memory: Memory
    ) -> tuple[Decisions, Memory]:
        """Nobody is left to ask in those rows: bool [n]."""
        decisions.kind[stuck] = Decision.GIVE_UP
        return decisions, memory


class InTurn(Relay):
    """A relay at the root: when nobody is left to ask, it acts itself.

    alone: the policy it then follows
    """

    def __init__(self, budget: int, alone: Policy) -> None:
        super().__init__(budget)
        self.alone = alone
        self.random_state = frozenset({"key"}) | {f"alone/{n}" for n in alone.random_state}

    def memory(self, seeds: np.ndarray, crew: int) -> Memory:
        own = {f"alone/{name}": array for name, array in self.alone.memory(seeds).items()}
        return {**super().memory(seeds, crew), **own}

    def begin(self, obs: Any, goal: np.ndarray, habit: np.ndarray, memory: Memory) -> Memory:
        return self._with(memory, self.alone.begin(obs, goal, habit, self._own(memory)))

    def _alone(
        self, stuck: np.ndarray, decisions: Decisions, view: ParentView, memory: Memory
    ) -> tuple[Decisions, Memory]:
        own = self._own(memory)
        action, after = self.alone.act(view.obs, view.goal, own)
        acts = stuck & (action != HAND_BACK) & (view.clock_left > 0)
        decisions.kind[acts] = Decision.ACT
        decisions.action = np.where(acts, action, 0)
        for name, array in after.items():
            mask = acts.reshape(-1, *(1,) * (array.ndim - 1))
            own[name] = np.where(mask, array, own[name])
        return decisions, self._with(memory, own)

    def _own(self, memory: Memory) -> Memory:
        return {name[6:]: array for name, array in memory.items() if name.startswith("alone/")}

    def _with(self, memory: Memory, own: Memory) -> Memory:
        return {**memory, **{f"alone/{name}": array for name, array in own.items()}}
