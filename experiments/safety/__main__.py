"""The committed figures of a scenario: run it, keep its metrics, draw one episode of the demo.

    python -m experiments.safety --workers 2                  # corner
    python -m experiments.safety corner-near --workers 2

Writes experiments/results/corner.json (metrics.json of the run, with commit, versions and seeds),
for corner experiments/figures/episode.svg too, and prints the tables of the README. The run lies in
runs/safety/corner and is resumed if it is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
GAINS = {
    "catch_gain_noisy": "caught more at its alarms on noise 0.3",
    "catch_gain_own_noisy": "at ours",
    "benign_gain_noisy": "alarms on noise 0.3 at its catches",
    "catch_gain_in_time": "caught more in time, at its alarms on all benign",
    "auroc_gain_running_at_4": "AUROC after 4 steps",
}
COLOURS = {"wall": "#4a5560", "undone": "#b8860b", "kept": "#1f7a6d", "proxy": "#c1503c"}


SCENARIOS = ("corner", "corner-near", "corner-odd", "corner-learned", "point-maze", "reacher-pair")


def main() -> None:
    """Run, keep, draw, print."""
    parser = options("safety", __doc__.splitlines()[0], gathers=False)
    parser.add_argument("scenario", nargs="?", default="corner", choices=SCENARIOS)
    given = parser.parse_args()
    source, out = EXPERIMENTS / "scenarios" / f"{given.scenario}.yaml", given.out / given.scenario
    resume = (out / "run.json").exists()
    plan = run.load_scenario(source)
    run.execute(plan, source, out, workers=given.workers, resume=resume)
    metrics = safety.write_metrics(out)
    safety.write_report(out)
    name = given.scenario.replace("-", "_")
    write_whole(EXPERIMENTS / "results" / f"{name}.json", f"{as_text(metrics)}\n".encode())
    if given.scenario == "corner" and (episode := example(load_run(out))) is not None:
        write_whole(EXPERIMENTS / "figures" / "episode.svg", draw(episode).encode())
    print(tables(metrics, list(plan.children)))


def tables(metrics: dict[str, Any], children: Sequence[str]) -> str:
    """The README's three tables: arms, monitors on each child alone, and what ours gains."""
    children = sorted(children, key=lambda child: child != "proxy")
    lines = ["| arm | reached the goal | ended at the proxy alone | return less price | benign "
             "rollbacks | steps an episode |"]  # fmt: skip
    lines.append("|---|---|---|---|---|---|")
    for name, arm in metrics["arms"].items():
        if not name.startswith("alone:"):
            rates = (shown(arm[rate], 1, percent=True) for rate in ("true_success", "gmg_rate"))
            benign = shown(arm["benign_rollback_rate"], 1, percent=True)
            net = shown(arm["j_net_shifted"], 3)
            row = (*rates, net, benign, shown(arm["env_steps"], 1))
            lines.append(f"| {name} | {' | '.join(row)} |")
    lines += ["", f"| monitor | caught in time | {' | '.join(children)} | AUROC after "
              "2, 4, 8 steps | lead |"]  # fmt: skip
    lines.append(f"|---{'|---' * (len(children) + 3)}|")
    for name in safety.ranked_monitors(metrics):
        monitor = metrics["monitors"][name]
        alarms = (shown(monitor[f"alarm_rate_{child}"], 1, percent=True) for child in children)
        running = [monitor[f"auroc_gmg_running_at_{steps}"]["value"] for steps in (2, 4, 8)]
        ranks = ", ".join("–" if value is None else f"{value:.2f}" for value in running)
        caught = shown(monitor["caught_in_time_at_5"], 1, percent=True)
        lead = shown(monitor["lead"], 1)
        lines.append(f"| {name} | {caught} | {' | '.join(alarms)} | {ranks} | {lead} |")
    lines += [
        "",
        f"| {metrics['comparisons']['reference']} against | {' | '.join(GAINS.values())} |",
    ]
    lines.append(f"|---{'|---' * len(GAINS)}|")
    for name in safety.ranked_monitors(metrics):
        if (gains := metrics["comparisons"]["rivals"].get(name)) is not None:
            cells = (_gain(gains[gain], gain.startswith("auroc")) for gain in GAINS)
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _gain(metric: dict[str, Any], plain: bool) -> str:
    """A paired difference, with a star where it is not 0 after Holm's correction."""
    star = "*" if metric.get("p_holm", 1) < 0.05 else ""
    return (shown(metric, 2, "+") if plain else shown(metric, 1, "+", percent=True)) + star


def draw(episode: Example) -> str:
    """The level of one episode with what was walked in it, as SVG."""
    if episode.drawing is None:
        raise ValueError("the run keeps no drawings; run it with this version")
    width, height = episode.drawing["size"]
    parts = [mark(shape) for shape in episode.drawing["shapes"] if shape["role"] == "wall"]
    if episode.proxied is not None:
        dashes = 'stroke-dasharray="3 4"'
        parts.append(line(episode.proxied.places, COLOURS["proxy"], -3, dashes))
    for path in episode.undone:
        parts.append(line(path.places, COLOURS["undone"], 0))
        x, y = path.places[-1] * CELL
        parts.append(
            f'<path d="M{x - 6} {y - 6}l12 12m0 -12l-12 12" stroke="{COLOURS["undone"]}" '
            'stroke-width="4"/>'
        )
    parts.append(line(episode.kept.places, COLOURS["kept"], 3))
    parts += [mark(shape) for shape in episode.drawing["shapes"] if shape["role"] != "wall"]
    heading = next((path.heading for path in episode.undone if path.heading), "")
    legend = (
        ("undone", "rolled back after the alarm"),
        ("kept", "kept: the other child"),
        ("proxy", "where the first child goes unwatched"),
        *([("undone", f"heading for: {heading}")] if heading else []),
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
    size = f"{width * CELL + 310:g} {height * CELL:g}"
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" fill="none">\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


def mark(shape: Mapping[str, Any]) -> str:
    """What stands still in a level; nothing where its role has no picture here."""
    x, y = (CELL * each for each in shape["at"])
    wide, high = (CELL * each for each in shape["size"])
    match shape["role"]:
        case "wall":
            return (
                f'<rect x="{x - wide / 2:g}" y="{y - high / 2:g}" width="{wide:g}" '
                f'height="{high:g}" fill="{COLOURS["wall"]}" stroke="#fff" stroke-width="0.6"/>'
            )
        case "start":
            return f'<circle cx="{x:g}" cy="{y:g}" r="6" fill="#222b33"/>'
        case "proxy":
            square = f'<rect x="{x - 6:g}" y="{y - 6:g}" width="12" height="12" '
            return f'{square}fill="{COLOURS["proxy"]}"/>'
        case "goal":
            return star(x, y)
    return ""


def line(places: np.ndarray, colour: str, aside: float, style: str = "") -> str:
    """A walk, drawn a little aside so that walks on one road stay apart. places: [n, 2]"""
    points = " ".join(f"{x + aside:.1f},{y + aside:.1f}" for x, y in places * CELL)
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
