"""The report's one episode: its tree of delegations over time, and its level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from delegate.delegation.tree import DelegationTree
from delegate.safety import palette
from delegate.safety.example import Example, Path
from delegate.safety.palette import INK, INTENDED, MUTED, NEUTRAL, PROXY, UNDONE, axis, text

ASIDE = 0.012
"""how far paths are set apart where they share ground (share of the drawing's width)"""
ROLES = {
    "wall": ("#4b5763", ""), "trap": ("#e8b4a8", "trap"), "goal": (INTENDED, "intended goal"),
    "proxy": (PROXY, "proxy goal"), "start": (INK, "start"),
}  # fmt: skip
"""role of a shape -> its colour, and its name in the legend"""


def delegation_tree(example: Example) -> go.Figure:
    """Who asked whom, and when: a bar a sub-episode from its spawn to its end, below its parent.

    Across runs the interaction clock, which a rollback does not turn back.
    """
    tree = example.tree
    nodes = _depth_first(tree, 0)
    lane = {node: place for place, node in enumerate(nodes)}
    paid = max(1, int(tree.nodes[0].get("steps", 1)))
    drawn = palette.figure(
        110 + 52 * len(nodes),
        barmode="overlay",
        bargap=0.45,
        showlegend=False,
        margin={"l": 110, "r": 24, "t": 16, "b": 56},
    )
    for parent, child in tree.edges:
        start = tree.nodes[child]["spawned"]
        drawn.add_shape(
            type="path",
            path=f"M {start} {lane[parent]} L {start} {lane[child]}",
            line={"color": MUTED, "width": 1.5},
            layer="below",
        )
    for node in nodes:
        about = tree.nodes[node]
        undone = about.get("verdict") == "rolled_back"
        colour = NEUTRAL if node == 0 else UNDONE if undone else INTENDED
        steps = int(about.get("steps", 0))
        drawn.add_bar(
            x=[max(steps, paid / 200)],
            y=[lane[node]],
            base=[about["spawned"]],
            orientation="h",
            marker={
                "color": palette.faded(colour, 0.3) if undone else colour,
                "line": {"color": colour, "width": 1.5},
                "pattern": {"shape": "/" if undone else "", "fgcolor": colour, "size": 7},
                "cornerradius": 4,
            },
            hovertemplate=f"{text(about['name'])}<br>{text(_story(example, node))}<extra></extra>",
        )
        drawn.add_annotation(
            x=about["spawned"] + max(steps, paid / 200),
            y=lane[node],
            text=text(_story(example, node, heading=undone)),
            xanchor="left",
            xshift=8,
            showarrow=False,
            font={"size": 13, "color": INK if node == 0 else colour},
        )
        if about.get("alarm") is not None:
            drawn.add_scatter(
                x=[about["alarm"]],
                y=[lane[node]],
                mode="markers",
                marker={
                    "symbol": "triangle-down", "size": 13, "color": PROXY,
                    "line": {"color": "white", "width": 1},
                },
                hovertemplate="alarm at step %{x}<extra></extra>",
            )  # fmt: skip
    drawn.update_layout(
        xaxis=axis(
            "interaction clock (environment steps paid)",
            range=[-0.01 * paid, 1.75 * paid],
            tickmode="array",
            tickvals=_ticks(paid),
        ),
        yaxis=axis(
            "",
            tickmode="array",
            tickvals=list(range(len(nodes))),
            ticktext=[_name(tree, node) + "  " for node in nodes],
            range=[len(nodes) - 0.4, -0.6],
            showgrid=False,
        ),
    )
    return drawn


def level_map(example: Example) -> go.Figure | None:
    """The level with the path that stood, the proxied one and the rolled-back ones; None where
    there is no drawing of it."""
    if example.drawing is None:
        return None
    width, height = example.drawing["size"]
    drawn = palette.figure(
        520,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"x": 1.02, "y": 1, "font": {"size": 13}},
    )
    for shape in example.drawing["shapes"]:
        _shape(drawn, shape)
    paths: list[tuple[Path, str, str, int, str]] = []
    if example.proxied is not None:
        label = f"proxied: {example.proxied.label} alone, unmonitored"
        paths.append((example.proxied, label, PROXY, 0, "dot"))
    for place, path in enumerate(example.undone):
        label = f"rolled back: {path.label}" + (f" ({place + 1})" if place else "")
        if path.heading:
            label += f", heading for: {path.heading}"
        paths.append((path, label, UNDONE, -1, "solid"))
    paths.append((example.kept, "kept: what finally stood", INTENDED, 1, "solid"))
    for path, label, colour, side, dash in paths:
        _walk(drawn, path, label, colour, ASIDE * side * width, dash)
    drawn.update_layout(
        plot_bgcolor=palette.PAPER,
        xaxis={"visible": False, "range": [0, width], "constrain": "domain"},
        yaxis={
            "visible": False,
            "range": [height, 0],
            "scaleanchor": "x",
            "constrain": "domain",
        },
    )
    return drawn


def _shape(drawn: go.Figure, shape: Mapping[str, Any]) -> None:
    """What stands still in the level; goals and the start by a mark with a name."""
    colour, name = ROLES.get(shape["role"], (MUTED, ""))
    (x, y), (width, height) = shape["at"], shape["size"]
    drawn.add_shape(
        type="circle" if shape["shape"] == "circle" else "rect",
        x0=x - width / 2,
        x1=x + width / 2,
        y0=y - height / 2,
        y1=y + height / 2,
        fillcolor=colour if not name else palette.faded(colour, 0.35),
        line={"color": palette.PAPER, "width": 1},
        layer="below",
    )
    if not name or name == "trap":
        return
    symbol = {"goal": "star", "proxy": "square", "start": "circle"}[shape["role"]]
    drawn.add_scatter(
        x=[x],
        y=[y],
        mode="markers",
        name=name,
        marker={
            "symbol": symbol, "size": 15, "color": colour, "line": {"color": "white", "width": 2},
        },
        hovertemplate=f"{name}<extra></extra>",
    )  # fmt: skip


def _walk(drawn: go.Figure, path: Path, label: str, colour: str, aside: float, dash: str) -> None:
    if not len(path.places):
        return
    x, y = (path.places + aside).T
    drawn.add_scatter(
        x=x,
        y=y,
        mode="lines",
        name=text(label),
        line={"color": colour, "width": 3.5, "dash": dash},
        hovertemplate=f"{text(label)}<extra></extra>",
    )
    if colour == UNDONE:
        drawn.add_scatter(
            x=x[-1:],
            y=y[-1:],
            mode="markers",
            showlegend=False,
            marker={"symbol": "x", "size": 12, "color": colour, "line": {"color": INK, "width": 1}},
            hovertemplate="taken back here<extra></extra>",
        )


def _ticks(last: int) -> list[int]:
    """About five round numbers from 0 to `last`."""
    rough = max(1.0, last / 5)
    scale = 10 ** int(np.log10(rough))
    step = next(scale * each for each in (1, 2, 5, 10) if scale * each >= rough)
    return list(range(0, last + 1, step))


def _depth_first(tree: DelegationTree, node: int) -> list[int]:
    return [
        node,
        *(n for child in sorted(tree.successors(node)) for n in _depth_first(tree, child)),
    ]


def _name(tree: DelegationTree, node: int) -> str:
    """Its name, marked where a child asked for it and not the parent at the root."""
    below = max(0, int(tree.nodes[node]["depth"]) - 1)
    return "↳ " * below + text(str(tree.nodes[node]["name"]))


def _story(example: Example, node: int, heading: bool = True) -> str:
    """What became of a sub-episode, in words. heading: say where it was seen going"""
    about = example.tree.nodes[node]
    count = int(about.get("steps", 0))
    steps = f"{count} step" + "s" * (count != 1)
    if node == 0:
        return f"{steps} paid, {about.get('outcome', 'unfinished')}".replace("_", " ")
    pursued = {
        "intended": "pursued the intended goal",
        "proxy": "pursued the proxy",
        "none": "pursued nothing",
    }.get(str(about.get("intent")), "pursued something unknown")
    verdict = str(about.get("verdict", "no verdict")).replace("_", " ")
    seen = example.headings.get(node) if heading else None
    return f"{verdict} after {steps}; {pursued}" + (f"; heading for: {seen}" if seen else "")
