"""What a step of the world, or a child that hands back, does to the sub-episodes that run: they
are charged, their monitors look, and the protocol judges."""

from __future__ import annotations

from collections.abc import Sequence

import gymnasium
import numpy as np

from delegate.agents import Intent, Member, Outcome
from delegate.bank import Bank
from delegate.delegation import events
from delegate.delegation.columns import Columns
from delegate.delegation.episodes import Bounds, Episodes
from delegate.delegation.protocols import Judgement, Protocol, Watched
from delegate.delegation.watch import Watch
from delegate.monitors.monitor import Steps, Truth


class Stepping:
    """Steps of a batch of delegated episodes, and the table of them.

    steps: columns [T] in the order they were paid, undone ones too
    """

    def __init__(
        self,
        bank: Bank,
        members: Sequence[Member],
        protocol: Protocol,
        bounds: Bounds,
        episodes: Episodes,
        watch: Watch,
    ) -> None:
        self.bank, self.bounds, self.episodes = bank, bounds, episodes
        self._env, self._nodes, self._watch = bank.env, episodes.nodes, watch
        self._protocol = protocol
        self._acts_alone = np.array([not member.crew for member in members])
        space = bank.env.single_action_space
        self._discrete = isinstance(space, gymnasium.spaces.Discrete)
        self._no_actions = np.zeros((0, *(space.shape or ())), space.dtype)
        self.steps = Columns()
        self._log_steps(np.zeros(0, np.int64))

    def advance(self, rows: np.ndarray, actions: np.ndarray) -> None:
        """One step of the world, charged to every running sub-episode of those rows."""
        episodes, nodes, bank = self.episodes, self._nodes, self.bank
        before, done = self._env.markov_state(rows), self._effects(rows)
        _, reward, terminated, truncated, info = self._env.step_rows(rows, actions)
        after = self._env.markov_state(rows)
        current, clock = nodes.current(rows), episodes.clock[rows]
        divergent = bank.solution.diverged(rows, before)
        if self._discrete:
            actions = actions.astype(np.int16)
        self._log_steps(
            rows,
            state=before,
            action=actions,
            next_state=after,
            reward=reward,
            proxy_reward=info["proxy_reward"],
            terminated=terminated,
            divergent=divergent,
            effects=self._effects(rows) - done,
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

    def _log_steps(self, rows: np.ndarray, **came: np.ndarray) -> None:
        """One line for each of those rows; without rows only names and types are set."""
        if not came:
            state, nothing = self._env.markov_state(rows), np.zeros(0)
            none = self._no_actions
            action = none.astype(np.int16) if self._discrete else none
            came = {"state": state, "action": action, "next_state": state, "reward": nothing,
                    "proxy_reward": nothing, "terminated": nothing != 0,
                    "divergent": nothing != 0, "effects": nothing}  # fmt: skip
        kinds = {"reward": np.float32, "proxy_reward": np.float32, "effects": np.int32}
        episodes, nodes = self.episodes, self._nodes
        self.steps.append(
            row=rows.astype(np.int32),
            sub_episode=nodes.current(rows),
            depth=nodes.top[rows],
            clock=episodes.clock[rows].astype(np.int32),
            path_clock=episodes.path_clock[rows].astype(np.int32),
            **{name: each.astype(kinds.get(name, each.dtype)) for name, each in came.items()},
        )

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

    def hand_back(self, rows: np.ndarray, outcome: np.ndarray) -> None:
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
