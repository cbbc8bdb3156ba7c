"""State is rows: save any moment of a batched world and be there again."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, SupportsIndex
from zipfile import BadZipFile

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from delegate.backtrack.memory import nbytes_of
from delegate.backtrack.spaces import copied, take
from delegate.files import write_whole

RandomStateMode = Literal["rewind", "fresh"]
"""rewind: the same noise comes again; fresh: the random stream keeps moving."""

Rows = np.ndarray | None
"""Which rows: integer indices [n], a boolean mask [B], or None for all of them."""


class SnapshotMismatch(ValueError):
    """The snapshot is of another world, version or row count."""


class SnapshotExpired(LookupError):
    """The step asked for is older than what is kept."""


@dataclass(frozen=True)
class Snapshot:
    """A copy of all that can change in some rows of one world.

    world: what must match before a restore: task, settings and versions
    arrays: name -> [rows, ...]
    """

    world: str
    arrays: Mapping[str, np.ndarray]

    @property
    def rows(self) -> int:
        """How many rows the snapshot holds."""
        return len(next(iter(self.arrays.values())))

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes, with that of the Python objects in the arrays."""
        return nbytes_of(self.arrays.values())

    def take(self, rows: np.ndarray) -> Snapshot:
        """The snapshot of those rows alone; rows: int [n] or bool [rows]."""
        return Snapshot(self.world, {name: array[rows] for name, array in self.arrays.items()})

    def save(self, path: Path | str) -> None:
        """Write a file of that very name, in NumPy's `.npz` format, whole or not at all.

        Raises ValueError for arrays of Python objects, OSError where it cannot be written.
        """
        for name, array in self.arrays.items():
            if array.dtype.hasobject:
                raise ValueError(f"{name} holds Python objects, which only a pickle could save")
        named: dict[str, Any] = {"__world__": np.array(self.world), **self.arrays}
        buffer = io.BytesIO()
        np.savez(buffer, **named)
        write_whole(Path(path), buffer.getvalue())

    @classmethod
    def load(cls, path: Path | str) -> Snapshot:
        """Read what `save` wrote. Raises SnapshotMismatch for any other file."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
                world = str(arrays.pop("__world__"))
        except (AttributeError, EOFError, KeyError, TypeError, ValueError, BadZipFile) as error:
            raise SnapshotMismatch(
                f"{path}: not a snapshot; write one with Snapshot.save"
            ) from error
        if len({array.shape[:1] for array in arrays.values()}) != 1:
            raise SnapshotMismatch(f"{path}: its arrays differ in rows; write it again")
        return cls(world, arrays)


class StatefulVectorEnv(gymnasium.vector.VectorEnv):
    """A vector environment whose rows can be saved and restored exactly.

    A world whose changing state lies in numpy arrays names them in `state_arrays`;
    one that keeps it elsewhere (a physics engine) overrides `snapshot` and `restore`.

    What is handed out belongs to the caller: `reset`, `step`, `step_rows`, `observe` and
    `snapshot` return new arrays and containers, which the world neither changes nor reads
    afterwards (or read-only ones that never change), down to lists in object arrays. What is
    handed in stays the caller's: `step` and `restore` copy it.
    `conformance.check_hands_out_copies` tests both.
    Endings. `terminated` is the task's, `truncated` the clock's, as with Gymnasium's TimeLimit: a
    step at which the clock runs out is truncated whether or not it also terminated.
    Action masks. A world in which some actions are forbidden has `action_masks() -> bool [B, n]`
    (sb3-contrib's convention); one without the method allows all of them.
    `copy.deepcopy` and pickle are refused with TypeError: memory that rows share, threads and
    simulators would be torn or shared. Make another world and restore a snapshot into it.
    """

    random_state: frozenset[str] = frozenset({"key"})
    """names of the arrays that hold random state; `rng="fresh"` leaves them alone"""

    irreversible: frozenset[str] = frozenset()
    """names of count arrays [B, ...] whose effects a backtrack or rollback may not undo"""

    @property
    def name(self) -> str:
        """Its id, or its class: what messages call it."""
        return str(getattr(self.spec, "id", None) or type(self).__name__)

    @property
    def world(self) -> str:
        """What a snapshot must share with this world: task, settings, versions."""
        return type(self).__name__

    @abstractmethod
    def state_arrays(self) -> dict[str, np.ndarray]:
        """The live arrays, batch first, that together are all that can change."""

    def state_names(self) -> Set[str]:
        """The names of what a snapshot holds: those of `state_arrays`."""
        return self.state_arrays().keys()

    @abstractmethod
    def observe(self, rows: Rows = None) -> Any:
        """The current observation of those rows, derived from the state alone."""

    def refresh(self, rows: np.ndarray) -> None:
        """Rebuild what is derived from the state (cached observations) after a restore.

        rows: int [n]
        """

    def snapshot(self, rows: Rows = None) -> Snapshot:
        """A copy of all that can change in those rows."""
        live = self.state_arrays()
        if rows is None:
            return Snapshot(self.world, {name: copied(array) for name, array in live.items()})
        index = self.row_index(rows)
        return Snapshot(self.world, {name: take(array, index) for name, array in live.items()})

    def save_into(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write what `snapshot` of all rows would hold into arrays that are there already."""
        for name, array in self.state_arrays().items():
            arrays[name][...] = array

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        name = type(self).__name__
        raise TypeError(
            f"{name} is not copied or pickled, which would tear what its rows share; make another "
            f"{name} with the same settings and call other.restore(env.snapshot())"
        )

    def restore(
        self,
        snapshot: Snapshot,
        rows: Rows = None,
        rng: RandomStateMode = "rewind",
        keep: Collection[str] = (),
    ) -> None:
        """Make those rows again as they were when `snapshot` was taken.

        rng: "rewind" repeats the same noise; "fresh" keeps the random stream moving
        keep: further arrays to leave as they are now (irreversible effects)
        Raises SnapshotMismatch, and changes nothing, when the snapshot does not fit.
        """
        index = self.row_index(rows)
        self.check_fits(snapshot, len(index))
        kept = self.random_state.union(keep) if rng == "fresh" else keep
        into: np.ndarray | slice = slice(None) if rows is None else index
        if index.size == 1:  # a slice is four times as quick as an array of one
            into = slice(int(index[0]), int(index[0]) + 1)
        for name, array in self.state_arrays().items():
            if name not in kept:
                saved = snapshot.arrays[name]
                array[into] = copied(saved) if saved.dtype.hasobject else saved
        self.refresh(index)

    def step_rows(
        self, rows: np.ndarray, actions: Any
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step those rows alone; all others are exactly as they were. For AutoresetMode.DISABLED.

        rows: int [n], each once · actions: [n, ...], theirs, in that order
        Returns what `step` does, of those rows: observation, reward, terminated, truncated, and
        info, each [n, ...]. A row that has ended holds still, as in `step`.
        Raises as `step` does, and IndexError and ValueError for rows that make no sense.
        This one steps all and puts the others back; shipped worlds step no row but those.
        """
        index = self.step_index(rows)
        still = np.delete(np.arange(self.num_envs), index)
        unmoved = self.snapshot(still)
        if index.size:
            place = np.zeros(self.num_envs, np.intp)  # those that stay need some valid action
            place[index] = np.arange(index.size)
            every = take(actions, place)
            try:
                observation, reward, terminated, truncated, info = self.step(every)
            finally:
                self.restore(unmoved, still)
            return (
                take(observation, index),
                reward[index],
                terminated[index],
                truncated[index],
                of_rows(info, index, self.num_envs),
            )
        nothing = np.zeros(0, bool)
        return self.observe(index), np.zeros(0), nothing, nothing.copy(), {}

    def step_index(self, rows: np.ndarray) -> np.ndarray:
        """Rows that `step_rows` may step, int [n]; raises IndexError or ValueError for others."""
        if self.metadata.get("autoreset_mode", AutoresetMode.DISABLED) != AutoresetMode.DISABLED:
            raise ValueError(
                f"{self.world}: rows step alone only where none resets itself; make it with "
                "autoreset_mode=AutoresetMode.DISABLED"
            )
        index = self.row_index(rows)
        if index.size > 1 and np.count_nonzero(index[1:] <= index[:-1]):
            found, count = np.unique(index, return_counts=True)
            if (count > 1).any():
                raise ValueError(f"row {found[count.argmax()]} is named twice; name each once")
        return index

    @property
    def state_space(self) -> gymnasium.Space[Any]:
        """The Markov states of one row: Discrete where they can be enumerated, else a float32 Box.

        What models and monitors see of a world. It holds what the next state depends on beside
        the action; clocks, endings, random streams and goals are left out.
        Raises NotImplementedError for a world that does not say.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not say what its Markov states are; give it a "
            "state_space and markov_state(rows)"
        )

    def markov_state(self, rows: Rows = None) -> np.ndarray:
        """Where those rows are in `state_space`: int32 [n], or float32 [n, d], a copy."""
        raise NotImplementedError(f"{type(self).__name__} has no markov_state; see state_space")

    def check_fits(self, snapshot: Snapshot, count: int) -> None:
        """Raise SnapshotMismatch unless `snapshot` can be restored into `count` rows here."""
        self.check_world(snapshot)
        if snapshot.arrays.keys() != (expected := self.state_names()):
            self.check_names(set(snapshot.arrays), set(expected))
        if snapshot.rows != count:
            raise SnapshotMismatch(
                f"snapshot holds {snapshot.rows} rows and {count} were named; "
                "use snapshot.take(rows) or name as many rows"
            )

    def check_world(self, snapshot: Snapshot) -> None:
        """Raise SnapshotMismatch unless `snapshot` was taken in such a world."""
        if snapshot.world != self.world:
            raise SnapshotMismatch(
                f"snapshot of {snapshot.world} cannot be restored into {self.world}; "
                "make the environment with the settings the snapshot was taken under"
            )

    def check_names(self, given: set[str], expected: set[str]) -> None:
        """Raise SnapshotMismatch unless a snapshot has just the arrays expected."""
        if differing := given ^ expected:
            raise SnapshotMismatch(
                f"snapshot and {self.world} differ in {', '.join(sorted(differing))}; "
                "take the snapshot again with this version"
            )

    def row_index(self, rows: Rows) -> np.ndarray:
        """Those rows as integer indices [n]. Raises IndexError for a row that is not there."""
        if rows is None:
            return np.arange(self.num_envs)
        rows = np.asarray(rows)
        if rows.dtype == bool:
            if rows.shape != (self.num_envs,):
                raise IndexError(
                    f"row mask has shape {rows.shape}; this world has {self.num_envs} rows, "
                    f"so give ({self.num_envs},)"
                )
            return np.flatnonzero(rows)
        if rows.size and rows.dtype.kind not in "iu":
            raise IndexError(f"rows are {rows.dtype}; give integers or a boolean mask")
        index = rows.astype(np.intp, copy=False).ravel()
        if index.size == 1:  # quicker than reducing an array
            outside = not 0 <= int(index[0]) < self.num_envs
        else:  # seen as unsigned, a negative row is a large one
            outside = index.size > 0 and index.view(np.uintp).max() >= self.num_envs
        if outside:
            row = int(index.max() if index.max() >= self.num_envs else index.min())
            raise IndexError(
                f"row {row} does not exist; this world has rows 0 to {self.num_envs - 1}"
            )
        return index


def effects_between(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], names: Collection[str]
) -> dict[str, np.ndarray]:
    """How often each irreversible effect happened in between. name -> int64 [rows]

    before, after: state of the same rows · names: as in StatefulVectorEnv.irreversible
    """
    counts = {name: after[name].astype(np.int64) - before[name] for name in sorted(names)}
    return {
        name: np.add.reduce(count.reshape(len(count), -1), axis=1) for name, count in counts.items()
    }


def masked(info: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """A batch's info with Gymnasium's `_key` masks: those rows have it. rows: bool [B]"""
    result = dict(info)
    for key, value in info.items():
        if isinstance(value, dict):
            result[key] = masked(value, rows)
        if (mask := f"_{key}") not in info and not (key[:1] == "_" and key[1:] in info):
            result[mask] = rows.copy()
    return result


def scatter(into: dict[str, Any], info: Mapping[str, Any], rows: np.ndarray) -> None:
    """Copy those rows of a batch's info into another, with Gymnasium's `_key` masks.

    rows: bool [B]; the other rows of `into` keep what they had, or zeros (None for objects)
    """
    for key, value in info.items():
        if key[:1] == "_" and key[1:] in info:
            continue
        mask = f"_{key}"
        present = rows & info[mask] if mask in info else rows
        array = np.asarray(value)
        if isinstance(value, dict):
            scatter(into.setdefault(key, {}), value, present)
        elif array.shape[:1] != rows.shape:
            into[key] = value
            continue
        else:
            if key not in into:
                objects = array.dtype.hasobject
                into[key] = np.full(array.shape, None) if objects else np.zeros_like(array)
            elif into[key].dtype != array.dtype:
                # a common type would let other rows decide what this row is given
                into[key], array = into[key].astype(object), array.astype(object)
            elif not into[key].flags.writeable:
                into[key] = into[key].copy()
            into[key][present] = array[present]
        into[mask] = present | into[mask] if mask in into else present.copy()


def of_rows(info: Mapping[str, Any], rows: np.ndarray, count: int) -> dict[str, Any]:
    """The info of those rows of a batch, with its masks. rows: int [n] · count: of the batch"""
    part: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, dict):
            part[key] = of_rows(value, rows, count)
        else:
            batched = isinstance(value, np.ndarray) and value.shape[:1] == (count,)
            part[key] = value[rows] if batched else value
    return part


def spread(info: Mapping[str, Any], rows: np.ndarray, count: int) -> dict[str, Any]:
    """The info of some rows as that of a batch, zero or None in the others.

    rows: int [n] · count: rows of the batch
    """
    whole: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, dict):
            whole[key] = spread(value, rows, count)
        elif isinstance(value, np.ndarray) and value.shape[:1] == rows.shape:
            whole[key] = np.zeros((count, *value.shape[1:]), value.dtype)
            if value.dtype.hasobject:
                whole[key][:] = None
            whole[key][rows] = value
        else:
            whole[key] = value
    return whole


def blank(info: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """A copy of a batch's info with those rows zero, false or empty. rows: bool [B]"""
    result: dict[str, Any] = {}
    for key, value in info.items():
        if isinstance(value, dict):
            result[key] = blank(value, rows)
        else:
            result[key] = value.copy()
            result[key][rows] = np.zeros((), value.dtype)
    return result
