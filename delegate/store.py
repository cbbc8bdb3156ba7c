"""Run folders: made whole or not at all, resumed after a kill, checked before they are trusted."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from delegate.files import parse_json, shown, write_whole
from delegate.safety.logs import DamagedTrial, verify_trial
from delegate.scenario import Scenario, ScenarioError, load
from delegate.settings import shortened

RECORDED = (
    "delegate", "gymnasium", "mujoco", "networkx", "numpy", "sb3-contrib", "scikit-learn", "scipy",
    "stable-baselines3", "torch",
)  # fmt: skip
"""packages whose versions decide what a trial gives"""


class RunError(ValueError):
    """A run cannot be started or resumed as asked; the message says why and what would help."""


class BadPlace(RunError):
    """That folder cannot hold the run."""


RUN_FORMAT = 1
"""of run folders; raised when what a trial writes, or means, changes"""


def ingredients(scenario: Scenario, classes: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What a trial is a function of, beside its name and seed: what makes a finished one reusable.

    classes: where the scenario names one -> what tells its code from other code
    returns format, scenario (but for its seeds), classes and versions, as JSON holds them
    """
    return {
        "format": RUN_FORMAT,
        "scenario": _lasting(scenario),
        "classes": {place: dict(code) for place, code in classes.items()},
        "versions": versions(),
    }


def _lasting(scenario: Scenario) -> dict[str, Any]:
    """What of a scenario decides a trial's course."""
    return scenario.model_dump(mode="json", exclude={"seeds", "title", "description"})


def fingerprint(ingredients: Mapping[str, Any]) -> str:
    """One number for all of them (hexadecimal)."""
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()


def differences(before: Any, now: Any, at: str = "") -> list[str]:
    """Where two sets of ingredients differ: `versions.numpy was 2.0.1 and is 2.1.0`."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        return [
            found
            for key in keys
            for found in differences(
                before.get(key, MISSING), now.get(key, MISSING), f"{at}.{key}".lstrip(".")
            )
        ]
    return [] if before == now else [f"{at} was {_brief(before)} and is {_brief(now)}"]


MISSING = "not there"
"""what `differences` says of a key that one of the two has not"""


def _brief(value: Any) -> str:
    return value if isinstance(value, str) else shortened(value)


def versions(more: Iterable[str] = ()) -> dict[str, str]:
    """Python and the packages that decide a trial's course. more: further ones to name"""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in (*RECORDED, *more):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def commit() -> str | None:
    """The commit of this code, with `-dirty` if files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        return f"{head}-dirty" if _git(here, "status", "--porcelain", "--", "..") else head
    except (OSError, subprocess.CalledProcessError):
        return None


@contextlib.contextmanager
def opened(
    out: Path,
    source: Path,
    record: Mapping[str, Any],
    made_of: Mapping[str, Any],
    resume: bool,
    notice: Callable[[str], None],
) -> Iterator[None]:
    """Have that run folder to oneself: a new one, or one to go on with.

    record: what run.json holds · made_of: the run's `ingredients` · notice: told what was mended
    Raises RunError when somebody else writes there or it holds another run; it is unchanged then.
    """
    check_place(out, resume)
    began, made = is_run(out), not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with locked(out):
            if began:
                record = _continued(out, record, made_of, notice)
                _sweep(out)
            (out / "trials").mkdir(exist_ok=True)
            write_whole(out / "scenario.yaml", source.read_bytes())
            write_whole(out / "run.json", as_json(record))
            yield
    except OSError:
        if made and not is_run(out):
            shutil.rmtree(out, ignore_errors=True)
        raise


def check_place(out: Path, resume: bool) -> None:
    """Raises BadPlace where no run can be begun or, to `resume`, gone on with."""
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            below = "is" if path == out else f"lies below {shown(path)}, which is"
            raise BadPlace(f"{shown(out)}: {below} a file; name a folder that is new or empty")
    if is_run(out):
        if not resume:
            raise BadPlace(
                f"{shown(out)}: holds a run already; go on with it by --resume, or name another "
                "folder"
            )
    elif out.exists() and any(_foreign(path) for path in out.iterdir()):
        raise BadPlace(
            f"{shown(out)}: holds other things and no run; name a folder that is new or empty"
        )


def _foreign(path: Path) -> bool:
    """Is that not what a run killed at its very start leaves behind?"""
    return path.name != ".lock" and not path.match(".*.making")


def is_run(out: Path) -> bool:
    """Does that folder hold a run, whole or not?"""
    return any((out / name).exists() for name in ("run.json", "scenario.yaml", "trials"))


def _continued(
    out: Path,
    record: Mapping[str, Any],
    made_of: Mapping[str, Any],
    notice: Callable[[str], None],
) -> dict[str, Any]:
    """What run.json holds from now on: every commit that had a part in the run stays named."""
    try:
        before = read_json(out / "run.json")
    except (OSError, RunError):
        notice(f"{out / 'run.json'}: missing or unreadable; written anew, every trial is checked")
        before = {}
    if before and before.get("fingerprint") != record["fingerprint"]:
        raise RunError(
            f"{out}: was begun with {_what_changed(out, before, made_of)}; name another folder, "
            "or remove this one"
        )
    commits = [*before.get("commits", []), *record["commits"]]
    if len(set(commits)) > len(set(before.get("commits", commits))):
        notice(f"{out}: goes on with other code than it began with; both commits are recorded")
    return {**record, "commits": list(dict.fromkeys(commits))}


def _what_changed(out: Path, before: Mapping[str, Any], made_of: Mapping[str, Any]) -> str:
    """How what is to run differs from the run in that folder, `before` being its run.json."""
    form, now = before.get("format", "an older one"), made_of["format"]
    if form != now:
        return f"another format of runs: format was {form} and is {now}"
    told: dict[str, Any] = {key: before.get(key) for key in ("classes", "versions")}
    with contextlib.suppress(ScenarioError):
        told["scenario"] = _lasting(load(out / "scenario.yaml"))
    found = differences(told, {key: made_of[key] for key in told})
    words = {
        "scenario": "another scenario",
        "classes": "other classes",
        "versions": "other package versions",
    }
    parts = {text.partition(".")[0] for text in found} or {"scenario"}
    what = " and ".join(words[part] for part in words if part in parts)
    more = f" (and {len(found) - SHOWN} more)" if len(found) > SHOWN else ""
    return ": ".join([what, *(["; ".join(found[:SHOWN]) + more] if found else [])])


SHOWN = 3
"""differences that a message shows"""


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Nobody else writes to this run meanwhile; a process that is killed lets go.

    Raises RunError if somebody does already.
    """
    lock = FileLock(out / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RunError(f"{out}: another run writes here; wait for it or stop it") from None
    try:
        yield
    finally:
        lock.release()


def finished(folder: Path, arm: str, seed: int, expected: str) -> str | None:
    """None if that trial is there, whole and of this run; else what is wrong with it.

    A trial that never finished is not wrong, it is missing: the answer is "".
    expected: the run's fingerprint
    """
    if not folder.exists():
        return ""
    try:
        record = verify_trial(folder)
    except DamagedTrial as error:
        return str(error)
    if (record["arm"], record["seed"]) != (arm, seed):
        return f"{folder}: holds {record['arm']}, seed {record['seed']}"
    if record.get("fingerprint") != expected:
        return f"{folder}: is of another scenario, or of other classes or package versions"
    return None


def write_trial(folder: Path, files: Mapping[str, bytes], record: Mapping[str, Any]) -> None:
    """Write a finished trial, whole or not at all. A folder that is there is replaced."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    making = folder.parent / f".{folder.name}.{os.getpid()}.making"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    try:
        for name, content in files.items():
            (making / name).write_bytes(content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        (making / "trial.json").write_bytes(as_json({**record, "files": digests}))
        if folder.is_dir():
            shutil.rmtree(folder)
        making.replace(folder)
    except OSError:
        shutil.rmtree(making, ignore_errors=True)
        raise


def read_table(folder: Path, name: str) -> dict[str, np.ndarray]:
    """A table that a finished trial wrote. Raises DamagedTrial where it is not what was written."""
    content = (folder / name).read_bytes() if (folder / name).is_file() else b""
    if hashlib.sha256(content).hexdigest() != verify_trial(folder)["files"].get(name):
        raise DamagedTrial(folder / name, "is not what the trial wrote (sha256); redo the trial")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return {column: file[column] for column in file.files}


def pack(table: Mapping[str, np.ndarray]) -> bytes:
    """A table as the bytes of an `.npz` file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **dict(table))
    return buffer.getvalue()


def as_json(record: Mapping[str, Any]) -> bytes:
    """A JSON object as it is stored."""
    return json.dumps(record, indent=2, sort_keys=True, allow_nan=False).encode()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises RunError naming the file if it is none, OSError if it is not there."""
    try:
        record = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path}: is not JSON ({error}); go on with --resume") from None
    if not isinstance(record, dict):
        raise RunError(f"{path}: is not a JSON object; go on with --resume")
    return record


def _sweep(out: Path) -> None:
    """Remove what a killed run left half-made."""
    for left in (
        *out.glob(".*.making"),
        *out.glob("trials/*/.*.making"),
        *out.glob("artefacts/.*"),
    ):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _git(here: Path, *words: str) -> str:
    found = subprocess.run(
        ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()
