"""A table that grows at its end: what steps and scores are logged in."""

from __future__ import annotations

import numpy as np


class Columns:
    """Columns by name, [length, ...] each; the first lines decide names, types and shapes."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, **columns: np.ndarray) -> int:
        """Add lines, [n, ...] a column; returns the number of the first."""
        first, count = self._length, len(next(iter(columns.values())))
        self._length += count
        for name, column in columns.items():
            array = self._arrays.get(name)
            if array is None:
                array = np.zeros((max(count, 256), *column.shape[1:]), column.dtype)
            if len(array) < self._length:
                grown = np.zeros((max(2 * len(array), self._length), *array.shape[1:]), array.dtype)
                grown[:first] = array[:first]
                array = grown
            self._arrays[name] = array
            array[first : self._length] = column
        return first

    def write(self, name: str, lines: np.ndarray, values: np.ndarray) -> None:
        """Write over some lines of one column. lines: int [n] · values: [n, ...]"""
        self._arrays[name][lines] = values

    def table(self) -> dict[str, np.ndarray]:
        """All lines so far, a copy; no columns where there never was a line."""
        return {name: array[: self._length].copy() for name, array in self._arrays.items()}

    @property
    def nbytes(self) -> int:
        """Memory held (bytes)."""
        return sum(array.nbytes for array in self._arrays.values())
