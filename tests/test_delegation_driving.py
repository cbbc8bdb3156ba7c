"""The runtime is driven: who is asked, who waits, and that the driver makes no difference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from delegations import runtime, whimsical_crew, world
from test_delegation_runtime import DEEP, alarmed

from delegate.agents import Briefing, Decision, Decisions, Member, Memory, Policy, View
from delegate.delegation import events
from delegate.delegation.episodes import Bounds
from delegate.delegation.protocols import Always, Unmonitored
from delegate.delegation.runtime import Delegation
from delegate.policies import Relay


def by_row(log: Any) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for event in log:
        found.setdefault(event.row, []).append(event)
    return found


def sorted_table(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    keys = [table[name] for name in ("depth", "clock", "row") if name in table]
    order = np.lexsort(keys)
    return {name: column[order] for name, column in table.items()}


def check_same(one: Delegation, other: Delegation) -> None:
    """Row by row the same events, steps, scores and sub-episodes, bit for bit."""
    assert by_row(one.log) == by_row(other.log)
    for first, second in (
        (one.steps_table(), other.steps_table()),
        (one.watch_table(), other.watch_table()),
    ):
        first, second = sorted_table(first), sorted_table(second)
        for name in first:
            np.testing.assert_array_equal(first[name], second[name], name)
    first, second = one.sub_episodes_table(), other.sub_episodes_table()
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], name)


def driven(played: Delegation, rng: np.random.Generator) -> Delegation:
    """Some at a time, in any order, and the world steps whenever somebody has an action."""
    members = played.members
    while played.live.any():
        without = set(np.flatnonzero(rng.random(len(members)) < 0.4).tolist())
        for _ in range(int(rng.integers(1, 4))):
            asked = played.pending(without)
            if asked is None:
                break
            assert asked.member not in without
            some = np.flatnonzero(rng.random(len(asked.rows)) < 0.6)
            if not len(some):
                continue
            decisions, memory = members[asked.member].agent.decide(asked.view, asked.memory)
            part = Decisions(**{name: each[some] for name, each in vars(decisions).items()})
            kept = {name: array[some] for name, array in memory.items()}
            played.decide(asked.rows[some], part, kept)
        played.tick()
    return played


@pytest.mark.parametrize("seed", range(3))
def test_driven_by_anybody_in_any_order_it_is_the_same_bit_for_bit(seed: int) -> None:
    ran = alarmed(world(rows=9, slip=0.2))
    ran.run()
    other = driven(alarmed(world(rows=9, slip=0.2)), np.random.default_rng(seed))
    assert {"spawned", "alarm", "verdict", "refused"} <= {event.kind for event in ran.log}
    check_same(ran, other)


def test_another_answer_is_not_the_same() -> None:
    """The negative control."""
    ran = alarmed(world(rows=9, slip=0.2))
    ran.run()
    other = alarmed(world(rows=9, slip=0.2))
    asked = other.pending()
    assert asked is not None
    decisions, memory = other.members[0].agent.decide(asked.view, asked.memory)
    decisions.kind[4] = Decision.RETURN
    other.decide(asked.rows, decisions, memory)
    other.run()
    with pytest.raises(AssertionError):
        check_same(ran, other)
    mine, theirs = by_row(ran.log), by_row(other.log)
    assert all(mine[row] == theirs[row] for row in range(9) if row != 4)


class Right(Policy):
    def act(self, obs, goal, memory):  # type: ignore[no-untyped-def]
        return np.ones(len(goal), int), memory


def waiting(rows: int = 4) -> Delegation:
    env = world(rows=rows)
    members = [Member("root", Relay(6), crew=(1,)), Member("right", Right())]
    return runtime(env, members, bounds=Bounds(6, 30, max_spawns=2))


def test_an_agent_of_three_lines_works() -> None:
    played = waiting()
    log = list(played.run())
    assert (played.steps_table()["action"] == 1).all()
    assert [e.outcome for e in log if isinstance(e, events.Ended)] == ["timed_out"] * 4


def test_only_children_of_known_kind_are_told_of_the_proxy() -> None:
    """Nothing that others are handed holds its number."""
    seen: dict[str, list[Any]] = {"plain": [], "told": []}

    class Spy(Right):
        def __init__(self, name: str) -> None:
            self.name, self.told = name, name == "told"

        def begin(self, obs: Any, goal: np.ndarray, memory: Memory) -> Memory:
            seen[self.name].append((obs, goal, memory))
            return memory

        def brief(self, obs: Any, goal: np.ndarray, briefing: Briefing, memory: Memory) -> Memory:
            seen[self.name].append(briefing)
            return memory

        def decide(self, view: View, memory: Memory) -> Any:
            assert {"proxy", "habit", "truth", "intent"}.isdisjoint(vars(view))
            return super().decide(view, memory)

    env = world(rows=4)
    members = [Member("root", Relay(3), crew=(1,)), Member("a", Relay(3), crew=(2, 3)),
               Member("b", Spy("told")), Member("c", Spy("plain"))]  # fmt: skip
    played = runtime(env, members, Always(), Bounds(3, 30, max_depth=2, max_spawns=6))
    played.run()
    assert seen["plain"]
    for briefing in seen["told"]:
        np.testing.assert_array_equal(briefing.proxy, played.bank.proxy[briefing.level])
        assert briefing.bank is played.bank
    assert sum(len(briefing.level) for briefing in seen["told"]) > 0


def test_rows_whose_member_is_not_asked_wait_and_the_others_go_on() -> None:
    """As a learner's rows do while everybody else acts."""
    played = waiting()
    asked = played.pending()
    assert asked is not None
    assert asked.member == 0
    decisions, memory = played.members[0].agent.decide(asked.view, asked.memory)
    part = Decisions(**{name: each[:2] for name, each in vars(decisions).items()})
    played.decide(asked.rows[:2], part, {name: array[:2] for name, array in memory.items()})
    for steps in range(6):
        while (asked := played.pending(without={0})) is not None:
            assert asked.rows.tolist() == [0, 1]
            played.ask(asked)
        assert played.tick() == 2
        assert played.episodes.clock.tolist() == [steps + 1, steps + 1, 0, 0]
    assert played.pending(without={0}) is None
    assert played.tick() == 0
    last = played.pending()
    assert last is not None
    assert last.rows.tolist() == [0, 1, 2, 3]
    assert last.view.last.tolist() == [1, 1, -1, -1]
    assert last.view.clock_left.tolist() == [24, 24, 30, 30]


@pytest.mark.parametrize("rows", [[], [0, 1, 2], [2]])
def test_deciding_where_nobody_waits_is_refused(rows: list[int]) -> None:
    played = waiting(2)
    asked = played.pending()
    assert asked is not None
    played.ask(asked)
    while (asked := played.pending()) is not None:
        played.ask(asked)
    with pytest.raises((ValueError, IndexError), match=r"decide what is pending|out of bounds"):
        played.decide(np.array(rows, int), Decisions.returns(len(rows)), {})


def test_what_is_handed_out_is_a_copy() -> None:
    """Whoever writes into a view or a memory writes into nothing else."""
    played, same = (runtime(w, whimsical_crew(w), bounds=DEEP) for w in (world(), world()))
    while played.live.any():
        while (asked := played.pending()) is not None:
            for array in [*asked.memory.values(), asked.view.obs, asked.view.goal, asked.view.over]:
                array[...] = 0
            asked = played.pending()
            assert asked is not None
            played.ask(asked)
        played.tick()
    same.run()
    check_same(played, same)


@pytest.mark.parametrize(("protocol", "growth"), [(Always, 1), (Unmonitored, 8)])
def test_memory_grows_with_live_nodes_and_logged_steps_only(protocol: Any, growth: int) -> None:
    """A parent asks again and again. What is taken back is live no more; what the root committed
    may still be taken back, and what its children committed in their turn may not."""

    class Again(Relay):
        def decide(self, view, memory):  # type: ignore[no-untyped-def]
            decisions = Decisions.returns(len(view.goal))
            asks = (view.spawns_left > 0) & (view.clock_left > 0)
            decisions.kind[asks] = Decision.DELEGATE
            decisions.goal, decisions.budget[:] = view.goal.astype(int), 2
            return decisions, memory

    held = {}
    for spawns in (10, 80):
        env = world(rows=5)
        members = [
            Member("root", Again(4), crew=(1,)),
            Member("middle", Again(4), crew=(2,)),
            Member("right", Right()),
        ]
        bounds = Bounds(4, 1_000, max_depth=2, max_spawns=spawns)
        played = runtime(env, members, protocol(), bounds)
        most = 0
        while played.live.any():
            while (asked := played.pending()) is not None:
                played.ask(asked)
            played.tick()
            most = max(most, len(played.episodes.saves))
        assert played.episodes.nodes.count.tolist() == [spawns + 1] * 5
        committed = 5 * int((played.sub_episodes_table()["depth"] == 1).sum() / 5)
        assert most <= (10 if protocol is Always else committed + 5)
        held[spawns] = played.episodes.saves.nbytes
        assert len(played.episodes.saves) == 0, "nothing can go back there any more"
        slots = played.episodes.nodes.slot
        assert (slots < 0).all()
    assert held[80] <= growth * held[10]
