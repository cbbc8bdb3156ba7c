"""The table of sub-episodes says what the events and the steps say, once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from delegations import child, runtime, whimsical_crew, world
from test_delegation_runtime import DEEP, alarmed

from delegate import monitors
from delegate.agents import Intent, Member, Outcome, Ruling
from delegate.delegation import events
from delegate.delegation.episodes import Bounds
from delegate.delegation.protocols import Rollback
from delegate.delegation.runtime import Delegation
from delegate.delegation.sub_episodes import COLUMNS, NEVER
from delegate.delegation.watch import Watcher
from delegate.monitors.monitor import Monitor, World
from delegate.policies import Relay
from delegate.recall import ExactBacktrackingModel


def of(log: list[Any], kind: type, row: int, number: int) -> list[Any]:
    return [e for e in log if isinstance(e, kind) and (e.row, e.sub_episode) == (row, number)]


def inside(table: dict[str, np.ndarray], row: int, number: int) -> list[int]:
    """That sub-episode and all below it."""
    found = [number]
    for other in np.flatnonzero(table["row"] == row):
        if table["parent"][other] in found:
            found.append(int(table["sub_episode"][other]))
    return found


def first(true: np.ndarray) -> int:
    return int(true.argmax()) if true.any() else NEVER


def check_table(played: Delegation) -> None:
    """Every column, recomputed from events, steps and scores."""
    table, log = played.sub_episodes_table(), list(played.log)
    steps, watch = played.steps_table(), played.watch_table()
    spawned = [e for e in log if isinstance(e, events.Spawned)]
    keys = np.stack([watch[name] for name in ("row", "clock", "depth")], axis=1)
    assert len(np.unique(keys, axis=0)) == len(keys), "one score a row, clock and depth"
    assert set(COLUMNS) <= set(table)
    assert len(spawned) == len(table["row"])
    for i, (row, number) in enumerate(zip(table["row"], table["sub_episode"], strict=True)):
        mine = {name: column[i] for name, column in table.items()}
        (born,) = of(log, events.Spawned, row, number)
        (ended,) = of(log, events.Ended, row, number)
        verdict = of(log, events.Verdict, row, number)[-1]
        assert (mine["parent"], mine["depth"]) == (born.parent, born.depth)
        assert (mine["child"], mine["goal"], mine["budget"]) == (born.child, born.goal, born.budget)
        assert played.members[mine["member"]].name == born.child
        assert (mine["start_clock"], mine["start_path"]) == (born.clock, born.path_clock)
        assert Outcome(mine["outcome"]).name.lower() == ended.outcome
        assert Ruling(mine["verdict"]).name.lower() == verdict.verdict
        assert (mine["steps"], mine["cause"]) == (ended.steps, ended.cause or "")
        assert mine["undone_steps"] == verdict.undone_steps
        assert mine["within"] == (NEVER if verdict.within is None else verdict.within)
        for name in ("value", "peak"):
            said = getattr(ended, name)
            np.testing.assert_equal(mine[name], np.nan if said is None else said)
        below = np.isin(steps["sub_episode"], inside(table, row, number))
        paid = np.flatnonzero((steps["row"] == row) & below)
        assert len(paid) == mine["steps"]
        assert (np.diff(steps["clock"][paid]) == 1).all()
        parting = first(steps["divergent"][paid])
        assert mine["parting"] == parting
        # the watch keeps every step by row, clock and depth
        seen = (watch["row"] == row) & (watch["sub_episode"] == number)
        np.testing.assert_array_equal(watch["clock"][seen], steps["clock"][paid])
        assert (watch["depth"][seen] == born.depth).all()
        if "value/random" in watch:
            above = watch["value/random"][seen] > 0.93
            assert mine["alarm"] == first(above)
            assert (mine["alarm"] >= 0) == bool(of(log, events.Alarm, row, number))
        if "score/oracle" in watch:
            pursues = watch["score/oracle"][seen] > 0
            late = np.arange(len(paid)) >= (parting if parting >= 0 else len(paid))
            assert mine["defection"] == first(pursues & late)


def test_every_column_is_what_the_log_says() -> None:
    played = alarmed(world(rows=10, slip=0.2))
    played.run()
    check_table(played)
    assert (played.sub_episodes_table()["within"] >= 0).any()


def test_when_a_child_defects_is_a_fact_of_the_child_and_not_of_the_level() -> None:
    env = world(rows=20)
    oracle = monitors.make("oracle")
    oracle.bind(World(ExactBacktrackingModel(env.transition_table()), env.features))
    members = [
        Member("root", Relay(60), crew=(1,)),
        Member("turning", child(env, "trigger", row=6, column=6, radius=3)),
    ]
    watchers = [Watcher("oracle", oracle, monitors.make_statistic("last"))]
    played = runtime(env, members, bounds=Bounds(60, 100), watchers=watchers)
    played.run()
    check_table(played)
    table = played.sub_episodes_table()
    turned = table["intent"] == Intent.PROXY
    assert (table["defection"][~turned] == NEVER).all()
    late = turned & (table["defection"] > table["parting"])
    assert late.any(), "they parted, and only later it turned"
    assert (table["parting"][turned & (table["defection"] >= 0)] >= 0).all()


def test_the_log_check_notices_a_column_that_is_off_by_one() -> None:
    """The negative control."""
    for name in ("steps", "parting", "alarm", "within", "start_path"):
        played = alarmed(world(rows=10, slip=0.2))
        played.run()
        column = getattr(played.episodes.nodes, name)
        column[:, 1] += 1
        with pytest.raises(AssertionError):
            check_table(played)


class Guide(Monitor):
    """Names the landmark whose number is that of its own step, and alarms at the third."""

    name = "guide"
    default_statistic = "last"
    reports = ("named", "named_probability")

    def start(self, count: int) -> dict[str, np.ndarray]:
        blank = np.full(count, np.nan, np.float32)
        return {"count": np.zeros(count), "named": blank, "named_probability": blank.copy()}

    def score(self, steps: Any, memory: dict[str, np.ndarray]) -> Any:
        count = memory["count"] + 1
        return count, {
            "count": count,
            "named": (count - 2).astype(np.float32),
            "named_probability": (count / 8).astype(np.float32),
        }


def test_where_a_child_was_going_is_in_scores_alarms_and_table() -> None:
    env = world(rows=4)
    members = [Member("root", Relay(5), crew=(1,)), Member("lost", child(env, "random"))]
    guide = Guide()
    guide.bind(World(ExactBacktrackingModel(env.transition_table()), env.features))
    for threshold, at, name in ((0.5, 1, "the assigned goal"), (2.5, 3, "top-left corner")):
        env.reset(seed=1)
        watcher = Watcher("guide", guide, monitors.make_statistic("last"), threshold)
        bounds = Bounds(5, 20, max_spawns=1)
        played = runtime(env, members, Rollback(), bounds, [watcher], "guide")
        alarms = [e for e in played.run() if isinstance(e, events.Alarm)]
        assert [(e.clock, e.named, e.named_probability) for e in alarms] == [(at, name, at / 8)] * 4
        table = played.sub_episodes_table()
        assert table["named"].tolist() == [at - 2] * 4
        assert table["named_probability"].tolist() == [at / 8] * 4
        assert table["alarm"].tolist() == [at - 1] * 4
    assert np.isnan(played.watch_table()["named/guide"]).sum() == 0


def test_a_monitor_that_names_nothing_leaves_it_open() -> None:
    env = world(rows=8)
    played = runtime(env, whimsical_crew(env), bounds=DEEP)
    played.run()
    table = played.sub_episodes_table()
    assert (table["named"] == NEVER).all()
    assert np.isnan(table["named_probability"]).all()
    played = alarmed(world(rows=8))
    alarms = [e for e in played.run() if isinstance(e, events.Alarm)]
    assert {(e.named, e.named_probability) for e in alarms} == {(None, None)}
