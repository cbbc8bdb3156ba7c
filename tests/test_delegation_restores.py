"""What going back restores exactly, what it cannot, and how a restore that failed is found out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from delegations import check_log, child, runtime, world
from scipy import stats

from delegate.agents import Member
from delegate.delegation import events
from delegate.delegation.episodes import Bounds
from delegate.delegation.protocols import Oracle, RandomRollback, Unmonitored
from delegate.delegation.restores import check_restores
from delegate.policies import Relay


def checked(played):
    return [event for event in played.log if isinstance(event, events.RestoreChecked)]


def random_rollbacks(env):
    """The first delegation of every row is taken back after five steps."""
    schedule = np.full((env.num_envs, 2, 1), -1)
    schedule[:, 1, 0] = 5
    return RandomRollback(schedule)


def test_irreversible_effects_stay_and_are_counted():
    env = world("TrapGrid", rows=16, irreversible=True, terminal_traps=False, trap_density=0.3)
    assert env.irreversible == {"damage"}
    members = [Member("root", Relay(25), crew=(1, 2)), Member("a", child(env, "random")),
               Member("b", child(env, "random"))]  # fmt: skip

    class FirstBack(Unmonitored):
        """Takes the first delegation of every row back at its end."""

        def judge(self, watched):
            return replace(
                super().judge(watched), roll_back=watched.ended & (watched.sub_episode == 1)
            )

    played = runtime(env, members, FirstBack(), Bounds(25, 60))
    log = list(played.run())
    check_log(played, lambda row: int(env.levels.start[row]))
    steps = played.steps_table()
    traps = env.levels.traps.reshape(env.num_envs, -1)
    left = {e.row: e.count for e in log if isinstance(e, events.Effect)}
    for row in range(env.num_envs):
        own = steps["row"] == row
        first = own & (steps["sub_episode"] == 1)
        assert left.get(row, 0) == traps[row][steps["next_state"][first]].sum()
        assert env.state.damage[row] == traps[row][steps["next_state"][own]].sum()
    assert sum(left.values()) > 0
    assert played.episodes.ledger.effects.tolist() == [left.get(row, 0) for row in range(16)]


def test_restores_replay_exactly_and_a_tampered_snapshot_is_found_out():
    env = world(rows=8, slip=0.3)
    members = [Member("root", Relay(60), crew=(1, 2)), Member("p", child(env, "proxy", noise=0.2)),
               Member("w", child(env, "intended", noise=0.2))]  # fmt: skip
    played = runtime(env, members, Oracle(), Bounds(60, 200), checks=50)
    played.run()
    count = check_restores(played)
    back = [e for e in played.log if isinstance(e, events.Verdict) and e.verdict == "rolled_back"]
    assert 0 < count == len(back), "every one of so few is kept"
    assert [event.equal for event in checked(played)] == [True] * count
    for kept in played.episodes.beginnings:
        kept.world.arrays["key"][:, 0] ^= np.uint64(1)
    check_restores(played)
    assert not all(event.equal for event in checked(played)[count:])


def test_of_many_rolled_back_a_fair_share_is_kept():
    """Each with the same chance, whenever and wherever it was."""
    env = world(rows=40)
    members = [Member("root", Relay(60), crew=(1, 2)), Member("p", child(env, "random")),
               Member("w", child(env, "random"))]  # fmt: skip
    kept = np.zeros((40, 3))
    for seed in range(60):
        env.reset(seed=1)
        seeds = np.arange(40, dtype=np.uint64) + np.uint64(1000 * seed)
        played = runtime(env, members, random_rollbacks(env), Bounds(60, 20), seeds=seeds, checks=5)
        played.run()
        assert len(played.episodes.beginnings) == 5
        for each in played.episodes.beginnings:
            kept[each.row, each.sub_episode] += 1
    assert kept[:, 1].sum() == 300
    assert stats.chisquare(kept[:, 1].reshape(8, 5).sum(1)).pvalue > 1e-3


def test_a_restore_that_left_the_world_where_it_was_is_found_out_afterwards(monkeypatch):
    """The snapshot is right and replays, but the row went on from elsewhere."""
    env = world(rows=8)
    members = [Member("root", Relay(60), crew=(1, 2)), Member("p", child(env, "proxy")),
               Member("w", child(env, "intended"))]  # fmt: skip
    played = runtime(env, members, Oracle(), Bounds(60, 200), checks=50)
    restore = env.restore
    with monkeypatch.context() as patched:
        patched.setattr(
            env, "restore", lambda *a, keep=(), **k: restore(*a, keep={*keep, "cell"}, **k)
        )
        played.run()
    assert check_restores(played) > 0
    assert not any(event.equal for event in checked(played))


def test_every_irreversible_effect_is_in_the_step_it_happened_in():
    env = world("TrapGrid", rows=8, irreversible=True, terminal_traps=False, trap_density=0.3)
    members = [Member("root", Relay(25), crew=(1, 2)), Member("a", child(env, "random")),
               Member("b", child(env, "random"))]  # fmt: skip
    played = runtime(env, members, random_rollbacks(env), Bounds(25, 60))
    played.run()
    steps = played.steps_table()
    traps = env.levels.traps.reshape(env.num_envs, -1)
    assert steps["effects"].dtype == np.int32
    np.testing.assert_array_equal(steps["effects"], traps[steps["row"], steps["next_state"]])
    total = np.bincount(steps["row"], weights=steps["effects"], minlength=8)
    np.testing.assert_array_equal(total, env.state.damage)
    undone = [e for e in played.log if isinstance(e, events.Effect)]
    assert 0 < sum(e.count for e in undone) < total.sum()


def test_a_world_without_irreversible_effects_has_none_in_its_steps():
    env = world("TrapGrid", rows=4, terminal_traps=False)
    members = [Member("root", Relay(25), crew=(1,)), Member("a", child(env, "random"))]
    played = runtime(env, members)
    played.run()
    assert not played.steps_table()["effects"].any()
