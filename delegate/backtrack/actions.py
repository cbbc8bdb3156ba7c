"""The action space with backtracking in it, and how to tell the two kinds apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete


class BacktrackActions(ABC):
    """An action space widened by going back.

    space:   one row's widened action space
    idle:    a valid action of the world, for rows that do not step; shape [...] of one action
    """

    space: gymnasium.Space
    idle: np.ndarray

    @abstractmethod
    def split(self, actions: Any, num_envs: int) -> tuple[np.ndarray, np.ndarray]:
        """The world's own actions [B, ...] and int64 [B]: which depth is asked for, -1 for none.

        Where a depth is asked for, the world's action is `idle`.
        Raises ValueError naming the row whose action is not in the space.
        """


class DiscreteActions(BacktrackActions):
    """Discrete(n) becomes Discrete(n + k): the last k actions go back `depths[j]` steps."""

    def __init__(self, world: Discrete, depths: int) -> None:
        self.world, self.depths = world, depths
        self.space = Discrete(int(world.n) + depths, start=int(world.start))
        self.idle = np.asarray(world.start, np.int64)

    def split(self, actions: Any, num_envs: int) -> tuple[np.ndarray, np.ndarray]:
        actions = _rows(actions, (num_envs,))
        if actions.dtype.kind == "f":
            _refuse(actions != np.floor(actions), actions, "is not a whole number")
        elif actions.dtype.kind not in "iub":
            raise ValueError(f"actions have dtype {actions.dtype}; give integers")
        first, count = int(self.world.start), int(self.world.n) + self.depths
        outside = (actions < first) | (actions >= first + count)
        _refuse(outside, actions, f"is out of range; give {first} to {first + count - 1}")
        actions = actions.astype(np.int64)
        choice = np.maximum(actions - first - int(self.world.n), -1)
        return np.where(choice >= 0, self.idle, actions), choice


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

    def split(self, actions: Any, num_envs: int) -> tuple[np.ndarray, np.ndarray]:
        assert isinstance(self.space, Box)
        actions = _rows(actions, (num_envs, *self.space.shape))
        if actions.dtype.kind not in "fiu":
            raise ValueError(f"actions have dtype {actions.dtype}; give {self.world.dtype}")
        actions = actions.astype(self.world.dtype)
        outside = (actions < self.space.low) | (actions > self.space.high)
        _refuse(
            outside.any(1),
            actions,
            f"is out of range; clip it to {self.space.low.tolist()} .. {self.space.high.tolist()}",
        )
        above = (actions[:, -1].astype(np.float64) - self.threshold) / (1 - self.threshold)
        band = np.minimum(np.floor(above * self.depths), self.depths - 1).astype(np.int64)
        choice = np.where(above > 0, band, -1)
        return np.where((choice >= 0)[:, None], self.idle, actions[:, :-1]), choice


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
    actions = np.asarray(actions)
    if actions.shape != shape:
        raise ValueError(f"actions have shape {actions.shape}; give {shape}, one action a row")
    if actions.dtype.kind == "f":
        finite = np.isfinite(actions).reshape(len(actions), -1).all(1)
        _refuse(~finite, actions, "is not finite; look for NaN in the policy")
    return actions


def _refuse(bad: np.ndarray, actions: np.ndarray, why: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(f"row {row}: action {actions[row].tolist()} {why}")
