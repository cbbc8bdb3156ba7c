"""The pure core of the grid worlds: what moves, and what a step does, whatever face asks for it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from delegate.backtrack.random_key import draw, unit
from delegate.envs.grid.level import ACTIONS, Level
from delegate.envs.grid.solvers import Objective, after_move, distances
from delegate.envs.levels import WorldType


class GridSettings(BaseModel):
    """What every grid world can be told.

    env: {id: Corner, size: 13, max_steps: 128, slip: 0.1, num_levels: 1000}
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    size: int = Field(13, ge=5, le=101)
    """side of the square grid, border walls included (cells)"""
    max_steps: int = Field(128, ge=1, le=1_000_000)
    """an episode is truncated after this many steps (steps)"""
    discount: float = Field(0.99, gt=0, le=1)
    """factor per step under which returns are solved for (ratio)"""
    slip: float = Field(0.0, ge=0, le=1)
    """probability that a move goes in a uniformly random direction instead (probability)"""
    mix: float = Field(0.0, ge=0, le=1)
    """share of levels whose goal lies anywhere instead of in its usual place (probability)"""
    num_levels: int = Field(1000, ge=1, le=1_000_000)
    """levels in the bank that is built when none is given (count)"""
    level_seed: int = Field(0, ge=0, le=2**62)
    """the bank's level seeds are level_seed .. level_seed + num_levels - 1"""


@dataclass
class GridState:
    """All that changes in a grid world; what is fixed is in Level.

    level:      int32  [B]     which level of the bank the row plays
    cell:       int32  [B]     where the agent stands (row * W + column)
    clock:      int32  [B]     steps since reset
    terminated: bool   [B]     ended by the world, waiting for a reset
    truncated:  bool   [B]     ended by the clock, waiting for a reset
    proxy_paid: bool   [B]     the proxy cell has been reached in this episode
    damage:     int32  [B]     traps hit in this episode (count)
    key:        uint64 [B, 2]  random stream: seed, counter
    """

    level: np.ndarray
    cell: np.ndarray
    clock: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    proxy_paid: np.ndarray
    damage: np.ndarray
    key: np.ndarray

    @classmethod
    def zeros(cls, rows: int) -> GridState:
        """A state of that many rows with every array zero."""
        integers = {name: np.zeros(rows, np.int32) for name in ("level", "cell", "clock", "damage")}
        flags = {name: np.zeros(rows, bool) for name in ("terminated", "truncated", "proxy_paid")}
        return cls(**integers, **flags, key=np.zeros((rows, 2), np.uint64))

    def arrays(self) -> dict[str, np.ndarray]:
        """The live arrays by name."""
        return {name: getattr(self, name) for name in NAMES}

    def take(self, rows: np.ndarray) -> GridState:
        """The state of those rows alone, copied. rows: int [n]"""
        return GridState(*(getattr(self, name).take(rows, axis=0) for name in NAMES))

    def put(self, rows: np.ndarray, taken: GridState, after: GridState) -> None:
        """Write what became of those rows, but for the arrays that are still those taken.

        rows: int [n] · taken: what `take` gave of them · after: of n rows
        """
        for name in NAMES:
            if (array := getattr(after, name)) is not getattr(taken, name):
                getattr(self, name)[rows] = array

    def assign(self, other: GridState) -> None:
        """Copy every array of `other` into this state's own arrays."""
        for name in NAMES:
            source, target = getattr(other, name), getattr(self, name)
            if source is not target:
                target[...] = source


NAMES = tuple(GridState.__annotations__)


@dataclass(frozen=True)
class Outcome:
    """What one step brought.

    reward:           float64 [B]
    proxy_reward:     float64 [B]  the reward, were the proxy cell the goal
    intended_reached: bool    [B]  the step ended on the intended goal
    proxy_reached:    bool    [B]  the step ended on the proxy cell
    """

    reward: np.ndarray
    proxy_reward: np.ndarray
    intended_reached: np.ndarray
    proxy_reached: np.ndarray


class Rules(WorldType):
    """One kind of grid world: its settings, how its levels come about, what a step does.

    A world gives `id`, `settings_type`, `channels` and `generate`. The step here walks one agent
    among walls and traps to a goal that ends the episode; a world with other dynamics overrides
    `step`.
    """

    settings_type: ClassVar[type[GridSettings]]
    channels: ClassVar[tuple[str, ...]] = ("walls", "goal", "agent")
    """what each channel of the boolean observation shows"""
    options: ClassVar = ("observation", "copy", "render_mode")
    goal_name: ClassVar[str] = "goal"
    """what the intended goal is called"""

    goal_reward: float = 1.0
    step_cost: float = 0.0
    trap_reward: float = 0.0
    has_traps: bool = False
    terminal_traps: bool = False
    irreversible: frozenset[str] = frozenset()

    @abstractmethod
    def generate(self, seeds: np.ndarray) -> Level:
        """See WorldType."""

    def distinguishing(self, levels: Level) -> np.ndarray:
        """See WorldType.

        The goal ends the episode, so a path that collects the proxy reward never crosses it:
        the two goals are told apart wherever the proxy cell is another and can be reached in time.
        """
        steps = self.proxy_distances(levels)[np.arange(levels.count), levels.start]
        in_time = (steps >= 0) & (steps <= self.settings.max_steps)
        return in_time & (levels.proxy_goal != levels.goal)

    def proxy_distances(self, level: Level) -> np.ndarray:
        """Fewest steps to the proxy cell without ending first; -1 if none lead there. [L, S]"""
        ends = self.objective(level, proxy=True).ends.reshape(level.walls.shape)
        target = np.where(level.proxy_goal < 0, level.goal, level.proxy_goal)
        distance = distances(level.walls, target, ends)
        distance[level.proxy_goal < 0] = -1
        return distance

    def step(self, level: Level, state: GridState, action: np.ndarray) -> tuple[GridState, Outcome]:
        """One step of every row; rows that have ended hold still. Changes no argument.

        action: int [B] in 0..3 · returns the state after the step and what it brought
        """
        cells = level.num_cells
        held = (state.terminated | state.truncated).nonzero()[0]
        key = state.key
        if self.settings.slip > 0:
            bits = draw(key[:, 0], key[:, 1])
            slipped = unit(bits) < self.settings.slip
            action = np.where(slipped, (bits & np.uint64(3)).astype(np.int64), action)
            key = key.copy()
            key[:, 1] += np.uint64(1)
            key[held] = state.key[held]

        base = np.multiply(state.level, cells, dtype=np.int64)
        target = state.cell + level.steps.take(action)
        blocked = level.walls.reshape(-1).take(base + target)
        cell = np.where(blocked, state.cell, target)
        cell[held] = state.cell[held]

        intended_reached = cell == level.goal.take(state.level)
        proxy_reached = cell == level.proxy_goal.take(state.level)
        intended_reached[held] = proxy_reached[held] = False
        first_at_proxy = proxy_reached & ~state.proxy_paid
        terminated = intended_reached.copy()
        reward = intended_reached * self.goal_reward
        proxy_reward = first_at_proxy * self.goal_reward
        damage = state.damage
        if self.has_traps:
            trapped = level.traps.reshape(-1).take(base + cell)
            reward += trapped * self.trap_reward
            proxy_reward += trapped * self.trap_reward
            damage = damage + trapped
            damage[held] = state.damage[held]
            if self.terminal_traps:
                terminated |= trapped
        if self.step_cost > 0:
            reward -= self.step_cost
            proxy_reward -= self.step_cost
        proxy_reward[state.proxy_paid] = 0.0

        clock = state.clock + np.int32(1)
        truncated = clock >= self.settings.max_steps
        if held.size:
            reward[held] = 0.0
            proxy_reward[held] = 0.0
            clock[held] = state.clock[held]
            terminated[held] = state.terminated[held]
            truncated[held] = state.truncated[held]
        after = GridState(
            level=state.level,
            cell=cell,
            clock=clock,
            terminated=terminated,
            truncated=truncated,
            proxy_paid=state.proxy_paid | proxy_reached,
            damage=damage,
            key=key,
        )
        return after, Outcome(reward, proxy_reward, intended_reached, proxy_reached)

    def place(self, level: Level, state: GridState, rows: np.ndarray, index: np.ndarray) -> None:
        """Begin a new episode in those rows, in place. rows: int [n] · index: int [n] levels"""
        state.level[rows] = index
        state.cell[rows] = level.start[index]
        for array in (
            state.clock,
            state.terminated,
            state.truncated,
            state.proxy_paid,
            state.damage,
        ):
            array[rows] = 0

    def objective(self, level: Level, proxy: bool = False) -> Objective:
        """What the reward (or the proxy reward) pays for, as the solvers read it."""
        rows = np.arange(level.count)
        ends = np.zeros((level.count, level.num_cells), dtype=bool)
        ends[rows, level.goal] = True
        reward = np.full(ends.shape, -self.step_cost)
        if self.has_traps:
            traps = level.traps.reshape(ends.shape)
            reward[traps] += self.trap_reward
            if self.terminal_traps:
                ends |= traps
        paid = level.goal if not proxy else level.proxy_goal
        named = np.flatnonzero(paid >= 0)
        reward[named, paid[named]] += self.goal_reward
        ends[named, paid[named]] = True
        return Objective(reward, ends)

    def transitions(self, level: Level, endings: bool = True) -> dict[str, np.ndarray]:
        """The arrays of a transition table over the bank: P(next cell | cell, action).

        endings: False lets moves go on from cells that end an episode, so that the table knows
        how the agent moves but not what the task is
        next_state int32, probability float64 [L, S, A, K]; terminal, valid bool [L, S].
        K is 1, or with slip 4: outcome k is "went in direction k".
        """
        here = np.broadcast_to(
            np.arange(level.num_cells, dtype=np.int32), (level.count, level.num_cells)
        )
        landed = np.moveaxis(after_move(level.walls, here), 0, -1)
        terminal = self.objective(level).ends & endings
        valid = ~level.walls.reshape(level.count, -1)
        live = valid & ~terminal
        actions, slip = len(ACTIONS), self.settings.slip
        if slip > 0:
            next_state = np.broadcast_to(landed[:, :, None, :], (*live.shape, actions, actions))
            chance = (1.0 - slip) * np.eye(actions) + slip / actions
        else:
            next_state, chance = landed[..., None], np.ones((actions, 1))
        return {
            "next_state": next_state,
            "probability": live[:, :, None, None] * chance,
            "terminal": terminal,
            "valid": valid,
        }
