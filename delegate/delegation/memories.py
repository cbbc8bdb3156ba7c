"""What every member remembers: a lane of memory for each row and depth it may act at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from delegate.agents import Member, Memory, Parent


class Memories:
    """Members' memory, arrays [B, D + 1, ...] by member and name.

    seeds: uint64 [B], one a row, from which members draw · depths: D + 1
    Raises TypeError for memory of Python objects: branches would share what they hold.
    """

    def __init__(self, members: Sequence[Member], seeds: np.ndarray, depths: int) -> None:
        self._members, self._depths = list(members), depths
        self._live = [self._blank(number, seeds) for number in range(len(members))]

    def lanes(self, member: int, rows: np.ndarray, depth: np.ndarray) -> Memory:
        """That member's memory at those rows and depths, a copy."""
        return {name: array[rows, depth] for name, array in self._live[member].items()}

    def keep(self, member: int, rows: np.ndarray, depth: np.ndarray, memory: Memory) -> None:
        """Remember what `lanes` gave, changed."""
        for name, array in memory.items():
            self._live[member][name][rows, depth] = array

    def save(self, rows: np.ndarray) -> list[Memory]:
        """Everything remembered in those rows, [n, D + 1, ...] by member; for `restore`."""
        return [{name: array[rows] for name, array in memory.items()} for memory in self._live]

    def restore(
        self, rows: np.ndarray, depth: np.ndarray, saved: list[Memory], place: np.ndarray
    ) -> None:
        """Remember again what `save` gave, at those depths and below; dice roll on.

        depth: int [n] · place: int [n] where each of the rows stands in what was saved
        """
        below = np.arange(self._depths) >= depth[:, None]
        for member, live, then in zip(self._members, self._live, saved, strict=True):
            for name, array in live.items():
                if name not in member.agent.random_state:
                    mask = below.reshape(*below.shape, *(1,) * (array.ndim - 2))
                    array[rows] = np.where(mask, then[name][place], array[rows])

    def _blank(self, number: int, seeds: np.ndarray) -> Memory:
        member = self._members[number]
        lanes = np.array(
            [
                np.random.SeedSequence([int(seed), number, depth]).generate_state(1, np.uint64)[0]
                for seed in seeds
                for depth in range(self._depths)
            ],
            np.uint64,
        )
        if isinstance(member.agent, Parent):
            memory = member.agent.memory(lanes, len(member.crew))
        else:
            memory = member.agent.memory(lanes)
        return {
            name: array.reshape(len(seeds), self._depths, *array.shape[1:])
            for name, array in without_objects(member.name, memory).items()
        }


def without_objects(who: str, memory: Memory) -> Memory:
    """That memory. Raises TypeError for arrays of Python objects, which branches would share."""
    for name, array in memory.items():
        if array.dtype.hasobject:
            raise TypeError(
                f"{who} remembers Python objects in {name!r}, which a rollback could not bring "
                "back: branches would share them; give an array of numbers, such as "
                "int64 [n, 100] with a count for a list"
            )
    return memory
