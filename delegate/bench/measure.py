"""Everything that is measured, as one record: what the claims about speed rest on."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from delegate import run as engine
from delegate import store
from delegate.bench.delegation import delegation_figures
from delegate.bench.going_back import backtrack_figures, memory_figures, saving_figures
from delegate.bench.grid import grid_figures
from delegate.bench.peers import peer_figures
from delegate.bench.recall import recall_figures
from delegate.bench.restoring import restoring_figures

TASKS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5")
PARTS = ("grid", "delegation", "peers", "going-back", "restoring", "recall")
COMPARED = ("mujoco", "envpool", "torch")
"""packages beside those of `store.versions` whose speed is measured"""

Advance = Callable[[float, float, str], None]
Job = tuple[tuple[str, ...], Callable[[], Any]]


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    parts: of PARTS · tasks: MuJoCo tasks · rows, threads: of every batch
    rounds: runs of each contestant (count) · seconds: length of a run
    pairs: runs behind each share (count) · horizon: of VectorBacktrack (steps)
    levels: of the delegation, a row each (count)
    """

    parts: tuple[str, ...] = PARTS
    tasks: tuple[str, ...] = TASKS
    rows: int = 64
    threads: int = 2
    rounds: int = 5
    seconds: float = 0.4
    pairs: int = 80
    horizon: int = 64
    levels: int = 2_048


def measure(settings: Settings, advance: Advance) -> dict[str, Any]:
    """The record: figures as {median, low, high}, and what they were measured with.

    Raises ValueError for a task or part that is not known.
    """
    jobs = list(_jobs(settings))
    record: dict[str, Any] = {
        "commit": store.commit(),
        "versions": versions(),
        "machine": {
            "platform": f"{platform.system()} {platform.machine()}",
            "processors": len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count(),
        },
        "settings": asdict(settings),
    }
    for done, (place, job) in enumerate(jobs):
        advance(done, len(jobs), " ".join(place[-2:]))
        inner = record
        for key in place[:-1]:
            inner = inner.setdefault(key, {})
        inner[place[-1]] = _plain(job())
    advance(len(jobs), len(jobs), "done")
    return record


def _jobs(settings: Settings) -> Iterator[Job]:
    """Where each figure belongs, and how it is found."""
    for given, known in ((settings.parts, PARTS), (settings.tasks, TASKS)):
        if unknown := sorted(set(given) - set(known)):
            raise ValueError(f"{unknown[0]!r} cannot be measured; give {', '.join(known)}")
    make, rows, threads = engine.make_world, settings.rows, settings.threads
    rounds, seconds, pairs = settings.rounds, settings.seconds, settings.pairs
    if "grid" in settings.parts:
        yield ("grid",), partial(grid_figures, make, engine.plain_grid, rounds, seconds)
    if "delegation" in settings.parts:
        yield ("delegation",), partial(delegation_figures, rounds, settings.levels)
    for task in settings.tasks:
        place = ("mujoco", task)
        if "peers" in settings.parts:
            peers = partial(peer_figures, make, task, rows, threads, rounds, seconds)
            yield (*place, "peers"), peers
        if "going-back" in settings.parts:
            saving = partial(saving_figures, make, task, rows, threads, pairs)
            yield (*place, "save_and_restore_share"), saving
            record = partial(backtrack_figures, make, task, rows, threads, settings.horizon, pairs)
            yield (*place, "recording_share"), record
            yield (*place, "recording_share_back_to_back"), partial(record, between=0.0)
            yield (*place, "one_percent_back_share"), partial(record, back=0.01)
        if "restoring" in settings.parts:
            yield (*place, "restoring"), partial(restoring_figures, make, task, rows, rounds)
    if "going-back" in settings.parts and settings.tasks:
        largest = settings.tasks[-1]
        yield ("memory",), partial(memory_figures, make, largest, rows, settings.horizon)
    if "recall" in settings.parts:
        yield ("recall",), partial(recall_figures, rounds, seconds)


def versions() -> dict[str, str]:
    """Python and every package that is measured or measures."""
    found = store.versions()
    for name in COMPARED:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _plain(value: Any) -> Any:
    """Figures as dicts, ready for JSON."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value
