"""Monitors on running sub-episodes: one lane of memory a row and depth, one table of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from delegate.delegation.columns import Columns
from delegate.delegation.memories import Lanes, copied
from delegate.monitors.monitor import Memory, Monitor, Steps, Truth
from delegate.monitors.statistics import Statistic
from delegate.monitors.stream import advance

NAMES = {"named", "named_probability"}
"""what a monitor reports that says where a child is going"""


@dataclass(frozen=True)
class Watcher:
    """A monitor, the running statistic of its scores, and the value that raises an alarm.

    threshold: alarm above it, strictly; +inf never alarms. Raises ValueError for NaN and -inf
    """

    name: str
    monitor: Monitor
    statistic: Statistic
    threshold: float = np.inf

    def __post_init__(self) -> None:
        if not self.threshold > -np.inf:
            raise ValueError(
                f"watcher {self.name}: threshold is {self.threshold}; give a number, or inf for "
                "one that never alarms"
            )


class Watch:
    """Scores every running sub-episode at every step, and keeps the table of all scores.

    Each step of a sub-episode has one line in the table, by row, clock and depth.
    deciding: which watcher's alarms the protocol acts on, None for none
    depths: delegations run at 1 to `depths`
    Raises ValueError for a monitor or statistic whose memory has not one entry a sub-episode.
    """

    def __init__(
        self, watchers: Sequence[Watcher], rows: int, depths: int, alarm_on: str | None = None
    ) -> None:
        self.watchers = list(watchers)
        names = [watcher.name for watcher in self.watchers]
        self.deciding = None if alarm_on is None else names.index(alarm_on)
        self._rows, self._depths = rows, depths
        lanes, many = rows * depths, len(self.watchers)
        blank = np.full((lanes, many), np.nan)
        self._running = self._lanes(
            "watch",
            # what was seen stays seen, so a rollback leaves the highest value alone
            {"value": blank, "peak": blank, "step": np.zeros(lanes, np.int32),
             "line": np.full(lanes, -1)},
            frozenset({"peak"}),
        )  # fmt: skip
        self._scores = [self._lanes(w.name, w.monitor.start(lanes)) for w in self.watchers]
        self._statistics = [
            self._lanes(f"the statistic of {w.name}", w.statistic.start(lanes))
            for w in self.watchers
        ]
        self._blank = [
            (self._running, {"value": blank[:1], "peak": blank[:1], "step": np.zeros(1, np.int32),
                             "line": np.full(1, -1)}),
            *zip(self._scores, (w.monitor.start(1) for w in self.watchers), strict=True),
            *zip(self._statistics, (w.statistic.start(1) for w in self.watchers), strict=True),
        ]  # fmt: skip
        self._ends = any(w.monitor.scores_ends for w in self.watchers)
        self._last: Lanes | None = None
        self._table = Columns()

    def start(self, rows: np.ndarray, depth: np.ndarray) -> None:
        """New sub-episodes at those rows and depths: memory is blank again."""
        lane = self._running.lane(rows, depth)
        for lanes, blank in self._blank:
            for name, array in lanes.arrays.items():
                first = blank[name]
                if first.dtype.hasobject:
                    first = copied(np.repeat(first, len(lane), axis=0))
                array[lane] = first

    def save(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """What is remembered of those rows, [n, ...] by name; for `restore`."""
        if self._depths < 2:
            return {}
        return {
            f"watch/{k}/{name}": array
            for k, lanes in enumerate(self._memories())
            for name, array in lanes.save(rows).items()
        }

    def restore(self, rows: np.ndarray, depth: np.ndarray, saved: dict[str, np.ndarray]) -> None:
        """Sub-episodes around those depths are watched as they were when `save` was called; the
        highest values stay. depth: int [n]"""
        if self._depths < 2:
            return
        which = self._running.at < depth[:, None]
        for k, lanes in enumerate(self._memories()):
            own = f"watch/{k}/"
            lanes.restore(
                rows,
                which,
                {n.removeprefix(own): a for n, a in saved.items() if n.startswith(own)},
            )

    def score(
        self,
        rows: np.ndarray,
        depth: int,
        sub_episode: np.ndarray,
        clock: np.ndarray,
        divergent: np.ndarray,
        steps: Steps,
        truth: Truth,
    ) -> None:
        """One step of the sub-episodes that run at `depth` in those rows."""
        lane = self._running.lane(rows, depth)
        arrays = self._running.arrays
        line = {
            "row": rows.astype(np.int32),
            "sub_episode": sub_episode.astype(np.int16),
            "step": arrays["step"][lane],
            "clock": clock.astype(np.int32),
            "depth": np.full(len(rows), depth, np.int8),
            "divergent": divergent,
        }
        for k, watcher in enumerate(self.watchers):
            line[f"score/{watcher.name}"], memory = self._update(k, lane, steps, truth)
            line[f"value/{watcher.name}"] = arrays["value"][lane, k]
            for report in watcher.monitor.reports:
                line[f"{report}/{watcher.name}"] = memory[report]
        arrays["line"][lane] = self._table.append(**line) + np.arange(len(rows))
        arrays["step"][lane] += 1
        if self._ends:
            self._remember(lane, {**vars(steps), **vars(truth)})

    def finish(self, rows: np.ndarray, depth: np.ndarray) -> None:
        """Those sub-episodes were handed back without a further step.

        Monitors that score ends do so now, on the last step taken; one that took none
        stays unscored.
        """
        if not self._ends or self._last is None:
            return
        lane = self._running.lane(rows, depth)
        lane = lane[self._running.arrays["line"][lane] >= 0]
        if not len(lane):
            return
        last = {name: column[lane] for name, column in self._last.arrays.items()}
        last["ended"] = np.ones(len(lane), bool)
        truth = Truth(last.pop("intent"))
        lines = self._running.arrays["line"][lane]
        for k, watcher in enumerate(self.watchers):
            if watcher.monitor.scores_ends:
                score, _ = self._update(k, lane, Steps(**last), truth)
                self._table.write(f"score/{watcher.name}", lines, score)
                value = self._running.arrays["value"][lane, k]
                self._table.write(f"value/{watcher.name}", lines, value)

    def values(self, rows: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Running value of the deciding watcher there, float64 [n], NaN where unscored."""
        return self._of_deciding("value", rows, depth)

    def peaks(self, rows: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Its highest value there over all branches, float64 [n], NaN where unscored."""
        return self._of_deciding("peak", rows, depth)

    def named(self, rows: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The most probable landmark there, int16 [n], -1 for none, and its probability [n].

        By the deciding watcher; where nobody decides, by the first that names one.
        """
        chosen = self.watchers if self.deciding is None else [self.watchers[self.deciding]]
        for watcher in chosen:
            if NAMES.issubset(watcher.monitor.reports):
                arrays = self._scores[self.watchers.index(watcher)].arrays
                lane = self._running.lane(rows, depth)
                named = arrays["named"][lane]
                known = np.where(np.isnan(named), -1, named).astype(np.int16)
                return known, arrays["named_probability"][lane].astype(np.float64)
        return np.full(len(rows), -1, np.int16), np.full(len(rows), np.nan)

    def table(self) -> dict[str, np.ndarray]:
        """Every score ever given, columns [U]; rolled-back branches included."""
        if len(self._table):
            return self._table.table()
        names = ["row", "sub_episode", "step", "clock", "depth", "divergent"]
        parts = ("score", "value")
        names += [
            f"{part}/{w.name}" for w in self.watchers for part in (*parts, *w.monitor.reports)
        ]
        return {name: np.zeros(0, np.float64) for name in names}

    def _update(
        self, k: int, lane: np.ndarray, steps: Steps, truth: Truth
    ) -> tuple[np.ndarray, Memory]:
        watcher = self.watchers[k]
        live = (self._scores[k].arrays, self._statistics[k].arrays)
        memory, running = (
            {name: copied(array.take(lane, axis=0)) for name, array in each.items()}
            for each in live
        )
        score, value, *after = advance(
            watcher.name, watcher.monitor, watcher.statistic, steps, truth, memory, running
        )
        for each, new in zip(live, after, strict=True):
            for name, array in new.items():
                each[name][lane] = array
        arrays = self._running.arrays
        arrays["value"][lane, k] = value
        arrays["peak"][lane, k] = np.fmax(arrays["peak"][lane, k], value)
        return score, after[0]

    def _of_deciding(self, what: str, rows: np.ndarray, depth: np.ndarray) -> np.ndarray:
        if self.deciding is None:
            return np.full(len(rows), np.nan)
        return self._running.arrays[what][self._running.lane(rows, depth), self.deciding]

    def _lanes(self, who: str, memory: Memory, keeps: frozenset[str] = frozenset()) -> Lanes:
        return Lanes(who, memory, self._rows, self._depths, first=1, keeps=keeps)

    def _memories(self) -> list[Lanes]:
        last = [] if self._last is None else [self._last]
        return [self._running, *self._scores, *self._statistics, *last]

    def _remember(self, lane: np.ndarray, last: dict[str, np.ndarray]) -> None:
        """The last step of each sub-episode, for monitors that score ends."""
        if self._last is None:
            count = self._rows * self._depths
            blank = {n: np.zeros((count, *a.shape[1:]), a.dtype) for n, a in last.items()}
            self._last = self._lanes("the last step", blank)
        for name, column in last.items():
            self._last.arrays[name][lane] = column
