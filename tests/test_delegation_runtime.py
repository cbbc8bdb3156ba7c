"""The runtime, judged from its log alone: what is rolled back is gone from the path and nowhere
else, whatever parents decide and however deep they nest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from delegations import check_log, child, runtime, whimsical_crew, world

from delegate import monitors
from delegate.agents import Decision, Decisions, Member, Policy
from delegate.delegation import events
from delegate.delegation.episodes import Bounds
from delegate.delegation.protocols import Oracle, Rollback, Unmonitored
from delegate.delegation.watch import Watcher
from delegate.monitors.controls import Random
from delegate.monitors.monitor import World
from delegate.policies import InTurn, Relay
from delegate.recall import ExactBacktrackingModel

DEEP = Bounds(budget=30, interactions=90, max_depth=3, max_spawns=12, discount=0.97)


class AnyNumber(Random):
    """Scores at random what happens, by the seed of its level instead of its number."""

    def score(self, steps, memory):
        return super().score(replace(steps, level=self.seeds[steps.level]), memory)


def random_alarms(env, threshold=0.93):
    """A real monitor whose alarms come at random: every kind of interruption happens."""
    watched = AnyNumber(monitors.make("random").settings)
    watched.seeds = env.levels.seed[env.level_index]
    watched.bind(World(ExactBacktrackingModel(env.transition_table()), env.features))
    return Watcher("random", watched, monitors.make_statistic("last"), threshold)


def alarmed(env, seeds=None):
    return runtime(
        env, whimsical_crew(env), Rollback(), DEEP, [random_alarms(env)], "random", seeds
    )


@pytest.mark.parametrize("name", ["Corner", "FourRooms", "TrapGrid"])
@pytest.mark.parametrize("seed", range(4))
def test_a_log_obeys_its_semantics_whatever_parents_decide(name, seed):
    env = world(name, rows=16, slip=0.2)
    seeds = np.arange(16, dtype=np.uint64) + np.uint64(100 * seed)
    played = alarmed(env, seeds)
    played.run()
    check_log(played, lambda row: int(env.levels.start[row]))
    kinds = {event.kind for event in played.log}
    assert {"spawned", "alarm", "verdict", "refused"} <= kinds


def test_the_log_check_notices_a_restore_that_leaves_the_agent_where_it_is(monkeypatch):
    env = world(rows=8)
    restore = env.restore
    monkeypatch.setattr(
        env, "restore", lambda *a, keep=(), **k: restore(*a, keep={*keep, "cell"}, **k)
    )
    played = alarmed(env)
    played.run()
    with pytest.raises(AssertionError):
        check_log(played, lambda row: int(env.levels.start[row]))


def test_rows_do_not_influence_each_other():
    crowd = world(rows=7, slip=0.2)
    keys = crowd.state.key.copy()
    seeds = np.arange(7, dtype=np.uint64) + np.uint64(3)
    together = list(alarmed(crowd, seeds).run())
    for row in (0, 3, 6):
        alone = world(rows=1, levels=crowd.levels.take(np.array([row])), slip=0.2)
        alone.state.key[:] = keys[row]
        mine = [replace(event, row=0) for event in together if event.row == row]
        assert list(alarmed(alone, seeds[[row]]).run()) == mine


def test_the_same_trial_twice_is_the_same_log():
    logs = []
    for _ in range(2):
        env = world(rows=5, slip=0.1)
        played = alarmed(env)
        logs.append((list(played.run()), played.steps_table(), played.watch_table()))
    assert logs[0][0] == logs[1][0]
    for first, second in zip(logs[0][1:], logs[1][1:], strict=True):
        assert first.keys() == second.keys()
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])


class Counter(Policy):
    """Walks right and counts its steps in memory; hands back after three."""

    def memory(self, seeds):
        return {
            "key": np.stack([seeds, np.zeros_like(seeds)], axis=1),
            "count": np.zeros(len(seeds), np.int64),
        }

    def act(self, obs, goal, memory):
        count, key = memory["count"] + 1, memory["key"].copy()
        key[:, 1] += np.uint64(1)
        action = np.where(count % 4 == 0, -1, 1)
        return action, {"key": key, "count": count}


def test_a_rollback_restores_memory_but_not_the_dice():
    env = world(rows=3)
    members = [
        Member("root", Relay(20), crew=(1, 2)),
        Member("a", Counter()),
        Member("b", Counter()),
    ]

    class FirstTwice(Unmonitored):
        """Rolls the first delegation of every row back at its end."""

        def judge(self, watched):
            judged = super().judge(watched)
            return replace(judged, roll_back=watched.ended & (watched.sub_episode == 1))

    played = runtime(env, members, FirstTwice())
    played.run()
    tried = [e for e in played.log if isinstance(e, events.Spawned)]
    depth = np.ones(3, np.int64)
    for row in range(3):
        first, second = (e.child for e in tried if e.row == row)
        rows = np.array([row])
        for name, count, drawn in ((first, 0, 4), (second, 4, 4)):
            number = [member.name for member in members].index(name)
            memory = played.episodes.memories[number].take(rows, depth[:1])
            assert memory["count"][0] == count
            assert memory["key"][0, 1] == drawn


def test_an_unmonitored_parent_commits_what_it_gets_back():
    env = world(rows=6)
    members = [Member("root", Relay(60), crew=(1,)), Member("walk", child(env, "intended"))]
    log = list(runtime(env, members, bounds=Bounds(60, 120)).run())
    ended = [e for e in log if isinstance(e, events.EpisodeEnded)]
    assert all(e.intended_reached for e in ended)
    assert {e.outcome for e in ended} == {"terminated"}
    steps = {e.row: e.env_steps for e in ended}
    assert [steps[row] for row in range(6)] == env.facts().optimal_steps.tolist()
    assert [e.verdict for e in log if isinstance(e, events.Verdict)] == ["committed"] * 6


def test_the_oracle_takes_back_the_proxy_child_and_the_parent_asks_the_other():
    env = world(rows=12)
    members = [
        Member("root", Relay(60), crew=(1, 2)),
        Member("proxy", child(env, "proxy")),
        Member("walk", child(env, "intended")),
    ]
    log = list(runtime(env, members, Oracle(), Bounds(60, 200)).run())
    distinguishing = env.facts().distinguishing
    for row in np.flatnonzero(distinguishing):
        ended = next(e for e in log if isinstance(e, events.EpisodeEnded) and e.row == row)
        assert ended.intended_reached
        spawned = [e.child for e in log if isinstance(e, events.Spawned) and e.row == row]
        assert spawned in (["walk"], ["proxy", "walk"])
    back = [e for e in log if isinstance(e, events.Verdict) and e.verdict == "rolled_back"]
    assert back
    assert all(e.undone_steps >= 1 for e in back)


def test_without_anyone_left_the_parent_acts_alone():
    env = world(rows=4)
    alone = child(env, "intended")
    members = [Member("root", InTurn(60, alone), crew=(1,)), Member("proxy", child(env, "proxy"))]

    class Everything(Unmonitored):
        """Takes everything back at its end."""

        def judge(self, watched):
            return replace(super().judge(watched), roll_back=watched.ended)

    played = runtime(env, members, Everything(), Bounds(60, 200))
    log = list(played.run())
    assert all(e.intended_reached for e in log if isinstance(e, events.EpisodeEnded))
    steps = played.steps_table()
    for row in range(4):
        own = steps["sub_episode"][(steps["row"] == row) & (steps["sub_episode"] == 0)]
        assert len(own) == env.facts().optimal_steps[row]


def judged(log, row):
    """child -> (verdict, within, intent) of one row, in order of spawning."""
    verdicts = {
        e.sub_episode: (e.verdict, e.within)
        for e in log
        if isinstance(e, events.Verdict) and e.row == row
    }
    intents = {e.sub_episode: e.intent for e in log if isinstance(e, events.Ended) and e.row == row}
    return [
        (e.child, *verdicts[e.sub_episode], intents[e.sub_episode])
        for e in log
        if isinstance(e, events.Spawned) and e.row == row
    ]


def test_a_nested_rollback_takes_the_innermost_first_and_a_relay_gives_up_upwards():
    """The relay's only child is taken back; with nobody left it gives up, and is taken back
    in its turn. What it pursued was its child's, so its own intent is unknown by then."""
    env = world(rows=12)
    members = [
        Member("root", Relay(100), crew=(1, 3)),
        Member("middle", Relay(50), crew=(2,)),
        Member("proxy", child(env, "proxy")),
        Member("walk", child(env, "intended")),
    ]
    played = runtime(env, members, Oracle(), Bounds(100, 300, max_depth=2, max_spawns=6))
    log = list(played.run())
    check_log(played, lambda row: int(env.levels.start[row]))
    assert all(e.intended_reached for e in log if isinstance(e, events.EpisodeEnded))
    walk = ("walk", "committed", None, "intended")
    taken = [("middle", "rolled_back", None, "unknown"), ("proxy", "rolled_back", None, "proxy")]
    rows = np.flatnonzero(env.facts().distinguishing)
    found = [judged(log, row) for row in rows]
    assert all(each in ([walk], [*taken, walk]) for each in found)
    assert [*taken, walk] in found


def test_after_a_rollback_inside_it_an_outer_one_is_judged_again_only_at_its_end():
    """Everybody is suspected at every step from the third on. The inner ones are taken back
    until the relay has nobody left or has spent its budget."""
    env = world(rows=6)
    members = [
        Member("root", Relay(30), crew=(1,)),
        Member("middle", Relay(30), crew=(2, 3)),
        Member("a", child(env, "random")),
        Member("b", child(env, "random")),
    ]
    seen = []

    class Suspicious(Unmonitored):
        def judge(self, watched):
            judgement = super().judge(watched)
            seen.append((watched, played.episodes.clock[watched.row].copy()))
            inside = (watched.depth == 2) & (watched.steps >= 3)
            return replace(judgement, roll_back=inside)

    def play(budget):
        env.reset(seed=1)
        seen.clear()
        return runtime(env, members, Suspicious(), Bounds(budget, 100, max_depth=2, max_spawns=3))

    played = play(30)
    log = list(played.run())
    check_log(played, lambda row: int(env.levels.start[row]))
    for row in range(6):
        inner = [
            int(at[watched.row == row][0])
            for watched, at in seen
            if (watched.row == row).any() and (watched.depth == 2).all()
        ]
        outer = [
            (int(at[watched.row == row][0]), bool(watched.ended[watched.row == row][0]))
            for watched, at in seen
            if (watched.row == row).any() and (watched.depth == 1).all()
        ]
        assert inner == [1, 2, 3, 4, 5, 6]
        assert outer == [(1, False), (2, False), (4, False), (5, False), (6, True)]
        assert judged(log, row)[0] == ("middle", "escalated", None, "unknown")

    class Short(Relay):
        """Grants three steps."""

        def __init__(self):
            super().__init__(3)

    members[0] = Member("root", Short(), crew=(1,))
    played = play(30)
    log = list(played.run())
    check_log(played, lambda row: int(env.levels.start[row]))
    first = [e for e in log if isinstance(e, events.Ended) and e.sub_episode == 1]
    assert [(e.outcome, e.steps) for e in first] == [("timed_out", 3)] * 6


class BacktracksOnce(Relay):
    """Accepts what it gets, then takes it back once and asks again."""

    def memory(self, seeds):
        return {**super().memory(seeds), "went_back": np.zeros(len(seeds), bool)}

    def decide(self, view, memory):
        decisions, memory = super().decide(view, memory)
        returns = decisions.kind == Decision.RETURN
        done = returns & ~decisions.gave_up & ~memory["went_back"] & (view.last > 0)
        decisions.kind[done] = Decision.BACKTRACK
        decisions.target[done] = view.last[done]
        again = memory["went_back"] & decisions.gave_up
        decisions.kind[again] = Decision.DELEGATE
        decisions.child[again] = 0
        decisions.goal[again] = view.goal[again]
        decisions.budget[again] = 50
        return decisions, {**memory, "went_back": memory["went_back"] | done}


def test_a_parent_may_take_back_what_it_committed_even_after_the_world_ended():
    env = world(rows=3)
    members = [Member("root", BacktracksOnce(50), crew=(1,)), Member("w", child(env, "intended"))]
    played = runtime(env, members, bounds=Bounds(50, 200))
    log = list(played.run())
    check_log(played, lambda row: int(env.levels.start[row]))
    optimal = env.facts().optimal_steps
    for e in log:
        if isinstance(e, events.EpisodeEnded):
            assert e.intended_reached
            assert e.restores == 1
            assert e.undone_steps == optimal[e.row]
            assert e.env_steps == 2 * optimal[e.row]


@pytest.mark.parametrize("then", [Decision.ACT, Decision.DELEGATE])
def test_who_goes_back_when_all_is_paid_can_pay_no_more(then):
    class AtTheEnd(BacktracksOnce):
        def decide(self, view, memory):
            decisions, after = super().decide(view, memory)
            again = memory["went_back"]
            decisions.kind[again], decisions.gave_up[again] = then, False
            return decisions, after

    env = world(rows=3)
    optimal = int(env.facts().optimal_steps[1])
    members = [Member("root", AtTheEnd(50), crew=(1,)), Member("w", child(env, "intended"))]
    played = runtime(env, members, bounds=Bounds(50, optimal))
    log = list(played.run())
    check_log(played, lambda row: int(env.levels.start[row]))
    (refused,) = (e for e in log if isinstance(e, events.Refused) and e.row == 1)
    assert refused.reason == "no steps left; raise interactions"
    (ended,) = (e for e in log if isinstance(e, events.EpisodeEnded) and e.row == 1)
    assert (ended.env_steps, ended.undone_steps, ended.outcome) == (optimal, optimal, "stopped")


def test_monitors_that_score_ends_do_so_when_a_child_hands_back():
    env = world(rows=6)
    distinguishing = env.facts().distinguishing
    members = [Member("root", Relay(60), crew=(1,)), Member("proxy", child(env, "proxy"))]
    at_end = monitors.make("oracle")
    at_end.__class__ = type("EndOracle", (type(at_end),), {"scores_ends": True})
    at_end.bind(World(ExactBacktrackingModel(env.transition_table()), env.features))
    played = runtime(
        env,
        members,
        watchers=[Watcher("oracle", at_end, monitors.make_statistic("sum"))],
        bounds=Bounds(60, 200),
    )
    played.run()
    table, steps = played.watch_table(), played.steps_table()
    for row in np.flatnonzero(distinguishing):
        taken = (steps["row"] == row).sum()
        value = table["value/oracle"][table["row"] == row]
        np.testing.assert_array_equal(value, [*range(1, taken), taken + 1])


def test_a_parent_that_oversteps_its_bounds_is_stopped_and_the_log_says_why():
    class Greedy(Relay):
        def decide(self, view, memory):
            decisions = Decisions.returns(len(view.goal))
            decisions.kind[:] = Decision.DELEGATE
            decisions.budget[:] = 5
            decisions.goal[:] = view.goal
            return decisions, memory

    env = world(rows=2)
    members = [Member("root", Greedy(5), crew=(1,)), Member("lost", child(env, "random"))]
    log = list(runtime(env, members, bounds=Bounds(5, 500, max_spawns=3)).run())
    refused = [e for e in log if isinstance(e, events.Refused)]
    assert len(refused) == 2
    assert "max_spawns" in refused[0].reason
    assert all(e.spawns == 3 for e in log if isinstance(e, events.EpisodeEnded))


def test_the_root_must_have_a_crew():
    env = world(rows=1)
    with pytest.raises(TypeError, match=r"walk: cannot delegate, for it has no crew"):
        runtime(env, [Member("walk", child(env, "intended"))])
