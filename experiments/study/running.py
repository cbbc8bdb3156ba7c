"""A study: plans of runs, carried out on a few processes, and what is made of their records."""

from __future__ import annotations

import argparse
import multiprocessing
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from delegate.run.execution import follow_parent
from experiments.study.records import (
    EXPERIMENTS,
    Record,
    Refused,
    Run,
    check_records,
    finished,
    play,
    read_record,
    write_result,
)

REPORTED, TUNING = "reported", "tuning"
"""plans: what is run unless another is named, and a search for settings, on seeds of its own"""


@dataclass(frozen=True)
class Study:
    """What is asked, what is run for it, and what is made of that.

    name: of its folder, and of its results · about: what it does, in a line
    plans: by name, each gives its runs; a result is called as its study and its plan, that of the
    plan `reported` as its study
    summary: of records, in JSON · table: of a summary, in Markdown · figures: (records, folder,
    name of the result) draws there · settings: of all runs, by name, for its results
    of_a_run: what of a run may be asked for, beside its arm and its seed
    clock: which of its settings says how long it is
    """

    name: str
    about: str
    plans: Mapping[str, Callable[[], list[Any]]]
    summary: Callable[[Sequence[Record]], dict[str, Any]]
    table: Callable[[dict[str, Any]], str]
    figures: Callable[[Sequence[Record], Path, str], None]
    settings: Mapping[str, Any] = field(default_factory=dict)
    of_a_run: tuple[str, ...] = ()
    clock: str = "steps"

    def result(self, name: str) -> str:
        """What the result of a plan, or of another name, is called."""
        return self.name if name == REPORTED else f"{self.name}_{name}"

    def main(self, arguments: Sequence[str] | None = None) -> None:
        """Run what is asked for and missing, summarise, draw, print.

        A whole plan, and what is given a name, is a result in experiments/results; anything else
        is one beside its records. What cannot be done ends the program, with status 2 and one
        line, before anything is run.
        """
        parser = self._parser()
        given = parser.parse_args(arguments)
        try:
            plan = self.plans[given.plan]()
            runs = self._asked(plan, given)
            name = self.result(given.name or given.plan)
            records = carry_out(runs, name, given)
            home = EXPERIMENTS if given.name or runs == plan else given.out
            found = self.summary(records)
        except Refused as error:
            parser.error(str(error))
        seeds = sorted({record["run"]["seed"] for record in records})
        document = {"plan": given.plan, "seeds": seeds, **self.settings, "summary": found}
        write_result(home, name, records, document)
        self.figures(records, home / "figures", name)
        print(self.table(found))

    def _parser(self) -> argparse.ArgumentParser:
        parser = options(self.name, self.about)
        default = {"nargs": "?", "default": REPORTED} if REPORTED in self.plans else {}
        parser.add_argument("plan", choices=self.plans, **default)  # type: ignore[arg-type]
        parser.add_argument("--arms", nargs="+", help="of the plan's, all unless said otherwise")
        for name in self.of_a_run:
            parser.add_argument(f"--{name}s", nargs="+", help="likewise")
        parser.add_argument("--seeds", type=int, nargs="+", help="the plan's, or others")
        parser.add_argument(
            f"--{self.clock}", dest="steps", type=_positive, help="a run, instead of the plan's"
        )
        parser.add_argument("--name", help="the result STUDY_NAME is made of what is asked for")
        return parser

    def _asked(self, plan: list[Any], given: argparse.Namespace) -> list[Any]:
        """The runs that are as asked for: of the plan's, or like them but for their seeds."""
        if given.name and (given.name in self.plans or not re.fullmatch(r"\w+", given.name)):
            raise Refused(f"--name {given.name}: is a plan's, or more than a word; give another")
        result = EXPERIMENTS / "results" / f"{self.result(given.name or given.plan)}.json"
        if result.exists() and (run_by := read_record(result).get("run_by")):
            raise Refused(
                f"{result} is of commit {run_by['commit']} and stays; give another --name"
            )
        runs = plan
        for name in ("arm", *self.of_a_run):
            if (wanted := getattr(given, f"{name}s")) is None:
                continue
            there = dict.fromkeys(_setting(run, name) for run in plan)
            for value in wanted:
                if value not in there:
                    raise Refused(
                        f"--{name}s: the plan has no {name} {value}; it has {', '.join(there)}"
                    )
            runs = [run for run in runs if _setting(run, name) in wanted]
        if given.seeds is not None:
            runs = self._with_seeds(runs, given)
        if not runs:
            raise Refused("no run of the plan is all that; ask for less at once")
        if given.steps is not None:
            runs = [run.model_copy(update={self.clock: given.steps}) for run in runs]
        return runs

    def _with_seeds(self, runs: list[Any], given: argparse.Namespace) -> list[Any]:
        """Those with the seeds asked for, and of a seed that is not the plan's one of each."""
        others = {
            run.seed: name
            for name, plan in self.plans.items()
            if (name == TUNING) != (given.plan == TUNING)
            for run in plan()
        }
        planned = {run.seed for run in self.plans[given.plan]()}
        further = [seed for seed in dict.fromkeys(given.seeds) if seed not in planned]
        for seed in further:
            if seed in others:
                raise Refused(
                    f"--seeds: {seed} is of the plan {others[seed]}, and no seed is both sought on "
                    "and reported; give another"
                )
        seedless = {run.model_copy(update={"seed": 0}).model_dump_json(): run for run in runs}
        more = [run.model_copy(update={"seed": s}) for s in further for run in seedless.values()]
        return [run for run in runs if run.seed in given.seeds] + more


def _setting(run: Any, name: str) -> str:
    return str(run.arm.name if name == "arm" else getattr(run, name))


def options(name: str, about: str, gathers: bool = True) -> argparse.ArgumentParser:
    """What every study may be asked. name: of its folder · gathers: has it records to gather?"""
    parser = argparse.ArgumentParser(f"python -m experiments.{name}", description=about)
    parser.add_argument("--workers", type=_positive, default=1, help="processes (default 1)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs") / name, help=f"for records (runs/{name})"
    )
    if gathers:
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


def carry_out(runs: Sequence[Run], name: str, given: argparse.Namespace) -> list[Record]:
    """The records of those runs in their order: what is missing is run first, or, gathering, left
    out.

    name: of the result · given: what `options` read
    Raises Refused, before anything is run, for what cannot be written or cannot be read.
    """
    if given.gather:
        records = finished(runs, name, given.out)
        print(f"{len(records)} of {len(runs)} runs are finished")
        if not records:
            raise Refused(f"nothing to gather in {given.out}; leave out --gather to run the plan")
        return records
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=given.out).close()
    except OSError as error:
        raise Refused(
            f"--out {given.out}: {error.strerror}; give a folder that can be written"
        ) from None
    check_records(runs, given.out)
    _finish(runs, given.out, given.workers)
    return [read_record(run.path(given.out)) for run in runs]


def _finish(runs: Sequence[Run], folder: Path, workers: int) -> None:
    """Play every run that is not there yet, with a progress bar."""
    paths = {run.path(folder): run for run in runs}
    missing = [run for path, run in paths.items() if not path.exists()]
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("running", total=len(paths), completed=len(paths) - len(missing))
        for _ in _played(missing, folder, workers):
            bar.advance(task)


def _played(runs: Sequence[Run], folder: Path, workers: int) -> Iterator[None]:
    """Once for each run, when it is finished."""
    if workers == 1 or len(runs) < 2:
        for run in runs:
            play(run, folder)
            yield
        return
    # spawned: a fork would share locks with threads that are not there
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(runs)), context, follow_parent) as pool:
        try:
            for job in as_completed([pool.submit(play, run, folder) for run in runs]):
                job.result()
                yield
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()  # what it was at is done anew
            if isinstance(error, BrokenProcessPool):
                raise SystemExit(
                    "a worker was killed, perhaps for want of memory; the same command goes on"
                ) from None
            raise
