"""Arrays over states, computed once for each (level, goal) pair that is asked about."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Compute = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""compute(level int [G], goal int [G]) -> float64 [G, S]"""


class PerGoal:
    """value[level, goal, state], filled in on demand, all missing pairs of a call at once.

    compute: gives the values of G pairs over all S states
    """

    def __init__(self, compute: Compute, num_levels: int, num_states: int) -> None:
        self._compute = compute
        self._slot = np.full((num_levels, num_states), -1, np.int32)
        self._values = np.empty((0, num_states))

    def at(self, level: np.ndarray, goal: np.ndarray, *states: np.ndarray) -> list[np.ndarray]:
        """The values at each of `states`; level, goal and every one of them: int [N].

        Raises IndexError for a level, goal or state that is not there.
        """
        for index in (level, goal, *states):
            if index.size and index.min() < 0:
                raise IndexError(
                    f"level, goal or state {int(index.min())} is not there; give 0 or more"
                )
        slot = self._slot[level, goal]
        if (missing := slot < 0).any():
            self._add(level[missing], goal[missing])
            slot = self._slot[level, goal]
        return [self._values[slot, state] for state in states]

    def _add(self, level: np.ndarray, goal: np.ndarray) -> None:
        pairs = np.unique(np.stack([level, goal]).astype(np.int64), axis=1)
        known = len(self._values)
        self._values = np.concatenate([self._values, self._compute(pairs[0], pairs[1])])
        self._slot[pairs[0], pairs[1]] = np.arange(known, len(self._values), dtype=np.int32)
