"""Exact solutions of the grid worlds, for a whole bank of levels at once.

Everywhere: N or L levels, S = H * W cells, A = 4 actions, cell = row * W + column.
Borders must be walls; that is what lets a move be a shift of the flat arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from delegate.envs.grid.level import ACTIONS

_CHUNK_CELLS = 32_768  # as many cells at a time as stay in the second-level cache
_BLACKWELL = 1.0 - 1e-6
_CONVERGED = 1e-11
_TIE = 1e-8
_MAX_SWEEPS = 20_000


@dataclass(frozen=True)
class Objective:
    """What an agent walks a level for: a reward on arriving at a cell, and where it ends.

    reward: float64 [L, S]  received on every step that ends on the cell
    ends:   bool    [L, S]  arriving there ends the walk
    """

    reward: np.ndarray
    ends: np.ndarray


def distances(walls: np.ndarray, target: np.ndarray, avoid: np.ndarray | None = None) -> np.ndarray:
    """Fewest moves from each cell to the target; -1 where no path leads there.

    walls: bool [N, H, W] · target: int [N] cells · avoid: bool [N, H, W] cells that a path may
    neither cross nor start on, the target excepted · returns int32 [N, S]
    Raises ValueError for a target inside a wall.
    """
    count, _, width = walls.shape
    rows = np.arange(count)
    passable = (~walls if avoid is None else ~(walls | avoid)).reshape(count, -1).copy()
    if walls.reshape(count, -1)[rows, target].any():
        level = int(np.flatnonzero(walls.reshape(count, -1)[rows, target])[0])
        raise ValueError(f"level {level}: target {int(target[level])} is a wall; give an open cell")
    passable[rows, target] = True
    distance = np.full(passable.shape, -1, dtype=np.int32)
    distance[rows, target] = 0
    frontier = distance == 0
    fresh = passable & ~frontier
    steps = 0
    while frontier.any():
        steps += 1
        grown = np.zeros_like(frontier)
        for shift in (1, width):
            grown.reshape(-1)[shift:] |= frontier.reshape(-1)[:-shift]
            grown.reshape(-1)[:-shift] |= frontier.reshape(-1)[shift:]
        frontier = grown & fresh
        distance[frontier] = steps
        fresh &= ~frontier
    return distance


def shortest_path_actions(walls: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Which actions come one move closer; none at the target or where it cannot be reached.

    walls: bool [N, H, W] · distance: int32 [N, S] from `distances` · returns bool [N, S, A]
    """
    landed = after_move(walls, distance)
    closer = (landed == distance - 1) & (landed >= 0)
    return np.ascontiguousarray(np.moveaxis(closer, 0, -1))


def after_move(walls: np.ndarray, value: np.ndarray) -> np.ndarray:
    """What each action finds: `value` at the cell it leads to, blocked moves stay.

    walls: bool [N, H, W] · value: [N, S] · returns [A, N, S] of value's dtype
    """
    count, _, width = walls.shape
    wall, flat = walls.reshape(-1), value.reshape(-1)
    found = np.empty((len(ACTIONS), flat.size), dtype=value.dtype)
    found[:] = flat
    for shift, onward, back in ((width, 2, 0), (1, 1, 3)):
        np.copyto(found[onward, :-shift], flat[shift:], where=~wall[shift:])
        np.copyto(found[back, shift:], flat[:-shift], where=~wall[:-shift])
    return found.reshape(len(ACTIONS), count, -1)


def returns(
    walls: np.ndarray,
    objective: Objective,
    horizon: int,
    discount: float,
    slip: float = 0.0,
    policy: Literal["optimal", "random"] | np.ndarray = "optimal",
) -> np.ndarray:
    """Expected discounted return from each cell within `horizon` steps, exactly.

    policy: "optimal" may depend on the steps left; "random" takes each action equally often;
    bool [L, S, A] takes each of the marked actions equally often (at least one in each cell)
    returns float64 [L, S], 0 where the walk has ended and inside walls
    """
    values = np.empty(objective.reward.shape)
    for part in _chunks(walls):
        sweep = _Sweep(walls[part], objective.reward[part], objective.ends[part], discount, slip)
        if isinstance(policy, np.ndarray):
            marked = policy[part].reshape(-1, len(ACTIONS))[sweep.cells].T
            share = marked / marked.sum(0)
        for _ in range(horizon):
            action_value = sweep.back_up()
            if isinstance(policy, np.ndarray):
                better = (share * action_value).sum(0)
            else:
                better = action_value.max(0) if policy == "optimal" else action_value.mean(0)
            if np.array_equal(better, sweep.value[sweep.cells]):
                break
            sweep.value[sweep.cells] = better
        values[part] = sweep.value.reshape(values[part].shape)
    return values


def optimal_actions(
    walls: np.ndarray,
    objective: Objective,
    reachable: np.ndarray,
    discount: float,
    slip: float = 0.0,
) -> np.ndarray:
    """Which actions are optimal when the clock does not matter; ties are all marked.

    reachable: bool [L, S] cells that have an optimal action at all
    Without discounting, the fewest steps decide between equal returns (Blackwell optimality).
    returns bool [L, S, A]
    """
    discount = min(discount, _BLACKWELL)
    best = np.zeros((*objective.reward.shape, len(ACTIONS)), dtype=bool)
    for part in _chunks(walls):
        aside = objective.ends[part] | ~reachable[part]
        sweep = _Sweep(walls[part], objective.reward[part], aside, discount, slip)
        for _ in range(_MAX_SWEEPS):
            action_value = sweep.back_up()
            better = action_value.max(0)
            change = np.abs(better - sweep.value[sweep.cells]).max(initial=0.0)
            sweep.value[sweep.cells] = better
            if change <= _CONVERGED:
                break
        optimal = action_value >= action_value.max(0) - _TIE
        best[part].reshape(-1, len(ACTIONS))[sweep.cells] = optimal.T
    return best


def onset_of_divergence(divergent: np.ndarray, level: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The first step taken where intended-optimal and proxy-optimal actions are disjoint.

    divergent: bool [L, S] · level: int [N] · states: int [N, T] in time order, -1 where a
    trajectory is over · returns int64 [N] index into T, -1 where the goals never part
    """
    parted = divergent[level[:, None], np.maximum(states, 0)] & (states >= 0)
    return np.where(parted.any(1), parted.argmax(1), -1)


class _Sweep:
    """One chunk of levels, flat, with all that a Bellman backup needs laid out once."""

    def __init__(
        self,
        walls: np.ndarray,
        reward: np.ndarray,
        ends: np.ndarray,
        discount: float,
        slip: float,
    ) -> None:
        """ends: bool [l, S] cells whose value is 0 and stays so"""
        here = np.arange(reward.size).reshape(reward.shape)
        self.cells = np.flatnonzero(~(walls.reshape(ends.shape) | ends))
        self.value = np.zeros(reward.size)
        self._landing = after_move(walls, here).reshape(len(ACTIONS), -1)[:, self.cells]
        self._reward = reward.reshape(-1)
        self._carry = discount * ~ends.reshape(-1)
        self._slip = slip

    def back_up(self) -> np.ndarray:
        """The value of each action in each of `cells`. float64 [A, cells]"""
        ahead = self._reward + self._carry * self.value
        moved = ahead.take(self._landing)
        if self._slip == 0:
            return moved
        return (1.0 - self._slip) * moved + self._slip * moved.mean(0)


def _chunks(walls: np.ndarray) -> Iterator[slice]:
    count, height, width = walls.shape
    levels = max(1, _CHUNK_CELLS // (height * width))
    for first in range(0, count, levels):
        yield slice(first, min(count, first + levels))
