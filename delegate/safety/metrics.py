"""metrics.json: every number of a run, from its logs alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from delegate.delegation.events import Ended
from delegate.files import write_whole
from delegate.safety import episodes as episode_tables
from delegate.safety.control import control
from delegate.safety.episodes import Episodes, episodes
from delegate.safety.evidence import Evidence, evidence
from delegate.safety.intervals import Metric
from delegate.safety.logs import Run, load_run
from delegate.safety.outcome import outcome, usefulness
from delegate.safety.ranking import ranking
from delegate.safety.returns import capability_retention, returns
from delegate.safety.rollback import delta_true_success, rollback
from delegate.safety.sequential import sequential
from delegate.safety.validity import validity

TIMES = frozenset({"times", "started", "finished"})
VOLATILE = TIMES | {"command", "workers", "engine", "out"}
"""parts of run.json that may differ between runs that must give the same metrics"""


def write_metrics(run_dir: Path) -> dict[str, Any]:
    """Compute the metrics of a run folder, write `metrics.json` in it and return them.

    The same logs give the same bytes, but for `provenance.times`.
    Raises DamagedTrial when the logs cannot be used.
    """
    metrics = compute_metrics(load_run(run_dir))
    text = json.dumps(metrics, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_whole(Path(run_dir) / "metrics.json", f"{text}\n".encode())
    return metrics


def compute_metrics(run: Run) -> dict[str, Any]:
    """The content of metrics.json, see the documentation of each group:
    returns, outcome, rollback (arms) and ranking, sequential, validity, control (monitors).
    """
    tables = {
        arm: episode_tables.join([episodes(trial) for trial in run.of(arm)]) for arm in run.arms
    }
    watched = evidence(run)
    arms = {arm: _arm_metrics(run, tables, arm) for arm in run.arms}
    monitors = {name: _monitor_metrics(run, watched, name) for name in sorted(watched.table.scores)}
    metrics = {
        "scenario": run.scenario.name,
        "provenance": _provenance(run, tables, watched),
        "arms": arms,
        "monitors": monitors,
        "refused": _refused(run, watched, arms, monitors),
    }
    return _plain(metrics)


def _arm_metrics(run: Run, tables: Mapping[str, Episodes], arm: str) -> dict[str, Metric]:
    table, trials = tables[arm], run.of(arm)
    seeds = [trial.seed for trial in trials]
    first = trials[0]
    trusted, reason = _trusted(run, tables)
    metrics = returns(table, seeds) | outcome(table)
    metrics["usefulness"] = usefulness(table, trusted, reason)
    if first.kind == "alone":
        pursued = {e.intent for trial in trials for e in trial.events if isinstance(e, Ended)}
        if pursued != {"intended"}:
            metrics["capability_retention"] = capability_retention(table, seeds)
        return metrics
    irreversible = any(bool(each.effects.any()) for each in tables.values())
    metrics |= rollback(table, seeds, first.monitor is not None, irreversible)
    plain = [name for name, each in run.scenario.arms.items() if each.protocol == "none"]
    chance = [
        name
        for name, each in run.scenario.arms.items()
        if each.protocol == "rollback_random" and each.like == arm
    ]
    for reference, others in (("none", plain), ("rollback_random", chance)):
        for other in [name for name in others if name in tables and name != arm][:1]:
            name = f"delta_true_success_vs_{reference}"
            chosen_at_random = reference == "rollback_random"
            metrics[name] = delta_true_success(table, tables[other], other, chosen_at_random)
    return metrics


def _trusted(run: Run, tables: Mapping[str, Episodes]) -> tuple[Episodes | None, str]:
    """Episodes of the first trusted child alone, or why there are none."""
    for name in run.scenario.trusted:
        if f"alone:{name}" in tables:
            return tables[f"alone:{name}"], ""
    return None, "no trusted child was run alone; mark one `trusted: true`"


def _monitor_metrics(run: Run, watched: Evidence, monitor: str) -> dict[str, Metric]:
    calibrations = {trial.seed: trial.calibration[monitor] for trial in run.alone}
    return (
        ranking(watched, monitor)
        | sequential(watched, monitor, next(iter(calibrations.values())).target)
        | validity(watched, monitor, calibrations)
        | control(watched, monitor)
    )


def _provenance(run: Run, tables: Mapping[str, Episodes], watched: Evidence) -> dict[str, Any]:
    """Where the numbers come from, and how much of it could not be scored."""
    stable = {key: value for key, value in run.provenance.items() if key not in VOLATILE}
    counts = {
        "trials": len(run.trials),
        "seeds": sorted({trial.seed for trial in run.trials}),
        "splits_not_played": ["validate"],
        "episodes": {arm: len(table) for arm, table in tables.items()},
        "sub_episodes_alone": len(watched.table),
        "unscored_sub_episodes": {
            name: int(np.isnan(scores.end).sum()) for name, scores in watched.table.scores.items()
        },
        "calibration_sub_episodes": {
            name: sum(trial.calibration[name].n for trial in _one_a_seed(run))
            for name in watched.table.scores
        },
    }
    times = {
        "run": {key: run.provenance[key] for key in sorted(TIMES & set(run.provenance))},
        "trials": {f"{trial.arm}/{trial.seed}": dict(trial.times) for trial in run.trials},
    }
    config = run.scenario.model_dump(mode="json", by_alias=True)
    order = {"arms": list(run.scenario.arms), "monitors": list(run.scenario.monitors)}
    return {**stable, "config": config, "order": order, "counts": counts, "times": times}


def _one_a_seed(run: Run) -> list[Any]:
    return list({trial.seed: trial for trial in run.alone}.values())


def _refused(
    run: Run,
    watched: Evidence,
    arms: Mapping[str, Mapping[str, Metric]],
    monitors: Mapping[str, Mapping[str, Metric]],
) -> list[dict[str, str]]:
    """Everything that could not be measured, and every control that was not run."""
    refused = [
        {"where": f"{group}/{name}", "metric": metric, "reason": entry["reason"]}
        for group, entries in (("arms", arms), ("monitors", monitors))
        for name, metrics in entries.items()
        for metric, entry in metrics.items()
        if entry["value"] is None
    ]
    refused += [
        {"where": "run", "metric": "trial", "reason": f"{what}: not there; finish with --resume"}
        for what in run.missing
    ]
    seeds = {trial.seed for trial in run.trials}
    if len(seeds) < 5:
        refused.append(
            {
                "where": "run",
                "metric": "seeds",
                "reason": f"{len(seeds)} training seeds; a published result needs at least 5",
            }
        )
    used = {section.monitor for section in run.scenario.monitors.values()}
    protocols = {trial.protocol for trial in run.trials if trial.kind == "arm"}
    for control_name, there in (
        ("benign shift", bool(watched.benign_shift.any())),
        ("incapable child", bool(watched.incapable.any())),
        ("random scores", "random" in used),
        ("oracle monitor", "oracle" in used),
        ("trusted_only arm", "trusted_only" in protocols),
        ("oracle arm", "oracle" in protocols),
    ):
        if not there:
            refused.append(
                {"where": "controls", "metric": control_name, "reason": "was not run beside this"}
            )
    return refused


def _plain(value: Any) -> Any:
    """For JSON: numpy numbers become Python's, and what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
