"""The state of a batch of delegated episodes and the four things that can happen to it:
a sub-episode is spawned, committed or rolled back, and an episode ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delegate.agents import NO_CODE, Briefing, Intent, Member, Outcome, Ruling
from delegate.backtrack.ledger import Ledger
from delegate.backtrack.state import Snapshot, effects_between
from delegate.bank import SHIFTED, Bank
from delegate.delegation import events
from delegate.delegation.events import Event, EventLog
from delegate.delegation.failures import attempt
from delegate.delegation.memories import memories
from delegate.delegation.saves import Beginnings, Saves
from delegate.delegation.sub_episodes import SubEpisodes
from delegate.delegation.watch import Watch

OUTCOMES = np.array([each.name.lower() for each in Outcome])
RULINGS = np.array([each.name.lower() for each in Ruling])
INTENTS = np.array([each.name.lower() for each in sorted(Intent)])
"""by their codes; of intents from -1"""


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


class Episodes:
    """B episodes, each with a tree of sub-episodes and a stack of running ones.

    clock: int64 [B] steps paid, never rewinds · path_clock: int64 [B] surviving steps
    live: bool [B] not ended · over: bool [B] the world has terminated on this path
    last: int16 [B, D + 1] the latest sub-episode of the agent at each depth
    let_down: bool [B, D + 1, members] by whom the agent at each depth was let down
    checks: how many rolled-back sub-episodes are kept for a replay, drawn at random (count)
    """

    def __init__(
        self,
        bank: Bank,
        members: Sequence[Member],
        bounds: Bounds,
        seeds: np.ndarray,
        watch: Watch,
        checks: int = 0,
    ) -> None:
        rows, depths = bank.env.num_envs, bounds.max_depth + 1
        self.bank, self.env, self.members, self.bounds = bank, bank.env, list(members), bounds
        self.nodes = SubEpisodes(rows, bounds.max_spawns, bounds.max_depth)
        self.nodes.member[:, 0] = 0
        self.nodes.goal[:, 0] = bank.assigned
        self.ledger, self.log, self.watch = Ledger(rows), EventLog(), watch
        self.clock = np.zeros(rows, np.int64)
        self.path_clock = np.zeros(rows, np.int64)
        self.live = np.ones(rows, bool)
        self.over = np.zeros(rows, bool)
        self.last = np.full((rows, depths), -1, np.int16)
        self.let_down = np.zeros((rows, depths, len(self.members)), bool)
        self.memories = memories(self.members, np.asarray(seeds, np.uint64), bounds.max_depth)
        self.saves = Saves()
        self.beginnings = Beginnings(np.asarray(seeds, np.uint64), checks)
        self._effects: dict[str, np.ndarray] = {}

    def start(self) -> dict[int, str]:
        """Every episode begins with the parent at its root.

        Returns the rows whose parent failed as it began, and why.
        """
        bank, rows = self.bank, np.arange(self.env.num_envs)
        self.event(
            events.EpisodeStarted,
            rows,
            split=np.where(bank.split == SHIFTED, "shifted", "nominal"),
            level=bank.seed,
            goal=bank.assigned,
            proxy_goal=bank.proxy,
            distinguishing=bank.solution.distinguishing,
        )
        return self._begin(rows)

    def event(self, kind: type[Event], rows: np.ndarray, **columns: Any) -> None:
        """Write to the log what happened in those rows. columns: [n], or one value for all"""
        self.log.add(kind, rows, self.clock[rows], **columns)

    def spawn(
        self, rows: np.ndarray, member: np.ndarray, goal: np.ndarray, budget: np.ndarray
    ) -> dict[int, str]:
        """The deepest agent of each row hands work to a member.

        Returns the rows whose child failed as it began, and why.
        """
        if not len(rows):
            return {}
        nodes, parent, asker = self.nodes, self.nodes.current(rows), self.nodes.top[rows]
        saved = {
            **{f"world/{name}": a for name, a in self.env.snapshot(rows).arrays.items()},
            **{f"totals/{name}": a for name, a in nodes.totals(rows, parent).items()},
            **self.watch.save(rows),
        }
        for who, lanes in enumerate(self.memories):
            if lanes.first + lanes.depths > 1:
                saved |= {f"memory/{who}/{name}": a for name, a in lanes.save(rows).items()}
        clock, path_clock = self.clock[rows], self.path_clock[rows]
        number = nodes.open(rows, member, goal, budget, clock, path_clock)
        nodes.slot[rows, number] = self.saves.keep(saved)
        self.last[rows, asker] = number
        self.ledger.spawn(rows)
        child = np.array([each.name for each in self.members])[member]
        self.event(
            events.Spawned,
            rows,
            sub_episode=number,
            parent=parent,
            depth=asker.astype(np.int64) + 1,
            name=np.char.add(np.char.add(child, "~"), number.astype(np.str_)),
            child=child,
            goal=goal,
            budget=budget,
            path_clock=path_clock,
        )
        self.watch.start(rows, asker.astype(np.intp) + 1)
        return self._begin(rows)

    def commit(self, rows: np.ndarray, number: np.ndarray, outcome: np.ndarray) -> None:
        """Those running sub-episodes end and stand; what runs below them stands too."""
        nodes, target = self.nodes, self.nodes.depth[rows, number]
        for depth in range(int(nodes.top[rows].max(initial=0)), 0, -1):
            running = nodes.active[rows, depth]
            ends = (running >= 0) & (depth >= target)
            how = np.where(depth == target, outcome, Outcome.INTERRUPTED)
            self._commit(rows[ends], running[ends], how[ends])

    def roll_back(self, rows: np.ndarray, number: np.ndarray, outcome: np.ndarray) -> None:
        """World, memory and path clocks are as they were before those sub-episodes.

        outcome: how each ended, for those still running. Nothing is deleted: the branch
        stays in the tree and in the log. One sub-episode a row.
        """
        if not len(rows):
            return
        nodes, number = self.nodes, number.astype(np.int64)
        depth = nodes.depth[rows, number]
        undone = self.path_clock[rows] - nodes.start_path[rows, number]
        for level in range(nodes.active.shape[1] - 1, 0, -1):
            below = nodes.active[rows, level]
            inside = below > number
            how = np.full(int(inside.sum()), Outcome.INTERRUPTED)
            self._ended(rows[inside], below[inside], how)
        open_ = nodes.outcome[rows, number] == NO_CODE
        self._ended(rows[open_], number[open_], outcome[open_])
        self._restore(rows, number, depth)
        nodes.cut(rows, depth)
        self.path_clock[rows] -= undone
        self.over[rows] = False
        self.ledger.undo(rows, undone)
        self.ledger.restore(rows)
        self.last[rows, depth - 1] = number
        self.let_down[rows, depth - 1, nodes.member[rows, number]] = True
        self._rule_out(rows, number, undone)

    def end(self, rows: np.ndarray, outcome: str | np.ndarray) -> None:
        """Those episodes are over; what still runs there stands as it is."""
        nodes = self.nodes
        runs = rows[nodes.top[rows] > 0]
        if len(runs):
            how = np.full(len(runs), Outcome.INTERRUPTED)
            self.commit(runs, nodes.active[runs, 1], how)
        self.live[rows] = False
        self._forget(rows, np.zeros(len(rows), np.int64))
        self.event(
            events.EpisodeEnded,
            rows,
            outcome=outcome,
            intended_reached=nodes.intended[rows, 0],
            proxy_reached=nodes.proxy[rows, 0],
            true_return=nodes.true_return[rows, 0],
            proxy_return=nodes.proxy_return[rows, 0],
            env_steps=self.clock[rows],
            undone_steps=self.clock[rows] - self.path_clock[rows],
            restores=self.ledger.restores[rows],
            spawns=self.ledger.spawns[rows],
            path_clock=self.path_clock[rows],
        )

    def _begin(self, rows: np.ndarray) -> dict[int, str]:
        """The deepest agent of each row meets its goal for the first time; returns who failed."""
        depth, current = self.nodes.top[rows], self.nodes.current(rows)
        self.last[rows, depth] = -1
        self.let_down[rows, depth] = False
        who = self.nodes.member[rows, current]
        failed: dict[int, str] = {}
        for number in np.unique(who).tolist():
            of = who == number
            at, level, goal = rows[of], depth[of], self.nodes.goal[rows, current][of]

            def begin(
                some: np.ndarray,
                number: int = number,
                at: np.ndarray = at,
                level: np.ndarray = level,
                goal: np.ndarray = goal,
            ) -> None:
                agent, lanes = self.members[number].agent, self.memories[number]
                memory, obs = lanes.take(at[some], level[some]), self.env.observe(at[some])
                if agent.told:
                    briefing = Briefing(self.bank, at[some], self.bank.proxy[at[some]])
                    memory = agent.brief(obs, goal[some], briefing, memory)
                else:
                    memory = agent.begin(obs, goal[some], memory)
                lanes.put(at[some], level[some], memory)

            for some, _, cause in attempt(begin, len(at)):
                if cause is not None:
                    failed[int(at[some[0]])] = cause
        return failed

    def _commit(self, rows: np.ndarray, number: np.ndarray, outcome: np.ndarray) -> None:
        if not len(rows):
            return
        nodes = self.nodes
        self._ended(rows, number, outcome)
        gave_up = nodes.gave_up[rows, number]
        nodes.verdict[rows, number] = np.where(gave_up, Ruling.ESCALATED, Ruling.COMMITTED)
        asker = nodes.depth[rows[gave_up], number[gave_up]] - 1
        self.let_down[rows[gave_up], asker, nodes.member[rows[gave_up], number[gave_up]]] = True
        nodes.hand_up(rows, number)
        nodes.close(rows)
        self._forget(rows, number)
        self.event(
            events.Verdict,
            rows,
            sub_episode=number,
            verdict=RULINGS[nodes.verdict[rows, number]],
            undone_steps=0,
            restored_clock=self.path_clock[rows],
            within=None,
        )

    def _ended(self, rows: np.ndarray, number: np.ndarray, outcome: np.ndarray) -> None:
        if not len(rows):
            return
        nodes, at = self.nodes, (rows, number)
        depth = nodes.depth[at].astype(np.intp)
        nodes.outcome[at] = outcome
        nodes.value[at] = self.watch.values(rows, depth)
        nodes.peak[at] = self.watch.peaks(rows, depth)
        nodes.named[at], nodes.named_probability[at] = self.watch.named(rows, depth)
        runs = nodes.active[rows, depth] == number
        intent = np.where(runs, nodes.running_intent(rows, depth), nodes.intent[at])
        places = zip(rows.tolist(), number.tolist(), strict=True)
        causes = np.array([nodes.cause.get(place, "") for place in places])
        self.event(
            events.Ended,
            rows,
            sub_episode=number,
            outcome=OUTCOMES[outcome],
            steps=nodes.steps[at],
            intent=INTENTS[intent + 1],
            intended_reached=nodes.intended[at],
            proxy_reached=nodes.proxy[at],
            value=nodes.value[at],
            peak=nodes.peak[at],
            cause=causes,
        )

    def _restore(self, rows: np.ndarray, number: np.ndarray, depth: np.ndarray) -> None:
        """Put back what those rows started from; effects declared irreversible stay."""
        saved = self.saves.of(self.nodes.slot[rows, number])
        then = Snapshot(self.env.world, _part(saved, "world/"))
        if self.env.irreversible:
            now = self.env.snapshot(rows)
            lasting = effects_between(then.arrays, now.arrays, self.env.irreversible)
            for name, left in lasting.items():
                self._count_effect(rows, number, name, left)
        self.env.restore(then, rows, rng="fresh", keep=self.env.irreversible)
        self.watch.restore(rows, depth, saved)
        self.nodes.set_totals(rows, self.nodes.parent[rows, number], _part(saved, "totals/"))
        for member, lanes in enumerate(self.memories):
            which = lanes.at >= depth[:, None]
            lanes.restore(rows, which, _part(saved, f"memory/{member}/"))
        childless = ~(self.nodes.parent[rows] == number[:, None]).any(1)
        at, node = rows[childless], number[childless]
        path_clock = self.nodes.start_path[at, node]
        self.beginnings.offer(at, node, self.clock[at], path_clock, then.take(childless))

    def _count_effect(
        self, rows: np.ndarray, number: np.ndarray, name: str, left: np.ndarray
    ) -> None:
        """Effects left behind, less those that rollbacks inside these counted before."""
        shape = self.nodes.parent.shape
        known = self._effects.get(name, np.zeros((shape[0], 0), np.int64))
        known = np.pad(known, ((0, 0), (0, shape[1] - known.shape[1])))
        inside = np.arange(shape[1]) > number[:, None]
        fresh = left - (known[rows] * inside).sum(1)
        known[rows, number] += fresh
        self._effects[name] = known
        some = fresh != 0
        self.ledger.effect(rows[some], fresh[some])
        self.event(
            events.Effect, rows[some], sub_episode=number[some], effect=name, count=fresh[some]
        )

    def _rule_out(self, rows: np.ndarray, number: np.ndarray, undone: np.ndarray) -> None:
        """The verdict on rolled-back sub-episodes and on all that they take with them."""
        nodes, numbers = self.nodes, np.arange(self.nodes.parent.shape[1])
        gone = (numbers >= number[:, None]) & (numbers < nodes.count[rows][:, None])
        gone &= nodes.verdict[rows] != Ruling.ROLLED_BACK
        place, other = np.nonzero(gone)
        at, outer = rows[place], number[place]
        own = other == outer
        nodes.verdict[at, other] = Ruling.ROLLED_BACK
        nodes.within[at, other] = np.where(own, -1, outer)
        nodes.undone_steps[at, other] = np.where(own, undone[place], 0)
        self._drop(at, other)
        self.event(
            events.Verdict,
            at,
            sub_episode=other,
            verdict="rolled_back",
            undone_steps=nodes.undone_steps[at, other],
            restored_clock=self.path_clock[at],
            within=nodes.within[at, other],
        )

    def _forget(self, rows: np.ndarray, number: np.ndarray) -> None:
        """What those sub-episodes delegated can no longer be taken back by itself."""
        place, child = np.nonzero(self.nodes.parent[rows] == number[:, None])
        self._drop(rows[place], child)

    def _drop(self, rows: np.ndarray, number: np.ndarray) -> None:
        slots = self.nodes.slot[rows, number]
        self.saves.drop(slots[slots >= 0])
        self.nodes.slot[rows, number] = -1


def _part(saved: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array for name, array in saved.items() if name.startswith(prefix)
    }
