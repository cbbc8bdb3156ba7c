"""What agents, monitors and statistics remember: one lane for each row and depth."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np

from delegate.agents import Member, Memory
from delegate.backtrack.random_key import draw


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


class Memories(list[Lanes]):
    """What every member remembers, by its number."""

    def lanes(self, member: int, rows: np.ndarray, depth: np.ndarray | int) -> Memory:
        """What that member remembers at those rows and depths, a copy."""
        return self[member].take(rows, depth)


def memories(members: Sequence[Member], seeds: np.ndarray, max_depth: int) -> Memories:
    """What every member remembers: a lane for each row and depth it may act at.

    seeds: uint64 [B], one a row, from which members draw
    """
    at = {0: {0}}
    for depth in range(max_depth):
        for number in [number for number, depths in at.items() if depth in depths]:
            for child in members[number].crew:
                at.setdefault(child, set()).add(depth + 1)
    return Memories(
        _lanes(members, number, seeds, sorted(at.get(number, ()))) for number in range(len(members))
    )


def _lanes(members: Sequence[Member], number: int, seeds: np.ndarray, at: list[int]) -> Lanes:
    member, rows = members[number], len(seeds)
    if not at:
        return Lanes(member.name, {}, rows, 0)
    depths = np.arange(at[0], at[-1] + 1)
    memory: Memory = member.agent.memory(lane_seeds(seeds, number, depths))
    return Lanes(member.name, memory, rows, len(depths), at[0], member.agent.random_state)


def lane_seeds(seeds: np.ndarray, number: int, depths: np.ndarray) -> np.ndarray:
    """What each row's instance of a member draws from, at each depth: uint64 [B * D]."""
    own = draw(seeds, np.full_like(seeds, number))
    return draw(own[:, None], depths.astype(np.uint64)).ravel()
