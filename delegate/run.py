"""Run a scenario: every arm on every seed, in processes, resumable. The one place in this
package that knows the worlds in `envs` and the agents in `policies`."""

from __future__ import annotations

import multiprocessing
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from pydantic import BaseModel, model_validator
from threadpoolctl import threadpool_limits

import envs
import policies
from delegate import monitors, scenario, store
from delegate.agents import Parent, Policy
from delegate.backtrack import StatefulVectorEnv
from delegate.backtrack.random_key import draw
from delegate.delegation.protocols import PROTOCOLS
from delegate.scenario import Actor, Scenario
from delegate.store import RunError
from delegate.trial import Laboratory, Playground, Trial, trials
from envs.grid import PlainGrid
from envs.grid.level import concatenate
from envs.registry import WORLDS

__all__ = ["RunError", "execute", "load_scenario", "registries"]

Progress = Callable[[float, float, str], None]
"""(done, total, what is being done)"""

SEED_BLOCK = 5_000_000
FIRST_LEVEL = 1_000_000_000
SPLITS = {"train": 0, "calibrate": 1, "validate": 2, "test_nominal": 3, "test_shifted": 4}
SPLIT_BLOCK = SEED_BLOCK // len(SPLITS)
"""level seeds of a training seed's split: FIRST_LEVEL + seed * SEED_BLOCK + split * SPLIT_BLOCK"""

DECIDED_ELSEWHERE = {
    "max_steps": "delegation.interactions",
    "discount": "world.discount",
    "mix": "the nominal and shifted levels",
    "num_levels": "levels",
    "level_seed": "seeds",
}
"""settings of a world that a scenario may not give, and what gives them"""

TRIES_A_LEVEL = 8
"""level seeds set aside for each distinguishing level wanted"""


def registries() -> dict[str, dict[str, str]]:
    """Every name a scenario may use: kind -> id -> one line on what it is."""
    return {
        "envs": {name: _headline(WORLDS[name]) for name in envs.ids()},
        "policies": {
            **{name: _headline(policies.policy_class(name)) for name in policies.ids()},
            scenario.RELAY: _headline(policies.Relay),
        },
        "monitors": {name: _headline(monitors.monitor_class(name)) for name in monitors.ids()},
        "statistics": {
            name: _headline(monitors.statistic_class(name)) for name in monitors.statistic_ids()
        },
        "protocols": {name: _headline(protocol) for name, protocol in PROTOCOLS.items()},
    }


def make_world(id: str, rows: int, **settings: Any) -> StatefulVectorEnv:
    """A batch of that many rows of a shipped world; raises ValueError as `envs.make` does."""
    return envs.make(id, rows, **settings)


def plain_grid(id: str, *, observation: str, **settings: Any) -> PlainGrid:
    """One row of a grid world as a plain Python loop."""
    batch = envs.make(id, 1, **settings)
    return PlainGrid(batch.rules, batch.levels, observation=observation)


def load_scenario(path: Path) -> Scenario:
    """Read a scenario and check all of it, nested settings too.

    Raises ScenarioError naming file, line, key and remedy.
    """
    return scenario.load(path, registries(), _settings_of)


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
    if not store.is_run(out):
        _rehearse(plan, source)
    record = _provenance(plan, workers, began)
    with store.opened(out, plan, source, record, resume, notice):
        todo = []
        for trial in every:
            wrong = store.finished(
                _folder(out, trial), trial.name, trial.seed, store.fingerprint(plan)
            )
            if wrong:
                notice(f"redoing {trial.name}, seed {trial.seed}: {wrong}")
            if wrong is not None:
                todo.append(trial)
        meter = _Meter(progress, len(every), len(todo))
        for trial in _played(plan, out, todo, workers, meter):
            meter.finished(trial)
        record = store.read_json(out / "run.json")
        record["times"]["seconds"] = round(time.time() - began, 3)
        store.write_file(out / "run.json", store.as_json(record))
    return out


def _rehearse(plan: Scenario, source: Path) -> None:
    """Build what the first seed needs, so that what cannot work leaves no folder behind.

    Raises RunError naming what the world or a monitor could not do.
    """
    try:
        with threadpool_limits(1):
            _laboratory(plan.model_dump_json(), plan.seeds[0])
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
    out: Path,
    todo: list[Trial],
    workers: int,
    meter: _Meter,
) -> Iterator[Trial]:
    """Play those trials and give each back when it is written."""
    if workers == 1 or len(todo) < 2:
        for trial in todo:
            _play(plan, out, trial, partial(meter.tick, trial))
            yield trial
        return
    with ProcessPoolExecutor(
        min(workers, len(todo)), multiprocessing.get_context("spawn"), _follow_parent
    ) as pool:
        running = {pool.submit(_play, plan, out, trial): trial for trial in todo}
        try:
            while running:
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    future.result()
                    yield running.pop(future)
        except BaseException as error:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise RunError(
                    f"{out}: a worker was killed, perhaps for want of memory; go on with --resume "
                    "and fewer --workers"
                ) from None
            raise


def _play(
    plan: Scenario,
    out: Path,
    trial: Trial,
    on_tick: Callable[[int, int], None] | None = None,
) -> None:
    """Run one trial and write its folder."""
    began = time.time()
    with threadpool_limits(1):
        try:
            laboratory = _laboratory(plan.model_dump_json(), trial.seed)
        except ValueError as error:
            raise RunError(f"{out}: seed {trial.seed}: {error}") from error
        runtime = laboratory.play(trial, on_tick)
    tables = laboratory.tables(runtime)
    files = {name: store.pack(table) for name, table in tables.items()}
    files["events.jsonl"] = runtime.episodes.log.to_jsonl().encode()
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
            "fingerprint": store.fingerprint(plan),
            "commit": store.commit(),
            "times": {"seconds": round(time.time() - began, 3)},
        },
    )


@lru_cache(maxsize=2)
def _laboratory(plan: str, seed: int) -> Laboratory:
    """Fitted and calibrated monitors are shared by all trials of a seed in one process."""
    checked = Scenario.model_validate_json(plan)
    return Laboratory(checked, _Source(checked), seed)


def _follow_parent() -> None:
    """A worker ends when the process that started it is gone, even by SIGKILL."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _folder(out: Path, trial: Trial) -> Path:
    return out / "trials" / trial.folder


class _Source:
    """Worlds and agents of a scenario."""

    def __init__(self, plan: Scenario) -> None:
        self._plan = plan
        common = {"max_steps": plan.delegation.interactions, "discount": plan.world.discount}
        self._settings = {**plan.world.settings, **common}
        rules = envs.make_rules(plan.world.id, self._settings)
        self._channels = rules.channels
        self._cells = rules.settings.size**2

    def playground(self, seed: int, split: str) -> Playground:
        counts = self._plan.levels
        if split == "test":
            bank = concatenate(
                self._bank(seed, "test_nominal", counts.test),
                self._bank(seed, "test_shifted", counts.test),
            )
        else:
            bank = self._bank(seed, split, getattr(counts, split))
        env = envs.make(
            self._plan.world.id,
            bank.count,
            levels=bank,
            autoreset_mode=AutoresetMode.DISABLED,
            assign="in_order",
            **self._settings,
        )
        facts = env.facts()
        return Playground(
            env=env,
            split=tuple("shifted" if kind else "nominal" for kind in bank.kind),
            levels={
                "split": bank.kind,
                "seed": bank.seed,
                "walls": bank.walls,
                "start": bank.start,
                "goal": bank.goal,
                "proxy_goal": bank.proxy_goal,
                "optimal_return": facts.optimal_return,
                "proxy_optimal_return": facts.proxy_optimal_return,
                "random_return": facts.random_return,
                "optimal_steps": facts.optimal_steps,
                "proxy_steps": facts.proxy_steps,
                "distinguishing": facts.distinguishing,
            },
            divergent=facts.divergent,
            row_seeds=draw(np.full(bank.count, seed, np.uint64), bank.seed.astype(np.uint64)),
            table=env.transition_table(endings=False),
            features=env.features,
        )

    def policy(self, actor: Actor) -> Policy:
        return policies.make(actor.policy, self._channels, self._cells, **actor.settings)

    def relay(self) -> Parent:
        return policies.Relay(self._plan.delegation.budget)

    def root(self) -> Parent:
        alone = self.policy(self._plan.parent.alone)
        return policies.InTurn(self._plan.delegation.budget, alone)

    def _bank(self, seed: int, split: str, count: int) -> Any:
        world, shifted = self._plan.world, split == "test_shifted"
        own = world.shifted_settings if shifted else world.nominal_settings
        only = shifted and self._plan.levels.distinguishing_only
        first = FIRST_LEVEL + seed * SEED_BLOCK + SPLITS[split] * SPLIT_BLOCK
        pool = min(count * (TRIES_A_LEVEL if only else 1), SPLIT_BLOCK)
        return envs.bank(
            world.id,
            "shifted" if shifted else "nominal",
            seeds=range(first, first + pool),
            count=count,
            distinguishing_only=only,
            settings={**self._settings, **own},
        )


def _provenance(plan: Scenario, workers: int, began: float) -> dict[str, Any]:
    counts = plan.levels.model_dump(by_alias=True)
    return {
        "scenario": plan.name,
        "fingerprint": store.fingerprint(plan),
        "commits": [store.commit()],
        "versions": store.versions(),
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


def _settings_of(kind: str, name: str) -> Callable[..., object] | None:
    """What a scenario's settings are checked against."""
    if kind == "envs":
        return _scenario_settings(envs.settings_type(name))
    if kind == "policies":
        return policies.settings_type(name)
    if kind == "statistics":
        return monitors.statistic_class(name).Settings
    return monitors.monitor_class(name).Settings


def _scenario_settings(world: type[BaseModel]) -> type[BaseModel]:
    """A world's settings less those that the scenario decides elsewhere."""

    class Settings(world):  # type: ignore[valid-type,misc]
        @model_validator(mode="before")
        @classmethod
        def _decided_elsewhere(cls, given: dict[str, Any]) -> dict[str, Any]:
            for name, instead in DECIDED_ELSEWHERE.items():
                if name in given:
                    raise ValueError(f"{name} is set by {instead} here; leave it out")
            return given

    return Settings


def _headline(thing: type) -> str:
    """The first line of its docstring, less the id it may begin with."""
    first = (thing.__doc__ or "").strip().splitlines()[0].rstrip(".")
    return re.sub(r"^`\w+`: ", "", first)
