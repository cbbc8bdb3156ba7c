"""What sub-episodes started from: to go back there, and to check afterwards that it was exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from delegate.backtrack.random_key import draw
from delegate.backtrack.state import Snapshot


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
        """What was kept there, [n, ...] by name; whoever restores objects copies them."""
        return {name: array[slots] for name, array in self._arrays.items()}

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


@dataclass(frozen=True)
class Beginning:
    """What a rolled-back sub-episode started from: for a replay that checks the restore."""

    row: int
    sub_episode: int
    clock: int
    restored_clock: int
    world: Snapshot


class Beginnings:
    """Some of the rolled-back sub-episodes that had delegated nothing, each with the same chance.

    seeds: uint64 [B] from which the chance of each is drawn, whatever the others do
    most: how many are kept (count)
    """

    def __init__(self, seeds: np.ndarray, most: int) -> None:
        self._seeds, self._most = seeds, most
        self._kept: list[tuple[int, Beginning]] = []

    def offer(
        self,
        rows: np.ndarray,
        number: np.ndarray,
        clock: np.ndarray,
        restored_clock: np.ndarray,
        worlds: Snapshot,
    ) -> None:
        """These were rolled back. worlds: what they started from, a row each"""
        luck = draw(self._seeds[rows], number.astype(np.uint64))
        found = [
            (
                int(luck[i]),
                Beginning(
                    int(rows[i]),
                    int(number[i]),
                    int(clock[i]),
                    int(restored_clock[i]),
                    worlds.take(np.array([i])),
                ),
            )
            for i in np.argsort(luck)[: self._most]
        ]
        self._kept = sorted([*self._kept, *found], key=lambda each: each[0])[: self._most]

    def __iter__(self) -> Iterator[Beginning]:
        """In order of row and sub-episode."""
        kept = [each for _, each in self._kept]
        return iter(sorted(kept, key=lambda each: (each.row, each.sub_episode)))

    def __len__(self) -> int:
        return len(self._kept)
