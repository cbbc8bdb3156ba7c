"""Q-learning for one seed as anyone would first write it: dicts, loops, Python numbers."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from delegate.policies.tabular import QLearningSettings

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
STREAM = 0x7461627561726C51


class OneWorld(Protocol):
    """One environment with integers; `masks` and `held` as the backtrack action gives them."""

    def reset(self) -> int: ...
    def masks(self) -> list[bool]: ...
    def step(self, action: int) -> tuple[int, float, bool, bool, bool]:
        """observation, reward, terminated, truncated, held"""
        ...


class PlainQLearning:
    """What the batched learner is held against, row by row."""

    def __init__(
        self,
        settings: QLearningSettings,
        seed: int,
        actions: int,
        backtracks: int,
        refund: float,
        cost: float,
        rate: float | None = None,
    ) -> None:
        self.settings, self.rate = settings, rate
        self.actions, self.world_actions = actions, actions - backtracks
        self.refund, self.cost = refund, cost
        self.seed, self.counter = mixed(seed ^ STREAM), 0
        self.table: dict[tuple[int, int], float] = {}
        self.moves: dict[tuple[int, int], int] = {}
        self.undone: float | None = None

    def value(self, state: int, action: int) -> float:
        return self.table.get((state, action), self.settings.initial_value)

    def best(self, state: int, masks: list[bool], world_only: bool) -> float:
        choices = range(self.world_actions if world_only else self.actions)
        return max(self.value(state, a) for a in choices if masks[a])

    def act(self, state: int, masks: list[bool], held: bool) -> int:
        known = self.settings.going_back == "known"
        coin, pick, chance = self.bits(), self.bits(), self.bits()
        among = [a for a in range(self.actions) if masks[a]]
        if known or self.rate is not None:
            among = [a for a in among if a < self.world_actions]
        highest = max(self.value(state, a) for a in among)
        explores = share(coin) < self.settings.epsilon
        greedy = [a for a in among if self.value(state, a) == highest]
        action = chosen(among if explores else greedy, pick)
        back = [a for a in range(self.world_actions, self.actions) if masks[a]]
        if not back:
            return action
        if self.rate is not None:
            return chosen(back, pick) if share(chance) < self.rate else action
        if known and self.undone is not None and (held or not explores):
            return chosen(back, pick) if self.undone > (0.0 if held else highest) else action
        return action

    def update(
        self,
        state: int,
        before: list[bool],
        action: int,
        reward: float,
        after: int,
        masks: list[bool],
        terminated: bool,
        held: bool,
    ) -> None:
        settings, aside = self.settings, self.settings.going_back != "learned"
        over = terminated or (aside and held)
        follows = 0.0 if over else self.best(after, masks, aside)
        target = reward + settings.discount * follows
        size = settings.step_size
        if settings.decay is not None:
            count = self.moves[state, action] = self.moves.get((state, action), 0) + 1
            # numpy's own power, whose last bit need not be Python's
            size = max(float(np.power(np.array([count * 1.0]), -settings.decay)[0]), size)
        old = self.value(state, action)
        self.table[state, action] = old + size * (target - old)
        self.undone = None
        if settings.going_back == "known" and action < self.world_actions:
            there = settings.discount * self.best(state, before, True)
            self.undone = there - self.refund * reward - self.cost

    def train(self, world: OneWorld, interactions: int) -> list[tuple[Any, ...]]:
        """Every decision: state, action, reward, next state, terminated, truncated, held."""
        course: list[tuple[Any, ...]] = []
        state, held = world.reset(), False
        for _ in range(interactions):
            before = world.masks()
            action = self.act(state, before, held)
            after, reward, terminated, truncated, held = world.step(action)
            self.update(state, before, action, reward, after, world.masks(), terminated, held)
            course.append((state, action, reward, after, terminated, truncated, held))
            state = after
            if terminated or truncated:
                state, held = world.reset(), False
        return course

    def bits(self) -> int:
        self.counter += 1
        return mixed((self.seed + self.counter * GOLDEN) & MASK)


def chosen(among: list[int], bits: int) -> int:
    return among[((bits >> 32) * len(among)) >> 32]


def share(bits: int) -> float:
    return (bits >> 11) * 2.0**-53


def mixed(bits: int) -> int:
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
    return bits ^ (bits >> 31)
