"""What a member remembers is rows of numbers, so that each branch of a delegation has its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from delegations import runtime, world

from delegate import monitors
from delegate.agents import Member, Memory, Policy
from delegate.delegation.episodes import Bounds
from delegate.delegation.protocols import Unmonitored
from delegate.delegation.watch import Watch, Watcher
from delegate.monitors.controls import Random
from delegate.policies import Relay


class Diary(Policy):
    """Writes a line at each step, in place; `lines` says of what kind its memory is."""

    def __init__(self, lines: Any) -> None:
        self.lines = lines

    def memory(self, seeds: np.ndarray) -> Memory:
        return {"lines": self.lines(len(seeds)), "count": np.zeros(len(seeds), np.int64)}

    def act(self, obs: Any, goal: np.ndarray, memory: Memory) -> tuple[np.ndarray, Memory]:
        for row, count in enumerate(memory["count"]):
            memory["lines"][row][count] = 1
        memory["count"] += 1
        return np.zeros(len(goal), np.int64), memory


class FirstBack(Unmonitored):
    """Takes the first delegation of every row back at its end."""

    def judge(self, watched: Any) -> Any:
        return replace(super().judge(watched), roll_back=watched.ended & (watched.sub_episode == 1))


def play(lines: Any, protocol: Any) -> Memory:
    """What the child remembers at the end, one row."""
    members = [Member("root", Relay(5), crew=(1,)), Member("child", Diary(lines))]
    played = runtime(world(rows=1), members, protocol, Bounds(5, 5, max_spawns=1))
    played.run()
    return played.episodes.memories.lanes(1, np.array([0]), np.array([1]))


def plain(rows: int) -> np.ndarray:
    return np.zeros((rows, 40), np.int64)


def of_lists(rows: int) -> np.ndarray:
    lines = np.full(rows, None)
    for row in range(rows):
        lines[row] = [0] * 40
    return lines


def test_what_was_written_in_place_goes_with_the_branch() -> None:
    stands, undone = play(plain, Unmonitored()), play(plain, FirstBack())
    assert stands["lines"].sum() == stands["count"][0] > 0, "negative control: it does write"
    assert undone["lines"].sum() == undone["count"][0] == 0


@pytest.mark.parametrize("protocol", [Unmonitored, FirstBack])
def test_memory_of_python_objects_is_refused(protocol: Any) -> None:
    with pytest.raises(
        TypeError, match=r"child remembers Python objects in 'lines'.*give an array"
    ):
        play(of_lists, protocol())


class KeepsNotes(Random):
    """A monitor that remembers a list."""

    def start(self, lanes: int) -> Memory:
        return super().start(lanes) | {"notes": of_lists(lanes)}


def test_monitors_remember_numbers_likewise() -> None:
    statistic = monitors.make_statistic("sum")
    Watch([Watcher("watch", Random(), statistic)], rows=2, depths=2)
    with pytest.raises(TypeError, match="watch remembers Python objects in 'notes'"):
        Watch([Watcher("watch", KeepsNotes(), statistic)], rows=2, depths=2)
