"""Interquartile means with intervals, and learning curves.

Source: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice
(arXiv 2108.13264).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from scipy.stats import trim_mean

from delegate.files import write_whole
from experiments.study.records import Record

DRAWS, THOUSAND = 2_000, 1_000
COLOURS = (
    "#4a5560",
    *matplotlib.color_sequences["tab20"][::2],
    *matplotlib.color_sequences["tab20"][1::2],
)

Scores = Mapping[int, Mapping[str, float]]
"""what was measured of each seed"""


def interval(
    values: Sequence[float] | np.ndarray, strata: Sequence[str] | None = None
) -> dict[str, Any]:
    """Interquartile mean over seeds with its 95% bootstrap interval, and every seed's value.

    values: float [seeds] · strata: what each is of, as tasks, and is resampled within
    """
    values = np.asarray(values, np.float64)
    low, high = np.quantile(_means(values[:, None], strata)[:, 0], (0.025, 0.975))
    return {
        "value": float(trim_mean(values, 0.25)),
        "low": float(low),
        "high": float(high),
        "n": len(values),
        "per_seed": values.tolist(),
    }


def by_arm(
    records: Sequence[Record], scores: Callable[[Record], dict[str, float]]
) -> dict[str, dict[int, dict[str, float]]]:
    """What is measured of each run, by arm and by seed."""
    found: dict[str, dict[int, dict[str, float]]] = {}
    for record in records:
        run = record["run"]
        found.setdefault(run["arm"]["name"], {})[run["seed"]] = scores(record)
    return found


def intervals(mine: Scores) -> dict[str, Any]:
    """Of every score, over the seeds."""
    names = next(iter(mine.values()))
    return {name: interval([scores[name] for scores in mine.values()]) for name in names}


def gain(mine: Scores, theirs: Scores, what: str = "area") -> dict[str, Any] | None:
    """Interval of how much more of `what` mine have, paired by seed; None where none have a rival
    or they are the same."""
    pairs = ((scores, theirs.get(seed, {})) for seed, scores in mine.items())
    gains = [scores[what] - other[what] for scores, other in pairs if what in other]
    return interval(gains) if gains and mine is not theirs else None


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same at every point of a curve: value, low, high [points]. values: [seeds, points]"""
    low, high = np.quantile(_means(values), (0.025, 0.975), axis=0)
    return trim_mean(values, 0.25, axis=0), low, high


def _means(values: np.ndarray, strata: Sequence[str] | None = None) -> np.ndarray:
    """Interquartile means of resampled seeds. float [DRAWS, points]"""
    rng = np.random.default_rng(0)
    of = np.zeros(len(values)) if strata is None else np.array(strata)
    parts = [np.flatnonzero(of == stratum) for stratum in np.unique(of)]
    drawn = [part[rng.integers(0, len(part), (DRAWS, len(part)))] for part in parts]
    return trim_mean(values[np.concatenate(drawn, axis=1)], 0.25, axis=1)


def area(x: np.ndarray, y: np.ndarray) -> float:
    """Mean of a curve over its x-axis."""
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def filled(values: Sequence[float | None], before: float | None = None) -> np.ndarray:
    """A curve without gaps: what was measured last where nothing was, and where nothing was yet
    `before`, or else what came first. float [bins]"""
    found = np.array([np.nan if value is None else value for value in values], np.float64)
    there = np.flatnonzero(np.isfinite(found))
    last = np.searchsorted(there, np.arange(len(found)), side="right") - 1
    whole = found[there[np.maximum(last, 0)]] if len(there) else found
    return whole if before is None else np.where(last < 0, before, whole)


def shown(
    metric: Mapping[str, Any] | None, digits: int = 0, sign: str = "", percent: bool = False
) -> str:
    """`1,234 [1,100, 1,300]`, `95.3% [93.8, 96.5]`, a dash where nothing was measured."""
    if metric is None or metric["value"] is None:
        return "–"
    value, low, high = (
        "–" if (number := metric[name]) is None
        else f"{number * 100 if percent else number:{sign},.{digits}f}"
        for name in ("value", "low", "high")
    )  # fmt: skip
    return f"{value}{'%' if percent else ''} [{low}, {high}]"


@dataclass(frozen=True)
class Line:
    """One arm of a panel: x, value, low, high [points], NaN where nothing was measured.

    count: seeds behind it, for the legend
    marks: the points were measured one by one, and are drawn so
    """

    name: str
    x: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    marks: bool = False
    count: int | None = None

    @property
    def label(self) -> str:
        """As the legend calls it."""
        return self.name if self.count is None else f"{self.name} ({self.count} seeds)"

    @classmethod
    def of_seeds(cls, name: str, x: np.ndarray, seeds: np.ndarray) -> Line:
        """Interquartile means with their intervals. x: [points] · seeds: [seeds, points]"""
        return cls(name, x, *band(seeds), count=len(seeds))


@dataclass(frozen=True)
class Panel:
    """One set of axes."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line] = field(default_factory=list)


def panel_of(
    title: str,
    y_label: str,
    records: Sequence[Record],
    curve: Callable[[Record], np.ndarray],
) -> Panel:
    """What `curve` [bins] says of each record over its environment steps, a line for each arm."""
    panel = Panel(title, "environment steps", y_label)
    for name in dict.fromkeys(record["run"]["arm"]["name"] for record in records):
        runs = [record for record in records if record["run"]["arm"]["name"] == name]
        seeds = np.array([curve(record) for record in runs])
        x = np.arange(1, seeds.shape[1] + 1) * runs[0]["run"]["steps"] / seeds.shape[1]
        panel.lines.append(Line.of_seeds(name.replace("_", " "), x, seeds))
    return panel


def draw(panels: Sequence[Panel], path: Path, columns: int = 3) -> None:
    """Panels side by side, intervals as bands; an arm keeps its colour throughout."""
    names = list(dict.fromkeys(line.name for panel in panels for line in panel.lines))
    width = min(columns, len(panels))
    rows = -(-len(panels) // width)
    pyplot.rcParams.update({"svg.hashsalt": "delegate", "font.size": 9, "svg.fonttype": "none"})
    figure, axes = pyplot.subplots(
        rows, width, figsize=(4.2 * width, 3.3 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        for line in panel.lines:
            colour = COLOURS[names.index(line.name) % len(COLOURS)]
            if line.marks:
                reach = np.abs([line.value - line.low, line.high - line.value])
                axis.errorbar(
                    line.x, line.value, reach, color=colour, label=line.label, marker="o",
                    markersize=3, linewidth=1.2, capsize=2,
                )  # fmt: skip
                continue
            axis.plot(line.x, line.value, color=colour, label=line.label, linewidth=1.6)
            axis.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
        if max((line.x.max() for line in panel.lines), default=0) > THOUSAND:
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.set_title(panel.title, fontsize=9)
        axis.set_xlabel(panel.x_label)
        axis.set_ylabel(panel.y_label)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=7)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write it, whole or not at all, and close it."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:], metadata={"Date": None})
    pyplot.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, drawn.getvalue())
