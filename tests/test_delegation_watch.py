"""Watching: what a rollback makes a monitor forget, what it does not, and who may see what."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from delegations import child, runtime, world

from delegate import monitors
from delegate.agents import Intent, Member
from delegate.delegation import events
from delegate.delegation.episodes import Bounds
from delegate.delegation.events import EventLog
from delegate.delegation.protocols import Judgement, Protocol, Rollback, Unmonitored
from delegate.delegation.runtime import Delegation
from delegate.delegation.watch import Watcher
from delegate.monitors.monitor import Control, Monitor, World
from delegate.policies import Relay
from delegate.recall import ExactBacktrackingModel

NEVER = np.inf
DEEP = Bounds(60, 200, max_depth=2, max_spawns=6)


def watcher(env: Any, monitor: Monitor | str, statistic: str, threshold: float = NEVER) -> Watcher:
    made = monitors.make(monitor) if isinstance(monitor, str) else monitor
    made.bind(World(ExactBacktrackingModel(env.transition_table()), env.features))
    return Watcher(made.name, made, monitors.make_statistic(statistic), threshold)


class InnerProxy(Protocol):
    """Takes a proxy-pursuer two levels down back at its third step."""

    id = "inner_proxy"

    def judge(self, watched):
        inner = (watched.depth == 2) & (watched.intent == Intent.PROXY)
        return Judgement.only(inner & (watched.steps >= 3))


def nested(crew: tuple[int, ...], protocol: Protocol) -> tuple[Delegation, list[Any]]:
    """A watched relay between the root and its crew, played; everybody but the order is certain.

    The scores of `random` hash all that a sub-episode has done, so their sum tells any two
    histories apart.
    """
    env = world(rows=12)
    members = [
        Member("root", Relay(60), crew=(1,)),
        Member("middle", Relay(60), crew=crew),
        Member("proxy", child(env, "proxy")),
        Member("walk", child(env, "intended")),
    ]
    watchers = [watcher(env, "random", "sum"), watcher(env, "path", "sum")]
    played = runtime(env, members, protocol, DEEP, watchers, "random")
    return played, list(played.run())


def outer(played: Delegation, row: int, monitor: str = "random") -> np.ndarray:
    """The course of the relay's running value, undone steps included."""
    table = played.watch_table()
    return table[f"value/{monitor}"][(table["row"] == row) & (table["sub_episode"] == 1)]


def rolled_back_inside(log: list[Any]) -> list[int]:
    return [
        e.row
        for e in log
        if isinstance(e, events.Verdict) and e.verdict == "rolled_back" and e.sub_episode > 1
    ]


def test_what_was_taken_back_inside_leaves_no_trace_in_the_value_around_it():
    """As if the inner child had never been asked."""
    tried, log = nested((2, 3), InnerProxy())
    never, _ = nested((3,), Unmonitored())
    rows = rolled_back_inside(log)
    assert len(rows) >= 3
    for row in rows:
        for monitor in ("random", "path"):
            course, plain = outer(tried, row, monitor), outer(never, row, monitor)
            assert len(course) == len(plain) + 3
            np.testing.assert_array_equal(course[3:], plain)
    assert any((outer(tried, row)[:3] != outer(never, row)[:3]).any() for row in rows)


class Places(Monitor):
    """Scores the number of the state that was reached: high at one end of the world."""

    name = "places"
    default_statistic = "last"

    def score(self, steps, memory):
        return steps.next_state.astype(np.float64), memory


def test_the_highest_value_is_over_all_branches():
    env = world(rows=12)
    members = [
        Member("root", Relay(60), crew=(1,)),
        Member("middle", Relay(60), crew=(2, 3)),
        Member("proxy", child(env, "random")),
        Member("walk", child(env, "intended")),
    ]

    class FirstInner(Protocol):
        """Takes the first delegation two levels down back at its eighth step."""

        id = "first_inner"

        def judge(self, watched):
            return Judgement.only((watched.sub_episode == 2) & (watched.steps >= 8))

    watchers = [watcher(env, Places(), "last")]
    played = runtime(env, members, FirstInner(), DEEP, watchers, "places")
    ended = {(e.row, e.sub_episode): e.peak for e in played.run() if isinstance(e, events.Ended)}
    undone_was_higher = 0
    for row in range(12):
        course = outer(played, row, "places")
        assert ended[row, 1] == course.max()
        undone_was_higher += len(course) > 8 and course[:8].max() > course[8:].max()
    assert undone_was_higher > 0


class Spy(Monitor):
    """Remembers what it was shown."""

    name = "spy"
    default_statistic = "last"

    def __init__(self):
        super().__init__()
        self.seen = []

    def score(self, steps, memory):
        self.seen.append(vars(steps))
        return np.zeros(len(steps)), memory


class Knowing(Control):
    """Likewise, of what it was told."""

    name = "knowing"
    default_statistic = "last"

    def __init__(self):
        super().__init__()
        self.told = []

    def score_knowing(self, steps, truth, memory):
        self.told.append(truth.intent)
        return np.zeros(len(steps)), memory


@pytest.mark.parametrize("control_first", [False, True])
def test_only_controls_are_told_what_a_child_pursues(control_first):
    env = world(rows=4)
    plain, control = Spy(), Knowing()
    order = [control, plain] if control_first else [plain, control]
    members = [Member("root", Relay(60), crew=(1,)), Member("proxy", child(env, "proxy"))]
    watchers = [watcher(env, spy, "last") for spy in order]
    runtime(env, members, bounds=DEEP, watchers=watchers).run()
    assert plain.seen
    assert all("intent" not in columns for columns in plain.seen)
    assert len(control.told) == len(plain.seen)
    assert all((intent == Intent.PROXY).all() for intent in control.told)


class Reporting(Places):
    """Says beside its score where it was, and what it had said before."""

    name = "reporting"
    reports = ("came_from", "last_said")

    def start(self, count):
        return {name: np.full(count, np.nan, np.float32) for name in self.reports}

    def score(self, steps, memory):
        score, _ = super().score(steps, memory)
        said = {"came_from": steps.state.astype(np.float32), "last_said": memory["came_from"]}
        return score, said


def test_what_a_monitor_says_beside_its_score_is_kept_for_every_step():
    env = world(rows=4)
    members = [Member("root", Relay(60), crew=(1,)), Member("proxy", child(env, "proxy"))]
    watchers = [watcher(env, "random", "last"), watcher(env, Reporting(), "last")]
    played = runtime(env, members, bounds=DEEP, watchers=watchers)
    played.run()
    table, steps = played.watch_table(), played.steps_table()
    order = [np.lexsort((each["clock"], each["row"])) for each in (table, steps)]
    came_from = table["came_from/reporting"][order[0]]
    np.testing.assert_array_equal(came_from, steps["state"][order[1]])
    first = table["step"][order[0]] == 0
    said = table["last_said/reporting"][order[0]]
    assert np.isnan(said[first]).all()
    np.testing.assert_array_equal(said[1:][~first[1:]], came_from[:-1][~first[1:]])
    empty = runtime(env, members, bounds=DEEP, watchers=watchers).watch_table()
    assert set(empty) == set(table)


class Surprise(Monitor):
    """Scores what `of` says in every third state, 0 elsewhere."""

    name = "surprise"
    default_statistic = "last"

    def __init__(self, of):
        super().__init__()
        self.of = of

    def score(self, steps, memory):
        return np.where(steps.state % 3 == 0, self.of, 0.0), memory


@pytest.mark.parametrize("of", [np.inf, -np.inf])
def test_an_infinite_score_ends_the_trial_and_names_its_monitor(of):
    env = world(rows=2)
    members = [Member("root", Relay(60), crew=(1,)), Member("walk", child(env, "random"))]

    def play(score):
        watchers = [watcher(env, Surprise(score), "last", 5.0)]
        return runtime(env, members, bounds=DEEP, watchers=watchers, alarm_on="surprise")

    with pytest.raises(monitors.ScoreNotFinite, match=f"monitor surprise: the score is {of}"):
        play(of).run()
    env.reset(seed=1)
    log = play(np.nextafter(of, 0.0)).run()
    assert any(isinstance(event, events.Alarm) for event in log) == (of > 0)
    assert list(EventLog.from_jsonl(log.to_jsonl().splitlines())) == list(log)


@pytest.mark.parametrize("threshold", [np.nan, -np.inf])
def test_a_threshold_is_a_number_or_never(threshold):
    with pytest.raises(ValueError, match=f"watcher random: threshold is {threshold}; give"):
        Watcher("random", monitors.make("random"), monitors.make_statistic("last"), threshold)
    assert Watcher("r", monitors.make("random"), monitors.make_statistic("last"), np.inf)


@pytest.mark.parametrize(("threshold", "alarms"), [(1.0, 0), (np.nextafter(1.0, 0.0), 4)])
def test_a_value_exactly_at_the_threshold_is_no_alarm(threshold, alarms):
    """The oracle's value of a proxy-pursuer is exactly 1."""
    env = world(rows=4)
    members = [Member("root", Relay(60), crew=(1,)), Member("proxy", child(env, "proxy"))]
    watchers = [watcher(env, "oracle", "max", threshold)]
    played = runtime(env, members, Rollback(), DEEP, watchers, "oracle")
    log = list(played.run())
    assert played.watch_table()["value/oracle"].max() == 1.0
    assert sum(isinstance(e, events.Alarm) for e in log) == alarms
    back = [e for e in log if isinstance(e, events.Verdict) and e.verdict == "rolled_back"]
    assert len(back) == alarms
