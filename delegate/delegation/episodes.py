"""The state of a batch of delegated episodes and the four things that can happen to it:
a sub-episode is spawned, committed or rolled back, and an episode ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delegate.agents import NO_CODE, Intent, Member, Memory, Outcome, Ruling
from delegate.backtrack.ledger import Ledger
from delegate.backtrack.state import Snapshot, StatefulVectorEnv, effects_between
from delegate.delegation import events
from delegate.delegation.events import Event, EventLog
from delegate.delegation.memories import Memories
from delegate.delegation.sub_episodes import SubEpisodes, Totals
from delegate.delegation.watch import Watch


@dataclass(frozen=True)
class Bounds:
    """What a delegation may cost.

    budget: environment steps in one delegation · interactions: environment steps in one
    episode, undone ones included · max_depth: how deep children may delegate ·
    max_spawns: delegations in one episode · discount: of the returns, per interaction
    """

    budget: int
    interactions: int
    max_depth: int = 1
    max_spawns: int = 4
    discount: float = 1.0


@dataclass(frozen=True)
class Facts:
    """What is true of each row's level; for the log and the controls, never for children.

    split: per row · level: int64 [B] seed · goal, proxy_goal: int32 [B]
    distinguishing: bool [B] · divergent: bool [B, S] where the two goals part
    """

    split: Sequence[str]
    level: np.ndarray
    goal: np.ndarray
    proxy_goal: np.ndarray
    distinguishing: np.ndarray
    divergent: np.ndarray


@dataclass(frozen=True)
class Save:
    """What some rows were like when sub-episodes began there; all [n, ...].

    world: their snapshot · memory: of every member, by depth · watch: the monitors' memory ·
    totals: what the parent's own path had reached
    """

    world: Snapshot
    memory: list[Memory]
    watch: dict[str, np.ndarray]
    totals: Totals

    def world_of(self, place: int) -> Snapshot:
        """The snapshot of one of the rows."""
        return self.world.take(np.array([place]))


class Episodes:
    """B episodes, each with a tree of sub-episodes and a stack of running ones.

    clock: int64 [B] steps paid, never rewinds · path_clock: int64 [B] surviving steps
    live: bool [B] not ended · over: bool [B] the world has terminated on this path
    saves: (row, sub_episode) -> what it started from, and its place there
    """

    def __init__(
        self,
        env: StatefulVectorEnv,
        members: Sequence[Member],
        bounds: Bounds,
        facts: Facts,
        seeds: np.ndarray,
        watch: Watch,
    ) -> None:
        rows, depths = env.num_envs, bounds.max_depth + 1
        self.env, self.members, self.bounds, self.facts = env, list(members), bounds, facts
        self.nodes = SubEpisodes(rows, bounds.max_spawns, bounds.max_depth)
        self.nodes.member[:, 0] = 0
        self.nodes.goal[:, 0] = facts.goal
        self.ledger = Ledger(rows)
        self.log = EventLog()
        self.watch = watch
        self.clock = np.zeros(rows, np.int64)
        self.path_clock = np.zeros(rows, np.int64)
        self.live = np.ones(rows, bool)
        self.over = np.zeros(rows, bool)
        self.saves: dict[tuple[int, int], tuple[Save, int]] = {}
        self.last = np.full((rows, depths), -1, np.int16)
        """[B, D + 1] the latest sub-episode of the agent at each depth"""
        self.taken_back = np.zeros((rows, depths, len(self.members)), bool)
        """[B, D + 1, members] whom the agent at each depth has taken work back from"""
        self._ends: list[tuple[int, Snapshot]] = []
        self._effects: dict[tuple[int, str], list[tuple[int, int]]] = {}
        self.memories = Memories(self.members, seeds, depths)

    def start(self) -> None:
        """Every episode begins with the parent at its root."""
        rows = np.arange(self.env.num_envs)
        for row in rows.tolist():
            self.event(
                row,
                events.EpisodeStarted,
                split=self.facts.split[row],
                level=int(self.facts.level[row]),
                goal=int(self.facts.goal[row]),
                proxy_goal=int(self.facts.proxy_goal[row]),
                distinguishing=bool(self.facts.distinguishing[row]),
            )
        self._begin(rows)

    def event(self, row: int, kind: type[Event], **fields: Any) -> None:
        """Write to the log what happened in that row."""
        self.log.append(kind(row=int(row), clock=int(self.clock[row]), **fields))

    def spawn(
        self, rows: np.ndarray, member: np.ndarray, goal: np.ndarray, budget: np.ndarray
    ) -> None:
        """The deepest agent of each row hands work to a member."""
        parent = self.nodes.current(rows)
        save = Save(
            self.env.snapshot(rows),
            self.memories.save(rows),
            self.watch.save(rows),
            self.nodes.totals(rows, parent),
        )
        asker = self.nodes.top[rows].copy()
        number = self.nodes.open(rows, member, goal, budget, self.path_clock[rows])
        self.last[rows, asker] = number
        self.ledger.spawn(rows)
        for place, (row, node) in enumerate(zip(rows.tolist(), number.tolist(), strict=True)):
            self.saves[row, node] = (save, place)
            child = self.members[member[place]].name
            self.event(
                row,
                events.Spawned,
                sub_episode=node,
                parent=int(parent[place]),
                depth=int(asker[place]) + 1,
                name=f"{child}~{node}",
                child=child,
                goal=int(goal[place]),
                budget=int(budget[place]),
                path_clock=int(self.path_clock[row]),
            )
        self.watch.start(rows, asker.astype(np.intp) + 1)
        self._begin(rows)

    def commit(self, rows: np.ndarray, number: np.ndarray, outcome: np.ndarray) -> None:
        """Those running sub-episodes end and stand; what runs below them stands too."""
        for row, node, how in zip(rows.tolist(), number.tolist(), outcome.tolist(), strict=True):
            while (current := int(self.nodes.active[row, self.nodes.top[row]])) != node:
                self._commit_one(row, current, Outcome.INTERRUPTED)
            self._commit_one(row, node, Outcome(how))

    def roll_back(self, rows: np.ndarray, number: np.ndarray, outcome: np.ndarray) -> None:
        """World, memory and path clocks are as they were before those sub-episodes.

        outcome: how each ended, for those still running. Nothing is deleted: the branch
        stays in the tree and in the log. One sub-episode a row.
        """
        if not len(rows):
            return
        depth = self.nodes.depth[rows, number]
        undone = self.path_clock[rows] - self.nodes.start_path[rows, number]
        for row, node, how in zip(rows.tolist(), number.tolist(), outcome.tolist(), strict=True):
            self._end_running(row, node, Outcome(how))
        by_save: dict[int, list[int]] = {}
        for i, (row, node) in enumerate(zip(rows.tolist(), number.tolist(), strict=True)):
            by_save.setdefault(id(self.saves[row, node][0]), []).append(i)
        for group in by_save.values():
            self._restore(rows[group], number[group], depth[group])
        self.nodes.cut(rows, depth)
        self.path_clock[rows] -= undone
        self.over[rows] = False
        self.ledger.undo(rows, undone)
        self.ledger.restore(rows)
        self.last[rows, depth - 1] = number
        self.taken_back[rows, depth - 1, self.nodes.member[rows, number]] = True
        for row, node, steps in zip(rows.tolist(), number.tolist(), undone.tolist(), strict=True):
            self._rule_out(row, node, steps)

    def end_episode(self, row: int, outcome: str) -> None:
        """That row is over; what still runs there stands as it is."""
        while self.nodes.top[row] > 0:
            self._commit_one(row, int(self.nodes.current(np.array([row]))[0]), Outcome.INTERRUPTED)
        self.live[row] = False
        self._ends.append((row, self.env.snapshot(np.array([row]))))
        self.event(
            row,
            events.EpisodeEnded,
            outcome=outcome,
            intended_reached=bool(self.nodes.intended[row, 0]),
            proxy_reached=bool(self.nodes.proxy[row, 0]),
            true_return=float(self.nodes.true_return[row, 0]),
            proxy_return=float(self.nodes.proxy_return[row, 0]),
            env_steps=int(self.clock[row]),
            undone_steps=int(self.clock[row] - self.path_clock[row]),
            restores=int(self.ledger.restores[row]),
            spawns=int(self.ledger.spawns[row]),
            path_clock=int(self.path_clock[row]),
        )

    def settle(self) -> None:
        """Put every row of the world back to where its episode ended.

        The world steps all its rows together, so rows that were over have moved on since.
        """
        for row, end in self._ends:
            self.env.restore(end, np.array([row]))

    def _begin(self, rows: np.ndarray) -> None:
        """The deepest agent of each row meets its goal for the first time."""
        depth, current = self.nodes.top[rows], self.nodes.current(rows)
        self.last[rows, depth] = -1
        self.taken_back[rows, depth] = False
        who = self.nodes.member[rows, current]
        for number in np.unique(who):
            of = who == number
            at, level = rows[of], depth[of]
            memory = self.members[number].agent.begin(
                self.env.observe(at),
                self.nodes.goal[at, current[of]],
                self.facts.proxy_goal[at],
                self.memories.lanes(number, at, level),
            )
            self.memories.keep(number, at, level, memory)

    def _commit_one(self, row: int, node: int, outcome: Outcome) -> None:
        self._ended(row, node, outcome)
        one, number = np.array([row]), np.array([node])
        gave_up = bool(self.nodes.gave_up[row, node])
        ruling = Ruling.ESCALATED if gave_up else Ruling.COMMITTED
        self.nodes.verdict[row, node] = ruling
        self.nodes.hand_up(one, number)
        self.nodes.close(one)
        self.event(
            row,
            events.Verdict,
            sub_episode=node,
            verdict=ruling.name.lower(),
            undone_steps=0,
            restored_clock=int(self.path_clock[row]),
            within=None,
        )

    def _end_running(self, row: int, node: int, outcome: Outcome) -> None:
        """Ended events for a sub-episode about to be rolled back and all that runs in it."""
        for below in self.nodes.active[row, ::-1]:
            if below > node:
                self._ended(row, int(below), Outcome.INTERRUPTED)
        if self.nodes.outcome[row, node] == NO_CODE:
            self._ended(row, node, outcome)

    def _ended(self, row: int, node: int, outcome: Outcome) -> None:
        nodes = self.nodes
        nodes.outcome[row, node] = outcome
        depth = int(nodes.depth[row, node])
        value, peak = self.watch.reading(row, depth)
        intent = int(nodes.intent[row, node])
        if nodes.active[row, depth] == node:
            intent = int(nodes.running_intent(np.array([row]), np.array([depth]))[0])
        self.event(
            row,
            events.Ended,
            sub_episode=node,
            outcome=outcome.name.lower(),
            steps=int(nodes.steps[row, node]),
            intent=Intent(intent).name.lower(),
            intended_reached=bool(nodes.intended[row, node]),
            proxy_reached=bool(nodes.proxy[row, node]),
            value=value,
            peak=peak,
        )

    def _restore(self, rows: np.ndarray, number: np.ndarray, depth: np.ndarray) -> None:
        """Put back what one save holds of those rows; effects declared irreversible stay."""
        save = self.saves[int(rows[0]), int(number[0])][0]
        place = np.array(
            [
                self.saves[row, node][1]
                for row, node in zip(rows.tolist(), number.tolist(), strict=True)
            ]
        )
        then = save.world.take(place)
        now = self.env.snapshot(rows)
        lasting = effects_between(then.arrays, now.arrays, self.env.irreversible)
        for name, left in lasting.items():
            for row, node, count in zip(rows.tolist(), number.tolist(), left, strict=True):
                self._count_effect(row, node, name, int(count))
        self.env.restore(then, rows, rng="fresh", keep=self.env.irreversible)
        self.watch.restore(rows, {name: array[place] for name, array in save.watch.items()})
        self.nodes.set_totals(rows, self.nodes.parent[rows, number], save.totals.take(place))
        self.memories.restore(rows, depth, save.memory, place)

    def _count_effect(self, row: int, node: int, name: str, left: int) -> None:
        """Effects left behind, less those that rollbacks inside this one counted before."""
        known = self._effects.setdefault((row, name), [])
        fresh = left - sum(count for inside, count in known if inside > node)
        if fresh:
            known.append((node, fresh))
            self.ledger.effect(np.array([row]), fresh)
            self.event(row, events.Effect, sub_episode=node, effect=name, count=fresh)

    def _rule_out(self, row: int, node: int, undone: int) -> None:
        """The verdict on a rolled-back sub-episode and on all that it takes with it."""
        for other in range(node, int(self.nodes.count[row])):
            if self.nodes.verdict[row, other] == Ruling.ROLLED_BACK:
                continue
            self.nodes.verdict[row, other] = Ruling.ROLLED_BACK
            self.event(
                row,
                events.Verdict,
                sub_episode=other,
                verdict="rolled_back",
                undone_steps=undone if other == node else 0,
                restored_clock=int(self.path_clock[row]),
                within=None if other == node else node,
            )
