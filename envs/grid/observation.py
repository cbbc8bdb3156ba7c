"""What a policy sees: boolean channels, updated in place instead of rebuilt."""

from __future__ import annotations

import numpy as np

from delegate.envs.grid.level import Level
from delegate.envs.grid.state import GridState


class BooleanObservation:
    """The channels of every row, bool [B, H, W, C].

    What is fixed in a level is drawn once for the whole bank; a step only moves the agent's bit.
    """

    def __init__(self, level: Level, channels: tuple[str, ...], rows: int) -> None:
        self._scenes = draw_scenes(level, channels)
        self._channels = len(channels)
        self.array = np.zeros((rows, *self._scenes.shape[1:]), dtype=bool)
        self._flat = self.array.reshape(-1)
        stride = level.num_cells * len(channels)
        self._first: np.ndarray = np.arange(rows) * stride + channels.index("agent")
        self._drawn = self._first.copy()

    def move(self, state: GridState) -> None:
        """Follow the agents of all rows to where they stand now."""
        self._flat[self._drawn] = False
        self._drawn = self._first + state.cell * np.int64(self._channels)
        self._flat[self._drawn] = True

    def rebuild(self, state: GridState, rows: np.ndarray) -> None:
        """Draw those rows from the state alone. rows: int [n]"""
        self.array[rows] = self._scenes[state.level[rows]]
        self._drawn[rows] = self._first[rows] + state.cell[rows] * np.int64(self._channels)
        self._flat[self._drawn[rows]] = True


def draw_scenes(level: Level, channels: tuple[str, ...]) -> np.ndarray:
    """Everything but the agent, for each level of the bank. bool [L, H, W, C]"""
    scenes = np.zeros((*level.walls.shape, len(channels)), dtype=bool)
    for index, channel in enumerate(channels):
        if channel in ("walls", "traps"):
            scenes[..., index] = getattr(level, channel)
        elif channel == "goal":
            flat = scenes[..., index].reshape(level.count, -1)
            flat[np.arange(level.count), level.goal] = True
            scenes[..., index] = flat.reshape(level.walls.shape)
    return scenes
