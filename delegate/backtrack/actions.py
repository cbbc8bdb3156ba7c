"""The action space with backtracking in it, and how to tell the two kinds apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

NOT_FINITE = "is not finite; look for NaN in the policy"


class BacktrackActions(ABC):
    """An action space widened by going back.

    space:   one row's widened action space
    idle:    a valid action of the world, for rows that do not step; shape [...] of one action
    """

    space: gymnasium.Space
    idle: np.ndarray

    @abstractmethod
    def split(self, actions: Any, num_envs: int) -> tuple[np.ndarray, np.ndarray | None]:
        """The world's own actions [B, ...], a copy, and int64 [B]: which depth is asked for, -1
        for none; None where no row asks for any.

        Where a depth is asked for, the world's action is `idle`.
        Raises ValueError naming the row whose action is not in the space.
        """


class DiscreteActions(BacktrackActions):
    """Discrete(n) becomes Discrete(n + k): the last k actions go back `depths[j]` steps."""

    def __init__(self, world: Discrete, depths: int) -> None:
        self.world, self.depths = world, depths
        self.space = Discrete(int(world.n) + depths, start=int(world.start))
        self.idle = np.asarray(world.start, np.int64)

    def split(self, actions: Any, num_envs: int) -> tuple[np.ndarray, np.ndarray | None]:
        actions = _rows(actions, (num_envs,))
        if actions.dtype.kind == "f":
            _refuse(~np.isfinite(actions), actions, NOT_FINITE)
            _refuse(actions != np.floor(actions), actions, "is not a whole number")
        elif actions.dtype.kind not in "iub":
            raise ValueError(f"actions have dtype {actions.dtype}; give integers")
        first, count = int(self.world.start), int(self.world.n) + self.depths
        outside = (actions < first) | (actions >= first + count)
        _refuse(outside, actions, f"is out of range; give {first} to {first + count - 1}")
        actions = actions.astype(np.int64)
        asked = actions >= first + int(self.world.n)
        if not np.count_nonzero(asked):
            return actions, None
        choice = np.where(asked, actions - first - int(self.world.n), -1)
        return np.where(asked, self.idle, actions), choice


class BoxActions(BacktrackActions):
    """Box(d) becomes Box(d + 1): the last coordinate, in [-1, 1], goes back above a threshold.

    With k depths, threshold to 1 is cut into k equal bands, the shallowest depth lowest.
    """

    def __init__(self, world: Box, depths: int, threshold: float) -> None:
        if len(world.shape) != 1 or world.dtype.kind != "f":
            raise TypeError(
                f"actions {world} cannot be widened; backtracking needs Discrete or a 1-D float Box"
            )
        self.world, self.depths, self.threshold = world, depths, threshold
        low, high = np.append(world.low, -1), np.append(world.high, 1)
        self.space = Box(low.astype(world.dtype), high.astype(world.dtype), dtype=world.dtype.type)
        self.idle = np.clip(np.zeros_like(world.low), world.low, world.high)
        self._bounded = bool(np.isfinite(low).all() and np.isfinite(high).all())
        self._symmetric = bool((low == -high).all())

    def split(self, actions: Any, num_envs: int) -> tuple[np.ndarray, np.ndarray | None]:
        assert isinstance(self.space, Box)
        given = _rows(actions, (num_envs, *self.space.shape))
        if given.dtype.kind not in "fiu":
            raise ValueError(f"actions have dtype {given.dtype}; give {self.world.dtype}")
        actions = given.astype(self.world.dtype, copy=False)
        if self._symmetric:  # one comparison instead of two
            inside = np.abs(actions) <= self.space.high
        else:
            inside = (actions >= self.space.low) & (actions <= self.space.high)
        if not self._bounded:
            inside &= np.isfinite(actions)
        if np.count_nonzero(inside) < inside.size:
            self._explain(given, ~inside)
        last, own = actions[:, -1].astype(np.float64), actions[:, :-1].copy()
        asked = (last > self.threshold).nonzero()[0]
        if not asked.size:
            return own, None
        above = (last[asked] - self.threshold) / (1 - self.threshold)
        choice = np.full(num_envs, -1)
        choice[asked] = np.minimum(np.floor(above * self.depths), self.depths - 1)
        own[asked] = self.idle
        return own, choice

    def _explain(self, actions: np.ndarray, outside: np.ndarray) -> None:
        """Raise ValueError for the first row that is outside. outside: bool [B, d + 1]"""
        assert isinstance(self.space, Box)
        if actions.dtype.kind == "f":
            _refuse(np.any(~np.isfinite(actions), axis=1), actions, NOT_FINITE)
        low, high = self.space.low.tolist(), self.space.high.tolist()
        _refuse(np.any(outside, axis=1), actions, f"is out of range; clip it to {low} .. {high}")


def widen(world: gymnasium.Space, depths: int, threshold: float) -> BacktrackActions:
    """The widened space of a world's actions. Raises TypeError for one that cannot be widened."""
    if isinstance(world, Discrete):
        return DiscreteActions(world, depths)
    if isinstance(world, Box):
        return BoxActions(world, depths, threshold)
    raise TypeError(
        f"actions {world} cannot be widened; backtracking needs Discrete or a 1-D float Box"
    )


def _rows(actions: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        actions = np.asarray(actions)
    except ValueError:  # ragged
        raise ValueError(f"actions differ in length; give {shape}, one action a row") from None
    if actions.shape != shape:
        raise ValueError(f"actions have shape {actions.shape}; give {shape}, one action a row")
    return actions


def _refuse(bad: np.ndarray, actions: np.ndarray, why: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(f"row {row}: action {actions[row].tolist()} {why}")
