"""The ledger: what was really paid, whatever was taken back afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from delegate.backtrack.state import Rows


@dataclass
class Ledger:
    """What each row has paid since the ledger was opened; every curve's x-axis comes from it.

    num_envs:    rows B; every count is int64 [B] and survives resets
    committed:   environment steps that stand on the surviving path
    undone:      environment steps that were taken back
    restores:    times the row went back (a backtrack, or a sub-episode rolled back)
    idled:       decisions that moved nothing: refused backtracks, confirmed endings
    spawns:      delegations begun
    model_steps: steps of a model instead of the world (recalled or imagined)
    effects:     irreversible effects that remained when their steps were taken back

    Going back moves steps from `committed` to `undone`, so the path rewinds; `env_steps` and
    `interactions` never do. `rows` is int [n] or bool [B]; a row named twice counts twice.
    Raises ValueError, and changes nothing, for a negative count or for more steps undone than
    were committed.
    """

    num_envs: int
    committed: np.ndarray = field(init=False)
    undone: np.ndarray = field(init=False)
    restores: np.ndarray = field(init=False)
    idled: np.ndarray = field(init=False)
    spawns: np.ndarray = field(init=False)
    model_steps: np.ndarray = field(init=False)
    effects: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        if self.num_envs < 1:
            raise ValueError(f"a ledger of {self.num_envs} rows cannot be; give at least 1")
        for name in COUNTS:
            setattr(self, name, np.zeros(self.num_envs, np.int64))

    def step(self, rows: Rows = None) -> None:
        """Those rows took one environment step each."""
        self._tally("committed", rows)

    def undo(self, rows: Rows, count: np.ndarray | int) -> None:
        """Those rows' last `count` committed steps were taken back. count: int [n]"""
        taken = np.zeros(self.num_envs, np.int64)
        np.add.at(taken, self._index(rows), self._checked("undone", rows, count))
        if np.count_nonzero(short := taken > self.committed):
            row = int(np.flatnonzero(short)[0])
            raise ValueError(
                f"row {row}: {taken[row]} steps undone of {self.committed[row]} committed; "
                "call step for every environment step before undo"
            )
        self.committed -= taken
        self.undone += taken

    def restore(self, rows: Rows = None) -> None:
        """Those rows went back once each; say how far with `undo`."""
        self._tally("restores", rows)

    def idle(self, rows: Rows = None) -> None:
        """Those rows spent a decision that moved nothing."""
        self._tally("idled", rows)

    def spawn(self, rows: Rows = None) -> None:
        """Those rows began one delegation each."""
        self._tally("spawns", rows)

    def model(self, rows: Rows, count: np.ndarray | int) -> None:
        """Those rows were charged `count` steps of a model. count: int [n]"""
        self._add("model_steps", rows, count)

    def effect(self, rows: Rows, count: np.ndarray | int) -> None:
        """`count` irreversible effects remained after going back. count: int [n]"""
        self._add("effects", rows, count)

    @property
    def env_steps(self) -> np.ndarray:
        """Environment steps paid, undone ones included. int64 [B]"""
        return self.committed + self.undone

    @property
    def interactions(self) -> np.ndarray:
        """Decisions taken: environment steps, backtracks and idle ones. int64 [B]"""
        return self.env_steps + self.restores + self.idled

    def state_arrays(self) -> dict[str, np.ndarray]:
        """The live counts by name, each int64 [B]."""
        return {name: getattr(self, name) for name in COUNTS}

    def snapshot(self, rows: Rows = None) -> dict[str, np.ndarray]:
        """A copy of those rows' counts, each int64 [n]."""
        index = self._index(rows)
        return {name: array[index] for name, array in self.state_arrays().items()}

    def load(self, counts: Mapping[str, np.ndarray], rows: Rows = None) -> None:
        """Take over what `snapshot` gave: resuming a run, never a backtrack."""
        if differing := set(counts) ^ set(COUNTS):
            raise ValueError(
                f"ledger counts differ in {', '.join(sorted(differing))}; give what snapshot gave"
            )
        index = self._index(rows)
        for name, array in self.state_arrays().items():
            array[index] = counts[name]

    def __add__(self, other: object) -> Ledger:
        """Row by row, the two together. Raises ValueError if they differ in rows."""
        if not isinstance(other, Ledger):
            return NotImplemented
        if other.num_envs != self.num_envs:
            raise ValueError(
                f"ledgers of {self.num_envs} and {other.num_envs} rows cannot be added; "
                "add ledger.total() of both instead"
            )
        both = Ledger(self.num_envs)
        for name, array in both.state_arrays().items():
            array[:] = getattr(self, name) + getattr(other, name)
        return both

    def total(self) -> Ledger:
        """All rows together, as a ledger of one row."""
        total = Ledger(1)
        for name, array in total.state_arrays().items():
            array[0] = getattr(self, name).sum()
        return total

    def to_dict(self) -> dict[str, int]:
        """Totals over the rows, with `env_steps` and `interactions`, ready for JSON."""
        counts = {name: int(getattr(self, name).sum()) for name in COUNTS}
        return {
            **counts,
            "env_steps": int(self.env_steps.sum()),
            "interactions": int(self.interactions.sum()),
        }

    def _index(self, rows: Rows) -> np.ndarray:
        return np.arange(self.num_envs) if rows is None else np.arange(self.num_envs)[rows]

    def _tally(self, name: str, rows: Rows) -> None:
        array = getattr(self, name)
        if rows is None:
            array += 1
        elif rows.dtype == bool:
            array += rows  # a mask names no row twice, and this is quicker
        else:
            np.add.at(array, self._index(rows), 1)

    def _add(self, name: str, rows: Rows, count: np.ndarray | int) -> None:
        np.add.at(getattr(self, name), self._index(rows), self._checked(name, rows, count))

    def _checked(self, name: str, rows: Rows, count: np.ndarray | int) -> np.ndarray:
        counts = np.broadcast_to(np.asarray(count, np.int64), self._index(rows).shape)
        if np.count_nonzero(negative := counts < 0):
            row = int(self._index(rows)[np.flatnonzero(negative)[0]])
            raise ValueError(f"row {row}: {name} of {counts.min()}; counts are never negative")
        return counts


COUNTS = tuple(f.name for f in fields(Ledger) if f.name != "num_envs")
"""names of the counts, in the order they are reported"""
