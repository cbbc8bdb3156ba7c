"""The figures of the trap grid experiment, drawn as SVG from the rows of its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

COLOURS = {
    "plain": "#4a5560",
    "learned": "#b8860b",
    "aside": "#7a5ea8",
    "known": "#1f7a6d",
    "random": "#c1503c",
}
MEANING = {
    "plain": "plain Q-learning",
    "learned": "going back is learned like any action (the proposal)",
    "aside": "learned, the world's actions valued without it",
    "known": "what going back does is known",
    "random": "goes back at random, as often as the one above",
}
WIDTH, HEIGHT, LEFT, TOP, GAP_X, GAP_Y = 250, 170, 64, 34, 34, 58
FONT = 'font-family="sans-serif" fill="#222b33"'
Row = dict[str, Any]


@dataclass
class Panel:
    """One set of axes. x, y: range · shapes: SVG so far, in the panel's own coordinates"""

    title: str
    x: tuple[float, float]
    y: tuple[float, float]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    shapes: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point is drawn; what is out of range is drawn at the edge."""
        share_x = (x - self.x[0]) / (self.x[1] - self.x[0])
        share_y = (y - self.y[0]) / (self.y[1] - self.y[0])
        return min(max(share_x, 0), 1) * WIDTH, (1 - min(max(share_y, 0), 1)) * HEIGHT

    def line(self, xs: Sequence[float], curve: Row, colour: str) -> None:
        """A curve with its interval as a band; points that were not measured are left out."""
        points = [
            (x, value, low, high)
            for x, value, low, high in zip(
                xs, curve["value"], curve["low"], curve["high"], strict=True
            )
            if None not in (value, low, high)
        ]
        upper = [self.at(x, high) for x, _, _, high in points]
        lower = [self.at(x, low) for x, _, low, _ in reversed(points)]
        self.shapes.append(
            f'<polygon points="{_path(upper + lower)}" fill="{colour}" opacity=".2"/>'
        )
        middle = _path([self.at(x, value) for x, value, _, _ in points])
        self.shapes.append(f'<polyline points="{middle}" stroke="{colour}" stroke-width="1.8"/>')

    def whisker(self, x: float, metric: Row, colour: str, mark: str) -> None:
        """A number with its interval."""
        if metric["value"] is None:
            return
        across, middle = self.at(x, metric["value"])
        (_, low), (_, high) = self.at(x, metric["low"]), self.at(x, metric["high"])
        self.shapes.append(
            f'<path d="M{across:.1f} {low:.1f}V{high:.1f}" stroke="{colour}" stroke-width="1.6"/>'
        )
        marks = {
            "round": f'<circle cx="{across:.1f}" cy="{middle:.1f}" r="3.4" fill="{colour}"/>',
            "square": f'<rect x="{across - 3:.1f}" y="{middle - 3:.1f}" width="6" height="6" '
            f'fill="{colour}"/>',
            "diamond": f'<path d="M{across:.1f} {middle - 4.4:.1f}l4.4 4.4l-4.4 4.4l-4.4 -4.4z" '
            f'fill="{colour}"/>',
        }
        self.shapes.append(marks[mark])

    def draw(self, left: float, top: float) -> str:
        """The panel with its axes at that place."""
        parts = [f'<g transform="translate({left} {top})">']
        parts.append(
            f'<text x="0" y="-9" {FONT} font-size="12" font-weight="600">{self.title}</text>'
        )
        for value, text in self.y_ticks:
            y = self.at(self.x[0], value)[1]
            colour = "#8a949c" if value == 0 else "#e3e7ea"
            parts.append(f'<path d="M0 {y:.1f}h{WIDTH}" stroke="{colour}"/>')
            place = f'x="-7" y="{y + 4:.1f}" text-anchor="end"'
            parts.append(f'<text {place} {FONT} font-size="11">{text}</text>')
        for value, text in self.x_ticks:
            x = self.at(value, self.y[0])[0]
            parts.append(
                f'<text x="{x:.1f}" y="{HEIGHT + 16}" {FONT} font-size="11" '
                f'text-anchor="middle">{text}</text>'
            )
        parts += [*self.shapes, "</g>"]
        return "\n".join(parts)


def figures(results: list[Row]) -> dict[str, str]:
    """Name -> SVG. A figure whose rows are missing (a quick run) is left out."""
    drawn = {
        "curves": _curves(results),
        "map": _map(results),
        "cost": _cost(results),
        "backtracks": _backtracks(results),
        "noise": _noise(results),
    }
    return {name: svg for name, svg in drawn.items() if svg is not None}


def _curves(results: list[Row]) -> str | None:
    grid = []
    for curve, text in (("online", "in training"), ("greedy", "greedy, never going back")):
        panels = []
        for part, step_cost in _SHOWN:
            rows = _rows(
                results, part, _is_middle(step_cost), ("plain", "random", "learned", "known")
            )
            title = f"{_NAMES[part]}, step cost {step_cost:g}: {text}"
            panels.append(_lines(title, rows, curve, (-1.0, 1.0), _RETURNS))
        grid.append(panels)
    names = ("plain", "learned", "known", "random")
    return _page(grid, names, "8×8 field, 20% traps, cost 0.05: return against interactions")


def _backtracks(results: list[Row]) -> str | None:
    panels = []
    for part, step_cost in _SHOWN:
        rows = _rows(results, part, _is_middle(step_cost), ("learned", "known"))
        title = f"{_NAMES[part]}, step cost {step_cost:g}"
        ticks = [(float(n), str(n)) for n in range(0, 7, 2)]
        panels.append(_lines(title, rows, "backtracks_per_episode", (0.0, 6.0), ticks))
    return _page(
        [panels], ("learned", "known"), "8×8 field, 20% traps, cost 0.05: backtracks an episode"
    )


def _noise(results: list[Row]) -> str | None:
    grid = []
    for curve, text in (("online", "in training"), ("greedy", "greedy, never going back")):
        panels = []
        for slip in (0.1, 0.2):
            for step_cost in (0.0, 0.01):

                def wanted(world: Row, slip: float = slip, step_cost: float = step_cost) -> bool:
                    return world["slip"] == slip and world["step_cost"] == step_cost

                rows = _rows(results, "noise", wanted, ("plain", "random", "learned", "known"))
                title = f"slip {slip:g}, step cost {step_cost:g}: {text}"
                panels.append(_lines(title, rows, curve, (-1.0, 1.0), _RETURNS))
        grid.append(panels)
    names = ("plain", "learned", "known", "random")
    return _page(grid, names, "Noisy moves, 6×6 field, 20% traps, cost 0.05")


def _map(results: list[Row]) -> str | None:
    grid = []
    for measure, text in (("online_area", "in training"), ("greedy_area", "greedy")):
        panels = []
        for part, step_cost in _SHOWN:
            panel = Panel(
                f"{_NAMES[part]}, step cost {step_cost:g}: {text}",
                (0.5, 4.5) if part == "tuned" else (0.5, 1.5),
                (-0.3, 0.7),
                [(n + 1.0, f"{density:.0%}") for n, density in enumerate(_densities(part))],
                [(n / 10, f"{n / 10:+.1f}") for n in range(-2, 8, 2)],
            )
            for row in _rows(results, part, lambda w: True, ("learned", "known")):
                world = row["world"]
                if world["step_cost"] != step_cost:
                    continue
                place = 1.0 + _densities(part).index(world["trap_density"])
                place += (world["size"] - 10) * 0.12 + (0.05 if row["arm"] == "known" else -0.05)
                mark = {8: "round", 10: "square", 12: "diamond"}[world["size"]]
                panel.whisker(
                    place, row["differences"]["plain"][measure], COLOURS[row["arm"]], mark
                )
            panels.append(panel if panel.shapes else None)
        grid.append(panels)
    return _page(
        grid,
        ("learned", "known"),
        "Area under the return, minus that of plain Q-learning, by share of traps "
        "(round 6×6, square 8×8, diamond 10×10; cost 0.05)",
    )


def _cost(results: list[Row]) -> str | None:
    costs = (0.0, 0.02, 0.05, 0.2)
    panels = []
    for measure, text in (
        ("do_undo_share", "do-undo loops"),
        ("optimal", "seeds that end optimal"),
    ):
        for step_cost in (0.0, 0.01):
            panel = Panel(
                f"{text}, step cost {step_cost:g}",
                (-0.5, 3.5),
                (0.0, 1.0),
                [(float(n), f"{cost:g}") for n, cost in enumerate(costs)],
                [(n / 4, f"{n / 4:.0%}") for n in range(5)],
            )
            for row in _rows(
                results, "first_try", _is_middle(step_cost), ("learned", "known"), None
            ):
                if row["cost"] in costs:
                    aside = 0.08 if row["arm"] == "known" else -0.08
                    place = costs.index(row["cost"]) + aside
                    panel.whisker(place, row["measures"][measure], COLOURS[row["arm"]], "round")
            panels.append(panel if panel.shapes else None)
    return _page(
        [panels],
        ("learned", "known"),
        "8×8 field, 20% traps, first settings: by cost of going back",
    )


_SHOWN = (("first_try", 0.0), ("first_try", 0.01), ("tuned", 0.0), ("tuned", 0.01))
_NAMES = {"first_try": "First settings", "tuned": "Tuned"}
_RETURNS = [(-1.0, "-1"), (-0.5, "-0.5"), (0.0, "0"), (0.5, "0.5"), (1.0, "1")]


def _densities(part: str) -> tuple[float, ...]:
    return (0.2,) if part == "first_try" else (0.0, 0.1, 0.2, 0.3)


def _is_middle(step_cost: float) -> Callable[[Row], bool]:
    def middle(world: Row) -> bool:
        return (world["size"], world["trap_density"], world["step_cost"]) == (10, 0.2, step_cost)

    return middle


def _rows(
    results: list[Row],
    part: str,
    wanted: Callable[[Row], bool],
    arms: Sequence[str],
    cost: float | None = 0.05,
) -> list[Row]:
    """The rows of a part in those worlds, one for each arm at that cost (None: at every cost)."""
    return [
        row
        for arm in arms
        for row in results
        if row["part"] == part
        and row["arm"] == arm
        and wanted(row["world"])
        and row["rate_of"] in (None, "known")
        and (cost is None or row["cost"] in (None, cost))
    ]


def _lines(
    title: str,
    rows: list[Row],
    curve: str,
    y: tuple[float, float],
    y_ticks: Sequence[tuple[float, str]],
) -> Panel | None:
    if not rows:
        return None
    total = rows[0]["interactions"]
    ticks = [(total * n / 4, f"{total * n / 4000:g}k") for n in range(5)]
    panel = Panel(title, (0.0, total), y, ticks, y_ticks)
    for row in rows:
        points = row["curves"][curve]
        count = len(points["value"])
        panel.line([total * (n + 0.5) / count for n in range(count)], points, COLOURS[row["arm"]])
    return panel


def _page(grid: list[list[Panel | None]], arms: Sequence[str], title: str) -> str | None:
    if any(panel is None for panels in grid for panel in panels):
        return None
    columns = max(len(panels) for panels in grid)
    width = LEFT + columns * (WIDTH + GAP_X)
    top = TOP + 22 * len(arms) + 22
    height = top + len(grid) * (HEIGHT + GAP_Y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" fill="none">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{LEFT}" y="22" {FONT} font-size="15" font-weight="600">{title}</text>',
    ]
    for place, arm in enumerate(arms):
        y = 44 + 22 * place
        parts.append(
            f'<path d="M{LEFT} {y}h28" stroke="{COLOURS[arm]}" stroke-width="4"/>'
            f'<text x="{LEFT + 36}" y="{y + 4}" {FONT} font-size="12">{arm}: {MEANING[arm]}</text>'
        )
    for row, panels in enumerate(grid):
        for column, panel in enumerate(panels):
            assert panel is not None
            at = (LEFT + column * (WIDTH + GAP_X), top + row * (HEIGHT + GAP_Y))
            parts.append(panel.draw(*at))
    return "\n".join([*parts, "</svg>"])


def _path(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
