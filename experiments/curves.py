"""What the learning experiments share: interquartile means with intervals, and learning curves.

Source: Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical Precipice
(arXiv 2108.13264).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import numpy as np
from matplotlib import pyplot
from scipy.stats import trim_mean

DRAWS = 2_000
COLOURS = (
    "#4a5560",
    *matplotlib.color_sequences["tab20"][::2],
    *matplotlib.color_sequences["tab20"][1::2],
)


def interval(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Interquartile mean over seeds with its 95% bootstrap interval, and every seed's value.

    values: float [seeds]
    """
    values = np.asarray(values, np.float64)
    low, high = np.quantile(_means(values[:, None])[:, 0], (0.025, 0.975))
    return {
        "value": float(trim_mean(values, 0.25)),
        "low": float(low),
        "high": float(high),
        "n": len(values),
        "per_seed": values.tolist(),
    }


def band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same at every point of a curve: value, low, high [points]. values: [seeds, points]"""
    low, high = np.quantile(_means(values), (0.025, 0.975), axis=0)
    return trim_mean(values, 0.25, axis=0), low, high


def _means(values: np.ndarray) -> np.ndarray:
    """Interquartile means of resampled seeds. float [DRAWS, points]"""
    rng = np.random.default_rng(0)
    draws = values[rng.integers(0, len(values), (DRAWS, len(values)))]
    return trim_mean(draws, 0.25, axis=1)


def area(x: np.ndarray, y: np.ndarray) -> float:
    """Mean of a curve over its x-axis."""
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


def shown(metric: Mapping[str, Any] | None, digits: int = 0) -> str:
    """`1234 [1100, 1300]`, a dash where it does not apply."""
    if metric is None:
        return "–"
    value, low, high = (f"{metric[name]:,.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


@dataclass(frozen=True)
class Line:
    """One arm of a panel. x: [points] · seeds: [seeds, points]"""

    name: str
    x: np.ndarray
    seeds: np.ndarray
    dashed: bool = False


def draw(
    panels: Mapping[str, Sequence[Line]], path: Path, x_label: str, y_label: str, columns: int = 3
) -> None:
    """Learning curves, a panel each, with their intervals as bands; an arm keeps its colour."""
    names = list(dict.fromkeys(line.name for lines in panels.values() for line in lines))
    rows = -(-len(panels) // columns)
    width = min(columns, len(panels))
    pyplot.rcParams.update({"svg.hashsalt": "delegate", "font.size": 9, "svg.fonttype": "none"})
    figure, axes = pyplot.subplots(
        rows, width, figsize=(4.2 * width, 3.3 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (title, lines) in zip(axes.flat, panels.items(), strict=False):
        for line in lines:
            colour = COLOURS[names.index(line.name) % len(COLOURS)]
            value, low, high = band(line.seeds)
            label = f"{line.name} ({len(line.seeds)} seeds)"
            style = "--" if line.dashed else "-"
            axis.plot(line.x, value, style, color=colour, label=label, linewidth=1.6)
            axis.fill_between(line.x, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set_title(title)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
