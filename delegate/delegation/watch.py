"""Monitors on running sub-episodes: one lane of memory a row and depth, one table of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from delegate.delegation.memories import without_objects
from delegate.monitors.monitor import Memory, Monitor, Steps
from delegate.monitors.statistics import Statistic


@dataclass(frozen=True)
class Watcher:
    """A monitor, the running statistic of its scores, and the value that raises an alarm.

    threshold: alarm above it, strictly; +inf never alarms
    """

    name: str
    monitor: Monitor
    statistic: Statistic
    threshold: float = np.inf


Lanes = dict[str, Memory]
"""memory by watcher: scores' and statistics' arrays with a lane a row"""


class Watch:
    """Scores every running sub-episode at every step, and keeps the table of all scores.

    values, peaks: float64 [watchers, B, D + 1] running and highest value, NaN unscored
    deciding: which watcher's alarms the protocol acts on, None for none
    Raises TypeError for a monitor or statistic that remembers Python objects.
    """

    def __init__(
        self, watchers: Sequence[Watcher], rows: int, depths: int, alarm_on: str | None = None
    ) -> None:
        self.watchers = list(watchers)
        names = [watcher.name for watcher in self.watchers]
        self.deciding = None if alarm_on is None else names.index(alarm_on)
        self._depths = depths
        shape = (len(self.watchers), rows, depths)
        self.values = np.full(shape, np.nan)
        self.peaks = np.full(shape, np.nan)
        self._step = np.zeros((rows, depths), np.int32)
        self._last: dict[str, np.ndarray] = {}
        self._last_line = np.full((rows, depths), -1)
        lanes = rows * depths
        self._scores = [without_objects(w.name, w.monitor.start(lanes)) for w in self.watchers]
        self._statistics = [
            without_objects(f"the statistic of {w.name}", w.statistic.start(lanes))
            for w in self.watchers
        ]
        self._blank = [(w.monitor.start(1), w.statistic.start(1)) for w in self.watchers]
        self._table: list[dict[str, np.ndarray]] = []
        self._mends: list[tuple[int, int, float, float]] = []
        self._lines = 0

    def start(self, rows: np.ndarray, depth: np.ndarray) -> None:
        """New sub-episodes at those rows and depths: memory is blank again."""
        lane = rows * self._depths + depth
        for k, (monitor, statistic) in enumerate(self._blank):
            for live, blank in ((self._scores[k], monitor), (self._statistics[k], statistic)):
                for name in live:
                    live[name][lane] = blank[name][0]
        self.values[:, rows, depth] = np.nan
        self.peaks[:, rows, depth] = np.nan
        self._step[rows, depth] = 0
        self._last_line[rows, depth] = -1

    def save(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Everything remembered of those rows, [n, ...] by name; for `restore`."""
        saved = {
            "values": self.values[:, rows].swapaxes(0, 1).copy(),
            "peaks": self.peaks[:, rows].swapaxes(0, 1).copy(),
            "step": self._step[rows],
            "last_line": self._last_line[rows],
        }
        for name, live in self._live():
            saved[name] = live.reshape(-1, self._depths, *live.shape[1:])[rows]
        return saved

    def restore(self, rows: np.ndarray, saved: dict[str, np.ndarray]) -> None:
        """Remember again what `save` gave for those rows; peaks keep what was seen since."""
        seen = self.peaks[:, rows]
        self.values[:, rows] = saved["values"].swapaxes(0, 1)
        self.peaks[:, rows] = np.fmax(seen, saved["peaks"].swapaxes(0, 1))
        self._step[rows] = saved["step"]
        self._last_line[rows] = saved["last_line"]
        for name, live in self._live():
            if name in saved:
                live.reshape(-1, self._depths, *live.shape[1:])[rows] = saved[name]

    def score(
        self,
        rows: np.ndarray,
        depth: int,
        sub_episode: np.ndarray,
        clock: np.ndarray,
        divergent: np.ndarray,
        steps: Steps,
    ) -> None:
        """One step of the sub-episodes that run at `depth` in those rows."""
        lane = rows * self._depths + depth
        line = {
            "row": rows.astype(np.int32),
            "sub_episode": sub_episode.astype(np.int16),
            "step": self._step[rows, depth],
            "clock": clock.astype(np.int32),
            "divergent": divergent,
        }
        for k, watcher in enumerate(self.watchers):
            score = self._update(k, lane, rows, depth, steps)
            line[f"score/{watcher.name}"] = score
            line[f"value/{watcher.name}"] = self.values[k, rows, depth].copy()
        self._table.append(line)
        self._last_line[rows, depth] = self._lines + np.arange(len(rows))
        self._lines += len(rows)
        self._step[rows, depth] += 1
        self._remember(lane, steps)

    def finish(self, rows: np.ndarray, depth: np.ndarray) -> None:
        """Those sub-episodes were handed back without a further step.

        Monitors that score ends do so now, on the last step taken; one that took none
        stays unscored.
        """
        stepped = self._last_line[rows, depth] >= 0
        rows, depth = rows[stepped], depth[stepped]
        if not len(rows):
            return
        lane = rows * self._depths + depth
        last = {name: column[lane] for name, column in self._last.items()}
        last["ended"] = np.ones(len(rows), bool)
        for k, watcher in enumerate(self.watchers):
            if watcher.monitor.scores_ends:
                score = self._update(k, lane, rows, depth, Steps(**last))
                lines = self._last_line[rows, depth]
                values = self.values[k, rows, depth]
                self._mends.extend(
                    zip(
                        [k] * len(rows),
                        lines.tolist(),
                        score.tolist(),
                        values.tolist(),
                        strict=True,
                    )
                )

    def reading(self, row: int, depth: int) -> tuple[float | None, float | None]:
        """Running and highest value of the deciding watcher there, None where unscored."""
        if self.deciding is None:
            return None, None
        value, peak = self.values[self.deciding, row, depth], self.peaks[self.deciding, row, depth]
        return (None if np.isnan(value) else float(value)), (
            None if np.isnan(peak) else float(peak)
        )

    def table(self) -> dict[str, np.ndarray]:
        """Every score ever given, columns [U]; rolled-back branches included."""
        names = ["row", "sub_episode", "step", "clock", "divergent"]
        names += [f"{part}/{w.name}" for w in self.watchers for part in ("score", "value")]
        if not self._table:
            return {name: np.zeros(0, np.float64) for name in names}
        table = {name: np.concatenate([line[name] for line in self._table]) for name in names}
        for k, line, score, value in self._mends:
            table[f"score/{self.watchers[k].name}"][line] = score
            table[f"value/{self.watchers[k].name}"][line] = value
        return table

    def _update(
        self, k: int, lane: np.ndarray, rows: np.ndarray, depth: int | np.ndarray, steps: Steps
    ) -> np.ndarray:
        watcher = self.watchers[k]
        if not watcher.monitor.privileged:
            steps = replace(steps, intent=None)
        memory = {name: array[lane] for name, array in self._scores[k].items()}
        score, memory = watcher.monitor.score(steps, memory)
        for name, array in memory.items():
            self._scores[k][name][lane] = array
        memory = {name: array[lane] for name, array in self._statistics[k].items()}
        value, memory = watcher.statistic.update(score, memory)
        for name, array in memory.items():
            self._statistics[k][name][lane] = array
        self.values[k, rows, depth] = value
        self.peaks[k, rows, depth] = np.fmax(self.peaks[k, rows, depth], value)
        return score

    def _live(self) -> list[tuple[str, np.ndarray]]:
        remembered = [
            (f"{part}/{k}/{name}", array)
            for part, memories in (("score", self._scores), ("statistic", self._statistics))
            for k, memory in enumerate(memories)
            for name, array in memory.items()
        ]
        return remembered + [(f"last/{name}", array) for name, array in self._last.items()]

    def _remember(self, lane: np.ndarray, steps: Steps) -> None:
        for name, column in vars(steps).items():
            if column is not None:
                if name not in self._last:
                    lanes = self._step.size
                    self._last[name] = np.zeros(lanes, column.dtype)
                self._last[name][lane] = column
