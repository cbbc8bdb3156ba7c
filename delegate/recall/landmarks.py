"""Landmarks: the goals that have a name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Landmarks:
    """What a child could be after, by name, in each level of a bank.

    names: M of them, the same in every level
    goal: int32 [L, M] the goal each stands for, -1 where a level has none. Two landmarks may be
        one goal: the cheese lies in the corner
    places: bool [L, S] every state that could be a goal, named or not
    Raises ValueError where shapes differ or a landmark is no place.
    """

    names: tuple[str, ...]
    goal: np.ndarray
    places: np.ndarray

    def __post_init__(self) -> None:
        wanted = (len(self.places), len(self.names))
        if self.places.ndim != 2 or self.goal.shape != wanted:
            raise ValueError(
                f"landmarks: goal has shape {self.goal.shape} beside {len(self.names)} names and "
                f"places {self.places.shape}; give [levels, names] and [levels, states]"
            )
        level, landmark = np.nonzero(self.goal >= 0)
        astray = ~self.places[level, self.goal[level, landmark]]
        if astray.any():
            first = int(astray.argmax())
            raise ValueError(
                f"landmarks: {self.names[landmark[first]]} of level {int(level[first])} is no "
                "place that can be reached; give -1 where a level has none"
            )
