"""What long studies share: many runs on a few processes, each finished once."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from delegate import store
from delegate.run.execution import follow_parent


def finish(
    play: Callable[[Any, Path], Path], runs: Sequence[Any], folder: Path, workers: int
) -> list[Path]:
    """Play every run that is not there yet, with a progress bar; the paths in the runs' order.

    play: (run, folder) -> path of its record; it leaves alone a record that is there
    """
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    context = multiprocessing.get_context("spawn")
    with Progress(*columns) as bar, ProcessPoolExecutor(workers, context, follow_parent) as pool:
        task = bar.add_task("training", total=len(runs))
        jobs = [pool.submit(play, run, folder) for run in runs]
        try:
            for job in as_completed(jobs):
                if error := job.exception():
                    raise error
                bar.advance(task)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [job.result() for job in jobs]


def write_results(
    home: Path,
    name: str,
    records: Sequence[dict[str, Any]],
    summary: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    """results/NAME.json under `home`: what was run, by which code, and what came out; figures/
    is there then too."""
    document = {
        "experiment": name,
        "commits": sorted({str(record["commit"]) for record in records}),
        "versions": records[0]["versions"],
        **settings,
        "summary": summary,
        "records": list(records),
    }
    for folder in ("results", "figures"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    store.write_file(home / "results" / f"{name}.json", store.as_json(document))


def success_rates(ended: Sequence[tuple[int, bool]], steps: int, bins: int) -> list[float | None]:
    """Share of the episodes that ended in each bin of steps and came to their goal; None for no
    end.

    ended: the environment step at which each episode ended, and whether it came to its goal
    """
    when = np.array([step for step, _ in ended], int)
    reached = np.array([each for _, each in ended], float)
    places = np.minimum((when - 1) * bins // steps, bins - 1)
    return [
        float(reached[places == n].mean()) if (places == n).any() else None for n in range(bins)
    ]


def source_digest(files: Sequence[Path], libraries: Sequence[str]) -> str:
    """Of the code and the versions that decide what a run gives (hexadecimal).

    files: of code; of a folder all its modules count
    """
    digest = hashlib.sha256(json.dumps(store.versions(libraries), sort_keys=True).encode())
    for path in files:
        for module in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            digest.update(module.read_bytes())
    return digest.hexdigest()[:16]


def record_path(folder: Path, run: BaseModel, source: str, *names: str) -> Path:
    """Where the record of a run is kept, under `names`; another for any other setting, code or
    version."""
    digest = hashlib.sha256((run.model_dump_json() + source).encode()).hexdigest()[:12]
    *parents, last = names
    return folder.joinpath(*parents, f"{last}_{digest}.json")
