"""Small real delegations for the tests: worlds, members and runtimes, and what a log must obey."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from delegation_worlds import random_actions

from delegate import envs, policies
from delegate.agents import Agent, Briefing, Decision, Decisions, Member, Memory, Policy, View
from delegate.backtrack.random_key import below, draw
from delegate.bank import Bank
from delegate.delegation import events
from delegate.delegation.episodes import Bounds
from delegate.delegation.protocols import Protocol, Unmonitored
from delegate.delegation.runtime import Delegation
from delegate.delegation.watch import Watcher

FIRST_SEED = 77_000_000
_BANKS: WeakKeyDictionary[Any, Bank] = WeakKeyDictionary()


def world(
    name: str = "Corner", rows: int = 6, kind: str = "shifted", levels: Any = None, **settings: Any
) -> Any:
    """A batch of `rows` levels of that world, one a row, ready to be played."""
    if levels is None:
        levels = envs.levels(
            name, kind, seeds=range(FIRST_SEED, FIRST_SEED + rows), settings=settings
        )
    bank = envs.make_bank(name, levels, **settings)
    bank.env.reset(seed=1)
    _BANKS[bank.env] = bank
    return bank.env


def bank_of(env: Any) -> Bank:
    """The bank whose world that is."""
    return _BANKS[env]


def begun(
    policy: Policy, env: Any, goal: np.ndarray, proxy: np.ndarray, memory: Memory, rows: Any = None
) -> Memory:
    """What a policy remembers once it was given a goal, and told of the proxy if it is told."""
    obs = env.observe(rows)
    if not policy.told:
        return policy.begin(obs, goal, memory)
    level = np.arange(env.num_envs) if rows is None else rows
    return policy.brief(obs, goal, Briefing(_BANKS.get(env), level, proxy), memory)  # type: ignore[arg-type]


def child(env: Any, policy: str, **settings: Any) -> Any:
    return policies.make(policy, env.rules, **settings)


def runtime(
    env: Any,
    members: Sequence[Member],
    protocol: Protocol | None = None,
    bounds: Bounds | None = None,
    watchers: Sequence[Watcher] = (),
    alarm_on: str | None = None,
    seeds: np.ndarray | None = None,
    checks: int = 0,
) -> Delegation:
    return Delegation(
        env if isinstance(env, Bank) else bank_of(env),
        members,
        protocol or Unmonitored(),
        bounds or Bounds(budget=40, interactions=120, max_depth=1, max_spawns=4),
        np.arange(env.num_envs, dtype=np.uint64) + np.uint64(5) if seeds is None else seeds,
        watchers,
        alarm_on,
        checks,
    )


class Whimsical(Agent):
    """Decides anything at random, bounds or no bounds: what a learner may do on its first day."""

    def __init__(self, stop: float = 0.05, space: Any = None) -> None:
        self.stop, self.space = stop, space

    def memory(self, seeds: np.ndarray) -> Memory:
        return {"key": np.stack([seeds, np.zeros_like(seeds)], axis=1)}

    def decide(self, view: View, memory: Memory) -> tuple[Decisions, Memory]:
        key = memory["key"].copy()
        bits = [draw(key[:, 0], key[:, 1] + np.uint64(i)) for i in range(6)]
        key[:, 1] += np.uint64(6)
        decisions = Decisions.returns(len(view.goal))
        mostly = below(bits[0], 1000)
        kinds = np.array([Decision.ACT, Decision.DELEGATE, Decision.BACKTRACK], np.int8)
        decisions.kind = kinds[below(bits[1], 3)]
        decisions.kind[mostly < 1000 * self.stop] = Decision.RETURN
        decisions.kind[mostly == 999] = Decision.RETURN
        decisions.gave_up = mostly == 999
        decisions.action = below(bits[2], 4)
        if self.space is not None:
            more = draw(bits[2][:, None], np.arange(32, dtype=np.uint64))
            decisions.action = random_actions(self.space, more)
        decisions.child = below(bits[3], max(len(view.crew), 1))
        decisions.goal = view.goal.astype(np.int64)
        decisions.budget = below(bits[4], 12) + 1
        decisions.target = np.where(
            (view.last > 0) & (view.last_verdict == 0), view.last, below(bits[5], 3)
        ).astype(np.int64)
        return decisions, {"key": key}


def whimsical_crew(env: Any) -> list[Member]:
    """A parent that may ask a parent that may ask a parent, and walkers everywhere."""
    walk = child(env, "intended", noise=0.3)
    stray = child(env, "proxy", noise=0.3)
    lost = child(env, "random")
    return [
        Member("root", Whimsical(0.01), crew=(1, 2, 3)),
        Member("middle", Whimsical(0.1), crew=(2, 3, 4)),
        Member("walk", walk),
        Member("stray", stray),
        Member("lowest", Whimsical(0.2), crew=(2, 5)),
        Member("lost", lost),
    ]


def surviving(log: Sequence[events.Event], steps: dict[str, np.ndarray], row: int) -> np.ndarray:
    """Which steps of a row still stand, from the log alone: indices in the order of the path."""
    gone = {
        e.sub_episode
        for e in log
        if isinstance(e, events.Verdict) and e.row == row and e.verdict == "rolled_back"
    }
    undone: list[tuple[int, int]] = []
    for event in log:
        if (
            isinstance(event, events.Verdict)
            and event.row == row
            and event.verdict == "rolled_back"
            and event.within is None
        ):
            undone.append((event.clock, event.undone_steps))
    own = np.flatnonzero(steps["row"] == row)
    path: list[int] = []
    at = 0
    for clock, count in [*undone, (10**9, 0)]:
        while at < len(own) and steps["clock"][own[at]] < clock:
            path.append(int(own[at]))
            at += 1
        path = path[: len(path) - count]
    assert not gone & set(steps["sub_episode"][path].tolist())
    return np.array(path, np.int64)


def check_log(played: Delegation, start: Callable[[int], Any]) -> None:
    """Everything a finished trial's log must obey, recomputed from the log and steps alone.

    start: the state a row began in
    """
    log, steps = list(played.log), played.steps_table()
    bounds = played.episodes.bounds
    ends = {e.row: e for e in log if isinstance(e, events.EpisodeEnded)}
    assert sorted(ends) == list(range(len(ends)))
    for row, end in ends.items():
        own = steps["row"] == row
        path = surviving(log, steps, row)
        assert end.env_steps == own.sum() <= bounds.interactions
        assert end.env_steps == end.path_clock + end.undone_steps
        assert len(path) == end.path_clock
        np.testing.assert_array_equal(steps["clock"][own], np.arange(own.sum()))
        np.testing.assert_array_equal(steps["path_clock"][path], np.arange(len(path)))
        begun = np.asarray(start(row), steps["state"].dtype)[None]
        walked = np.concatenate([begun, steps["next_state"][path]])
        np.testing.assert_array_equal(steps["state"][path], walked[:-1])
        discount = bounds.discount ** steps["clock"][path]
        np.testing.assert_allclose(
            end.true_return, (discount * steps["reward"][path]).sum(), rtol=1e-5, atol=1e-5
        )
        _check_tree(log, row, steps, bounds)


def _check_tree(
    log: Sequence[events.Event], row: int, steps: dict[str, np.ndarray], bounds: Bounds
) -> None:
    spawned = {e.sub_episode: e for e in log if isinstance(e, events.Spawned) and e.row == row}
    ended = [e for e in log if isinstance(e, events.Ended) and e.row == row]
    assert sorted(spawned) == list(range(1, len(spawned) + 1))
    assert len(spawned) <= bounds.max_spawns
    assert sorted(e.sub_episode for e in ended) == sorted(spawned)
    last = {}
    for e in log:
        if isinstance(e, events.Verdict) and e.row == row:
            assert last.get(e.sub_episode) != "rolled_back"
            last[e.sub_episode] = e.verdict
    assert sorted(last) == sorted(spawned)
    for number, e in spawned.items():
        assert e.depth <= bounds.max_depth
        assert e.parent == 0 or spawned[e.parent].depth == e.depth - 1
        if e.parent and last[e.parent] == "rolled_back":
            assert last[number] == "rolled_back"
    for e in ended:
        inside = [e.sub_episode]
        for number in sorted(spawned):
            if spawned[number].parent in inside:
                inside.append(number)
        paid = np.isin(steps["sub_episode"][steps["row"] == row], inside).sum()
        assert e.steps == paid <= spawned[e.sub_episode].budget
