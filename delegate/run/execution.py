"""Run a scenario: every arm on every seed, in processes, resumable."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from delegate import store
from delegate.files import write_whole
from delegate.monitors import ScoreNotFinite
from delegate.run.names import classes
from delegate.run.source import FIRST_LEVEL, SEED_BLOCK, SPLIT_BLOCK, SPLITS, Source
from delegate.safety.logs import DamagedTrial
from delegate.scenario import RandomRollbackArm, Scenario
from delegate.store import RunError
from delegate.trial import Laboratory, Trial, trials

ARTEFACTS = "artefacts"
"""folder of a run that holds what it has learned"""

Ingredients = dict[str, Any]
"""what a run is made of, see `store.ingredients`"""

Progress = Callable[[float, float, str], None]
"""(done, total, what is being done)"""


def execute(
    plan: Scenario,
    source: Path,
    out: Path,
    workers: int = 1,
    resume: bool = False,
    seeds: int | None = None,
    progress: Progress | None = None,
    notice: Callable[[str], None] | None = None,
) -> Path:
    """Run what of a scenario is not there yet, and return the run's folder.

    plan: from `load_scenario(source)` · seeds: run seeds 0 to seeds - 1 instead of the plan's
    notice: told of every trial that is redone, and why; stderr if left out
    A trial is a pure function of plan and seed: neither `workers` nor resuming changes it.
    Raises RunError when `out` holds another run, OSError when it cannot be written.
    """
    progress = progress or (lambda done, total, what: None)
    notice = notice or partial(print, file=sys.stderr)
    chosen = plan.seeds if seeds is None else tuple(range(seeds))
    plan = plan.model_copy(update={"seeds": chosen})
    began = time.time()
    every = trials(plan, chosen)
    made_of = store.ingredients(plan, _classes(plan, source))
    rehearsed = None if store.is_run(out) else _rehearse(plan, source, made_of, out)
    with store.opened(
        out, source, _provenance(plan, made_of, workers, began), made_of, resume, notice
    ):
        if rehearsed is not None:
            rehearsed.keep()  # so that no worker learns it again
        todo = []
        for trial in every:
            wrong = store.finished(
                _folder(out, trial), trial.name, trial.seed, store.fingerprint(made_of)
            )
            if wrong:
                notice(f"redoing {trial.name}, seed {trial.seed}: {wrong}")
            if wrong is not None:
                todo.append(trial)
        meter = _Meter(progress, len(every), len(todo))
        for trial in _played(plan, made_of, out, todo, workers, meter):
            meter.finished(trial)
        record = store.read_json(out / "run.json")
        record["times"]["seconds"] = round(time.time() - began, 3)
        write_whole(out / "run.json", store.as_json(record))
    return out


def _classes(plan: Scenario, source: Path) -> dict[str, dict[str, str]]:
    """What tells the code of every class that a scenario names. Raises RunError."""
    try:
        return classes(plan)
    except ValueError as error:
        raise RunError(f"{source}: {error}") from error


def _rehearse(plan: Scenario, source: Path, made_of: Ingredients, out: Path) -> Laboratory:
    """Build what the first seed needs, so that what cannot work leaves no folder behind.

    Raises RunError naming what the world or a monitor could not do.
    """
    try:
        with threadpool_limits(1):
            own = store.fingerprint(made_of)
            return _laboratory(plan.model_dump_json(), plan.seeds[0], own, out / ARTEFACTS)
    except ValueError as error:
        raise RunError(f"{source}: {error}") from error


class _Meter:
    """Progress over the trials of a run."""

    def __init__(self, progress: Progress, every: int, todo: int) -> None:
        self._progress, self._every, self._done = progress, every, every - todo
        progress(self._done, every, "starting")

    def tick(self, trial: Trial, ended: int, rows: int) -> None:
        """So many of its rows have ended."""
        self._show(trial, ended / rows)

    def finished(self, trial: Trial) -> None:
        """It is written."""
        self._done += 1
        self._show(trial, 0.0)

    def _show(self, trial: Trial, part: float) -> None:
        self._progress(self._done + part, self._every, f"{trial.name}, seed {trial.seed}")


def _played(
    plan: Scenario,
    made_of: Ingredients,
    out: Path,
    todo: list[Trial],
    workers: int,
    meter: _Meter,
) -> Iterator[Trial]:
    """Play those trials and give each back when it is written."""
    if workers == 1 or len(todo) < 2:
        for trial in todo:
            _play(plan, made_of, out, trial, partial(meter.tick, trial))
            yield trial
        return
    with ProcessPoolExecutor(
        min(workers, len(todo)), multiprocessing.get_context("spawn"), follow_parent
    ) as pool:
        try:
            running = {pool.submit(_play, plan, made_of, out, trial): trial for trial in todo}
            while running:
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    future.result()
                    yield running.pop(future)
        except BaseException as error:
            # a worker killed while others begin shows in whatever `submit` was doing
            broken = isinstance(error, Exception) and bool(pool._broken)
            for process in list((pool._processes or {}).values()):
                process.terminate()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool) or broken:
                raise RunError(
                    f"{out}: a worker was killed, perhaps for want of memory; go on with --resume "
                    "and fewer --workers"
                ) from None
            raise


def _play(
    plan: Scenario,
    made_of: Ingredients,
    out: Path,
    trial: Trial,
    on_tick: Callable[[int, int], None] | None = None,
) -> None:
    """Run one trial and write its folder."""
    began, own = time.time(), store.fingerprint(made_of)
    if multiprocessing.parent_process() is not None:
        _check_worker(plan.model_dump_json(), json.dumps(made_of["classes"]), out)
    with threadpool_limits(1):
        try:
            laboratory = _laboratory(plan.model_dump_json(), trial.seed, own, out / ARTEFACTS)
        except ValueError as error:
            raise RunError(f"{out}: seed {trial.seed}: {error}") from error
        laboratory.keep()
        _remind(laboratory, plan, own, out, trial)
        try:
            played = laboratory.play(trial, on_tick)
        except ScoreNotFinite as error:
            raise RunError(f"{out}: {trial.name}, seed {trial.seed}: {error}") from error
    tables = laboratory.tables(played)
    files = {name: store.pack(table) for name, table in tables.items()}
    files["events.jsonl"] = played.log.to_jsonl().encode()
    files["calibration.json"] = laboratory.calibration_json().encode()
    arm = plan.arms.get(trial.name)
    store.write_trial(
        _folder(out, trial),
        files,
        {
            "arm": trial.name,
            "kind": "arm" if arm is not None else "alone",
            "child": trial.child,
            "protocol": arm.protocol if arm is not None else "none",
            "monitor": getattr(arm, "monitor", None),
            "seed": trial.seed,
            "fingerprint": own,
            "commit": store.commit(),
            "times": {"seconds": round(time.time() - began, 3)},
        },
    )


def _remind(
    laboratory: Laboratory, plan: Scenario, fingerprint: str, out: Path, trial: Trial
) -> None:
    """An arm that copies the rollbacks of another reads them, if that one is written already."""
    arm = plan.arms.get(trial.name)
    if not isinstance(arm, RandomRollbackArm):
        return
    like = Trial(arm.like, trial.seed)
    folder = _folder(out, like)
    if store.finished(folder, like.name, like.seed, fingerprint) is None:
        with contextlib.suppress(DamagedTrial):
            laboratory.remember(like.name, store.read_table(folder, "sub_episodes.npz"))


@lru_cache(maxsize=2)
def _laboratory(plan: str, seed: int, fingerprint: str, artefacts: Path) -> Laboratory:
    """Fitted and calibrated monitors are shared by all trials of a seed in one process.

    fingerprint: of the run, since the same plan may come to name other code
    """
    checked = Scenario.model_validate_json(plan)
    return Laboratory(checked, Source(checked), seed, artefacts)


@lru_cache(maxsize=1)
def _check_worker(plan: str, expected: str, out: Path) -> None:
    """A worker finds the same code behind the names as the process that started it, once: what
    it has imported stays as it is. Raises RunError naming what differs."""
    found = _classes(Scenario.model_validate_json(plan), out)
    if wrong := store.differences(json.loads(expected), found, "classes"):
        raise RunError(
            f"{out}: a worker found other code: {wrong[0]}; leave files alone while a run begins, "
            "and go on with --resume"
        )


def follow_parent() -> None:
    """A worker ends when the process that started it is gone, even by SIGKILL."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _folder(out: Path, trial: Trial) -> Path:
    return out / "trials" / trial.folder


def _provenance(plan: Scenario, made_of: Ingredients, workers: int, began: float) -> dict[str, Any]:
    counts = plan.levels.model_dump(by_alias=True)
    return {
        "scenario": plan.name,
        "fingerprint": store.fingerprint(made_of),
        "commits": [store.commit()],
        **{part: made_of[part] for part in ("format", "classes", "versions")},
        "seeds": list(plan.seeds),
        "splits": {
            split: {
                "first_level_of_seed": {
                    str(seed): FIRST_LEVEL + seed * SEED_BLOCK + place * SPLIT_BLOCK
                    for seed in plan.seeds
                },
                "levels": counts["test" if split.startswith("test") else split],
            }
            for split, place in SPLITS.items()
        },
        "times": {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
            "workers": workers,
        },
    }
