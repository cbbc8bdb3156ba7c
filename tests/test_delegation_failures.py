"""Agents that go wrong: their sub-episode ends as failed with the cause, and nothing else does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from delegation_worlds import AnyBank, Flailing
from delegations import check_log, child, runtime, world
from gymnasium.vector import AutoresetMode
from test_delegation_driving import by_row

from delegate import envs
from delegate.agents import Agent, Decision, Decisions, Member, Memory, Outcome, Policy, Ruling
from delegate.delegation import events
from delegate.delegation.episodes import Bounds
from delegate.delegation.protocols import Always, Protocol, Rollback, Unmonitored
from delegate.delegation.runtime import Delegation
from delegate.delegation.tree import DelegationTree
from delegate.policies import InTurn, Relay

STEPS = 3
"""that a bad child takes before it goes wrong"""


class Bad(Policy):
    """Walks right, counting its steps; goes wrong at the third where its cell is not `spared`."""

    def __init__(self, spared: tuple[int, ...] = ()) -> None:
        self.spared = spared

    def memory(self, seeds: np.ndarray) -> Memory:
        return {"count": np.zeros(len(seeds), np.int64)}

    def act(self, obs: Any, goal: np.ndarray, memory: Memory) -> tuple[np.ndarray, Memory]:
        count = memory["count"]
        wrong = (count == STEPS) & ~np.isin(goal, self.spared)
        action, memory = np.ones(len(goal), np.int64), {"count": count + 1}
        return self.go_wrong(wrong, action, memory) if wrong.any() else (action, memory)

    def go_wrong(self, wrong: np.ndarray, action: np.ndarray, memory: Memory) -> Any:
        raise NotImplementedError


class Raises(Bad):
    cause = "RuntimeError: it broke, twice"

    def go_wrong(self, wrong: np.ndarray, action: np.ndarray, memory: Memory) -> Any:
        raise RuntimeError("it broke,\n twice")


class NoAction(Bad):
    cause = "decides what is no action of this world"

    def go_wrong(self, wrong: np.ndarray, action: np.ndarray, memory: Memory) -> Any:
        return np.where(wrong, 7, action), memory


class NotANumber(Bad):
    cause = "ValueError: Corner: actions are float64; give integers, 0 to 3"

    def go_wrong(self, wrong: np.ndarray, action: np.ndarray, memory: Memory) -> Any:
        return np.where(wrong, np.nan, action), memory


class TooMany(Bad):
    cause = "ValueError: decides kind of shape (2,); it must be (1,)"
    """each row was asked again by itself"""

    def go_wrong(self, wrong: np.ndarray, action: np.ndarray, memory: Memory) -> Any:
        return np.append(action, 1), memory


class TooWide(Bad):
    cause = "ValueError: decides action of shape (3, 2); it must be (3,)"

    def go_wrong(self, wrong: np.ndarray, action: np.ndarray, memory: Memory) -> Any:
        return np.stack([action, action], axis=1), memory


class Forgetful(Bad):
    cause = "ValueError: bad gives back 'count' of shape (1,); it was (3,)"

    def go_wrong(self, wrong: np.ndarray, action: np.ndarray, memory: Memory) -> Any:
        return action, {"count": memory["count"][:1]}


class Inventive(Bad):
    cause = "ValueError: bad gives back 'diary', which its memory did not begin with"

    def go_wrong(self, wrong: np.ndarray, action: np.ndarray, memory: Memory) -> Any:
        return action, {**memory, "diary": action}


class Nothing(Bad):
    cause = "TypeError: cannot unpack non-iterable NoneType object"

    def go_wrong(self, wrong: np.ndarray, action: np.ndarray, memory: Memory) -> Any:
        return None


def team(env: Any, bad: Agent, protocol: Protocol) -> Delegation:
    """The root asks the bad child alone, and then manages itself."""
    members = [Member("root", InTurn(60, child(env, "intended")), crew=(1,)), Member("bad", bad)]
    return runtime(env, members, protocol, Bounds(60, 200, max_spawns=3))


KINDS = [Raises, NoAction, NotANumber, TooMany, TooWide, Forgetful, Inventive, Nothing]


@pytest.mark.parametrize("protocol", [Unmonitored, Rollback])
@pytest.mark.parametrize("kind", KINDS)
def test_a_child_that_goes_wrong_ends_as_failed_and_the_parent_goes_on(
    kind: Any, protocol: Any
) -> None:
    env = world(rows=3)
    played = team(env, kind(), protocol())
    log = list(played.run())
    check_log(played, lambda row: int(env.levels.start[row]))
    table = played.sub_episodes_table()
    assert table["outcome"].tolist() == [Outcome.FAILED] * 3
    assert table["steps"].tolist() == [STEPS] * 3
    expected = kind.cause
    found = set(table["cause"].tolist())
    assert found == {expected}
    back = protocol is Rollback
    assert table["verdict"].tolist() == [Ruling.ROLLED_BACK if back else Ruling.ESCALATED] * 3
    ended = [e for e in log if isinstance(e, events.Ended)]
    assert [(e.outcome, e.cause) for e in ended] == [("failed", expected)] * 3
    assert DelegationTree.from_events(log, 0).nodes[1]["cause"] == expected
    assert all(e.intended_reached for e in log if isinstance(e, events.EpisodeEnded))
    spent = [e.undone_steps for e in log if isinstance(e, events.EpisodeEnded)]
    assert spent == [STEPS if back else 0] * 3


@pytest.mark.parametrize("kind", [Raises, NoAction])
def test_one_row_that_goes_wrong_takes_no_other_along(kind: Any) -> None:
    env = world(rows=6)
    goals = env.levels.goal.tolist()
    assert len(set(goals)) == 6
    spared = tuple(goals[:2] + goals[3:])
    played = team(env, kind(spared), Unmonitored())
    log = by_row(played.run())
    env.reset(seed=1)
    good = by_row(team(env, kind(tuple(goals)), Unmonitored()).run())
    assert [row for row in range(6) if log[row] != good[row]] == [2]
    outcome = played.sub_episodes_table()["outcome"]
    assert (outcome == Outcome.FAILED).tolist() == [row == 2 for row in range(6)]


def test_a_child_that_fails_as_it_begins_has_taken_no_step() -> None:
    class Stillborn(Bad):
        def begin(self, obs: Any, goal: np.ndarray, memory: Memory) -> Memory:
            if (goal != self.spared[0]).any():
                raise ValueError("not this one")
            return memory

    env = world(rows=4)
    played = team(env, Stillborn((int(env.levels.goal[1]),)), Rollback())
    log = list(played.run())
    check_log(played, lambda row: int(env.levels.start[row]))
    table = played.sub_episodes_table()
    failed = table["outcome"] == Outcome.FAILED
    assert table["row"][failed].tolist() == [0, 2, 3]
    assert set(table["cause"][failed]) == {"ValueError: not this one"}
    assert table["steps"][failed].tolist() == [0, 0, 0]
    done = [e for e in log if isinstance(e, events.EpisodeEnded) and e.row != 1]
    assert all(e.intended_reached for e in done)


def test_a_parent_that_fails_fails_upwards_and_a_root_ends_its_episode() -> None:
    class Broken(Relay):
        """Asks, and cannot take what comes back."""

        def decide(self, view, memory):  # type: ignore[no-untyped-def]
            if (view.last >= 0).any():
                raise KeyError("lost")
            return super().decide(view, memory)

    env = world(rows=3)
    walk = Member("walk", child(env, "intended"))
    middle = [Member("root", Relay(60), crew=(1,)), Member("broken", Broken(60), crew=(2,)), walk]
    played = runtime(env, middle, Rollback(), Bounds(60, 200, max_depth=2, max_spawns=4))
    log = list(played.run())
    check_log(played, lambda row: int(env.levels.start[row]))
    table = played.sub_episodes_table()
    assert table["outcome"].tolist() == [Outcome.FAILED, Outcome.RETURNED] * 3
    assert table["within"].tolist() == [-1, 1] * 3
    env.reset(seed=1)
    played = runtime(env, [Member("root", Broken(60), crew=(1,)), walk], bounds=Bounds(60, 200))
    log = list(played.run())
    ended = [e for e in log if isinstance(e, events.EpisodeEnded)]
    assert [(e.outcome, e.intended_reached) for e in ended] == [("failed", True)] * 3


def test_a_circle_of_members_ends_at_the_greatest_depth() -> None:
    env = world(rows=2)
    members = [Member("root", Relay(9), crew=(1,)), Member("a", Relay(9), crew=(2,)),
               Member("b", Relay(9), crew=(1,))]  # fmt: skip
    played = runtime(env, members, bounds=Bounds(9, 50, max_depth=5, max_spawns=20))
    log = list(played.run())
    check_log(played, lambda row: int(env.levels.start[row]))
    assert max(e.depth for e in log if isinstance(e, events.Spawned)) == 5
    assert not len(played.steps_table()["row"])


def test_a_child_that_wants_to_stop_the_episode_only_gives_up() -> None:
    class Stops(Agent):
        def decide(self, view, memory):  # type: ignore[no-untyped-def]
            decisions = Decisions.returns(len(view.goal))
            decisions.kind[:] = Decision.STOP
            return decisions, memory

    env = world(rows=2)
    played = team(env, Stops(), Unmonitored())
    log = list(played.run())
    refused = [e.reason for e in log if isinstance(e, events.Refused)]
    assert refused == ["only the root may stop the episode; return instead"] * 2
    assert all(e.intended_reached for e in log if isinstance(e, events.EpisodeEnded))


@pytest.mark.parametrize("goal", [-1, 0, 10**6])
def test_a_goal_that_is_no_place_of_the_level_is_refused(goal: int) -> None:
    """Cell 0 is a wall."""

    class Astray(Relay):
        def decide(self, view, memory):  # type: ignore[no-untyped-def]
            decisions, memory = super().decide(view, memory)
            decisions.goal[:1] = goal
            return decisions, memory

    env = world(rows=3)
    members = [Member("root", Astray(60), crew=(1,)), Member("walk", child(env, "intended"))]
    log = list(runtime(env, members, bounds=Bounds(60, 100)).run())
    refused = [(e.row, e.reason.split(";")[0]) for e in log if isinstance(e, events.Refused)]
    assert refused == [(0, "no such goal here")]
    reached = {e.row: e.intended_reached for e in log if isinstance(e, events.EpisodeEnded)}
    assert reached == {0: False, 1: True, 2: True}


def clocked(steps: int) -> AnyBank:
    """A MuJoCo world that ends by its own clock after so many steps."""
    env = envs.make("Reacher-v5", 3, autoreset_mode=AutoresetMode.DISABLED, max_episode_steps=steps)
    env.reset(seed=0)
    return AnyBank(env)


def test_the_worlds_own_clock_ends_the_episode() -> None:
    bank = clocked(7)
    lost = Flailing(bank.env.single_action_space)
    members = [Member("root", Relay(20), crew=(1,)), Member("lost", lost)]
    played = Delegation(bank, members, Unmonitored(), Bounds(20, 50), np.arange(3, dtype=np.uint64))
    log = list(played.run())
    ended = [e for e in log if isinstance(e, events.EpisodeEnded)]
    assert [(e.outcome, e.env_steps) for e in ended] == [("truncated", 7)] * 3
    assert played.sub_episodes_table()["outcome"].tolist() == [Outcome.TIMED_OUT] * 3


def test_what_the_worlds_clock_ended_may_be_taken_back() -> None:
    class FirstBack(Unmonitored):
        def judge(self, watched):  # type: ignore[no-untyped-def]
            judged = super().judge(watched)
            judged.roll_back[:] = watched.ended & (watched.sub_episode == 1)
            return judged

    bank = clocked(7)
    lost = Flailing(bank.env.single_action_space)
    members = [Member("root", Relay(20), crew=(1, 2)), Member("a", lost), Member("b", lost)]
    played = Delegation(bank, members, FirstBack(), Bounds(20, 50), np.arange(3, dtype=np.uint64))
    log = list(played.run())
    ended = [e for e in log if isinstance(e, events.EpisodeEnded)]
    assert [(e.outcome, e.env_steps, e.undone_steps) for e in ended] == [("truncated", 14, 7)] * 3


@pytest.mark.parametrize("value", [np.nan, np.inf, 7.0])
def test_numbers_that_are_none_end_a_child_of_a_world_of_numbers(value: float) -> None:
    class Diverging(Flailing):
        def act(self, obs, goal, memory):  # type: ignore[no-untyped-def]
            action, after = super().act(obs, goal, memory)
            action[after["key"][:, 1] > 32 * 4] = value
            return action, after

    bank = clocked(50)
    space = bank.env.single_action_space
    members = [Member("root", Relay(20), crew=(1, 2)), Member("a", Diverging(space)),
               Member("b", Diverging(space))]  # fmt: skip
    played = Delegation(bank, members, Rollback(), Bounds(20, 50), np.arange(3, dtype=np.uint64))
    played.run()
    table = played.sub_episodes_table()
    assert table["outcome"].tolist() == [Outcome.FAILED] * 6
    assert table["steps"].tolist() == [4] * 6
    assert np.isfinite(played.steps_table()["action"]).all()


def test_a_parents_own_policy_is_asked_only_where_nobody_else_is_left() -> None:
    """One that goes wrong fails no episode in which the child does the work."""

    class Broken(Policy):
        def act(self, obs: Any, goal: np.ndarray, memory: Memory) -> Any:
            raise RuntimeError("asked for nothing")

    env = world(rows=8)
    members = [
        Member("root", InTurn(60, Broken()), crew=(1,)),
        Member("good", child(env, "intended")),
    ]
    played = runtime(env, members, bounds=Bounds(60, 100))
    played.run()
    ends = [e.outcome for e in played.log if isinstance(e, events.EpisodeEnded)]
    assert ends == ["terminated"] * 8
    lost = Member("lost", Flailing(env.single_action_space))
    stuck = [Member("root", InTurn(60, Broken()), crew=(1,)), lost]
    played = runtime(world(rows=8), stuck, protocol=Always(), bounds=Bounds(5, 100))
    played.run()
    ends = [e.outcome for e in played.log if isinstance(e, events.EpisodeEnded)]
    assert ends == ["failed"] * 8, "the negative control: here it is asked"
