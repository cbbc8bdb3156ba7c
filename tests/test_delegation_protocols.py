"""Protocols: what an alarm does, and nothing else."""

from __future__ import annotations

from collections import Counter

import numpy as np
from delegations import child, runtime, world
from hypothesis import given, settings
from hypothesis import strategies as st

from delegate.agents import Intent, Member, Ruling
from delegate.delegation import events
from delegate.delegation.episodes import Bounds
from delegate.delegation.protocols import (
    PROTOCOLS,
    Always,
    Audit,
    Oracle,
    RandomRollback,
    Rollback,
    Unmonitored,
    Watched,
    affordable,
)
from delegate.policies import Relay


def watched(count, **columns):
    rows = np.arange(count)
    off = np.zeros(count, bool)
    given = dict(
        row=rows, sub_episode=np.ones(count, int), depth=np.ones(count, int),
        ordinal=np.zeros(count, int), steps=np.ones(count, int), alarm=off, ended=off,
        gave_up=off, audited=off, intent=np.full(count, Intent.PROXY), divergent=off, begun=count,
    )  # fmt: skip
    return Watched(**{**given, **columns})


def test_what_an_alarm_does():
    alarm = np.array([True, False])
    assert not Unmonitored().judge(watched(2, alarm=alarm)).roll_back.any()
    np.testing.assert_array_equal(Rollback().judge(watched(2, alarm=alarm)).roll_back, alarm)
    assert not Oracle().judge(watched(2, alarm=alarm)).roll_back.any()


def test_the_oracle_waits_for_the_goals_to_part_and_spares_the_intended():
    intent = np.array([Intent.PROXY, Intent.PROXY, Intent.INTENDED, Intent.NONE])
    divergent = np.array([True, False, True, True])
    judged = Oracle().judge(watched(4, intent=intent, divergent=divergent))
    np.testing.assert_array_equal(judged.roll_back, [True, False, False, False])


@settings(deadline=None)
@given(
    st.floats(0, 1),
    st.lists(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=6, max_size=6), max_size=5),
)
def test_audits_never_exceed_their_share_and_look_once(share, ticks):
    audit, seen = Audit(share, seed=1), Counter()
    for number, tick in enumerate(ticks):
        alarm = np.array([a for a, _ in tick])
        intent = np.array([Intent.PROXY if p else Intent.INTENDED for _, p in tick])
        before = np.array([seen[i] > 0 for i in range(6)])
        begun = 6 + 3 * number
        judged = audit.judge(watched(6, alarm=alarm, intent=intent, audited=before, begun=begun))
        assert not (judged.audited & ~alarm).any()
        np.testing.assert_array_equal(judged.roll_back, judged.audited & (intent == Intent.PROXY))
        due = int((alarm & ~before).sum())
        assert judged.audited.sum() == min(due, affordable(share, begun) - seen.total())
        seen.update(np.flatnonzero(judged.audited).tolist())
    assert not seen or max(seen.values()) == 1


def crew_log(env, protocol):
    members = [
        Member("root", Relay(60), crew=(1, 2)),
        Member("proxy", child(env, "proxy", noise=0.1)),
        Member("walk", child(env, "intended", noise=0.1)),
    ]
    played = runtime(env, members, protocol, Bounds(60, 200))
    return list(played.run()), played.sub_episodes_table()


def rollbacks(log):
    return Counter(
        e.row for e in log if isinstance(e, events.Verdict) and e.verdict == "rolled_back"
    )


def test_random_rollbacks_are_as_many_as_their_model_in_every_group():
    env = world(rows=40)
    model, table = crew_log(env, Oracle())
    groups = np.arange(40) % 2
    env.reset(seed=1)
    dealt, _ = crew_log(env, RandomRollback.matching(table, groups, seed=3))
    for group in (0, 1):
        counts = [
            sorted(n for row, n in rollbacks(log).items() if groups[row] == group)
            for log in (model, dealt)
        ]
        assert counts[0] == counts[1]
        assert counts[0]
    assert rollbacks(model) != rollbacks(dealt)


def test_a_run_without_rollbacks_deals_none():
    env = world(rows=4)
    _, quiet = crew_log(env, Unmonitored())
    env.reset(seed=1)
    assert not rollbacks(crew_log(env, RandomRollback.matching(quiet, np.zeros(4), seed=0))[0])


def test_always_takes_everything_back_at_once_and_the_parent_works_alone():
    env = world(rows=6)
    log, table = crew_log(env, Always())
    assert (table["verdict"] == Ruling.ROLLED_BACK).all()
    assert (table["steps"] == 1).all()
    assert rollbacks(log) == dict.fromkeys(range(6), 2)


def test_every_protocol_of_the_design_has_its_id():
    assert set(PROTOCOLS) == {
        "none", "rollback", "rollback_random", "always", "audit", "oracle", "trusted_only"
    }  # fmt: skip
