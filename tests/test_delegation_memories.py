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
from delegate.delegation.saves import Saves
from delegate.delegation.watch import Watch, Watcher
from delegate.monitors.controls import Random
from delegate.monitors.monitor import Steps, Truth
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
    return played.episodes.memories[1].take(np.array([0]), 1)


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


def test_python_objects_in_memory_are_copied_and_belong_to_their_branch() -> None:
    stands, undone = play(of_lists, Unmonitored()), play(of_lists, FirstBack())
    assert sum(stands["lines"][0]) == stands["count"][0] > 0, "negative control: it does write"
    assert sum(undone["lines"][0]) == undone["count"][0] == 0


class KeepsNotes(Random):
    """A monitor that lists where it has been, and scores how often it was asked."""

    def start(self, lanes: int) -> Memory:
        return super().start(lanes) | {"notes": of_lists(lanes)}

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        for notes in memory["notes"]:
            notes.append(1)
        return np.array([len(notes) - 40.0 for notes in memory["notes"]]), memory


def test_what_monitors_remember_is_copied_likewise() -> None:
    """A watch that saves, sees two steps more and goes back counts from there."""
    watch = Watch([Watcher("watch", KeepsNotes(), monitors.make_statistic("last"))], 2, depths=2)
    rows, one = np.arange(2), np.ones(2, np.intp)

    def step(clock: int) -> list[float]:
        column = np.zeros(2, np.int32)
        steps = Steps(column, column, column, column, column, np.zeros(2, bool))
        watch.score(rows, 1, one, one * clock, one > 1, steps, Truth(column))
        return [float(each) for each in watch.table()["score/watch"][-2:]]

    watch.start(rows, one)
    assert step(0) == [1, 1]
    saved = watch.save(rows)
    assert [step(1), step(2)] == [[2, 2], [3, 3]]
    watch.restore(rows[:1], one[:1] * 2, {name: array[:1] for name, array in saved.items()})
    assert step(3) == [2, 4]


def test_memory_with_another_number_of_rows_is_refused() -> None:
    class Short(Random):
        def start(self, lanes: int) -> Memory:
            return {"key": super().start(lanes)["key"][1:]}

    with pytest.raises(ValueError, match=r"short remembers 'key' of shape \(3,\) for 4 instances"):
        Watch([Watcher("short", Short(), monitors.make_statistic("sum"))], rows=2, depths=2)


def test_slots_are_used_again_and_hold_what_was_kept_last() -> None:
    saves, rng = Saves(), np.random.default_rng(0)
    held: dict[int, int] = {}
    for value in range(400):
        count = int(rng.integers(1, 6))
        for slot in saves.keep({"a": np.full(count, value)}).tolist():
            assert slot not in held
            held[slot] = value
        while len(held) > 20:
            slot = int(rng.choice(list(held)))
            assert saves.of(np.array([slot]))["a"] == held.pop(slot)
            saves.drop(np.array([slot]))
        assert len(saves) == len(held)
    assert saves.nbytes <= 64 * 8
