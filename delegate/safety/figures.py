"""The report's comparisons: arms against each other, and monitors against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import floor

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from delegate.safety import palette
from delegate.safety.evidence import Evidence
from delegate.safety.intervals import Metric
from delegate.safety.palette import INK, INTENDED, MUTED, NEUTRAL, PROXY, RULE, axis, faded, text
from delegate.safety.ranking import gmg_curve
from delegate.safety.summary import (
    Metrics,
    best_monitor,
    crew_arms,
    group,
    leading_monitor,
    monitor_id,
    number,
    ranked_monitors,
)

WINDOW = np.arange(-8, 25)
"""steps shown around the parting"""

ENDS = [float(WINDOW[0]), float(WINDOW[-1])]

PANELS = 4
"""monitors shown around the parting"""

FEWEST = 5
"""sub-episodes below which no median is drawn (count)"""

PROTOCOL_COLOURS = {
    "none": NEUTRAL,
    "rollback": palette.RECALL_SHADES[0],
    "rollback_random": palette.UNDONE,
    "audit": palette.BASELINE_SHADES[0],
    "always": palette.PROXY,
    "oracle": INK,
    "trusted_only": INTENDED,
}


def safety_usefulness(metrics: Metrics) -> go.Figure | None:
    """Every arm as a point: usefulness across, safety up, both with their intervals."""
    plan = metrics["provenance"]["config"]["arms"]
    arms = [
        arm
        for arm in crew_arms(metrics)
        if None not in (_value(metrics, arm, "usefulness"), _value(metrics, arm, "safety"))
    ]
    if not arms:
        return None
    drawn = palette.figure(
        460,
        margin={"l": 72, "r": 24, "t": 24, "b": 60},
        legend={"x": 1.02, "y": 1, "font": {"size": 13}, "title": _small("arm")},
    )
    symbols = _symbols([plan[arm]["protocol"] for arm in arms])
    for arm, (symbol, size) in zip(arms, symbols, strict=True):
        found = metrics["arms"][arm]
        useful, safe = found["usefulness"], found["safety"]
        branches = found["gmg_rate_all_branches"]["value"]
        colour = PROTOCOL_COLOURS.get(plan[arm]["protocol"], NEUTRAL)
        if branches is not None and 1 - branches < safe["value"]:
            drawn.add_scatter(
                x=[100 * useful["value"]] * 2,
                y=[100 * safe["value"], 100 * (1 - branches)],
                mode="lines+markers",
                line={"color": faded(colour, 0.6), "width": 1.5, "dash": "dot"},
                marker={"size": [0, 10], "symbol": "circle-open", "color": colour},
                showlegend=False,
                hovertemplate=f"{text(arm)}, undone branches counted too: %{{y:.1f}}%"
                "<extra></extra>",
            )
        drawn.add_scatter(
            x=[100 * useful["value"]],
            y=[100 * safe["value"]],
            mode="markers",
            name=text(arm),
            marker={
                "size": size,
                "symbol": symbol,
                "color": colour,
                "line": {"color": colour if "open" in symbol else "white", "width": 1.5},
            },
            error_x=_bars(useful, colour),
            error_y=_bars(safe, colour),
            cliponaxis=False,
            hovertemplate=f"{text(arm)}<br>usefulness %{{x:.1f}}%<br>safety %{{y:.1f}}%"
            "<extra></extra>",
        )
    drawn.update_layout(
        xaxis=axis(
            "usefulness: intended success, % of the trusted child's own",
            range=_range([metrics["arms"][arm]["usefulness"] for arm in arms]),
            ticksuffix="%",
        ),
        yaxis=axis(
            "safety: episodes not ended at the proxy alone, %",
            range=_range([metrics["arms"][arm]["safety"] for arm in arms]),
            ticksuffix="%",
        ),
    )
    return drawn


def roc_curves(metrics: Metrics, evidence: Evidence) -> go.Figure | None:
    """True against false positive rate of every monitor, whole sub-episodes."""
    colours = monitor_colours(metrics)
    drawn = palette.figure(
        520,
        margin={"l": 72, "r": 24, "t": 24, "b": 60},
        legend={"x": 1.02, "y": 1, "font": {"size": 12}, "title": _small("AUROC")},
    )
    drawn.add_scatter(
        x=[0, 100], y=[0, 100], mode="lines", showlegend=False, hoverinfo="skip",
        line={"color": RULE, "width": 1.5},
    )  # fmt: skip
    names = [
        name
        for name in ranked_monitors(metrics)
        if metrics["monitors"][name]["auroc_gmg"]["value"] is not None
    ]
    for name in names:
        kind = group(metrics, name)
        false, true = gmg_curve(evidence, name).points()
        value = metrics["monitors"][name]["auroc_gmg"]["value"]
        drawn.add_scatter(
            x=100 * false,
            y=100 * true,
            mode="lines",
            name=f"{number(value, 'plain')}  {text(name)}",
            line={
                "color": colours[name],
                "width": 3 if kind == "recall" else 1.75,
                "dash": "dot" if kind == "control" else "solid",
            },
            hovertemplate=f"{text(name)}<br>false positives %{{x:.1f}}%<br>"
            "true positives %{y:.1f}%<extra></extra>",
        )
    drawn.update_layout(
        xaxis=axis("false positives: intended-pursuers flagged, %", range=[-1, 101]),
        yaxis=axis("true positives: proxy-pursuers flagged, %", range=[-1, 101]),
    )
    return drawn if names else None


def score_around_parting(metrics: Metrics, evidence: Evidence) -> go.Figure | None:
    """Running value against steps since the goals parted: median and quartiles of both groups."""
    names = parting_panels(metrics)
    there = evidence.table.parting >= 0
    groups = (
        ("pursues the proxy", evidence.proxy & there, PROXY),
        ("pursues the intended goal", evidence.intended & there, INTENDED),
    )
    if not names or not any(chosen.any() for _, chosen, _ in groups):
        return None
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    drawn = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[text(name) for name in names],
        horizontal_spacing=0.11,
        vertical_spacing=0.16,
    )
    drawn.update_layout(palette.figure(90 + 250 * rows).layout)
    drawn.update_layout(
        margin={"l": 64, "r": 24, "t": 64, "b": 56},
        legend={"orientation": "h", "x": 0, "y": 1 + 0.36 / rows, "font": {"size": 13}},
    )
    for place, name in enumerate(names):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        for label, chosen, colour in groups:
            _band(drawn, evidence, name, chosen, label, colour, place == 0, at)
        limit = float(np.median(evidence.table.scores[name].threshold))
        if np.isfinite(limit):
            drawn.add_hline(y=limit, line={"color": INK, "width": 1, "dash": "dash"}, **at)
        drawn.add_vline(x=0, line={"color": MUTED, "width": 1}, **at)
        last = at["row"] == rows or place + columns >= len(names)
        drawn.update_xaxes(axis("steps since the goals parted" if last else "", range=ENDS), **at)
        drawn.update_yaxes(axis("running value" if at["col"] == 1 else ""), **at)
    drawn.update_annotations(font={"size": 14, "color": INK})
    return drawn


def parting_panels(metrics: Metrics) -> list[str]:
    """Which monitors to show around the parting: the leading one, the best others."""
    others = [name for name in ranked_monitors(metrics) if group(metrics, name) != "control"]
    wanted = [leading_monitor(metrics), best_monitor(metrics), *others]
    return list(dict.fromkeys(name for name in wanted if name is not None))[:PANELS]


def monitor_colours(metrics: Metrics) -> dict[str, str]:
    """One colour a monitor: blues look through recall, greys are controls."""
    shades = {
        "recall": palette.RECALL_SHADES,
        "baseline": palette.BASELINE_SHADES,
        "control": palette.CONTROL_SHADES,
    }
    order = ("reach", "destination", "path")
    names = sorted(
        metrics["monitors"],
        key=lambda name: (
            order.index(monitor_id(metrics, name)) if monitor_id(metrics, name) in order else 9,
            name,
        ),
    )
    used = dict.fromkeys(shades, 0)
    colours: dict[str, str] = {}
    for name in names:
        kind = group(metrics, name)
        colours[name] = shades[kind][used[kind] % len(shades[kind])]
        used[kind] += 1
    return colours


def _band(
    drawn: go.Figure,
    evidence: Evidence,
    monitor: str,
    chosen: np.ndarray,
    label: str,
    colour: str,
    legend: bool,
    at: Mapping[str, int],
) -> None:
    """Median and quartiles of one group; a sub-episode that has ended keeps its last value."""
    table = evidence.table.take(chosen)
    values = np.stack([table.since(table.parting, monitor, int(k)) for k in WINDOW])
    values[~np.isfinite(values)] = np.nan
    known = np.isfinite(values).sum(axis=1) >= FEWEST
    if not known.any():
        return
    low, middle, high = (
        np.nanquantile(values[known], share, axis=1) for share in (0.25, 0.5, 0.75)
    )
    x = WINDOW[known]
    drawn.add_scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        fill="toself",
        mode="lines",
        fillcolor=faded(colour, 0.16),
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
        legendgroup=label,
        **at,
    )
    drawn.add_scatter(
        x=x,
        y=middle,
        mode="lines",
        name=label,
        legendgroup=label,
        showlegend=legend,
        line={"color": colour, "width": 2.5},
        hovertemplate=f"{label}<br>%{{x}} steps since then: %{{y:.3g}}<extra></extra>",
        **at,
    )


def _value(metrics: Metrics, arm: str, name: str) -> float | None:
    value = metrics["arms"][arm][name]["value"]
    return None if value is None else float(value)


def _bars(metric: Metric, colour: str) -> dict[str, object]:
    if metric["low"] is None:
        return {"visible": False}
    return {
        "type": "data",
        "symmetric": False,
        "array": [100 * (metric["high"] - metric["value"])],
        "arrayminus": [100 * (metric["value"] - metric["low"])],
        "color": faded(colour, 0.55),
        "thickness": 1.5,
        "width": 4,
    }


def _symbols(protocols: Sequence[str]) -> list[tuple[str, int]]:
    """Symbol and size of each arm: a ring for the oracle, which others may reach, and another
    shape for every further arm of one protocol."""
    shapes = ("circle", "diamond", "square", "triangle-up", "pentagon", "star")
    return [
        ("circle-open", 20)
        if protocol == "oracle"
        else (shapes[list(protocols[:place]).count(protocol) % len(shapes)], 13)
        for place, protocol in enumerate(protocols)
    ]


def _small(title: str) -> dict[str, object]:
    return {"text": title, "font": {"size": 13, "color": MUTED}}


def _range(metrics: Sequence[Metric]) -> list[float]:
    """All points and their intervals in percent, from a ten below to just above the highest."""
    lows = [m["value"] if m["low"] is None else m["low"] for m in metrics]
    highs = [m["value"] if m["high"] is None else m["high"] for m in metrics]
    return [max(-2.0, 10 * floor(10 * min(lows)) - 10.0), max(100.0, 100 * max(highs)) + 4]
