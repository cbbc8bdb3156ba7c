"""The report's one episode: its tree of delegations over time, and its maze."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from delegate.delegation.tree import DelegationTree
from delegate.safety import palette
from delegate.safety.example import Example, Path
from delegate.safety.palette import INK, INTENDED, MUTED, NEUTRAL, PROXY, RULE, UNDONE, axis, text

WALL = "#4b5763"
OFFSETS = ((-0.16, -0.16), (0.0, 0.0), (0.16, 0.16))
"""how paths are set apart where they share cells (cells right, cells down)"""


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
            hovertemplate=f"{text(about['name'])}<br>{text(_story(tree, node))}<extra></extra>",
        )
        drawn.add_annotation(
            x=about["spawned"] + max(steps, paid / 200),
            y=lane[node],
            text=text(_story(tree, node)),
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


def maze(example: Example) -> go.Figure:
    """The maze with the path that stood, the proxied one and the rolled-back ones."""
    height, width = example.walls.shape
    drawn = palette.figure(
        520,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"x": 1.02, "y": 1, "font": {"size": 13}},
    )
    drawn.add_heatmap(
        z=example.walls.astype(int),
        colorscale=[[0, "#ffffff"], [1, WALL]],
        showscale=False,
        hoverinfo="skip",
        xgap=1,
        ygap=1,
    )
    if example.proxied is not None:
        label = f"proxied: {example.proxied.label} alone, unmonitored"
        _walk(drawn, example.proxied, width, label, PROXY, 1, "dot")
    for place, path in enumerate(example.undone):
        label = f"rolled back: {path.label}" + (f" ({place + 1})" if place else "")
        _walk(drawn, path, width, label, UNDONE, 0, "solid", taken_back=True)
    _walk(drawn, example.kept, width, "kept: what finally stood", INTENDED, 2, "solid")
    for cell, label, symbol, colour in (
        (example.proxy_goal, "proxy goal", "square", PROXY),
        (example.goal, "intended goal", "star", INTENDED),
        (_first(example), "start", "circle", INK),
    ):
        if cell >= 0:
            drawn.add_scatter(
                x=[cell % width],
                y=[cell // width],
                mode="markers",
                name=label,
                marker={
                    "symbol": symbol, "size": 17, "color": colour,
                    "line": {"color": "white", "width": 2},
                },
                hovertemplate=f"{label}<extra></extra>",
            )  # fmt: skip
    drawn.update_layout(
        plot_bgcolor=RULE,
        xaxis={"visible": False, "range": [-0.5, width - 0.5], "constrain": "domain"},
        yaxis={
            "visible": False, "range": [height - 0.5, -0.5], "scaleanchor": "x",
            "constrain": "domain",
        },
    )  # fmt: skip
    return drawn


def _walk(
    drawn: go.Figure,
    path: Path,
    width: int,
    label: str,
    colour: str,
    side: int,
    dash: str,
    taken_back: bool = False,
) -> None:
    if not len(path.cells):
        return
    right, down = OFFSETS[side]
    rows, columns = np.divmod(path.cells, width)
    drawn.add_scatter(
        x=columns + right,
        y=rows + down,
        mode="lines",
        name=text(label),
        line={"color": colour, "width": 3.5, "dash": dash},
        hovertemplate=f"{text(label)}<extra></extra>",
    )
    if taken_back:
        drawn.add_scatter(
            x=[columns[-1] + right],
            y=[rows[-1] + down],
            mode="markers",
            showlegend=False,
            marker={"symbol": "x", "size": 12, "color": colour, "line": {"color": INK, "width": 1}},
            hovertemplate="taken back here<extra></extra>",
        )


def _first(example: Example) -> int:
    """Where it began: the level's start, or the first state walked."""
    if example.start >= 0:
        return example.start
    paths = [*(each.cells for each in example.undone), example.kept.cells]
    return next((int(cells[0]) for cells in paths if len(cells)), -1)


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


def _story(tree: DelegationTree, node: int) -> str:
    """What became of a sub-episode, in words."""
    about = tree.nodes[node]
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
    return f"{verdict} after {steps}; {pursued}"
