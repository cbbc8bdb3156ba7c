"""What long studies share: many runs on a few processes, each finished once."""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from delegate import store
from delegate.files import write_whole
from delegate.run.execution import follow_parent

HERE = Path(__file__).parent
COMMIT = store.commit()
"""once, when the code is loaded: a file that changes later is not what has run"""


def options(about: str, out: str) -> argparse.ArgumentParser:
    """What every study may be asked: on how many processes, which part of its plan, and where
    records are kept."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--workers", type=_positive, default=1, help="processes (default 1)")
    parser.add_argument("--arms", nargs="+", help="of the plan's, all unless said otherwise")
    parser.add_argument("--seeds", type=int, nargs="+", help="likewise")
    parser.add_argument("--steps", type=_positive, help="a run, instead of the plan's")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument(
        "--gather",
        action="store_true",
        help="run nothing: take what is finished, from --out and from the result that is there",
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def carry_out(
    play: Callable[[Any, Path], Path],
    plan: Sequence[Any],
    name: str,
    parser: argparse.ArgumentParser,
    given: argparse.Namespace,
    **places: Sequence[Any] | None,
) -> tuple[list[dict[str, Any]], Path]:
    """Play the part of a plan that was asked for, or gather what of it is finished.

    name: of the result · parser, given: of `options`, and what it read · places: what else of a run
    may be asked for, by name; None for all
    returns the records in the plan's order, and where to write what is made of them: here if the
    whole plan was asked for, else beside the records
    What is not in the plan, cannot be written or cannot be read ends the program, with status 2 and
    one line, before anything is run.
    """
    runs = _asked(plan, parser, {"arm": given.arms, "seed": given.seeds, **places})
    if given.steps is not None:
        runs = [run.model_copy(update={"steps": given.steps}) for run in runs]
    home = HERE if runs == list(plan) else given.out
    try:
        if given.gather:
            records = finished(runs, HERE / "results" / f"{name}.json", given.out)
            print(f"{len(records)} of {len(runs)} runs are finished")
            if not records:
                parser.error(
                    f"nothing to gather in {given.out}; leave out --gather to run the plan"
                )
            return records, home
        given.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=given.out).close()
        for path in (run.path(given.out) for run in runs):
            if path.exists() and "run" not in _read(path):
                raise ValueError(f"{path} is no record of a run; remove it, and it is done anew")
    except OSError as error:
        parser.error(f"--out {given.out}: {error.strerror}; give a folder that can be written")
    except ValueError as error:
        parser.error(str(error))
    paths = finish(play, runs, given.out, given.workers)
    return [_read(path) for path in paths], home


def _asked(
    plan: Sequence[Any], parser: argparse.ArgumentParser, asked: dict[str, Sequence[Any] | None]
) -> list[Any]:
    """The runs that are as asked for; every value has to be one of the plan's."""
    runs = list(plan)
    for name, wanted in asked.items():
        if wanted is None:
            continue
        there = list(dict.fromkeys(_told(run, name) for run in plan))
        for value in wanted:
            if value not in there:
                known = ", ".join(map(str, there))
                parser.error(f"--{name}s: the plan has no {name} {value}; it has {known}")
        runs = [run for run in runs if _told(run, name) in wanted]
    if not runs:
        parser.error("no run of the plan is all that; ask for less at once")
    return runs


def _told(run: Any, name: str) -> Any:
    return run.arm.name if name == "arm" else getattr(run, name)


def kept(
    path: Path, run: BaseModel, code: dict[str, Any], train: Callable[[], dict[str, Any]]
) -> Path:
    """The record of a run: made, whole or not at all; one that is there stays.

    path: of the record · code: what it was of (source, versions) · train: what to tell beside that
    """
    if not path.exists():
        torch.set_num_threads(1)
        record = {"run": run.model_dump(mode="json"), "commit": COMMIT, **code, **train()}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, store.as_json(record))
    return path


def finished(runs: Sequence[BaseModel], result: Path, folder: Path) -> list[dict[str, Any]]:
    """The records of those runs that are in a result or, rather, in a folder, there the newest of
    each; of whatever code: a record tells its own. Raises ValueError for a file that is no JSON."""
    records = _read(result)["records"] if result.exists() else []
    for path in sorted(folder.rglob("*.json"), key=lambda path: path.stat().st_mtime):
        records.append(_read(path))
    newest = {_identity(record["run"]): record for record in records if "run" in record}
    wanted = (_identity(run.model_dump(mode="json")) for run in runs)
    return [newest[each] for each in wanted if each in newest]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}); remove it, and its run is done anew"
        ) from None
    return found


def _identity(run: dict[str, Any]) -> str:
    return json.dumps(run, sort_keys=True)


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
    write_whole(home / "results" / f"{name}.json", store.as_json(document))


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
