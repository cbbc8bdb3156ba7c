"""What agents, monitors and statistics remember, and what sub-episodes started from."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np

from delegate.agents import Memory


class Lanes:
    """Named arrays with a lane for each row and each of some depths: [B, D, ...].

    who: for messages · memory: blank, name -> [B * D, ...], row by row · rows: B
    first: the lowest depth that has a lane · keeps: arrays that `restore` leaves as they are
    Arrays of Python objects are copied whole whenever they are handed over, so that branches
    share nothing. Raises ValueError for memory that has not one entry a lane.
    """

    def __init__(
        self,
        who: str,
        memory: Mapping[str, np.ndarray],
        rows: int,
        depths: int,
        first: int = 0,
        keeps: frozenset[str] = frozenset(),
    ) -> None:
        self.who, self.rows, self.depths, self.first, self.keeps = who, rows, depths, first, keeps
        for name, array in memory.items():
            if np.shape(array)[:1] != (rows * depths,):
                raise ValueError(
                    f"{who} remembers {name!r} of shape {np.shape(array)} for {rows * depths} "
                    "instances; give arrays with one entry each"
                )
        self.arrays = {name: copied(np.array(array)) for name, array in memory.items()}

    def lane(self, rows: np.ndarray, depth: np.ndarray | int) -> np.ndarray:
        """Where those rows and depths stand in `arrays`, int [n]."""
        return rows * self.depths + (np.asarray(depth, np.intp) - self.first)

    def take(self, rows: np.ndarray, depth: np.ndarray | int) -> Memory:
        """What is remembered at those rows and depths, a copy."""
        lane = self.lane(rows, depth)
        return {name: copied(array.take(lane, axis=0)) for name, array in self.arrays.items()}

    def put(
        self, rows: np.ndarray, depth: np.ndarray | int, memory: Mapping[str, np.ndarray]
    ) -> None:
        """Remember what `take` gave, changed. Raises ValueError, and changes nothing, where names
        or shapes are others."""
        lane = self.lane(rows, depth)
        for name, array in memory.items():
            here = self.arrays.get(name)
            if here is None:
                raise ValueError(
                    f"{self.who} gives back {name!r}, which its memory did not begin with"
                )
            if np.shape(array) != (len(lane), *here.shape[1:]):
                raise ValueError(
                    f"{self.who} gives back {name!r} of shape {np.shape(array)}; "
                    f"it was {(len(lane), *here.shape[1:])}"
                )
        for name, array in memory.items():
            self.arrays[name][lane] = copied(np.asarray(array))

    def save(self, rows: np.ndarray) -> Memory:
        """All that is remembered in those rows but for `keeps`, [n, D, ...]; for `restore`."""
        return {
            name: copied(array.reshape(self.rows, self.depths, *array.shape[1:])[rows])
            for name, array in self.arrays.items()
            if name not in self.keeps
        }

    def restore(self, rows: np.ndarray, which: np.ndarray, saved: Memory) -> None:
        """Remember again what `save` gave. which: bool [n, D] the lanes it is put back in"""
        at, depth = np.nonzero(which)
        if not len(at):
            return
        lane = rows[at] * self.depths + depth
        for name, then in saved.items():
            if name in self.arrays:
                self.arrays[name][lane] = copied(then[at, depth])

    @property
    def at(self) -> np.ndarray:
        """The depths that have a lane, int [D]."""
        return np.arange(self.first, self.first + self.depths)


def copied(array: np.ndarray) -> np.ndarray:
    """That array; of Python objects one whose objects are copies."""
    if not array.dtype.hasobject:
        return array
    fresh = np.empty_like(array)
    for place, held in np.ndenumerate(array):
        fresh[place] = copy.deepcopy(held)
    return fresh


class Saves:
    """Arrays kept for sub-episodes until nothing can go back there, in slots that are used again.

    Memory grows with the most sub-episodes that were kept at one time.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._free = np.zeros(0, np.int64)
        self._size = 0

    def keep(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """Keep those rows of arrays [n, ...]; returns the slot of each, int64 [n]."""
        count = len(next(iter(arrays.values())))
        if len(self._free) < count:
            more = max(count - len(self._free), self._size, 16)
            self._free = np.concatenate([np.arange(self._size, self._size + more), self._free])
            self._size += more
        slots, self._free = self._free[-count:][::-1], self._free[:-count]
        for name, array in arrays.items():
            held = self._arrays.get(name)
            if held is None or len(held) < self._size:
                grown = np.zeros((self._size, *array.shape[1:]), array.dtype)
                if held is not None:
                    grown[: len(held)] = held
                self._arrays[name] = held = grown
            held[slots] = array
        return slots

    def of(self, slots: np.ndarray) -> dict[str, np.ndarray]:
        """What was kept there, a copy, [n, ...] by name."""
        return {name: copied(array[slots]) for name, array in self._arrays.items()}

    def drop(self, slots: np.ndarray) -> None:
        """Those slots may be used again. Each must be in use."""
        self._free = np.concatenate([self._free, slots])
        for array in self._arrays.values():
            if array.dtype.hasobject:
                array[slots] = None

    def __len__(self) -> int:
        return self._size - len(self._free)

    @property
    def nbytes(self) -> int:
        """Memory held (bytes)."""
        return sum(array.nbytes for array in self._arrays.values())
