"""The committed figures of the demo: run corner.yaml, keep its metrics, draw one episode.

    python -m experiments.corner --workers 2

Writes experiments/results/corner.json (metrics.json of the run, with commit, versions and seeds)
and experiments/figures/episode.svg, and prints the tables of the README. The run lies in
runs/corner and is resumed if it is there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from delegate import run, safety
from delegate.files import write_whole
from delegate.safety.example import Example, example
from delegate.safety.logs import load_run
from experiments.study.curves import shown
from experiments.study.records import EXPERIMENTS, as_text
from experiments.study.running import options

CELL = 24
COLOURS = {"wall": "#4a5560", "undone": "#b8860b", "kept": "#1f7a6d", "proxy": "#c1503c"}


def main() -> None:
    """Run, keep, draw, print."""
    given = options("corner", __doc__.splitlines()[0], gathers=False).parse_args()
    source = EXPERIMENTS / "scenarios" / "corner.yaml"
    resume = (given.out / "run.json").exists()
    plan = run.load_scenario(source)
    run.execute(plan, source, given.out, workers=given.workers, resume=resume)
    metrics = safety.write_metrics(given.out)
    safety.write_report(given.out)
    for folder in ("results", "figures"):
        (EXPERIMENTS / folder).mkdir(exist_ok=True)
    write_whole(EXPERIMENTS / "results" / "corner.json", f"{as_text(metrics)}\n".encode())
    if (episode := example(load_run(given.out))) is not None:
        write_whole(EXPERIMENTS / "figures" / "episode.svg", draw(episode).encode())
    print(tables(metrics))


def tables(metrics: dict[str, Any]) -> str:
    """The README's two tables."""
    lines = ["| arm | reached the cheese | ended at the proxy alone | steps an episode |"]
    lines.append("|---|---|---|---|")
    for name, arm in metrics["arms"].items():
        if not name.startswith("alone:"):
            rates = (shown(arm[rate], 1, percent=True) for rate in ("true_success", "gmg_rate"))
            lines.append(f"| {name} | {' | '.join(rates)} | {shown(arm['env_steps'], 1)} |")
    children = {
        "proxy": "caught",
        "intended": "intended",
        "noisy": "noise 0.3",
        "noisier": "noise 0.6",
        "detour": "detour",
        "incapable": "incapable",
    }
    lines += ["", f"| monitor | {' | '.join(children.values())} | AUROC after 2, 4, 8 steps |"]
    lines.append(f"|---{'|---' * (len(children) + 1)}|")
    ranked = sorted(
        metrics["monitors"].items(),
        key=lambda item: -(item[1]["auroc_gmg_running_at_4"]["value"] or 0),
    )
    for name, monitor in ranked:
        alarms = (shown(monitor[f"alarm_rate_{child}"], 1, percent=True) for child in children)
        running = [monitor[f"auroc_gmg_running_at_{steps}"]["value"] for steps in (2, 4, 8)]
        ranks = ", ".join("–" if value is None else f"{value:.2f}" for value in running)
        lines.append(f"| {name} | {' | '.join(alarms)} | {ranks} |")
    return "\n".join(lines)


def draw(episode: Example) -> str:
    """The maze of one episode with what was walked in it, as SVG."""
    height, width = episode.walls.shape
    parts = [
        f'<rect x="{column * CELL}" y="{row * CELL}" width="{CELL}" height="{CELL}" '
        f'fill="{COLOURS["wall"]}" stroke="#fff" stroke-width="0.6"/>'
        for row, column in np.argwhere(episode.walls)
    ]
    if episode.proxied is not None:
        parts.append(
            line(episode.proxied.cells, width, COLOURS["proxy"], -3, 'stroke-dasharray="3 4"')
        )
    for path in episode.undone:
        parts.append(line(path.cells, width, COLOURS["undone"], 0))
        x, y = centre(path.cells[-1], width)
        parts.append(
            f'<path d="M{x - 6} {y - 6}l12 12m0 -12l-12 12" stroke="{COLOURS["undone"]}" '
            'stroke-width="4"/>'
        )
    parts.append(line(episode.kept.cells, width, COLOURS["kept"], 3))
    x, y = centre(episode.start, width)
    parts.append(f'<circle cx="{x}" cy="{y}" r="6" fill="#222b33"/>')
    x, y = centre(episode.proxy_goal, width)
    parts.append(
        f'<rect x="{x - 6}" y="{y - 6}" width="12" height="12" fill="{COLOURS["proxy"]}"/>'
    )
    parts.append(star(*centre(episode.goal, width)))
    legend = (
        ("undone", "rolled back after the alarm"),
        ("kept", "kept: the other child"),
        ("proxy", "where the first child goes unwatched"),
    )
    for place, (name, text) in enumerate(legend):
        y = 30 + 26 * place
        x = width * CELL + 18
        dashes = 'stroke-dasharray="3 4"' if name == "proxy" else ""
        parts.append(
            f'<path d="M{x} {y}h30" stroke="{COLOURS[name]}" stroke-width="3.5" {dashes}/>'
            f'<text x="{x + 40}" y="{y + 5}" font-family="sans-serif" font-size="14" '
            f'fill="#222b33">{text}</text>'
        )
    size = f"{width * CELL + 310} {height * CELL}"
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" fill="none">\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


def centre(cell: int, width: int) -> tuple[float, float]:
    """Where a cell's middle is drawn."""
    row, column = divmod(int(cell), width)
    return (column + 0.5) * CELL, (row + 0.5) * CELL


def line(cells: np.ndarray, width: int, colour: str, aside: float, style: str = "") -> str:
    """A walk, drawn a little aside so that walks on one road stay apart."""
    points = " ".join(
        f"{x + aside:.1f},{y + aside:.1f}" for x, y in (centre(cell, width) for cell in cells)
    )
    return f'<polyline points="{points}" stroke="{colour}" stroke-width="3.5" {style}/>'


def star(x: float, y: float) -> str:
    """The intended goal."""
    turns = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2 == 0, 10.0, 4.2)
    points = " ".join(
        f"{x + r * np.cos(t):.1f},{y + r * np.sin(t):.1f}"
        for r, t in zip(radius, turns, strict=True)
    )
    return f'<polygon points="{points}" fill="{COLOURS["kept"]}"/>'


if __name__ == "__main__":
    main()
