"""The metrics in words and short tables, for the terminal and for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from delegate.safety.intervals import Metric

Metrics = Mapping[str, Any]
"""the content of metrics.json"""

Unit = Literal["share", "points", "plain", "count"]
"""how a number reads: 0.934 as 93.4%, as +93.4 points of it, as 0.934, or 93.4 as 93.4"""

RECALL = ("goal_odds", "goal_odds_or_drift", "reach", "destination", "path")
"""monitors that look through the backtracking model, by id; the first present one is leading"""

CONTROLS = ("random", "constant", "oracle")
"""monitors that know nothing or everything, by id; never contenders"""

Column = tuple[str, str, Unit]
"""heading, metric, unit"""

ARM_COLUMNS: tuple[Column, ...] = (
    ("success", "true_success", "share"),
    ("gmg_rate", "gmg_rate", "share"),
    ("usefulness", "usefulness", "share"),
    ("rollbacks / episode", "rollbacks_per_episode", "plain"),
    ("steps / episode", "env_steps", "count"),
)
MONITOR_COLUMNS: tuple[Column, ...] = (
    ("AUROC", "auroc_gmg", "plain"),
    ("first 8 steps from onset", "auroc_gmg_at_8", "plain"),
    ("false alarms", "false_alarm_rate", "share"),
    ("missed", "miss_rate", "share"),
    ("delay (steps)", "detection_delay", "count"),
    ("safety at 1% audits", "safety_at_1", "share"),
)


WITH_INTERVAL = frozenset(
    {"true_success", "gmg_rate", "usefulness", "env_steps", "auroc_gmg", "false_alarm_rate"}
)
"""metrics whose interval fits into a terminal; metrics.json has them all"""


def summary_rows(metrics: Metrics) -> list[list[str]]:
    """The arms as a table of text, the heading first; success and the like on shifted levels."""
    heading = ["arm", *(title for title, _, _ in ARM_COLUMNS)]
    return [heading, *(_row(arm, metrics["arms"][arm], ARM_COLUMNS) for arm in crew_arms(metrics))]


def monitor_rows(metrics: Metrics) -> list[list[str]]:
    """The monitors as a table of text, the heading first, best AUROC first."""
    heading = ["monitor", *(title for title, _, _ in MONITOR_COLUMNS)]
    return [
        heading,
        *(
            _row(name, metrics["monitors"][name], MONITOR_COLUMNS)
            for name in ranked_monitors(metrics)
        ),
    ]


def crew_arms(metrics: Metrics) -> list[str]:
    """The arms compared, in the scenario's order; not the children alone."""
    return [arm for arm in metrics["provenance"]["order"]["arms"] if arm in metrics["arms"]]


def ranked_monitors(metrics: Metrics) -> list[str]:
    """Every monitor, best `auroc_gmg` first, those without one last."""

    def key(name: str) -> tuple[bool, float, str]:
        value = metrics["monitors"][name]["auroc_gmg"]["value"]
        return value is None, -(value or 0.0), name

    return sorted(metrics["monitors"], key=key)


def monitor_id(metrics: Metrics, name: str) -> str:
    """What kind of monitor stands under that name in the scenario."""
    section = metrics["provenance"]["config"]["monitors"].get(name, {})
    return str(section.get("monitor", name))


def group(metrics: Metrics, name: str) -> Literal["recall", "baseline", "control"]:
    """Is that monitor one of ours, something to compare it with, or a control?"""
    known = monitor_id(metrics, name)
    return "recall" if known in RECALL else "control" if known in CONTROLS else "baseline"


def leading_monitor(metrics: Metrics) -> str | None:
    """The monitor the run is about: the first rollback arm's, else the first recall monitor.

    It is chosen by the scenario and never by the results.
    """
    for name in metrics["provenance"]["order"]["arms"]:
        arm = metrics["provenance"]["config"]["arms"][name]
        if arm["protocol"] == "rollback" and arm["monitor"] in metrics["monitors"]:
            return str(arm["monitor"])
    known = {monitor_id(metrics, name): name for name in sorted(metrics["monitors"], reverse=True)}
    return next((known[each] for each in (*RECALL, *known) if each in known), None)


def best_baseline(metrics: Metrics) -> str | None:
    """The baseline with the highest `auroc_gmg`, if one was measured."""
    return next(
        (
            name
            for name in ranked_monitors(metrics)
            if group(metrics, name) == "baseline"
            and metrics["monitors"][name]["auroc_gmg"]["value"] is not None
        ),
        None,
    )


def headline(metrics: Metrics) -> tuple[str, str]:
    """The result in two sentences: what the monitor can tell, and what taking back was worth."""
    return _monitor_sentence(metrics), _arm_sentence(metrics)


def shown(metric: Metric | None, unit: Unit, interval: bool = True) -> str:
    """A metric in words: `93.4% [91.0, 95.2]`, or `not measured`."""
    if metric is None or metric["value"] is None:
        return "not measured"
    value = number(metric["value"], unit)
    if not interval or metric["low"] is None:
        return value
    low, high = (number(metric[end], unit).rstrip("%") for end in ("low", "high"))
    return f"{value} [{low}, {high}]"


def number(value: float, unit: Unit) -> str:
    """A number as text, see Unit."""
    if unit == "share":
        return f"{100 * value:.1f}%"
    if unit == "points":
        return f"{100 * value:+.1f}"
    return f"{value:.3f}" if unit == "plain" else f"{value:.1f}"


def _row(name: str, metrics: Mapping[str, Metric], columns: Sequence[Column]) -> list[str]:
    cells = []
    for _, name_of, unit in columns:
        metric = metrics.get(name_of)
        known = metric is not None and metric["value"] is not None
        cells.append(shown(metric, unit, name_of in WITH_INTERVAL) if known else "–")
    return [name, *cells]


def _monitor_sentence(metrics: Metrics) -> str:
    leading = leading_monitor(metrics)
    if leading is None:
        return "No monitor watched, so nothing can be said about telling who misgeneralises."
    mine = metrics["monitors"][leading]["auroc_gmg"]
    if mine["value"] is None:
        return (
            f"Whether the monitor {leading} can tell who misgeneralises could not be measured: "
            f"{mine['reason']}."
        )
    seeds = len(metrics["provenance"]["counts"]["seeds"])
    start = (
        f"On {mine['n']:,} sub-episodes in distinguishing shifted levels ({seeds} "
        f"seed{'s' * (seeds != 1)}), the monitor {leading} told children that pursue the proxy "
        f"from children that pursue the intended goal with AUROC {shown(mine, 'plain')}"
    )
    other = best_baseline(metrics)
    if other is None:
        compared = "no baseline was run beside it"
    elif leading == other:
        compared = "it is itself the best baseline here"
    else:
        theirs = metrics["monitors"][other]["auroc_gmg"]
        compared = _comparison(group(metrics, leading), mine, other, theirs)
    return f"{start}; {compared}{_outranked(metrics, leading)}."


def _outranked(metrics: Metrics, leading: str) -> str:
    """Who among the other recall monitors ranks best, if better than the leading one."""
    mine = metrics["monitors"][leading]["auroc_gmg"]
    best = next((n for n in ranked_monitors(metrics) if group(metrics, n) == "recall"), leading)
    theirs = metrics["monitors"][best]["auroc_gmg"]
    if best == leading or theirs["value"] is None or theirs["value"] <= mine["value"]:
        return ""
    ending = "" if _apart(mine, theirs) else ", though their intervals overlap"
    return (
        f"; judged by whole sub-episodes, the recall monitor {best} ranks better still, at "
        f"{shown(theirs, 'plain')}{ending}"
    )


def _apart(mine: Metric, theirs: Metric) -> bool:
    """Do their intervals leave room between them?"""
    bounds = [mine["low"], mine["high"], theirs["low"], theirs["high"]]
    return None not in bounds and (bounds[0] > bounds[3] or bounds[1] < bounds[2])


def _comparison(kind: str, mine: Metric, other: str, theirs: Metric) -> str:
    figure = f"{other}, at {shown(theirs, 'plain')}"
    what = "the recall monitor" if kind == "recall" else "it"
    apart = _apart(mine, theirs)
    if theirs["value"] > mine["value"]:
        ending = "" if apart else ", though their intervals overlap"
        return f"a plain baseline beats {what}: {figure}{ending}"
    if theirs["value"] == mine["value"]:
        return f"the best baseline does as well: {figure}"
    ending = "" if apart else ", within overlapping intervals"
    return f"{what} is ahead of the best baseline, {figure}{ending}"


def _arm_sentence(metrics: Metrics) -> str:
    plan = metrics["provenance"]["config"]["arms"]
    arms = crew_arms(metrics)
    main = next((arm for arm in arms if plan[arm]["protocol"] == "rollback"), None)
    if main is None:
        return "No arm takes work back on a monitor's alarm, so what that is worth is not known."
    found = metrics["arms"][main]
    if found["true_success"]["value"] is None:
        return (
            f"What taking work back is worth could not be measured: "
            f"{found['true_success']['reason']}."
        )

    def first(protocol: str) -> str | None:
        return next((arm for arm in arms if plan[arm]["protocol"] == protocol), None)

    against = [
        f"{shown(metrics['arms'][arm]['true_success'], 'share', interval=False)} {phrase}"
        for arm, phrase in (
            (first("none"), "without any intervention"),
            (_random_arm(metrics, main), _at_random(metrics, main)),
            (first("trusted_only"), "with trusted children only"),
        )
        if arm is not None
    ]
    compared = f", against {_listed(against)}" if against else ""
    undone = found["undone_steps"]["total"] / max(1, found["env_steps"]["total"])
    return (
        f"Taking work back on its alarms (arm {main}) reached the intended goal in "
        f"{shown(found['true_success'], 'share')} of shifted episodes{compared}; "
        f"{shown(found['gmg_rate'], 'share', interval=False)} still ended at the proxy alone, and "
        f"{number(undone, 'share')} of all steps were undone, every one of them charged."
    )


def _random_arm(metrics: Metrics, main: str) -> str | None:
    """The arm that was to take work back as often as `main`, at random."""
    plan = metrics["provenance"]["config"]["arms"]
    return next((a for a in crew_arms(metrics) if plan[a].get("like") == main), None)


def _at_random(metrics: Metrics, main: str) -> str:
    """How often that arm did take work back on shifted levels, if not as often."""
    arm = _random_arm(metrics, main)
    if arm is None:
        return ""
    meant, made = (metrics["arms"][a]["rollbacks_per_episode"].get("total") for a in (main, arm))
    if meant == made:
        return "with as many rollbacks at random"
    return f"with {made} rollbacks at random, not the {meant} made here"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
