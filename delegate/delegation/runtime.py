"""Hand over and take back, for a whole batch of episodes at once.

Each row is an episode with a stack of running sub-episodes. In a tick every row's deepest
agent chooses until each row has one primitive action, the world steps once, the monitors of
every running sub-episode see the step, and the protocol takes sub-episodes back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol as Face

import numpy as np

from delegate.agents import (
    HAND_BACK,
    Decision,
    Member,
    Outcome,
    Parent,
    Policy,
)
from delegate.backtrack.state import StatefulVectorEnv
from delegate.delegation import events
from delegate.delegation.deciding import bounded, parent_view
from delegate.delegation.episodes import Bounds, Episodes, Facts
from delegate.delegation.events import EventLog
from delegate.delegation.protocols import Judgement, Protocol, Watched
from delegate.delegation.watch import Watch, Watcher
from delegate.monitors.monitor import Steps, Truth


class DelegableEnv(Face):
    """What a finite world gives beside saving and restoring.

    level_index: int32 [B] · state_index(): int32 [B]
    """

    level_index: np.ndarray

    def state_index(self) -> np.ndarray:
        """The finite state of each row."""
        ...


class Runtime:
    """Runs one trial: every row an episode, from its start to its end.

    env: rows with autoreset disabled, already reset; its step info holds proxy_reward,
    intended_reached and proxy_reached, each [B] · members[0]: the parent at the root ·
    seeds: uint64 [B], one a row; a row's course does not depend on the batch it is in ·
    alarm_on: the watcher whose alarms the protocol acts on
    """

    def __init__(
        self,
        env: StatefulVectorEnv,
        members: Sequence[Member],
        protocol: Protocol,
        bounds: Bounds,
        facts: Facts,
        seeds: np.ndarray,
        watchers: Sequence[Watcher] = (),
        alarm_on: str | None = None,
        on_tick: Callable[[int, int], None] | None = None,
    ) -> None:
        if not isinstance(members[0].agent, Parent):
            raise TypeError(
                f"{members[0].name}: a {type(members[0].agent).__name__} cannot delegate; "
                "the first member is the Parent at the root"
            )
        watch = Watch(watchers, env.num_envs, bounds.max_depth + 1, alarm_on)
        self.episodes = Episodes(env, members, bounds, facts, seeds, watch)
        self._env, self._world = env, finite(env)
        self._members, self._protocol = self.episodes.members, protocol
        self._bounds, self._facts = bounds, facts
        self._nodes, self._watch = self.episodes.nodes, watch
        self._is_policy = np.array([isinstance(member.agent, Policy) for member in members])
        self._on_tick = on_tick
        self._steps: list[dict[str, np.ndarray]] = []

    def run(self) -> EventLog:
        """Play every row to its end and return the log; the world then stands where each
        episode ended. A runtime runs once."""
        live = self.episodes.live
        self.episodes.start()
        while live.any():
            actions = self._choose()
            if live.any():
                self._advance(np.flatnonzero(live), actions)
            if self._on_tick is not None:
                self._on_tick(int((~live).sum()), len(live))
        self.episodes.settle()
        return self.episodes.log

    def steps_table(self) -> dict[str, np.ndarray]:
        """Every environment step, columns [T] in the order they were paid, undone ones too."""
        return {
            name: np.concatenate([step[name] for step in self._steps]) for name in self._steps[0]
        }

    def watch_table(self) -> dict[str, np.ndarray]:
        """Every score given to a sub-episode, columns [U]; rolled-back branches included."""
        return self._watch.table()

    def _choose(self) -> np.ndarray:
        """A primitive action for every row that is still live, int [B]."""
        actions = np.zeros(self._env.num_envs, np.int64)
        pending = self.episodes.live.copy()
        while pending.any():
            waiting = np.flatnonzero(pending)
            who = self._nodes.member[waiting, self._nodes.current(waiting)]
            for number in np.unique(who):
                rows = waiting[who == number]
                agent = self._members[number].agent
                chosen, action = (
                    self._decide(number, agent, rows)
                    if isinstance(agent, Parent)
                    else self._act(number, agent, rows)
                )
                actions[chosen] = action
                pending[chosen] = False
            pending &= self.episodes.live
        return actions

    def _act(self, number: int, agent: Policy, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nodes, depth = self._nodes, self._nodes.top[rows]
        current = nodes.current(rows)
        action, memory = agent.act(
            self._env.observe(rows),
            nodes.goal[rows, current],
            self.episodes.memories.lanes(number, rows, depth),
        )
        self.episodes.memories.keep(number, rows, depth, memory)
        nodes.intent[rows, current] = np.maximum(nodes.intent[rows, current], agent.intent(memory))
        done = action == HAND_BACK
        self._handed_back(rows[done])
        return rows[~done], action[~done]

    def _decide(
        self, number: int, agent: Parent, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        nodes, depth = self._nodes, self._nodes.top[rows]
        view = parent_view(self.episodes, self._members[number], rows)
        decisions, memory = agent.decide(view, self.episodes.memories.lanes(number, rows, depth))
        self.episodes.memories.keep(number, rows, depth, memory)
        kind = bounded(self.episodes, rows, view, decisions)
        acts, spawns = kind == Decision.ACT, kind == Decision.DELEGATE
        backtracks, gave_up = kind == Decision.BACKTRACK, kind == Decision.GIVE_UP
        stops, root = (kind == Decision.STOP) | gave_up, depth == 0
        nodes.gave_up[rows[gave_up], nodes.current(rows[gave_up])] = True
        if spawns.any():
            self.episodes.spawn(
                rows[spawns],
                np.asarray(self._members[number].crew)[decisions.child[spawns]],
                decisions.goal[spawns],
                np.minimum(decisions.budget[spawns], view.clock_left[spawns]),
            )
        self.episodes.roll_back(
            rows[backtracks],
            decisions.target[backtracks],
            np.full(backtracks.sum(), Outcome.INTERRUPTED),
        )
        self._handed_back(rows[stops & ~root])
        for row in rows[stops & root]:
            self.episodes.end_episode(row, "terminated" if self.episodes.over[row] else "stopped")
        return rows[acts], decisions.action[acts]

    def _advance(self, rows: np.ndarray, actions: np.ndarray) -> None:
        """One step of the world, charged to every running sub-episode of those rows."""
        episodes, nodes = self.episodes, self._nodes
        before = self._world.state_index()[rows].astype(np.int32)
        done = self._effects(rows)
        _, reward, terminated, _, info = self._env.step(actions)
        after = self._world.state_index()[rows].astype(np.int32)
        current, clock = nodes.current(rows), episodes.clock[rows]
        divergent = self._facts.divergent[rows, before]
        self._steps.append(
            {
                "row": rows.astype(np.int32),
                "sub_episode": current,
                "clock": clock.astype(np.int32),
                "path_clock": episodes.path_clock[rows].astype(np.int32),
                "state": before,
                "action": actions[rows].astype(np.int16),
                "next_state": after,
                "reward": reward[rows].astype(np.float32),
                "proxy_reward": info["proxy_reward"][rows].astype(np.float32),
                "terminated": terminated[rows],
                "divergent": divergent,
                "effects": (self._effects(rows) - done).astype(np.int32),
            }
        )
        discount = self._bounds.discount**clock
        nodes.true_return[rows, current] += discount * reward[rows]
        nodes.proxy_return[rows, current] += discount * info["proxy_reward"][rows]
        nodes.intended[rows, current] |= info["intended_reached"][rows]
        nodes.proxy[rows, current] |= info["proxy_reached"][rows]
        episodes.clock[rows] += 1
        episodes.path_clock[rows] += 1
        episodes.ledger.step(rows)
        episodes.over[rows] = terminated[rows]
        depths = range(1, nodes.active.shape[1])
        for depth in depths:
            runs = nodes.active[rows, depth] >= 0
            at = rows[runs]
            nodes.steps[at, nodes.active[at, depth]] += 1
        for depth in depths:
            runs = nodes.active[rows, depth] >= 0
            at = rows[runs]
            if len(at):
                taken = (before[runs], actions[at], after[runs], divergent[runs])
                self._show(at, depth, *taken)
        self._judge_running(rows, divergent)
        for row in rows[episodes.clock[rows] >= self._bounds.interactions]:
            if episodes.live[row] and not episodes.over[row]:
                episodes.end_episode(row, "out_of_budget")

    def _effects(self, rows: np.ndarray) -> np.ndarray:
        """How much that nothing can undo has happened in those rows, int64 [n]."""
        arrays = self._env.state_arrays()
        count = np.zeros(len(rows), np.int64)
        for name in sorted(self._env.irreversible):
            count += arrays[name][rows].reshape(len(rows), -1).sum(1, dtype=np.int64)
        return count

    def _show(
        self,
        rows: np.ndarray,
        depth: int,
        state: np.ndarray,
        action: np.ndarray,
        next_state: np.ndarray,
        divergent: np.ndarray,
    ) -> None:
        """The monitors see one step of the sub-episodes that run at that depth."""
        number = self._nodes.active[rows, depth]
        self._watch.score(
            rows,
            depth,
            number,
            self.episodes.clock[rows] - 1,
            divergent,
            Steps(
                level=self._world.level_index[rows].astype(np.int32),
                goal=self._nodes.goal[rows, number],
                state=state,
                action=action.astype(np.int16),
                next_state=next_state,
                ended=self._ended_by_step(rows, number),
            ),
            Truth(self._nodes.running_intent(rows, np.full(len(rows), depth))),
        )

    def _ended_by_step(self, rows: np.ndarray, number: np.ndarray) -> np.ndarray:
        """Its budget is spent, or it acts in the world itself and the world terminated."""
        nodes = self._nodes
        acts = self._is_policy[nodes.member[rows, number]]
        timed_out = nodes.steps[rows, number] >= nodes.budget[rows, number]
        return timed_out | (self.episodes.over[rows] & acts)

    def _judge_running(self, rows: np.ndarray, divergent: np.ndarray) -> None:
        """Judge what runs in those rows, innermost first: what is cheap to take back goes first.

        Once something was taken back, what runs around it stands where it was before, and so
        does its monitor: there is nothing new to judge it by. Only if that step was the last it
        could pay does it end now, and is judged as any that ends.
        """
        fresh = np.ones(len(rows), bool)
        for depth in range(self._nodes.active.shape[1] - 1, 0, -1):
            running = self._nodes.active[rows, depth]
            ended = self._ended_by_step(rows, running)
            judged = (running >= 0) & (fresh | ended)
            at, number, over = rows[judged], running[judged], ended[judged]
            if not len(at):
                continue
            judgement = self._judge(at, np.full(len(at), depth), number, over, divergent[judged])
            natural = np.where(self.episodes.over[at], Outcome.RETURNED, Outcome.TIMED_OUT)
            outcome = np.where(over, natural, Outcome.INTERRUPTED)
            back = judgement.roll_back
            stands = over & ~back
            self.episodes.roll_back(at[back], number[back], outcome[back])
            self.episodes.commit(at[stands], number[stands], outcome[stands])
            fresh[np.flatnonzero(judged)[back]] = False

    def _handed_back(self, rows: np.ndarray) -> None:
        """The deepest agent of each row says it is done, without a further step."""
        if not len(rows):
            return
        depth = self._nodes.top[rows].astype(np.intp)
        number = self._nodes.current(rows)
        self._watch.finish(rows, depth)
        divergent = self._facts.divergent[rows, self._world.state_index()[rows]]
        back = self._judge(rows, depth, number, np.ones(len(rows), bool), divergent).roll_back
        outcome = np.full(len(rows), Outcome.RETURNED)
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
        judgement = self._protocol.judge(
            Watched(
                row=rows,
                sub_episode=number,
                depth=depth,
                ordinal=self._nodes.ordinal[rows, number],
                steps=self._nodes.steps[rows, number],
                alarm=self._alarms(rows, depth, number),
                ended=ended,
                gave_up=self._nodes.gave_up[rows, number],
                intent=self._nodes.running_intent(rows, depth),
                divergent=divergent,
            )
        )
        for i in np.flatnonzero(judgement.audited):
            self.episodes.event(
                rows[i],
                events.Audited,
                sub_episode=int(number[i]),
                finding=bool(judgement.finding[i]),
            )
        return judgement

    def _alarms(self, rows: np.ndarray, depth: np.ndarray, number: np.ndarray) -> np.ndarray:
        """Which running values are above the threshold; the first time is an event."""
        deciding = self._watch.deciding
        if deciding is None:
            return np.zeros(len(rows), bool)
        watcher = self._watch.watchers[deciding]
        value = self._watch.values[deciding, rows, depth]
        alarm = value > watcher.threshold
        for i in np.flatnonzero(alarm & ~self._nodes.alarmed[rows, number]):
            self.episodes.event(
                rows[i],
                events.Alarm,
                sub_episode=int(number[i]),
                monitor=watcher.name,
                value=float(value[i]),
                threshold=float(watcher.threshold),
            )
        self._nodes.alarmed[rows, number] |= alarm
        return alarm


def finite(env: StatefulVectorEnv) -> DelegableEnv:
    """That world, as one whose rows name their finite state. Raises TypeError if they do not."""
    missing = [name for name in ("level_index", "state_index") if not hasattr(env, name)]
    if missing:
        raise TypeError(
            f"{type(env).__name__} has no {' and no '.join(missing)}; delegation needs a world "
            "whose rows name their level and finite state"
        )
    return env  # type: ignore[return-value]
