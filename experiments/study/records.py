"""Runs, the records they leave, and the results made of them.

A run leaves a record, a JSON file. A result is two files: results/NAME.json says what was run and
what came out, results/NAME.jsonl.gz holds the records, one line a run.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from threadpoolctl import threadpool_limits

from delegate import store
from delegate.files import write_whole

EXPERIMENTS = Path(__file__).parents[1]
ROOT = EXPERIMENTS.parent
COMMIT = store.commit()
"""once, when the code is loaded: a file that changes later is not what has run"""
WIDTH = 100
"""characters of a line of a result"""
Record = dict[str, Any]


class Refused(ValueError):
    """What was asked for cannot be done; the message says why and what would help."""


class Code:
    """What decides, beside its settings, what a run gives; as it is when this is made.

    files: below the project's root, of a folder all its modules · libraries: whose versions count
    """

    def __init__(self, *files: str, libraries: Sequence[str] = ()) -> None:
        self.versions = store.versions(libraries)
        digest = hashlib.sha256(json.dumps(self.versions, sort_keys=True).encode())
        for path in (Path(__file__), *(ROOT / file for file in files)):
            for module in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
                digest.update(module.read_bytes())
        self.source = digest.hexdigest()[:16]


class Run(BaseModel, ABC):
    """What a run is: its settings, its seed among them. A study adds its own.

    code: decides, beside these, what it gives · names: the settings that folders and file of its
    record are called by
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: ClassVar[Code]
    names: ClassVar[tuple[str, ...]]

    @abstractmethod
    def train(self) -> Record:
        """Train from its seed, and what to record beside settings and code."""

    def decided_by(self) -> Code:
        """Its code, where not every run of a study depends on all of it."""
        return self.code

    def path(self, folder: Path) -> Path:
        """Where its record is kept; another for any other setting, code or version."""
        content = (self.model_dump_json() + self.decided_by().source).encode()
        digest = hashlib.sha256(content).hexdigest()
        values = (getattr(self, name) for name in self.names)
        *parents, last = (str(getattr(value, "name", value)) for value in values)
        return folder.joinpath(*parents, f"{last}_{digest[:12]}.json")


def play(run: Run, folder: Path) -> Path:
    """The record of a run: made, whole or not at all; one that is there stays."""
    path = run.path(folder)
    if not path.exists():
        code = run.decided_by()
        made = {"commit": COMMIT, "source": code.source, "versions": code.versions}
        with threadpool_limits(1):  # the work is parallel over processes
            record = {"run": run.model_dump(mode="json"), **made, **run.train()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, store.as_json(record))
    return path


def read_record(path: Path) -> Record:
    """What is in a JSON file. Raises Refused where that is no JSON object."""
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
    except ValueError as error:
        raise Refused(f"{path} is damaged ({error}); remove it, and its run is done anew") from None
    return found


def check_records(runs: Sequence[Run], folder: Path) -> None:
    """Raise Refused where there is something else in place of a run's record."""
    for run in runs:
        path, own = run.path(folder), run.model_dump(mode="json")
        if path.exists() and read_record(path).get("run") != own:
            raise Refused(f"{path} is no record of that run; remove it, and it is done anew")


def finished(runs: Sequence[Run], name: str, folder: Path) -> list[Record]:
    """The records of those runs that are in the result of that name or, rather, in a folder, there
    the newest of each; of whatever code: a record tells its own. Raises Refused for what is
    damaged."""
    records = read_records(EXPERIMENTS, name)
    for path in sorted(folder.rglob("*.json"), key=lambda path: path.stat().st_mtime):
        records.append(read_record(path))
    kind = type(runs[0])
    newest = {identity(kind, record["run"]): record for record in records if "run" in record}
    wanted = (identity(kind, run.model_dump(mode="json")) for run in runs)
    return [newest[each] for each in wanted if each in newest]


def identity(kind: type[Run], settings: Any) -> str:
    """Of a run with those settings: the same for all ways to write them, such as without a setting
    that came later."""
    with contextlib.suppress(ValidationError):
        settings = kind.model_validate_json(json.dumps(settings)).model_dump(mode="json")
    return json.dumps(settings, sort_keys=True)


def read_records(home: Path, name: str) -> list[Record]:
    """The records of a result, none where there is no such result. Raises Refused if damaged."""
    path = home / "results" / f"{name}.jsonl.gz"
    if not path.exists():
        return []
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        if not lines:
            raise ValueError("no record")
        return [json.loads(line) for line in lines]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise Refused(f"{path} is damaged ({error}); take it from the history") from None


def write_result(home: Path, name: str, records: Sequence[Record], found: dict[str, Any]) -> None:
    """A result under `home`: what was found, by what code, and the records."""
    lines = (json.dumps(record, sort_keys=True, allow_nan=False) + "\n" for record in records)
    versions: dict[str, set[str]] = {}
    for record in records:
        for library, version in record["versions"].items():
            versions.setdefault(library, set()).add(version)
    document = {
        "experiment": name,
        "runs": len(records),
        "commits": sorted({str(record["commit"]) for record in records}),
        "versions": {library: ", ".join(sorted(each)) for library, each in versions.items()},
        **found,
    }
    (home / "results").mkdir(parents=True, exist_ok=True)
    packed = gzip.compress("".join(lines).encode(), mtime=0)
    write_whole(home / "results" / f"{name}.jsonl.gz", packed)
    write_whole(home / "results" / f"{name}.json", f"{as_text(document)}\n".encode())


def as_text(value: Any, margin: str = "") -> str:
    """JSON in which a list of numbers, a metric, and whatever fits stands on one line."""
    line = json.dumps(value, allow_nan=False)
    if _depth(value) < 3 or len(margin) + len(line) <= WIDTH:
        return line
    more = margin + " "
    if isinstance(value, dict):
        parts = [f"{json.dumps(str(name))}: {as_text(each, more)}" for name, each in value.items()]
        return "{\n" + ",\n".join(more + part for part in parts) + f"\n{margin}}}"
    return "[\n" + ",\n".join(more + as_text(each, more) for each in value) + f"\n{margin}]"


def _depth(value: Any) -> int:
    """0 of a number, 1 of a list of numbers, 2 of a metric; 3 of what holds metrics."""
    if isinstance(value, dict):
        return 1 + max((1, *map(_depth, value.values())))
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def binned(ended: Sequence[tuple[int, float]], steps: int, bins: int) -> list[float | None]:
    """The mean of what ended in each bin of steps; None where nothing did.

    ended: at which environment step, and what it came to
    """
    when = np.array([step for step, _ in ended], int)
    values = np.array([value for _, value in ended], float)
    places = np.minimum((when - 1) * bins // steps, bins - 1)
    return [float(values[places == n].mean()) if (places == n).any() else None for n in range(bins)]
