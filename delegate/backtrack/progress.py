"""Where each row is in its episode: clocks, budget, accounts, and the past it can go back to."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from delegate.backtrack.config import BacktrackConfig
from delegate.backtrack.ledger import Ledger
from delegate.backtrack.memory import nbytes_of
from delegate.backtrack.spaces import empty, leaves
from delegate.backtrack.state import SnapshotExpired

SAMPLES = 128
"""steps watched before the cost of a step is judged from rewards alone"""


REFUSALS = np.array(["", "budget", "path", "horizon"])
"""why a backtrack is refused: none is left, it reaches before the start, it is no longer kept"""


class Tick(NamedTuple):
    """What each row does in one tick; bool [B] unless said otherwise.

    live:    the row is in an episode; the others hold still or begin one
    step:    the world moves
    back:    it goes `depth` steps back
    confirm: a held termination stands
    refused: a backtrack was asked for in vain, for reason REFUSALS[refusal]
    choice:  int64 [B]  which of the depths is asked for, negative for none
    depth:   int64 [B]  steps it goes back, 0 where it does not
    refusal: int64 [B]
    everyone: nothing else happens in this tick than that every row steps
    """

    live: np.ndarray
    step: np.ndarray
    back: np.ndarray
    confirm: np.ndarray
    refused: np.ndarray
    choice: np.ndarray
    depth: np.ndarray
    refusal: np.ndarray
    everyone: bool


class Progress:
    """Where each row is in its episode, what it has paid, and what it was last shown.

    clock:       int64 [B]  decisions since reset, undone ones included; -1 before the first reset
    budget_left: int64 [B]  backtracks left in this episode
    turned:      int64 [B]  path clock at which the row last went back, 0 for the start
    loop_ticks:  int64 [B]  decisions spent in do-undo loops, never reset
    held:        bool  [B]  the world has ended and this decision confirms it or takes it back
    terminated:  bool  [B]  ended by the world, for good
    truncated:   bool  [B]  ended by a clock, or never begun
    depth:       int64 [B]  which depth was just undone, counted from 1; 0 for none
    action:      the first action undone: int64 [B] counted from 1, 0 for none, or float [B, d]
    origin:      batch      the observation come back from, or None when it is not shown
    history:     the last `horizon` steps of the path · ledger: what was paid, all episodes together
    """

    def __init__(
        self,
        config: BacktrackConfig,
        columns: Mapping[str, np.ndarray],
        action: np.ndarray,
        irreversible: frozenset[str],
        origin: gymnasium.Space | None,
    ) -> None:
        """columns: as of History · action: that of no backtrack · origin: the space, if shown"""
        self._config, self._no_action = config, action
        self._depths, self._irreversible = np.array(config.depths, np.int64), sorted(irreversible)
        rows = len(next(iter(columns.values())))
        self.clock = np.full(rows, -1, np.int64)
        self.budget_left, self.turned, self.loop_ticks, self.depth = np.zeros((4, rows), np.int64)
        self.held, self.terminated = np.zeros((2, rows), bool)
        self.truncated = np.ones(rows, bool)
        self.action = np.repeat(action[None], rows, axis=0)
        self.origin: Any = None if origin is None else empty(origin, rows)
        paid = {"reward": np.zeros(rows), "tick": self.clock}
        effects = {f"effects/{name}": self.clock for name in self._irreversible}
        self.history = History({**columns, **paid, **effects}, config.horizon)
        self.ledger = Ledger(rows)

    @property
    def ended(self) -> np.ndarray:
        """Waiting for a reset. bool [B]"""
        return self.terminated | self.truncated

    def begin(self, rows: np.ndarray) -> None:
        """Those rows begin an episode. rows: bool [B]"""
        self.history.clear(rows)
        self.budget_left[rows] = self._config.budget
        self.clock[rows] = self.turned[rows] = 0
        for flag in (self.held, self.terminated, self.truncated):
            flag[rows] = False
        self.forget(rows)

    def can_backtrack(self) -> np.ndarray:
        """Which depths each row could undo now. bool [B, k]"""
        possible = ~self.ended & (self.budget_left > 0)
        return possible[:, None] & (self._depths <= self.history.kept[:, None])

    def decide(self, choice: np.ndarray) -> Tick:
        """What each row does. choice: int64 [B], which depth is asked for, negative for none"""
        live, history = ~self.ended, self.history
        asked = live & (choice >= 0)
        back, depth, refusal = asked, np.zeros(len(choice), np.int64), np.zeros(len(choice), int)
        if np.count_nonzero(asked):
            depth = np.where(asked, self._depths[np.maximum(choice, 0)], 0)
            too_far = np.where(depth > history.position, 2, np.where(depth > history.kept, 3, 0))
            refusal = np.where(asked, np.where(self.budget_left < 1, 1, too_far), 0)
            back = asked & (refusal == 0)
            depth[~back] = 0
        step = live & ~(asked | self.held)
        return Tick(
            live=live,
            step=step,
            back=back,
            confirm=self.held & ~back,
            refused=asked ^ back,
            choice=choice,
            depth=depth,
            refusal=refusal,
            everyone=np.count_nonzero(step) == len(step),
        )

    def refund(self, tick: Tick) -> tuple[np.ndarray, np.ndarray]:
        """What each row gets back, and what the steps it undoes had earned. float64 [B] both

        A reward r emitted at clock i is given back at clock t as -r gamma^(i - t); with gamma 1
        sums of rewards add up to the surviving path's, below 1 discounted sums do.
        Raises OverflowError naming the row whose refund is not a finite number.
        """
        refund, earned = np.zeros(len(self.clock)), np.zeros(len(self.clock))
        rows = tick.back.nonzero()[0]
        if not rows.size:
            return refund, earned
        reward, undone = self.history.last("reward", rows, tick.depth[rows])
        reward = np.where(undone, reward, 0.0)
        earned[rows] = reward.sum(axis=1)
        if (gamma := self._config.gamma or 1.0) < 1:
            then, _ = self.history.last("tick", rows, tick.depth[rows])
            age = np.where(undone, self.clock[rows, None] - then, 0)
            with np.errstate(over="ignore"):
                reward = reward * np.power(gamma, -age.astype(np.float64))
        refund[rows] = 0.0 - reward.sum(axis=1)
        if not np.isfinite(refund).all():
            row = int(np.flatnonzero(~np.isfinite(refund))[0])
            first = self.history.at(np.array([row]), tick.depth[[row]])["tick"][0]
            raise OverflowError(
                f"row {row}: the refund of rewards up to {self.clock[row] - first} interactions "
                f"old is {refund[row]} at gamma {gamma:g}; use refund: sum, or look for NaN rewards"
            )
        return refund, earned

    def record(
        self,
        step: np.ndarray,
        reward: np.ndarray,
        action: np.ndarray,
        effects: Mapping[str, np.ndarray],
    ) -> None:
        """Those rows stepped from what `history.next` holds of the world. step: bool [B]

        effects: the irreversible ones of this step, name -> int64 [B]
        """
        entry = self.history.next
        entry["reward"][...], entry["action"][...], entry["tick"][...] = reward, action, self.clock
        for name, count in effects.items():
            entry[f"effects/{name}"][...] = count
        self.history.push(step)
        self.forget(step)

    def effects_kept(self, tick: Tick) -> dict[str, np.ndarray]:
        """Count the irreversible effects of the steps that rows undo. name -> int64 [B]"""
        kept = {name: np.zeros(len(self.clock), np.int64) for name in self._irreversible}
        if (rows := tick.back.nonzero()[0]).size:
            for name, count in kept.items():
                done, undone = self.history.last(f"effects/{name}", rows, tick.depth[rows])
                count[rows] = np.where(undone, done, 0).sum(axis=1)
                self.ledger.effects += count
        return kept

    def count(self, tick: Tick) -> np.ndarray:
        """Pay for the tick, whatever each row did in it, once rows have gone back.

        Returns the rows that have now undone all they did since they last went back. bool [B]
        """
        self.clock += tick.live
        self.ledger.committed += tick.step
        if tick.everyone:
            return np.zeros(len(self.clock), bool)
        self.ledger.idled += tick.confirm | tick.refused
        loop = tick.back & (self.history.position == self.turned)
        self.turned[tick.back] = self.history.position[tick.back]
        self.loop_ticks[loop] += tick.depth[loop] + 1
        self.budget_left -= tick.back
        self.ledger.committed -= tick.depth
        self.ledger.undone += tick.depth
        self.ledger.restores += tick.back
        return loop

    def settle(
        self, tick: Tick, terminated: np.ndarray, truncated: np.ndarray, limit: int | None
    ) -> None:
        """Hold, confirm or take back endings. terminated, truncated: bool [B], by the world"""
        if limit is not None:
            truncated = truncated | (tick.live & (self.clock >= limit))
        self.truncated |= truncated
        if not tick.everyone:
            self.terminated |= tick.confirm
        self.held[:] = False
        if np.count_nonzero(terminated):
            self.held |= terminated & self.can_backtrack().any(axis=1)
            self.terminated |= terminated & ~self.held

    def forget(self, rows: np.ndarray) -> None:
        """Those rows are shown nothing of the last backtrack any more. rows: bool [B]"""
        if np.count_nonzero(self.depth):
            self.depth[rows] = 0
            self.action[rows] = self._no_action

    def state_arrays(self) -> dict[str, np.ndarray]:
        """The live arrays of all this, batch first."""
        names = ("clock", "budget_left", "turned", "loop_ticks", "held", "terminated", "truncated")
        arrays = {name: getattr(self, name) for name in (*names, "depth", "action")}
        arrays |= {} if self.origin is None else leaves(self.origin, "origin")
        arrays |= {f"history/{name}": a for name, a in self.history.state_arrays().items()}
        return arrays | {f"ledger/{name}": a for name, a in self.ledger.state_arrays().items()}


class History:
    """A ring of the last `horizon` steps of each row's path.

    columns: one example of what a step records, name -> [B, ...]; only shapes and types matter
    next:     name -> [B, ...]  what `push` will record: write into it, then push
    position: int64 [B]  steps on the path: path clock
    kept:     int64 [B]  how many of them, counted backwards, can still be returned to

    Memory is columns x horizon from the start, whatever the length of an episode.
    """

    def __init__(self, columns: Mapping[str, np.ndarray], horizon: int) -> None:
        rows = len(next(iter(columns.values())))
        self.horizon = horizon
        self.position = np.zeros(rows, np.int64)
        self.kept = np.zeros(rows, np.int64)
        # One index is quicker than two: slot s of row r lies at s * rows + r, so that rows in
        # step are written side by side. Columns lie side by side too, so that a row of all of them
        # is copied at once, but for those that hold Python objects.
        self._rows = np.arange(rows)
        plain = {name: array for name, array in columns.items() if not array.dtype.hasobject}
        fields = [(name, array.dtype, array.shape[1:]) for name, array in plain.items()]
        record = np.dtype(fields, align=True)
        step, past = np.zeros(rows, record), np.zeros(rows * horizon, record)
        self._step, self._past = (each.view((np.void, record.itemsize)) for each in (step, past))
        self._apart = [name for name in columns if name not in plain]
        self.next = {name: step[name] for name in plain}
        self._flat = {name: past[name] for name in plain}
        for name in self._apart:
            self.next[name] = np.zeros_like(columns[name])
            self._flat[name] = np.zeros((rows * horizon, *columns[name].shape[1:]), object)

    def push(self, stepped: np.ndarray) -> None:
        """Those rows each took a step, described by `next`. stepped: bool [B]"""
        slot = self._slot(self._rows, self.position)
        rows: np.ndarray | slice = slice(None)
        if np.count_nonzero(stepped) < len(stepped):
            rows = stepped.nonzero()[0]
            slot = slot[rows]
        self._past[slot] = self._step[rows]
        for name in self._apart:
            self._flat[name][slot] = self.next[name][rows]
        self.position += stepped
        self.kept += stepped
        np.minimum(self.kept, self.horizon, out=self.kept)

    def rewind(self, rows: np.ndarray, depth: np.ndarray) -> None:
        """Forget the last `depth` steps of those rows. Raises SnapshotExpired as `at` does."""
        self._check(rows, depth)
        self.position[rows] -= depth
        self.kept[rows] -= depth

    def clear(self, rows: np.ndarray) -> None:
        """Those rows begin a new path."""
        self.position[rows] = 0
        self.kept[rows] = 0

    def at(self, rows: np.ndarray, depth: np.ndarray) -> dict[str, np.ndarray]:
        """What the step `depth` steps back recorded: depth 1 is the last. name -> [n, ...]

        Raises SnapshotExpired when a step is older than what is kept, or before the start.
        """
        self._check(rows, depth)
        slot = self._slot(rows, self.position[rows] - depth)
        return {name: ring[slot] for name, ring in self._flat.items()}

    def last(self, name: str, rows: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One column over the last `depth` steps of each of those rows, newest first.

        returns values [n, deepest, ...] and bool [n, deepest], where a row goes back so far
        """
        self._check(rows, depth)
        back = np.arange(1, int(depth.max(initial=0)) + 1)
        slot = self._slot(rows[:, None], self.position[rows, None] - back)
        return self._flat[name][slot], back <= depth[:, None]

    def state_arrays(self) -> dict[str, np.ndarray]:
        """The live arrays, batch first."""
        rows = len(self.position)
        rings = {
            name: ring.reshape(self.horizon, rows, *ring.shape[1:]).swapaxes(0, 1)
            for name, ring in self._flat.items()
        }
        return {"position": self.position, "kept": self.kept, **rings}

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return nbytes_of(self.state_arrays().values())

    def _slot(self, rows: np.ndarray, position: np.ndarray) -> np.ndarray:
        """Where the step of those rows at those positions of the path is kept. int64"""
        return position % self.horizon * len(self._rows) + rows

    def _check(self, rows: np.ndarray, depth: np.ndarray) -> None:
        outside = (depth < 1) | (depth > self.kept[rows])
        if np.count_nonzero(outside):
            row, age = int(rows[outside][0]), int(depth[outside][0])
            position, kept = int(self.position[row]), int(self.kept[row])
            if age < 1 or age > position:
                raise SnapshotExpired(
                    f"row {row}: {age} steps back from step {position} is not on its path; "
                    f"go back 1 to {position} steps"
                )
            raise SnapshotExpired(
                f"row {row}: step {position - age} is {age} steps old and only {kept} are kept "
                f"of a horizon of {self.horizon}; raise backtrack.horizon"
            )


class FreeRefundWarning(UserWarning):
    """Backtracking is so cheap that stepping and undoing for ever beats solving the task."""


class StandingStill:
    """Warns, once, when a do-undo loop costs less than the steps it replaces.

    A loop of depth d spends d + 1 interactions for `cost`; walking on would cost d + 1 steps.

    cost: price of one backtrack · depth: the deepest offered
    step_cost: what each step costs, None to learn it from the median reward of the first steps
    """

    def __init__(self, cost: float, depth: int, step_cost: float | None) -> None:
        self._cost, self._depth = cost, depth
        self._sample: list[np.ndarray] = []
        self.judged = step_cost is not None
        """whether more rewards would change anything"""
        if step_cost is not None:
            self._judge(step_cost, "declared by the world")

    def see(self, reward: np.ndarray) -> None:
        """Rewards of steps that ended nothing, until `judged`. float64 [n]"""
        self._sample.append(reward.copy())
        if sum(len(seen) for seen in self._sample) >= SAMPLES:
            self.judged = True
            self._judge(-float(np.median(np.concatenate(self._sample))), "the median so far")
            self._sample.clear()

    def _judge(self, step_cost: float, source: str) -> None:
        saved = (self._depth + 1) * step_cost
        if step_cost > 0 and self._cost <= saved:
            warnings.warn(
                f"backtrack.cost {self._cost:g} does not exceed {saved:g}, what doing and undoing "
                f"{self._depth} step(s) saves at a step cost of {step_cost:g} ({source}): an agent "
                f"can stand still for free; set backtrack.cost above {saved:g}",
                FreeRefundWarning,
                stacklevel=4,
            )
