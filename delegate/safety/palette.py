"""One look for all figures: colours by meaning, quiet axes, system fonts."""

from __future__ import annotations

from html import escape
from typing import Any

import plotly.graph_objects as go

INK, MUTED, RULE, PAPER = "#1f2a37", "#66727f", "#e4e8ec", "#ffffff"
INTENDED, PROXY, UNDONE, NEUTRAL = "#1f7a6d", "#c2543d", "#c08420", "#7b8794"
RECALL_SHADES = ("#1b4f8f", "#4a86c5", "#8fb8de", "#5a6fb0")
BASELINE_SHADES = ("#8a6d9f", "#b08bb0", "#6f8f72", "#a8a06a", "#b98a6a", "#7d8fa3")
CONTROL_SHADES = ("#9aa5b1", "#c3cad2")

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

MARGIN = {"l": 64, "r": 24, "t": 24, "b": 56}


def figure(height: int, **layout: Any) -> go.Figure:
    """An empty figure in the house look; height in pixels, the width is the page's."""
    empty = go.Figure()
    empty.update_layout(
        template="none",
        height=height,
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor=PAPER,
        plot_bgcolor=PAPER,
        margin=MARGIN,
        hoverlabel={"font": {"family": FONT, "size": 12}},
        legend={"font": {"size": 12, "color": INK}, "bgcolor": "rgba(255,255,255,0.85)"},
    )
    empty.update_layout(**layout)
    return empty


def axis(title: str, **more: Any) -> dict[str, Any]:
    """One axis with its title and unit."""
    return {
        "title": {"text": title, "font": {"size": 13, "color": MUTED}, "standoff": 10},
        "gridcolor": RULE,
        "zeroline": False,
        "linecolor": RULE,
        "tickfont": {"size": 12, "color": MUTED},
        "ticks": "",
        **more,
    }


def text(content: str) -> str:
    """A name as it may stand in a figure, where Plotly would read tags as markup."""
    return escape(content, quote=False)


def faded(colour: str, opacity: float) -> str:
    """A colour let through; colour: "#rrggbb", opacity from 0 to 1."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"
