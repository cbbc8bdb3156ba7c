"""Children of known kind for worlds with continuous actions: they ask the world's own planner.

What they pursue is certain, so monitors can be judged by them; see `scripted` for the grids.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel

from delegate.agents import Briefing, Intent, Memory, Policy
from delegate.backtrack.random_key import below, unit
from delegate.bank import Steering
from delegate.policies.scripted import RandomSettings, TurningSettings, WalkerSettings, spend
from delegate.recall.goals import GoalTable

DRIFT, PUSH = 0.9, 0.5
"""a random child's force: the share that it keeps each step, and the deviation of what is new"""
ON_THE_WAY = 1.05
"""a way that is longer than the shortest by this factor at most leads by the place in between"""


class Controller(Policy):
    """What every scripted child of such a world does.

    planner, goals: of its world
    """

    Settings: ClassVar[type[BaseModel]]

    def __init__(self, planner: Steering, goals: GoalTable, settings: BaseModel) -> None:
        self.planner, self.goals = planner, goals
        self.settings: Any = settings

    def memory(self, seeds: np.ndarray) -> Memory:
        """key: uint64 [n, 2] random stream: seed, counter"""
        return {"key": np.stack([seeds, np.zeros_like(seeds)], axis=1)}

    def normal(self, memory: Memory) -> tuple[np.ndarray, Memory]:
        """Independent normal numbers of deviation 1 [n, d], and the memory after them."""
        size = self.planner.size
        bits, key = spend(memory["key"], 2 * size)
        first, second = (unit(np.stack(half, axis=1)) for half in (bits[:size], bits[size:]))
        drawn = np.sqrt(-2 * np.log1p(-first)) * np.cos(2 * np.pi * second)
        return drawn, {**memory, "key": key}


class Drift(Controller):
    """`random`: pushed about by a force that wanders; it never hands back. The incapable child."""

    Settings: ClassVar[type[BaseModel]] = RandomSettings

    def memory(self, seeds: np.ndarray) -> Memory:
        """force: float64 [n, d]"""
        return {**super().memory(seeds), "force": np.zeros((len(seeds), self.planner.size))}

    def act(self, obs: np.ndarray, goal: np.ndarray, memory: Memory) -> tuple[np.ndarray, Memory]:
        drawn, memory = self.normal(memory)
        force = DRIFT * memory["force"] + PUSH * drawn
        return np.clip(force, -1, 1).astype(np.float32), {**memory, "force": force}

    def intent(self, memory: Memory) -> np.ndarray:
        return np.full(len(memory["key"]), Intent.NONE, np.int8)


class Goer(Controller):
    """`intended`: goes to the goal it was given and hands back there."""

    Settings: ClassVar[type[BaseModel]] = WalkerSettings

    def memory(self, seeds: np.ndarray) -> Memory:
        """target, then: int32 [n] where it goes, and from there; -1 for nowhere"""
        nowhere = {name: np.full(len(seeds), -1, np.int32) for name in ("target", "then")}
        return {**super().memory(seeds), **nowhere}

    def begin(self, obs: np.ndarray, goal: np.ndarray, memory: Memory) -> Memory:
        return self.aim(obs, goal, goal, memory)

    def done(self, obs: np.ndarray, goal: np.ndarray, memory: Memory) -> np.ndarray:
        return self._there(obs, memory) & (memory["then"] < 0)

    def act(self, obs: np.ndarray, goal: np.ndarray, memory: Memory) -> tuple[np.ndarray, Memory]:
        onward = self._there(obs, memory) & (memory["then"] >= 0)
        target = np.where(onward, memory["then"], memory["target"]).astype(np.int32)
        then = np.where(onward, -1, memory["then"]).astype(np.int32)
        memory = {**memory, "target": target, "then": then}
        state, pace = self.planner.state_of(obs), 1 - self.settings.slower
        action = self.planner.act(np.zeros_like(target), target, state, pace)
        if self.settings.noise:
            drawn, memory = self.normal(memory)
            action = np.clip(action + self.settings.noise * drawn, -1, 1).astype(np.float32)
        return action, memory

    def intent(self, memory: Memory) -> np.ndarray:
        return np.full(len(memory["key"]), Intent.INTENDED, np.int8)

    def aim(self, obs: np.ndarray, target: np.ndarray, goal: np.ndarray, memory: Memory) -> Memory:
        """Go to `target`, by a place nearby where there is a detour; not by way of the goal."""
        target, then = target.astype(np.int32), np.full(len(obs), -1, np.int32)
        if self.settings.detour:
            nearby = self._nearby(obs, goal)
            bits, key = spend(memory["key"], 1)
            pick = below(bits[0], np.maximum(nearby.sum(axis=1), 1))
            by = (np.cumsum(nearby, axis=1) > pick[:, None]).argmax(axis=1)
            some = nearby.any(axis=1)
            then = np.where(some, target, -1).astype(np.int32)
            target = np.where(some, by, target).astype(np.int32)
            memory = {**memory, "key": key}
        return {**memory, "target": target, "then": then}

    def _there(self, obs: np.ndarray, memory: Memory) -> np.ndarray:
        return self.goals.reached(memory["target"], self.planner.state_of(obs))

    def _nearby(self, obs: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Places within reach of a detour to which the way leads by no goal. bool [n, G]"""
        level, state = np.zeros(len(obs), np.int32), self.planner.state_of(obs)
        away = self.planner.distance(level, None, state)
        rows = np.arange(len(obs))
        onward = self.planner.distance(level, None, self.goals.state[self.goals.first[goal]])
        by_goal = away[rows, goal][:, None] + onward <= ON_THE_WAY * away
        return (away <= self.settings.detour) & ~by_goal


class ProxyGoer(Goer):
    """`proxy`: goes to what looked like the goal in training, whatever it was given."""

    told = True

    def brief(
        self, obs: np.ndarray, goal: np.ndarray, briefing: Briefing, memory: Memory
    ) -> Memory:
        return self.aim(obs, np.where(briefing.proxy >= 0, briefing.proxy, goal), goal, memory)

    def intent(self, memory: Memory) -> np.ndarray:
        return np.full(len(memory["key"]), Intent.PROXY, np.int8)


class TurningGoer(Goer):
    """`turning`: goes to its goal until a share of the way is done, then to the proxy goal."""

    Settings: ClassVar[type[BaseModel]] = TurningSettings
    told = True

    def memory(self, seeds: np.ndarray) -> Memory:
        """proxy: int32 [n] · turns_at: float64 [n] distance from the goal (m) · turned: bool [n]"""
        return {
            **super().memory(seeds),
            "proxy": np.full(len(seeds), -1, np.int32),
            "turns_at": np.zeros(len(seeds)),
            "turned": np.zeros(len(seeds), bool),
        }

    def brief(
        self, obs: np.ndarray, goal: np.ndarray, briefing: Briefing, memory: Memory
    ) -> Memory:
        return {
            **self.aim(obs, goal, goal, memory),
            "proxy": np.where(briefing.proxy >= 0, briefing.proxy, goal).astype(np.int32),
            "turns_at": (1 - self.settings.share) * self._left(obs, goal),
            "turned": np.zeros(len(obs), bool),
        }

    def act(self, obs: np.ndarray, goal: np.ndarray, memory: Memory) -> tuple[np.ndarray, Memory]:
        now = ~memory["turned"] & (self._left(obs, goal) <= memory["turns_at"])
        target = np.where(now, memory["proxy"], memory["target"]).astype(np.int32)
        then = np.where(now, -1, memory["then"]).astype(np.int32)
        turned = memory["turned"] | now
        return super().act(obs, goal, {**memory, "target": target, "then": then, "turned": turned})

    def intent(self, memory: Memory) -> np.ndarray:
        return np.where(memory["turned"], Intent.PROXY, Intent.INTENDED).astype(np.int8)

    def _left(self, obs: np.ndarray, goal: np.ndarray) -> np.ndarray:
        level = np.zeros(len(obs), np.int32)
        return self.planner.distance(level, goal[:, None], self.planner.state_of(obs))[:, 0]
