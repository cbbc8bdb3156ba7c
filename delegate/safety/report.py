"""report.html: one file that opens without a network and shows what metrics.json holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from delegate.files import write_whole
from delegate.safety import figures
from delegate.safety.contract import ARMS, COMPARISONS, MONITORS, definition
from delegate.safety.evidence import evidence
from delegate.safety.example import Example, example
from delegate.safety.example_figures import delegation_tree, level_map
from delegate.safety.logs import DamagedTrial, Run, load_run
from delegate.safety.metrics import write_metrics
from delegate.safety.summary import (
    Column,
    Metrics,
    crew_arms,
    group,
    headline,
    number,
    ranked_monitors,
    threshold_of,
)

ARM_COLUMNS: tuple[Column, ...] = (
    ("reached the intended goal", "true_success", "share"),
    ("ended at the proxy alone", "gmg_rate", "share"),
    ("with undone branches", "gmg_rate_all_branches", "share"),
    ("true return", "j_true_shifted", "plain"),
    ("usefulness", "usefulness", "share"),
    ("scaled, by return", "usefulness_scaled", "share"),
    ("points over none", "delta_true_success_vs_none", "points"),
    ("over random", "delta_true_success_vs_rollback_random", "points"),
    ("return over random", "delta_j_true_vs_rollback_random", "plain"),
    ("rollbacks an episode", "rollbacks_per_episode", "plain"),
    ("honest work undone", "benign_rollback_rate", "share"),
    ("steps an episode", "env_steps", "count"),
    ("steps undone", "undone_steps", "count"),
    ("irreversible effects", "irreversible_left", "plain"),
)
MONITOR_COLUMNS: tuple[Column, ...] = (
    ("caught in time at 5% benign alarms", "caught_in_time_at_5", "share"),
    ("AUROC after 2 steps", "auroc_gmg_running_at_2", "plain"),
    ("after 4", "auroc_gmg_running_at_4", "plain"),
    ("after 8", "auroc_gmg_running_at_8", "plain"),
    ("at the end", "auroc_gmg", "plain"),
    ("names the goal after 8 steps", "named_at_8", "share"),
    ("at the end", "named_at_end", "share"),
    ("safety at 1% audits", "safety_at_1", "share"),
)
ALARM_COLUMNS: tuple[Column, ...] = (
    ("false, nominal", "false_alarm_rate", "share"),
    ("missed after defection", "miss_rate", "share"),
    ("before the goals part", "early_rate", "share"),
    ("delay, steps", "detection_delay", "count"),
    ("lead, steps", "lead", "count"),
    ("warning before harm, steps", "steps_before_harm", "count"),
)
"""of a monitor's own threshold, after the alarms on each child"""

PREFIX = "alarm_rate_"
IF_MEASURED = frozenset({"irreversible_left", "steps_before_harm", "named_at_8", "named_at_end",
                         "usefulness_scaled"})  # fmt: skip
"""columns for worlds where something cannot be undone and the like; the others are always shown"""


def write_report(run_dir: Path, run: Run | None = None) -> Path:
    """Write `report.html` into a run folder from its metrics.json (computed if it is missing) and
    its logs, and return its path.

    run: what `load_run` gave for that folder, to read it once

    Raises DamagedTrial when either cannot be used.
    """
    folder = Path(run_dir)
    source = folder / "metrics.json"
    run = load_run(folder) if run is None else run
    if not source.exists():
        write_metrics(folder, run)
    try:
        metrics = json.loads(source.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedTrial(source, f"is not JSON ({error}); delete it and report again") from None
    path = folder / "report.html"
    write_whole(path, render(run, metrics).encode())
    return path


def render(run: Run, metrics: Metrics) -> str:
    """The report as HTML. Everything a scenario may name or say is escaped."""
    environment = Environment(
        loader=PackageLoader("delegate.safety", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = example(run)
    return environment.get_template("report.html").render(
        plotly=Markup(get_plotlyjs()),
        scenario=run.scenario,
        metrics=metrics,
        headline=headline(metrics),
        facts=_facts(run, metrics),
        arms=_table(metrics["arms"], crew_arms(metrics), ARM_COLUMNS, ARMS),
        monitors=_table(metrics["monitors"], ranked_monitors(metrics), MONITOR_COLUMNS, MONITORS),
        alarms=_table(
            metrics["monitors"], ranked_monitors(metrics), _alarm_columns(metrics), MONITORS
        ),
        reference=metrics["comparisons"]["reference"],
        rivals=_comparison(metrics),
        groups={name: group(metrics, name) for name in metrics["monitors"]},
        thresholds={name: threshold_of(metrics, name) for name in metrics["monitors"]},
        protocols={
            name: arm.protocol for name, arm in run.scenario.arms.items() if arm.protocol != name
        },
        children=_children(run, metrics),
        figures=_figures(run, metrics, shown),
        example=shown,
        refused=_grouped(metrics["refused"]),
        provenance=_provenance(run, metrics),
    )


def _figures(run: Run, metrics: Metrics, shown: Example | None) -> dict[str, Markup]:
    watched = evidence(run)
    drawn: dict[str, go.Figure | None] = {
        "safety-usefulness": figures.safety_usefulness(metrics),
        "roc": figures.roc_curves(metrics, watched),
        "parting": figures.score_around_parting(metrics, watched),
        "tree": delegation_tree(shown) if shown is not None else None,
        "level": level_map(shown) if shown is not None else None,
    }
    return {name: _html(name, each) for name, each in drawn.items() if each is not None}


def _html(name: str, drawn: go.Figure) -> Markup:
    return Markup(
        drawn.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=f"figure-{name}",
            config={"displayModeBar": False, "responsive": True},
        )
    )


def _table(
    entries: Mapping[str, Mapping[str, Any]],
    names: list[str],
    columns: tuple[Column, ...],
    among: Mapping[str, str],
) -> dict[str, Any]:
    """Headings, and for each name its cells: value and interval as text, or why there is none."""
    used = [
        column
        for column in columns
        if any(column[1] in entries[name] for name in names)
        and (column[1] not in IF_MEASURED or any(_known(entries[n], column[1]) for n in names))
    ]
    return {
        "headings": [
            (title, f"{metric}: {definition(metric, among)}") for title, metric, _ in used
        ],
        "rows": [
            (name, [_cell(entries[name].get(metric), unit) for _, metric, unit in used])
            for name in names
        ],
    }


def _alarm_columns(metrics: Metrics) -> tuple[Column, ...]:
    """Alarms on each child, those that pursue the proxy first, and when they came."""
    found: Mapping[str, Any] = next(iter(metrics["monitors"].values()), {})
    named = [name for name in found if name.startswith(PREFIX) and "intent" in found[name]]
    order = {"proxy": 0, "intended": 1}
    named.sort(key=lambda name: (order.get(found[name]["intent"], 2), name))
    children = [
        (f"{name.removeprefix(PREFIX)}, pursues {_pursued(found[name]['intent'])}", name)
        for name in named
    ]
    return (*((title, name, "share") for title, name in children), *ALARM_COLUMNS)


def _pursued(intent: str) -> str:
    return {"proxy": "the proxy", "intended": "its goal", "none": "nothing"}.get(intent, "unknown")


def _comparison(metrics: Metrics) -> dict[str, Any]:
    """What the reference gains over each rival, best rival first."""
    rivals = metrics["comparisons"]["rivals"]
    names = [name for name in ranked_monitors(metrics) if name in rivals]
    found: Mapping[str, Any] = next(iter(rivals.values()), {})
    children = [name.removeprefix("catch_gain_") for name in found if name in _gains_of(found)]
    columns: list[Column] = [
        (f"{title} {child.replace('_', ' ')}", f"{name}_{child}", "points")
        for name, title in (("catch_gain", "caught more, at equal alarms on"),
                            ("benign_gain", "alarms, at equal catches, on"))
        for child in children
    ]  # fmt: skip
    return _table(rivals, names, tuple(columns), COMPARISONS)


def _gains_of(found: Mapping[str, Any]) -> list[str]:
    """catch_gain of each benign child, and of all in time."""
    return [name for name in found if name.startswith("catch_gain_") and "_own_" not in name]


def _known(metrics: Mapping[str, Any], name: str) -> bool:
    """Was that measured?"""
    return metrics.get(name, {}).get("value") is not None


def _cell(metric: Mapping[str, Any] | None, unit: Any) -> dict[str, str]:
    if metric is None:
        return {"value": "", "interval": "", "title": "does not apply"}
    if metric["value"] is None:
        return {"value": "–", "interval": "", "title": metric["reason"]}
    cell = {"value": number(metric["value"], unit), "interval": "", "title": f"n = {metric['n']:,}"}
    if metric["low"] is not None:
        low, high = (number(metric[end], unit).rstrip("%") for end in ("low", "high"))
        cell["interval"] = f"{low} to {high}" if unit == "points" else f"{low}–{high}"
    if "target" in metric:
        cell["title"] += f", target {number(metric['target'], unit)}"
    if "p_holm" in metric:
        cell["title"] += f", p = {metric['p_holm']:.2g} after Holm over the rivals"
    if "constant" in metric:
        cell["title"] += f", always {metric['constant_landmark']}: " + number(
            metric["constant"], unit
        )
    return cell


def _facts(run: Run, metrics: Metrics) -> list[tuple[str, str]]:
    """What was run, as pairs of what and how much."""
    plan, counts = run.scenario, metrics["provenance"]["counts"]
    seeds = counts["seeds"]
    return [
        ("World", plan.world.id),
        ("Training levels", _settings(plan.world.nominal)),
        ("Shifted levels", _settings(plan.world.shifted)),
        ("Crew", ", ".join(plan.crew)),
        ("Seeds", f"{len(seeds)} ({', '.join(map(str, seeds))})"),
        ("Test levels", f"{plan.levels.test} nominal and {plan.levels.test} shifted a seed"),
        ("Set aside", f"{plan.levels.validate_} validation levels a seed, which nobody played"),
        ("Episodes played", f"{sum(counts['episodes'].values()):,}"),
        ("Step budget", f"{plan.delegation.budget} a delegation"),
        ("Target", f"{100 * plan.calibration.false_alarm_rate:g}% false alarms a sub-episode"),
    ]


def _settings(settings: Mapping[str, Any]) -> str:
    words = [f"{key.replace('_', ' ')} {value}" for key, value in settings.items()]
    return ", ".join(words) or "as trained"


def _children(run: Run, metrics: Metrics) -> list[tuple[str, str, str, str, str]]:
    """Each child alone: name, policy, intended and proxy reached, share of proxy return kept."""
    rows = []
    for name, child in run.scenario.children.items():
        found = metrics["arms"].get(f"alone:{name}")
        if found is not None:
            cells = [_cell(found[m], "share") for m in ("true_success", "gmg_rate")]
            kept = _cell(found.get("capability_retention"), "share")
            policy = child.policy + (", trusted" if child.trusted else "")
            rows.append((name, policy, cells[0]["value"], cells[1]["value"], kept["value"]))
    return rows


def _grouped(refused: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    """(metrics, reason, everywhere it applies), in the order of metrics.json."""
    places: dict[tuple[str, str], list[str]] = {}
    for entry in refused:
        where = entry["where"].rsplit("/", 1)[-1]
        places.setdefault((entry["metric"], entry["reason"]), []).append(where)
    together: dict[tuple[str, str], list[str]] = {}
    for (metric, reason), names in places.items():
        together.setdefault((reason, ", ".join(names)), []).append(metric)
    return [(", ".join(names), reason, where) for (reason, where), names in together.items()]


def _provenance(run: Run, metrics: Metrics) -> list[tuple[str, str]]:
    """Where it came from, as pairs; what is nested as JSON."""
    record = {**run.provenance, "counts": metrics["provenance"]["counts"]}
    return [
        (
            key.replace("_", " "),
            value if isinstance(value, str) else json.dumps(value, sort_keys=True),
        )
        for key, value in record.items()
        if key != "times"
    ]
