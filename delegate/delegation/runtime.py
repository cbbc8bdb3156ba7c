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
from delegate.backtrack.spaces import ActionCheck
from delegate.bank import Bank
from delegate.delegation.deciding import bounded, clock_left, view_of
from delegate.delegation.episodes import Bounds, Episodes
from delegate.delegation.events import EventLog
from delegate.delegation.failures import attempt, unfit
from delegate.delegation.protocols import Protocol
from delegate.delegation.stepping import Stepping
from delegate.delegation.watch import Watch, Watcher
from delegate.importing import cause


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
    Raises TypeError where the root has no crew, or the world's actions are no arrays of numbers.
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
        self._env = bank.env
        self._watch = Watch(watchers, bank.env.num_envs, bounds.max_depth, alarm_on)
        self.episodes = Episodes(bank, members, bounds, row_seeds, self._watch, checks)
        self._nodes = self.episodes.nodes
        self._stepping = Stepping(bank, members, protocol, bounds, self.episodes, self._watch)
        space = bank.env.single_action_space
        self._check = ActionCheck(space, bank.env.num_envs, bank.env.name)
        kind = np.int64 if isinstance(space, gymnasium.spaces.Discrete) else space.dtype
        self._actions = np.zeros((bank.env.num_envs, *(space.shape or ())), kind)
        self._waiting = np.ones(bank.env.num_envs, bool)
        self._queue: list[tuple[int, np.ndarray]] = []
        self._fail(self.episodes.start())

    @property
    def log(self) -> EventLog:
        """What has happened so far."""
        return self.episodes.log

    @property
    def steps(self) -> int:
        """Environment steps paid so far, in all rows."""
        return len(self._stepping.steps)

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

        for some, answer, why in attempt(call, len(asked.rows)):
            if why is None:
                self.decide(asked.rows[some], *answer)
            else:
                self.fail(asked.rows[some], why)

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
            wrong = unfit(decisions, len(rows), self._check)
            self.episodes.memories[number].put(rows, depth, memory)
            intent = member.agent.intent(memory)
            if isinstance(intent, np.ndarray) and intent.shape != rows.shape:
                raise ValueError(f"gives intent of shape {intent.shape}; it must be {rows.shape}")
        except Exception as error:
            self._fail(dict.fromkeys(rows.tolist(), cause(error)))
            return
        current = self._nodes.current(rows)
        if isinstance(intent, np.ndarray) or intent != Intent.UNKNOWN:
            so_far = self._nodes.intent[rows, current]
            self._nodes.intent[rows, current] = np.maximum(so_far, intent)
        if wrong.any():
            why = "decides what is no action of this world"
            self._fail(dict.fromkeys(rows[wrong].tolist(), why))
            rows, decisions, depth = rows[~wrong], _part(decisions, ~wrong), depth[~wrong]
        self._do(rows, number, depth, decisions)

    def fail(self, rows: np.ndarray, why: str) -> None:
        """The deepest sub-episode of those rows ends as failed; the parent goes on."""
        self._queue = []
        self._fail(dict.fromkeys(rows.tolist(), why))

    def tick(self) -> int:
        """Step the world where there is an action; returns in how many rows."""
        rows = np.flatnonzero(self.episodes.live & ~self._waiting)
        if len(rows):
            self._stepping.advance(rows, self._actions[rows])
            self._waiting[rows] = self.episodes.live[rows]
        return len(rows)

    def steps_table(self) -> dict[str, np.ndarray]:
        """Every environment step, columns [T] in the order they were paid, undone ones too."""
        return self._stepping.steps.table()

    def watch_table(self) -> dict[str, np.ndarray]:
        """Every score given to a sub-episode, columns [U]; rolled-back branches included."""
        return self._watch.table()

    def sub_episodes_table(self) -> dict[str, np.ndarray]:
        """One record a delegation, columns [E]; see SubEpisodes.table."""
        return self._nodes.table(self.members)

    def _asked(self, number: int, rows: np.ndarray) -> Asked:
        depth = self._nodes.top[rows].astype(np.intp)
        view = view_of(self.episodes, self.members[number], rows)
        return Asked(rows, number, depth, view, self.episodes.memories.lanes(number, rows, depth))

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
        if acts.any():
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
        self._stepping.hand_back(below, np.full(len(below), Outcome.RETURNED))
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
        self._stepping.hand_back(rows[below], np.full(int(below.sum()), Outcome.FAILED))
        if not below.all():
            self.episodes.end(rows[~below], "failed")


def _part(decisions: Decisions, some: np.ndarray) -> Decisions:
    return Decisions(*(getattr(decisions, field.name)[some] for field in fields(Decisions)))
