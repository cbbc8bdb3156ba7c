"""Read a run folder: the logs of its trials, checked, as typed columns."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delegate import scenario as scenarios
from delegate.delegation.events import Event, EventLog
from delegate.drawing import unpacked
from delegate.files import parse_json
from delegate.monitors.calibration import Threshold, threshold_from_json

Columns = dict[str, np.ndarray]
"""a table: name -> column, all of one length"""

NOMINAL, SHIFTED = 0, 1
"""codes of a level's split: the training and the deployment distribution"""

FILES = (
    "events.jsonl", "steps.npz", "watch.npz", "levels.npz", "sub_episodes.npz", "calibration.json",
)  # fmt: skip
"""what a trial consists of, beside trial.json, which lists the sha256 of each"""

MAYBE = ("drawings.npz",)
"""what may lie beside them: how to draw each level"""

STEP_COLUMNS = {
    "row": "iu", "sub_episode": "iu", "clock": "iu", "path_clock": "iu", "state": "iuf",
    "action": "iuf", "next_state": "iuf", "reward": "f", "proxy_reward": "f", "terminated": "b",
    "divergent": "b", "effects": "iu",
}  # fmt: skip
WATCH_COLUMNS = {"row": "iu", "sub_episode": "iu", "step": "iu", "clock": "iu", "divergent": "b"}
LEVEL_COLUMNS = {
    "split": "iu", "seed": "iu", "goal": "iu", "proxy_goal": "iu", "random_return": "f",
    "distinguishing": "b",
}  # fmt: skip
"""what every table of levels has; beside it one of each pair of returns below, and what a world
knows: optimal_steps, goal_distance, landmark_goals"""
BEST_RETURN = ("optimal_return", "reference_return")
PROXY_RETURN = ("proxy_optimal_return", "proxy_reference_return")
"""of the best way there is, or of the best way known"""
RECORD_COLUMNS = {
    "row": "iu", "sub_episode": "iu", "parent": "iu", "depth": "iu", "child": "U", "goal": "iu",
    "budget": "iu", "steps": "iu", "outcome": "iu", "verdict": "iu", "intent": "iu",
    "intended": "b", "proxy": "b", "parting": "iu", "defection": "iu", "peak": "f",
    "turned": "iu",
    "within": "iu", "undone_steps": "iu", "named": "iu", "named_probability": "f",
}  # fmt: skip
"""what is read of each delegation"""
_EMPTY = {"i": np.int32, "f": np.float64, "b": np.bool_, "U": np.str_}
"""what a column that holds nothing is read as, whatever it was written as"""


class DamagedTrial(ValueError):
    """A trial, or the run around it, cannot be used as it is.

    path: the file or folder at fault · reason: what is wrong with it and the remedy
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True)
class Trial:
    """The log of one arm, or of one child alone, on one seed.

    kind: "arm" or "alone" · child: who ran, for "alone" · monitor: whose alarms counted
    steps, watch: columns [T] and [U] · levels: one entry a row · target: false alarm rate
    sub_episodes: one entry a delegation · landmarks: names that `named` counts in
    """

    folder: Path
    arm: str
    kind: str
    child: str | None
    protocol: str
    monitor: str | None
    seed: int
    events: tuple[Event, ...]
    steps: Columns
    watch: Columns
    levels: Columns
    sub_episodes: Columns
    target: float
    calibration: Mapping[str, Threshold]
    times: Mapping[str, Any]
    landmarks: tuple[str, ...] = ()

    @property
    def monitors(self) -> list[str]:
        """Everybody who watched, by name."""
        return sorted(name.removeprefix("value/") for name in self.watch if "value/" in name)


@dataclass(frozen=True)
class Run:
    """A run folder: the scenario, where it came from, and every finished trial.

    trials: in order of arm, then seed · missing: folders of trials that are not there
    """

    folder: Path
    scenario: scenarios.Scenario
    provenance: Mapping[str, Any]
    trials: tuple[Trial, ...]
    missing: tuple[str, ...]

    def of(self, arm: str) -> list[Trial]:
        """That arm's trials, in order of seed."""
        return [trial for trial in self.trials if trial.arm == arm]

    @property
    def arms(self) -> list[str]:
        """Every arm with a finished trial; children alone are named "alone:<child>"."""
        return sorted({trial.arm for trial in self.trials})

    @property
    def alone(self) -> list[Trial]:
        """The trials in which a child worked alone, watched and never interrupted."""
        return [trial for trial in self.trials if trial.kind == "alone"]

    @property
    def monitors(self) -> list[str]:
        """Every monitor that scored a child alone, by name."""
        return sorted({name for trial in self.alone for name in trial.monitors})


def load_run(folder: Path) -> Run:
    """Read a run folder and check every trial in it.

    Raises DamagedTrial naming the file, what is wrong with it and the remedy.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DamagedTrial(folder, "is not a folder; name the folder `delegate run --out` wrote")
    source = folder / "scenario.yaml"
    if not source.is_file():
        raise DamagedTrial(source, "is missing, so this is no run folder; name another or run anew")
    scenario = scenarios.load(source)
    provenance = _read_json(folder / "run.json")
    trials = [
        trial
        for arm in [*scenario.arms, *(f"alone:{child}" for child in scenario.children)]
        for seed in _seeds(folder, provenance)
        if (trial := _named_trial(folder, arm, seed)) is not None
    ]
    if not trials:
        raise DamagedTrial(
            folder / "trials", "holds no finished trial; finish the run with --resume"
        )
    trials.sort(key=lambda trial: (trial.arm, trial.seed))
    return Run(folder, scenario, provenance, tuple(trials), _missing(scenario, provenance, trials))


def trial_folder(arm: str, seed: int) -> str:
    """Where a trial lies under `trials/`."""
    return f"{arm.replace(':', '-')}/{seed}"


def _seeds(folder: Path, provenance: Mapping[str, Any]) -> list[int]:
    """The seeds this run is of; other trials may lie there from a longer run before."""
    seeds = provenance.get("seeds")
    if not isinstance(seeds, list) or not all(isinstance(seed, int) for seed in seeds):
        raise DamagedTrial(folder / "run.json", "names no seeds; go on with --resume")
    return seeds


def _named_trial(folder: Path, arm: str, seed: int) -> Trial | None:
    """The trial of that name, None where it was never finished."""
    place = folder / "trials" / trial_folder(arm, seed)
    if not (place / "trial.json").exists():
        return None
    trial = load_trial(place)
    if (trial.arm, trial.seed) != (arm, seed):
        raise DamagedTrial(
            place,
            f"holds {trial.arm}, seed {trial.seed}, and not what its name says; redo the trial",
        )
    return trial


def verify_trial(folder: Path) -> dict[str, Any]:
    """The content of trial.json, once every file it lists has the sha256 it states.

    Raises DamagedTrial for the first file that is missing or was changed.
    """
    record = _read_json(folder / "trial.json")
    wanted = {"arm": str, "kind": str, "protocol": str, "seed": int, "files": dict}
    for name, kind in wanted.items():
        if not isinstance(record.get(name), kind):
            raise DamagedTrial(folder / "trial.json", f"has no usable {name!r}; redo the trial")
    for name in (*FILES, *(each for each in MAYBE if each in record["files"])):
        path = folder / name
        if name not in record["files"]:
            raise DamagedTrial(folder / "trial.json", f"lists no {name}; redo the trial")
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise DamagedTrial(path, f"cannot be read ({_cause(error)}); redo the trial") from None
        if digest != record["files"][name]:
            raise DamagedTrial(path, "is not what the trial wrote (sha256); redo the trial")
    return record


def load_trial(folder: Path) -> Trial:
    """Read one trial folder. Raises DamagedTrial, see `verify_trial`."""
    record = verify_trial(folder)
    steps = _read_table(folder / "steps.npz", STEP_COLUMNS)
    watch = _read_table(folder / "watch.npz", WATCH_COLUMNS)
    levels = _read_table(folder / "levels.npz", LEVEL_COLUMNS)
    for name, column in watch.items():
        partner = name.replace("value/", "score/", 1)
        if "/" in name and (column.dtype.kind != "f" or partner not in watch):
            raise DamagedTrial(
                folder / "watch.npz", f"column {name} is unusable or lacks its pair; redo the trial"
            )
        if column.dtype.kind == "f" and np.isinf(column).any():
            raise DamagedTrial(
                folder / "watch.npz", f"column {name} holds infinite numbers; redo the trial"
            )
    for pair in (BEST_RETURN, PROXY_RETURN):
        if not any(name in levels for name in pair):
            raise DamagedTrial(
                folder / "levels.npz", f"has no column {pair[0]}; redo the trial with this version"
            )
    target, calibration, landmarks = _read_calibration(folder / "calibration.json")
    trial = Trial(
        folder=folder,
        arm=record["arm"],
        kind=record["kind"],
        child=record.get("child"),
        protocol=record["protocol"],
        monitor=record.get("monitor"),
        seed=record["seed"],
        events=_read_events(folder / "events.jsonl", rows=len(levels["split"])),
        steps=steps,
        watch=watch,
        levels=levels,
        sub_episodes=_read_table(folder / "sub_episodes.npz", RECORD_COLUMNS),
        target=target,
        calibration=calibration,
        times=record.get("times") or {},
        landmarks=landmarks,
    )
    for name in trial.monitors:
        if name not in calibration:
            raise DamagedTrial(
                folder / "calibration.json", f"says nothing of monitor {name}; redo the trial"
            )
    return trial


def _read_json(path: Path) -> dict[str, Any]:
    try:
        record = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedTrial(
            path, f"cannot be read ({_cause(error)}); redo it with --resume"
        ) from None
    if not isinstance(record, dict):
        raise DamagedTrial(path, "is not a JSON object; redo it with --resume")
    return record


def _read_events(path: Path, rows: int) -> tuple[Event, ...]:
    try:
        events = tuple(EventLog.from_jsonl(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, ValueError) as error:
        raise DamagedTrial(path, f"{_cause(error)}; redo the trial") from None
    for event in events:
        if not 0 <= event.row < rows:
            raise DamagedTrial(
                path, f"names row {event.row} and levels.npz has {rows}; redo the trial"
            )
    return events


def read_drawing(folder: Path, row: int) -> dict[str, Any]:
    """How to draw the level of a row of a trial, as Bank.drawing gave it. Raises DamagedTrial."""
    path = folder / "drawings.npz"
    columns = _read_arrays(path)
    try:
        return unpacked(columns, row)
    except (LookupError, ValueError) as error:
        raise DamagedTrial(path, f"cannot be read ({_cause(error)}); redo the trial") from None


def _read_arrays(path: Path) -> Columns:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedTrial(path, f"cannot be read ({_cause(error)}); redo the trial") from None


def _read_table(path: Path, columns: Mapping[str, str]) -> Columns:
    table = _read_arrays(path)
    for name, kinds in columns.items():
        if name not in table:
            raise DamagedTrial(path, f"has no column {name}; redo the trial with this version")
        if not table[name].size:
            table[name] = table[name].astype(_EMPTY[kinds[0]])
        if table[name].dtype.kind not in kinds:
            raise DamagedTrial(
                path, f"column {name} is of type {table[name].dtype}; redo the trial"
            )
    if len({len(column) for column in table.values()}) > 1:
        raise DamagedTrial(path, "has columns of different lengths; redo the trial")
    return table


def _read_calibration(path: Path) -> tuple[float, dict[str, Threshold], tuple[str, ...]]:
    record = _read_json(path)
    try:
        target = float(record["target"])
        thresholds = {
            name: threshold_from_json({"target": target, **entry})
            for name, entry in record["monitors"].items()
        }
        return target, thresholds, tuple(str(name) for name in record.get("landmarks", ()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedTrial(
            path, f"is not a calibration ({_cause(error)}); redo the trial"
        ) from None


def _missing(
    scenario: scenarios.Scenario, provenance: Mapping[str, Any], trials: list[Trial]
) -> tuple[str, ...]:
    """Arm and seed of every trial the run was to have, by run.json, and has not."""
    there = {(trial.arm, trial.seed) for trial in trials}
    seeds = provenance.get("seeds") or sorted({seed for _, seed in there})
    arms = [*(f"alone:{child}" for child in scenario.children), *scenario.arms]
    wanted = [(arm, seed) for arm in arms for seed in seeds]
    return tuple(f"{arm}, seed {seed}" for arm, seed in wanted if (arm, seed) not in there)


def _cause(error: Exception) -> str:
    """The error in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__
