"""Does it help to be able to go back? Plain against backtracking Q-learning in a grid with traps.

    python experiments/backtrack_trapgrid.py --workers 2          # hours; killed, it goes on
    python experiments/backtrack_trapgrid.py --quick              # a minute or two, to see it work

Chooses every arm's settings on tuning seeds, runs all arms on other seeds, and writes
experiments/results/backtrack_trapgrid.json (every number, with its interval),
experiments/results/backtrack_trapgrid_seeds.json (the numbers of each seed) and the figures
experiments/figures/backtrack_trapgrid_*.svg; --quick, or another number of seeds, writes beside its
runs instead.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

# One thread a process: the work is parallel over processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from backtrack_trapgrid_figures import figures
from backtrack_trapgrid_plan import Entry, Scale, chosen, reference, reported, tuning
from backtrack_trapgrid_runs import Run, load, load_or_play, source_digest
from backtrack_trapgrid_summary import rows, seed_numbers, tables
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from delegate import store
from delegate.run.execution import follow_parent

HERE = Path(__file__).parent
QUICK = Scale(tuning_seeds=10, seeds=20, calm=2_000, noisy=2_000, long=4_000, quick=True)


def main(arguments: list[str] | None = None) -> None:
    """Choose, run, summarise, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--seeds", type=int, default=Scale.seeds, help="reported seeds")
    parser.add_argument("--quick", action="store_true", help="few seeds, few worlds, few steps")
    parser.add_argument("--out", type=Path, default=None, help="where finished runs are kept")
    given = parser.parse_args(arguments)
    scale = QUICK if given.quick else Scale(seeds=given.seeds)
    name = "backtrack_trapgrid_quick" if given.quick else "backtrack_trapgrid"
    folder = given.out if given.out is not None else Path("runs") / name
    folder.mkdir(parents=True, exist_ok=True)

    groups = tuning(scale)
    finish("choosing settings", [run for group in groups.values() for run in group], folder, given)
    tried = {key: [(run, load(run, folder)) for run in group] for key, group in groups.items()}
    tuned = {key: chosen(pairs) for key, pairs in tried.items()}
    entries = reported(scale, tuned)
    free = [entry.run for entry in entries if entry.run.arm.rate_of is None]
    finish("measuring", free, folder, given)
    finish("controls", [e.run for e in entries if e.run.arm.rate_of is not None], folder, given)

    results = collect(entries, folder)
    document = {
        "experiment": "backtrack_trapgrid",
        "provenance": provenance(scale, groups),
        "tuning": [
            {"step_cost": step_cost, "noisy": noisy, "chosen": tuned[step_cost, noisy]}
            | {"tried": rows([Entry("tuning", run) for run, _ in pairs], [m for _, m in pairs])}
            for (step_cost, noisy), pairs in tried.items()
        ],
        "results": results,
    }
    home = HERE if scale == Scale() else folder
    write(home / "results" / "backtrack_trapgrid.json", compact(document))
    numbers = [seed_numbers(entry, load(entry.run, folder)) for entry in entries]
    lines = ",\n".join(json.dumps(each) for each in numbers)
    write(home / "results" / "backtrack_trapgrid_seeds.json", f"[\n{lines}\n]")
    figures(results, home / "figures")
    print(tables(results))


def finish(what: str, runs: Iterable[Run], folder: Path, given: argparse.Namespace) -> None:
    """Play every run that is not there yet, with a progress bar."""
    unique = {run.fingerprint(): run for run in runs}
    missing = [run for key, run in unique.items() if not (folder / f"{key}.npz").exists()]
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns) as bar,
        ProcessPoolExecutor(given.workers, initializer=follow_parent) as pool,
    ):
        task = bar.add_task(what, total=len(unique), completed=len(unique) - len(missing))
        jobs = [pool.submit(load_or_play, run, folder, reference(run)) for run in missing]
        try:
            for job in as_completed(jobs):
                job.result()
                bar.advance(task)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def collect(entries: list[Entry], folder: Path) -> list[dict[str, Any]]:
    """The rows of the results; each arm beside the plain one of its part and world."""
    measured = [load(entry.run, folder) for entry in entries]
    return rows(entries, measured)


def provenance(scale: Scale, groups: dict[Any, list[Run]]) -> dict[str, Any]:
    """What is needed to do it again."""
    first = next(iter(groups.values()))[0]
    return {
        "commit": store.commit(),
        "source": source_digest(),
        "versions": store.versions(),
        "command": f"python experiments/backtrack_trapgrid.py --seeds {scale.seeds}",
        "tuning_seeds": [first.first_seed, first.first_seed + scale.tuning_seeds - 1],
        "reported_seeds": [1_000, 1_000 + scale.seeds - 1],
    }


def compact(document: dict[str, Any]) -> str:
    """JSON with a list of numbers on one line."""
    text = json.dumps(document, indent=1)
    return re.sub(r"\[\s+([^\[\]{}\"]+?)\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
