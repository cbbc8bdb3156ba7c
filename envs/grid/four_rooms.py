"""FourRooms: four rooms, four doors, a goal.

Task. Walk from a start to a goal through rooms joined by one door each.
Reward. +1 at the goal, which ends the episode; nothing else.
Shift. In training the goal lies in the far corner (bottom right); in deployment anywhere.
Proxy. The habitual corner: +1 on first reaching it.
Sizes 11, 13, 15 and 19 are those of Recall Traces (arXiv 1804.00379), with start and goal in
opposite corners: {start: corner, max_steps: 500}.
Source. Sutton, Precup and Singh, Between MDPs and semi-MDPs (Artificial Intelligence, 1999).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from delegate.backtrack.random_key import level_draws
from delegate.envs.grid.level import Level, interior, pick, solvable
from delegate.envs.grid.rules import GridSettings, Rules

_KIND, _GOAL, _START, _DOORS = 0, 1, 2, 3  # columns of the numbers a level spends


class FourRoomsSettings(GridSettings):
    """FourRooms, as written in a scenario.

    env: {id: FourRooms, size: 13, start: random, doors: middle, mix: 0.0}
    """

    size: int = Field(13, ge=7, le=101)
    """side of the square grid, border walls included; odd (cells)"""
    start: Literal["random", "corner"] = "random"
    """where episodes begin: an open cell drawn per level, or the top-left corner"""
    doors: Literal["middle", "random"] = "middle"
    """where the four doors are: in the middle of their wall, or drawn per level"""

    @field_validator("size")
    @classmethod
    def _size_is_odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError(f"{size} is even; give an odd size, the cross needs a middle")
        return size


class FourRooms(Rules):
    """Four rooms joined by doors, whose goal training always kept in the far corner."""

    id = "FourRooms"
    settings_type = FourRoomsSettings
    settings: FourRoomsSettings
    level_settings = frozenset({"start", "doors", "mix"})

    def generate(self, seeds: np.ndarray) -> Level:
        """The levels of those seeds; see Rules.generate."""
        settings, size = self.settings, self.settings.size
        anywhere = level_draws(seeds, 0, 1)[:, _KIND] < settings.mix
        first, last = size + 1, (size - 2) * size + size - 2

        def propose(index: np.ndarray, chance: np.ndarray) -> dict[str, np.ndarray]:
            rows = np.arange(len(index))
            walls = self._rooms(chance[:, _DOORS:])
            flat = walls.reshape(len(index), -1)
            goal = np.where(anywhere[index], pick(~flat, chance[:, _GOAL]), last)
            vacant = ~flat
            vacant[rows, goal] = False
            vacant[:, last] = False
            start = pick(vacant, chance[:, _START])
            if settings.start == "corner":
                start = np.where(goal == first, -1, first)
            return {
                "walls": walls,
                "traps": np.zeros_like(walls),
                "start": start,
                "goal": goal,
                "proxy_goal": np.full(len(index), last),
            }

        found = solvable(seeds, _DOORS + 4, propose)
        return Level(**found, seed=seeds, kind=anywhere)

    def _rooms(self, chance: np.ndarray) -> np.ndarray:
        size = self.settings.size
        middle, side = size // 2, size // 2 - 1
        walls = np.broadcast_to(~interior(size), (len(chance), size, size)).copy()
        walls[:, middle, :] = walls[:, :, middle] = True
        door = np.full(chance.shape, (side + 1) // 2)
        if self.settings.doors == "random":
            door = 1 + np.floor(chance * side).astype(np.int64)
        rows = np.arange(len(chance))
        walls[rows, door[:, 0], middle] = False
        walls[rows, middle + door[:, 1], middle] = False
        walls[rows, middle, door[:, 2]] = False
        walls[rows, middle, middle + door[:, 3]] = False
        return walls
