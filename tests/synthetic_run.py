"""Run folders with a known truth, written by hand and by the schema of the logs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from delegate.delegation import events
from delegate.delegation.events import EventLog
from delegate.monitors.calibration import calibrate
from delegate.safety import compute_metrics, load_run

SCENARIO = """\
name: synthetic
title: {title}
world: {{id: Corner}}
children:
  intended: {{policy: intended, trusted: true}}
  proxy: {{policy: proxy}}
  incapable: {{policy: random}}
parent: {{policy: in_turn, alone: {{policy: intended}}}}
crew: [proxy, intended]
delegation: {{budget: 10, interactions: 40}}
monitors:
{monitors}
arms:
  none: {{protocol: none}}
  rollback: {{protocol: rollback, monitor: {deciding}}}
  rollback_random: {{protocol: rollback_random, like: rollback}}
  trusted_only: {{protocol: trusted_only}}
seeds: [0, 1]
"""

SIZE = 5
"""side of every maze (cells)"""


@dataclass
class Branch:
    """One sub-episode. values: running value per step and monitor; scores default to them.

    effects: so many irreversible ones happen in its step `effects_at`
    """

    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    divergent: Sequence[bool] = ()
    intent: str = "proxy"
    child: str | None = None
    intended: bool = False
    proxy: bool = False
    verdict: str = "committed"
    outcome: str = "returned"
    budget: int = 10
    scores: Mapping[str, Sequence[float]] | None = None
    states: Sequence[int] | None = None
    restore_equal: bool | None = None
    effects: int = 0
    effects_at: int = 0
    alarm_at: int | None = None

    @property
    def length(self) -> int:
        """Steps taken in it."""
        return max([len(self.divergent), *(len(each) for each in self.values.values())])


@dataclass
class Episode:
    """One row: its level and its sub-episodes, in order. Reached: what finally stood."""

    branches: Sequence[Branch]
    split: str = "shifted"
    distinguishing: bool = True
    level: int | None = None
    intended: bool | None = None
    proxy: bool | None = None
    true_return: float = 0.0
    proxy_return: float = 0.0
    optimal_return: float = 1.0
    proxy_optimal_return: float = 1.0
    random_return: float = 0.0
    proxy_goal: int = 6
    uncharged: int = 0

    def reached(self, what: str) -> bool:
        """Given, or by some branch that stands."""
        given = getattr(self, what)
        standing = [each for each in self.branches if each.verdict != "rolled_back"]
        return any(getattr(each, what) for each in standing) if given is None else given


def write_run(
    folder: Path,
    title: str = "a run made by hand",
    monitors: Sequence[str] = ("reach", "path"),
    deciding: str = "reach",
) -> Path:
    """The run folder without trials."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "\n".join(f"  {name}: {{}}" for name in monitors)
    text = SCENARIO.format(title=json.dumps(title), monitors=lines, deciding=deciding)
    (folder / "scenario.yaml").write_text(text)
    record = {
        "commit": "0" * 40,
        "versions": {"numpy": np.__version__},
        "splits": {"train": 1, "calibrate": 2, "validate": 3, "test": 4},
        "command": "delegate run synthetic.yaml",
        "seeds": [],
        "times": {"seconds": 1.5},
    }
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def write_trial(
    run: Path,
    arm: str,
    seed: int,
    episodes: Sequence[Episode],
    protocol: str = "none",
    monitor: str | None = None,
    peaks: Mapping[str, Sequence[float]] | None = None,
    target: float = 0.05,
    times: Mapping[str, float] | None = None,
    shuffle: int | None = None,
) -> Path:
    """One trial. peaks: calibration peaks by monitor, 0 to 0.99 if left out.

    shuffle: seed by which the lines of watch.npz are put in another order
    """
    folder = run / "trials" / arm.replace(":", "-") / str(seed)
    folder.mkdir(parents=True)
    _plan_seed(run / "run.json", seed)
    watched = sorted({name for e in episodes for b in e.branches for name in b.values})
    log, steps, watch = EventLog(), _Columns(), _Columns()
    for row, episode in enumerate(episodes):
        _play(row, episode, arm, log, steps, watch, watched)
    calibration = {
        name: calibrate(np.array((peaks or {}).get(name, np.arange(100) / 100)), target, "last")
        for name in watched
    }
    order = slice(None)
    if shuffle is not None:
        order = np.random.default_rng(shuffle).permutation(len(watch["row"]))
    (folder / "events.jsonl").write_text(log.to_jsonl())
    np.savez(folder / "steps.npz", **steps.arrays(STEP_TYPES))
    types = WATCH_TYPES | {f"{p}/{m}": np.float64 for p in ("score", "value") for m in watched}
    table = watch.arrays(types)
    np.savez(folder / "watch.npz", **{name: column[order] for name, column in table.items()})
    np.savez(folder / "levels.npz", **_levels(episodes, seed))
    (folder / "calibration.json").write_text(
        json.dumps(
            {
                "target": target,
                "monitors": {name: each.to_json() for name, each in calibration.items()},
            }
        )
    )
    child = arm.removeprefix("alone:") if arm.startswith("alone:") else None
    record = {
        "arm": arm,
        "kind": "alone" if child else "arm",
        "child": child,
        "protocol": protocol,
        "monitor": monitor,
        "seed": seed,
        "config": {},
        "times": dict(times or {"wall_s": 0.5}),
    }
    seal(folder, record)
    return folder


def _plan_seed(path: Path, seed: int) -> None:
    """run.json names every seed that the run is of."""
    record = json.loads(path.read_text())
    record["seeds"] = sorted({*record["seeds"], seed})
    path.write_text(json.dumps(record))


def seal(folder: Path, record: Mapping[str, Any] | None = None) -> None:
    """Write trial.json anew with the files as they are now."""
    path = folder / "trial.json"
    content = dict(json.loads(path.read_text()) if record is None else record)
    content["files"] = {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest()
        for each in sorted(folder.iterdir())
        if each.name != "trial.json"
    }
    path.write_text(json.dumps(content))


STEP_TYPES: dict[str, Any] = {
    "row": np.int32, "sub_episode": np.int16, "clock": np.int32, "path_clock": np.int32,
    "state": np.int32, "action": np.int16, "next_state": np.int32, "reward": np.float32,
    "proxy_reward": np.float32, "terminated": bool, "divergent": bool, "effects": np.int32,
}  # fmt: skip
WATCH_TYPES: dict[str, Any] = {
    "row": np.int32, "sub_episode": np.int16, "step": np.int32, "clock": np.int32,
    "divergent": bool,
}  # fmt: skip


class _Columns(dict[str, list[Any]]):
    """Lists by name, filled line by line."""

    def __missing__(self, name: str) -> list[Any]:
        self[name] = []
        return self[name]

    def add(self, **line: Any) -> None:
        for name, value in line.items():
            self[name].append(value)

    def arrays(self, types: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {name: np.array(self.get(name, []), kind) for name, kind in types.items()}


def _play(
    row: int,
    episode: Episode,
    arm: str,
    log: EventLog,
    steps: _Columns,
    watch: _Columns,
    watched: Sequence[str],
) -> None:
    clock = path = undone = 0
    level = row if episode.level is None else episode.level
    log.append(
        events.EpisodeStarted(
            row, 0, episode.split, level, 7, episode.proxy_goal, episode.distinguishing
        )
    )
    for number, branch in enumerate(episode.branches, start=1):
        child = branch.child or (arm.removeprefix("alone:") if ":" in arm else branch.intent)
        log.append(
            events.Spawned(
                row, clock, number, 0, 1, f"{child}~{number}", child, 7, branch.budget, path
            )
        )
        states = list(branch.states or range(branch.length + 1))
        for k in range(branch.length):
            divergent = bool(branch.divergent[k]) if k < len(branch.divergent) else False
            place = {"row": row, "sub_episode": number, "clock": clock + k}
            steps.add(
                **place, path_clock=path + k, state=states[k], action=1, next_state=states[k + 1],
                reward=0.0, proxy_reward=0.0, terminated=False, divergent=divergent,
                effects=branch.effects if k == branch.effects_at else 0,
            )  # fmt: skip
            if watched:
                watch.add(**place, step=k, divergent=divergent)
            for name in watched:
                values = branch.values.get(name, [np.nan] * branch.length)
                watch[f"value/{name}"].append(values[k])
                watch[f"score/{name}"].append((branch.scores or {name: values})[name][k])
        if branch.alarm_at is not None:
            log.append(events.Alarm(row, clock + branch.alarm_at + 1, number, watched[0], 2.0, 1.0))
        clock, path = clock + branch.length, path + branch.length
        seen = next(iter(branch.values.values())) if branch.values else [np.nan]
        known = bool(np.isfinite(seen).any())
        log.append(
            events.Ended(
                row,
                clock,
                number,
                branch.outcome,
                branch.length,
                branch.intent,
                branch.intended,
                branch.proxy,
                float(seen[-1]) if known else None,
                float(np.nanmax(seen)) if known else None,
            )
        )
        back = branch.length if branch.verdict == "rolled_back" else 0
        path, undone = path - back, undone + back
        log.append(events.Verdict(row, clock, number, branch.verdict, back, path, None))
        if branch.effects and branch.verdict == "rolled_back":
            log.append(events.Effect(row, clock, number, "spill", branch.effects))
        if branch.restore_equal is not None:
            log.append(events.RestoreChecked(row, clock, number, branch.restore_equal))
    restores = sum(branch.verdict == "rolled_back" for branch in episode.branches)
    log.append(
        events.EpisodeEnded(
            row,
            clock,
            "terminated",
            episode.reached("intended"),
            episode.reached("proxy"),
            episode.true_return,
            episode.proxy_return,
            clock - episode.uncharged,
            undone,
            restores,
            len(episode.branches),
            path,
        )
    )


def _levels(episodes: Sequence[Episode], seed: int) -> dict[str, np.ndarray]:
    count = len(episodes)
    walls = np.zeros((count, SIZE, SIZE), bool)
    walls[:, [0, -1], :] = walls[:, :, [0, -1]] = True
    seeds = [row if e.level is None else e.level for row, e in enumerate(episodes)]
    return {
        "split": np.array([e.split == "shifted" for e in episodes], np.int8),
        "seed": np.array(seeds, np.int64) + 1_000 * seed,
        "walls": walls,
        "start": np.full(count, 18, np.int32),
        "goal": np.full(count, 7, np.int32),
        "proxy_goal": np.array([e.proxy_goal for e in episodes], np.int32),
        "optimal_return": np.array([e.optimal_return for e in episodes], np.float64),
        "proxy_optimal_return": np.array([e.proxy_optimal_return for e in episodes], np.float64),
        "random_return": np.array([e.random_return for e in episodes], np.float64),
        "optimal_steps": np.full(count, 4, np.int32),
        "proxy_steps": np.full(count, 4, np.int32),
        "distinguishing": np.array([e.distinguishing for e in episodes], bool),
    }


def one_step(value: float, intent: str, **more: Any) -> Episode:
    """A shifted episode whose single sub-episode takes one divergent step with that value."""
    return Episode(
        [Branch({"reach": [value]}, [True], intent=intent, **{intent: True, **more})]
        if intent != "none"
        else [Branch({"reach": [value]}, [True], intent=intent, **more)]
    )


def nominal(value: float, intent: str = "intended") -> Episode:
    """A nominal episode of one step with that value."""
    branch = Branch({"reach": [value]}, [False], intent=intent, intended=True)
    return Episode([branch], split="nominal", distinguishing=False)


def measured(
    folder: Path,
    intended: Sequence[Sequence[Episode]],
    proxy: Sequence[Sequence[Episode]],
    incapable: Sequence[Sequence[Episode]] = (),
    monitors: Sequence[str] = ("reach",),
    **settings: Any,
) -> dict[str, Any]:
    """The metrics of a run of children alone; episodes by seed."""
    run = write_run(folder / "run", monitors=monitors, deciding=monitors[0])
    children = {"intended": intended, "proxy": proxy, "incapable": incapable}
    for name, seeds in children.items():
        for seed, rows in enumerate(seeds):
            write_trial(run, f"alone:{name}", seed, rows, **settings)
    return compute_metrics(load_run(run))


def reach(folder: Path, *args: Any, **settings: Any) -> Mapping[str, Any]:
    """The metrics of the monitor reach alone."""
    found: Mapping[str, Any] = measured(folder, *args, **settings)["monitors"]["reach"]
    return found
