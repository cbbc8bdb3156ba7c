"""The recent past of every row, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from delegate.backtrack.state import SnapshotExpired

RowIndex = np.ndarray | slice
"""Which rows, for writing to arrays in place: int [n], bool [B], or slice(None) for all of them,
which is the quickest."""


class Record:
    """Columns side by side in memory, so that a row of all of them is written at once.

    columns: name -> [n, ...], live, without those that hold Python objects
    bytes:   void [n], the same memory
    """

    def __init__(self, columns: Mapping[str, np.ndarray], length: int) -> None:
        plain = {name: array for name, array in columns.items() if not array.dtype.hasobject}
        fields = [(name, array.dtype, array.shape[1:]) for name, array in plain.items()]
        rows = np.zeros(length, np.dtype(fields, align=True))
        self.columns = {name: rows[name] for name in plain}
        self.bytes = rows.view(np.dtype((np.void, rows.dtype.itemsize)))


class History:
    """A ring of the last `horizon` steps of each row's path.

    columns: one example of what a step records, name -> [B, ...]; only shapes and types matter
    next:     name -> [B, ...]  what `push` will record: write into it, then push
    position: int64 [B]  steps on the path: path clock
    kept:     int64 [B]  how many of them, counted backwards, can still be returned to

    Memory is columns x horizon from the start, whatever the length of an episode.
    """

    def __init__(self, columns: Mapping[str, np.ndarray], horizon: int) -> None:
        rows = len(next(iter(columns.values())))
        self.horizon = horizon
        self.position = np.zeros(rows, np.int64)
        self.kept = np.zeros(rows, np.int64)
        # One index is quicker than two: slot s of row r lies at s * rows + r, so that rows in
        # step are written side by side.
        self._rows = np.arange(rows)
        self._step = Record(columns, rows)
        self.next = {name: np.zeros_like(array) for name, array in columns.items()}
        self.next |= self._step.columns
        self._past = Record(columns, rows * horizon)
        self._apart = {
            name: np.zeros((rows * horizon, *array.shape[1:]), array.dtype)
            for name, array in columns.items()
            if name not in self._past.columns
        }
        self._flat = {**self._past.columns, **self._apart}

    def push(self, stepped: np.ndarray) -> None:
        """Those rows each took a step, described by `next`. stepped: bool [B]"""
        slot = self._place(self._rows, self.position)
        rows: RowIndex = slice(None)
        if np.count_nonzero(stepped) < len(stepped):
            rows = stepped.nonzero()[0]
            slot = slot[rows]
        self._past.bytes[slot] = self._step.bytes[rows]
        for name, ring in self._apart.items():
            ring[slot] = self.next[name][rows]
        self.position += stepped
        self.kept += stepped
        np.minimum(self.kept, self.horizon, out=self.kept)

    def rewind(self, rows: np.ndarray, depth: np.ndarray) -> None:
        """Forget the last `depth` steps of those rows. Raises SnapshotExpired as `at` does."""
        self._check(rows, depth)
        self.position[rows] -= depth
        self.kept[rows] -= depth

    def clear(self, rows: np.ndarray) -> None:
        """Those rows begin a new path."""
        self.position[rows] = 0
        self.kept[rows] = 0

    def at(self, rows: np.ndarray, depth: np.ndarray) -> dict[str, np.ndarray]:
        """What the step `depth` steps back recorded: depth 1 is the last. name -> [n, ...]

        Raises SnapshotExpired when a step is older than what is kept, or before the start.
        """
        self._check(rows, depth)
        slot = self._place(rows, self.position[rows] - depth)
        return {name: ring[slot] for name, ring in self._flat.items()}

    def last(self, name: str, rows: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One column over the last `depth` steps of each of those rows, newest first.

        returns values [n, deepest, ...] and bool [n, deepest], where they are meant
        """
        self._check(rows, depth)
        back = np.arange(1, int(depth.max(initial=0)) + 1)
        slot = self._place(rows[:, None], self.position[rows, None] - back)
        return self._flat[name][slot], back <= depth[:, None]

    def state_arrays(self) -> dict[str, np.ndarray]:
        """The live arrays, batch first."""
        rows = len(self.position)
        rings = {
            name: ring.reshape(self.horizon, rows, *ring.shape[1:]).swapaxes(0, 1)
            for name, ring in self._flat.items()
        }
        return {"position": self.position, "kept": self.kept, **rings}

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(array.nbytes for array in self.state_arrays().values())

    def _place(self, rows: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Where the step of those rows at those positions of the path is kept. int64"""
        return position % self.horizon * len(self._rows) + rows

    def _check(self, rows: np.ndarray, depth: np.ndarray) -> None:
        outside = (depth < 1) | (depth > self.kept[rows])
        if np.count_nonzero(outside):
            missing = np.flatnonzero(outside)
            row, age = int(rows[missing[0]]), int(depth[missing[0]])
            position, kept = int(self.position[row]), int(self.kept[row])
            if age < 1 or age > position:
                raise SnapshotExpired(
                    f"row {row}: {age} steps back from step {position} is not on its path; "
                    f"go back 1 to {position} steps"
                )
            raise SnapshotExpired(
                f"row {row}: step {position - age} is {age} steps old and only {kept} are kept "
                f"of a horizon of {self.horizon}; raise backtrack.horizon"
            )
