"""What long studies share: many runs on a few processes, each finished once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

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
