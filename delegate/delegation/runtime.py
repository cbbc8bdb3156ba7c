"""Hand over and take back, for a whole batch of episodes at once.

Each row is an episode with a stack of running sub-episodes, whose deepest agent decides. The
runtime does not own the loop. `pending` says who is asked, `decide` takes the answer, and once a
row has an action `tick` steps the world there, shows the step to the monitors of every running
sub-episode, and lets the protocol take sub-episodes back. `run` drives it to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields

import gymnasium
import numpy as np

from delegate.agents import Decision, Decisions, Intent, Member, Memory, Outcome, View
from delegate.bank import Bank
from delegate.delegation import events
from delegate.delegation.columns import Columns
from delegate.delegation.deciding import bounded, clock_left, view_of
from delegate.delegation.episodes import Bounds, Episodes
from delegate.delegation.events import EventLog
from delegate.delegation.failures import attempt, cause_of, unfit
from delegate.delegation.protocols import Judgement, Protocol, Watched
from delegate.delegation.watch import Watch, Watcher
from delegate.monitors.monitor import Steps, Truth


@dataclass(frozen=True)
class Asked:
    """Who has to decide: one member, in the rows where it is the deepest agent.

    rows: int [n] · member: its number · depth: int [n] · view: what it knows
    memory: what it remembers, a copy; hand it back changed
    """

    rows: np.ndarray
    member: int
    depth: np.ndarray
    view: View
    memory: Memory


class Delegation:
    """One trial: every row an episode, from its start to its end. It is played once.

    bank: its world is reset already; row i plays level i · members[0]: the root, who has a crew
    row_seeds: uint64 [B]; a row's course does not depend on the batch it is in
    alarm_on: the watcher whose alarms the protocol acts on
    checks: rolled-back sub-episodes kept for `check_restores` (count)
    Raises TypeError where the root has no crew.
    """

    def __init__(
        self,
        bank: Bank,
        members: Sequence[Member],
        protocol: Protocol,
        bounds: Bounds,
        row_seeds: np.ndarray,
        watchers: Sequence[Watcher] = (),
        alarm_on: str | None = None,
        checks: int = 0,
    ) -> None:
        if not members[0].crew:
            raise TypeError(
                f"{members[0].name}: cannot delegate, for it has no crew; the first member is the "
                "parent at the root"
            )
        self.bank, self.members, self.bounds = bank, list(members), bounds
        self._env, self._protocol = bank.env, protocol
        self._watch = Watch(watchers, bank.env.num_envs, bounds.max_depth, alarm_on)
        self.episodes = Episodes(bank, members, bounds, row_seeds, self._watch, checks)
        self._nodes = self.episodes.nodes
        self._acts_alone = np.array([not member.crew for member in members])
        space = bank.env.single_action_space
        self._discrete = isinstance(space, gymnasium.spaces.Discrete)
        kind = np.int64 if self._discrete else space.dtype
        self._actions = np.zeros((bank.env.num_envs, *(space.shape or ())), kind)
        self._waiting = np.ones(bank.env.num_envs, bool)
        self._queue: list[tuple[int, np.ndarray]] = []
        self._steps = Columns()
        self._fail(self.episodes.start())

    @property
    def log(self) -> EventLog:
        """What has happened so far."""
        return self.episodes.log

    @property
    def live(self) -> np.ndarray:
        """Which episodes have not ended: bool [B]."""
        return self.episodes.live.copy()

    def run(self, on_tick: Callable[[int, int], None] | None = None) -> EventLog:
        """Play every row to its end, each member deciding for itself, and return the log.

        on_tick: told (rows that have ended, rows) after each tick
        """
        live = self.episodes.live
        while live.any():
            while (asked := self.pending()) is not None:
                self.ask(asked)
            self.tick()
            if on_tick is not None:
                on_tick(int((~live).sum()), len(live))
        return self.log

    def ask(self, asked: Asked) -> None:
        """Have the member decide itself, and take its answer. Where it raises it fails."""
        agent = self.members[asked.member].agent

        def call(some: np.ndarray) -> tuple[Decisions, Memory]:
            alone = len(some) < len(asked.rows)
            part = self._asked(asked.member, asked.rows[some]) if alone else asked
            decisions, memory = agent.decide(part.view, part.memory)
            return decisions, memory

        for some, answer, cause in attempt(call, len(asked.rows)):
            if cause is None:
                self.decide(asked.rows[some], *answer)
            else:
                self.fail(asked.rows[some], cause)

    def pending(self, without: Collection[int] = ()) -> Asked | None:
        """Who has to decide next; None where every live row has its action.

        without: numbers of members that are not asked now; their rows wait
        """
        asked = self._next(without)
        if asked is None:
            self._queue = self._groups()
            asked = self._next(without)
        if asked is None:
            return None
        return self._asked(*asked)

    def decide(self, rows: np.ndarray, decisions: Decisions, memory: Memory) -> None:
        """Take the decisions of those rows, or of some of those that `pending` gave.

        A decision that cannot be (no action of the world, a wrong shape) ends the sub-episode of
        its row as failed; what bounds forbid is logged and becomes giving up.
        Raises ValueError for rows that are not waiting, or for one member.
        """
        rows = np.asarray(rows, np.int64)
        number = self._deciding(rows)
        member, depth = self.members[number], self._nodes.top[rows].astype(np.intp)
        self._queue = [(n, r) for n, r in self._queue if n != number]
        try:
            wrong = unfit(decisions, len(rows), self._env.single_action_space)
            self.episodes.memories[number].put(rows, depth, memory)
            intent = member.agent.intent(memory)
            if isinstance(intent, np.ndarray) and intent.shape != rows.shape:
                raise ValueError(f"gives intent of shape {intent.shape}; it must be {rows.shape}")
        except Exception as error:
            self._fail(dict.fromkeys(rows.tolist(), cause_of(error)))
            return
        current = self._nodes.current(rows)
        if isinstance(intent, np.ndarray) or intent != Intent.UNKNOWN:
            so_far = self._nodes.intent[rows, current]
            self._nodes.intent[rows, current] = np.maximum(so_far, intent)
        if wrong.any():
            cause = "decides what is no action of this world"
            self._fail(dict.fromkeys(rows[wrong].tolist(), cause))
            rows, decisions, depth = rows[~wrong], _part(decisions, ~wrong), depth[~wrong]
        self._do(rows, number, depth, decisions)

    def fail(self, rows: np.ndarray, cause: str) -> None:
        """The deepest sub-episode of those rows ends as failed; the parent goes on."""
        self._queue = []
        self._fail(dict.fromkeys(rows.tolist(), cause))

    def tick(self) -> int:
        """Step the world where there is an action; returns in how many rows."""
        rows = np.flatnonzero(self.episodes.live & ~self._waiting)
        if len(rows):
            self._advance(rows, self._actions[rows])
            self._waiting[rows] = self.episodes.live[rows]
        return len(rows)

    def steps_table(self) -> dict[str, np.ndarray]:
        """Every environment step, columns [T] in the order they were paid, undone ones too."""
        return self._steps.table()

    def watch_table(self) -> dict[str, np.ndarray]:
        """Every score given to a sub-episode, columns [U]; rolled-back branches included."""
        return self._watch.table()

    def sub_episodes_table(self) -> dict[str, np.ndarray]:
        """One record a delegation, columns [E]; see SubEpisodes.table."""
        return self._nodes.table(self.members)

    def _asked(self, number: int, rows: np.ndarray) -> Asked:
        depth = self._nodes.top[rows].astype(np.intp)
        view = view_of(self.episodes, self.members[number], rows)
        return Asked(rows, number, depth, view, self.episodes.memories[number].take(rows, depth))

    def _groups(self) -> list[tuple[int, np.ndarray]]:
        """Rows that wait for a decision, by the member that has to take it."""
        waiting = np.flatnonzero(self._waiting & self.episodes.live)
        who = self._nodes.member[waiting, self._nodes.current(waiting)]
        return [(number, waiting[who == number]) for number in np.unique(who).tolist()]

    def _next(self, without: Collection[int]) -> tuple[int, np.ndarray] | None:
        return next((group for group in self._queue if group[0] not in without), None)

    def _deciding(self, rows: np.ndarray) -> int:
        """Whose decision it is in those rows."""
        if not len(rows) or not (self._waiting & self.episodes.live)[rows].all():
            raise ValueError("rows: some have ended or have their action; decide what is pending")
        who = np.unique(self._nodes.member[rows, self._nodes.current(rows)])
        if len(who) != 1:
            raise ValueError(f"rows: members {who.tolist()} decide there; decide for one at a time")
        return int(who[0])

    def _do(self, rows: np.ndarray, number: int, depth: np.ndarray, decisions: Decisions) -> None:
        nodes, episodes, member = self._nodes, self.episodes, self.members[number]
        kind, gave_up = bounded(episodes, member, rows, decisions)
        acts = kind == Decision.ACT
        self._actions[rows[acts]] = decisions.action[acts]
        self._waiting[rows[acts]] = False
        if acts.all():
            return
        spawns, back, stops = (
            kind == Decision.DELEGATE,
            kind == Decision.BACKTRACK,
            kind >= Decision.RETURN,
        )
        nodes.gave_up[rows[gave_up], nodes.current(rows[gave_up])] = True
        left = clock_left(episodes, rows[spawns])
        failed = episodes.spawn(
            rows[spawns],
            np.asarray(member.crew, np.int64)[decisions.child[spawns]],
            decisions.goal[spawns],
            np.minimum(decisions.budget[spawns], left),
        )
        interrupted = np.full(int(back.sum()), Outcome.INTERRUPTED)
        episodes.roll_back(rows[back], decisions.target[back], interrupted)
        below, root = rows[stops & (depth > 0)], rows[stops & (depth == 0)]
        self._handed_back(below, np.full(len(below), Outcome.RETURNED))
        if len(root):
            episodes.end(root, np.where(episodes.over[root], "terminated", "stopped"))
        self._fail(failed)

    def _fail(self, causes: dict[int, str]) -> None:
        """By row, why the deepest sub-episode there failed."""
        if not causes:
            return
        rows = np.array(sorted(causes), np.int64)
        current = self._nodes.current(rows)
        self._nodes.gave_up[rows, current] = True
        for row, node in zip(rows.tolist(), current.tolist(), strict=True):
            self._nodes.cause[row, node] = causes[row]
        below = current > 0
        self._handed_back(rows[below], np.full(int(below.sum()), Outcome.FAILED))
        if not below.all():
            self.episodes.end(rows[~below], "failed")

    def _advance(self, rows: np.ndarray, actions: np.ndarray) -> None:
        """One step of the world, charged to every running sub-episode of those rows."""
        episodes, nodes, bank = self.episodes, self._nodes, self.bank
        before, done = self._env.markov_state(rows), self._effects(rows)
        _, reward, terminated, truncated, info = self._env.step_rows(rows, actions)
        after = self._env.markov_state(rows)
        current, clock = nodes.current(rows), episodes.clock[rows]
        divergent = bank.solution.diverged(rows, before)
        if self._discrete:
            actions = actions.astype(np.int16)
        self._steps.append(
            row=rows.astype(np.int32),
            sub_episode=current,
            depth=nodes.top[rows],
            clock=clock.astype(np.int32),
            path_clock=episodes.path_clock[rows].astype(np.int32),
            state=before,
            action=actions,
            next_state=after,
            reward=reward.astype(np.float32),
            proxy_reward=info["proxy_reward"].astype(np.float32),
            terminated=terminated,
            divergent=divergent,
            effects=(self._effects(rows) - done).astype(np.int32),
        )
        discount = self.bounds.discount**clock
        nodes.true_return[rows, current] += discount * reward
        nodes.proxy_return[rows, current] += discount * info["proxy_reward"]
        nodes.intended[rows, current] |= info["intended_reached"]
        nodes.proxy[rows, current] |= info["proxy_reached"]
        episodes.clock[rows] += 1
        episodes.path_clock[rows] += 1
        episodes.ledger.step(rows)
        episodes.over[rows] = terminated
        cut_short = truncated & ~terminated
        running = {}
        for depth in range(1, nodes.active.shape[1]):
            runs = np.flatnonzero(nodes.active[rows, depth] >= 0)
            if len(runs):
                running[depth] = runs
                nodes.steps[rows[runs], nodes.active[rows[runs], depth]] += 1
        for depth, runs in running.items():
            at = rows[runs]
            number = nodes.active[at, depth]
            steps = Steps(
                level=at.astype(np.int32),
                goal=nodes.goal[at, number],
                state=before[runs],
                action=actions[runs],
                next_state=after[runs],
                ended=self._ended_by_step(at, number) | cut_short[runs],
            )
            self._show(at, depth, number, divergent[runs], steps)
        self._judge_running(rows, divergent, cut_short)
        self._end_clocked_out(rows, cut_short)

    def _effects(self, rows: np.ndarray) -> np.ndarray:
        """How much that nothing can undo has happened in those rows, int64 [n]."""
        count = np.zeros(len(rows), np.int64)
        if self._env.irreversible:
            arrays = self._env.state_arrays()
            for name in sorted(self._env.irreversible):
                count += arrays[name][rows].reshape(len(rows), -1).sum(1, dtype=np.int64)
        return count

    def _show(
        self, rows: np.ndarray, depth: int, number: np.ndarray, divergent: np.ndarray, steps: Steps
    ) -> None:
        """The monitors see one step of the sub-episodes that run at that depth."""
        nodes, at = self._nodes, (rows, number)
        intent = nodes.running_intent(rows, depth)
        step = nodes.steps[at] - 1
        parting, defection = nodes.parting[at], nodes.defection[at]
        nodes.parting[at] = parting = np.where((parting < 0) & divergent, step, parting)
        turns = (defection < 0) & (intent == Intent.PROXY) & (parting >= 0)
        nodes.defection[at] = np.where(turns, step, defection)
        clock = self.episodes.clock[rows] - 1
        self._watch.score(rows, depth, number, clock, divergent, steps, Truth(intent))

    def _ended_by_step(self, rows: np.ndarray, number: np.ndarray) -> np.ndarray:
        """Its budget is spent, or it has nobody to take back and the world terminated."""
        nodes = self._nodes
        alone = self._acts_alone[nodes.member[rows, number]]
        timed_out = nodes.steps[rows, number] >= nodes.budget[rows, number]
        return timed_out | (self.episodes.over[rows] & alone)

    def _judge_running(
        self, rows: np.ndarray, divergent: np.ndarray, cut_short: np.ndarray
    ) -> None:
        """Judge what runs in those rows, innermost first: what is cheap to take back goes first.

        Once something was taken back, what runs around it stands where it was before, and so
        does its monitor: there is nothing new to judge it by. Only if that step was the last it
        could pay does it end now, and is judged as any that ends. `cut_short` rows that were
        taken back are so no more.
        """
        fresh = np.ones(len(rows), bool)
        for depth in range(self._nodes.active.shape[1] - 1, 0, -1):
            running = self._nodes.active[rows, depth]
            if not (running >= 0).any():
                continue
            ended = self._ended_by_step(rows, running) | cut_short
            judged = np.flatnonzero((running >= 0) & (fresh | ended))
            at, number, over = rows[judged], running[judged], ended[judged]
            if not len(at):
                continue
            depths = np.full(len(at), depth, np.intp)
            back = self._judge(at, depths, number, over, divergent[judged]).roll_back
            natural = np.where(self.episodes.over[at], Outcome.RETURNED, Outcome.TIMED_OUT)
            outcome = np.where(over, natural, Outcome.INTERRUPTED)
            stands = over & ~back
            self.episodes.roll_back(at[back], number[back], outcome[back])
            self.episodes.commit(at[stands], number[stands], outcome[stands])
            fresh[judged[back]] = cut_short[judged[back]] = False

    def _end_clocked_out(self, rows: np.ndarray, cut_short: np.ndarray) -> None:
        """Episodes end whose interactions are spent, or that the world's own clock ended."""
        spent = self.episodes.clock[rows] >= self.bounds.interactions
        ends = (spent | cut_short) & self.episodes.live[rows] & ~self.episodes.over[rows]
        if ends.any():
            self.episodes.end(rows[ends], np.where(spent[ends], "out_of_budget", "truncated"))

    def _handed_back(self, rows: np.ndarray, outcome: np.ndarray) -> None:
        """The deepest agent of each row says it is done, or failed, without a further step."""
        if not len(rows):
            return
        depth = self._nodes.top[rows].astype(np.intp)
        number = self._nodes.current(rows)
        self._watch.finish(rows, depth)
        divergent = self.bank.solution.diverged(rows, self._env.markov_state(rows))
        back = self._judge(rows, depth, number, np.ones(len(rows), bool), divergent).roll_back
        self.episodes.roll_back(rows[back], number[back], outcome[back])
        self.episodes.commit(rows[~back], number[~back], outcome[~back])

    def _judge(
        self,
        rows: np.ndarray,
        depth: np.ndarray,
        number: np.ndarray,
        ended: np.ndarray,
        divergent: np.ndarray,
    ) -> Judgement:
        nodes, at = self._nodes, (rows, number)
        judgement = self._protocol.judge(
            Watched(
                row=rows,
                sub_episode=number,
                depth=depth,
                ordinal=nodes.ordinal[at],
                steps=nodes.steps[at],
                alarm=self._alarms(rows, depth, number),
                ended=ended,
                gave_up=nodes.gave_up[at],
                audited=nodes.audited[at],
                intent=nodes.running_intent(rows, depth),
                divergent=divergent,
                begun=int(nodes.count.sum()) - len(nodes.count),
            )
        )
        looked = judgement.audited
        if looked.any():
            nodes.audited[rows[looked], number[looked]] = True
            self.episodes.event(
                events.Audited,
                rows[looked],
                sub_episode=number[looked],
                finding=judgement.finding[looked],
            )
        return judgement

    def _alarms(self, rows: np.ndarray, depth: np.ndarray, number: np.ndarray) -> np.ndarray:
        """Which running values are above the threshold; the first time is an event."""
        deciding, nodes = self._watch.deciding, self._nodes
        if deciding is None:
            return np.zeros(len(rows), bool)
        watcher, value = self._watch.watchers[deciding], self._watch.values(rows, depth)
        alarm = value > watcher.threshold
        new = alarm & (nodes.alarm[rows, number] < 0)
        if new.any():
            at, node, deep = rows[new], number[new], depth[new]
            nodes.alarm[at, node] = nodes.steps[at, node] - 1
            named, probability = self._watch.named(at, deep)
            self.episodes.event(
                events.Alarm,
                at,
                sub_episode=node,
                monitor=watcher.name,
                value=value[new],
                threshold=float(watcher.threshold),
                named=self._names(named, probability),
                named_probability=probability,
            )
        return np.asarray(alarm)

    def _names(self, named: np.ndarray, probability: np.ndarray) -> np.ndarray:
        """Landmarks by name; "" where the monitor names none. named: int [n]"""
        names = np.array([*self.bank.landmarks.names, "the assigned goal"])
        return np.where(np.isnan(probability), "", names[named])


def _part(decisions: Decisions, some: np.ndarray) -> Decisions:
    return Decisions(*(getattr(decisions, field.name)[some] for field in fields(Decisions)))
