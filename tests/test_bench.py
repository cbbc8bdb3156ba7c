"""The benchmark: its arithmetic by hand, its record from end to end on the smallest sizes."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import pytest

from delegate import envs
from delegate.backtrack import VectorBacktrack
from delegate.bench import PARTS, TASKS, Settings, measure, tables
from delegate.bench.going_back import backtrack_run, memory_figures
from delegate.bench.grid import one_core
from delegate.bench.peers import batch_run, loop_run, uniform
from delegate.bench.restoring import COPY_DATA, DEEPCOPY, SET_STATE, restoring_figures
from delegate.bench.timing import Figure, Run, calls_for, extra, ratios, speeds
from delegate.cli import main


def steady(steps_a_call: int, seconds_a_call: float, log: list[Any] | None = None) -> Run:
    """A contestant whose speed is known."""

    def run(calls: int) -> tuple[int, float]:
        if log is not None:
            log.append((steps_a_call, calls))
        return calls * steps_a_call, calls * seconds_a_call

    return run


def test_speeds_are_measured_in_turn() -> None:
    log: list[Any] = []
    runs = {"slow": steady(1, 0.5, log), "fast": steady(64, 0.25, log)}
    measured = speeds(runs, rounds=3, seconds=4)
    assert measured == {"slow": [2.0] * 3, "fast": [256.0] * 3}
    assert log[-6:] == [(1, 8), (64, 16)] * 3
    assert ratios(measured["fast"], measured["slow"]) == Figure(128, 128, 128)
    assert ratios([2, 6, 9], [1, 2, 1]) == Figure(3, 2, 9)


def test_calls_fill_the_time() -> None:
    assert calls_for(steady(1, 0.001), 0.5) == 500
    assert calls_for(steady(1, 10.0), 0.5) == 1
    assert calls_for(steady(1, 0.0), 1e-12) >= 1, "a clock too coarse to see a call"


def test_an_extra_is_a_share_of_a_step_whatever_the_sizes() -> None:
    assert extra(steady(60, 0.3), steady(64, 0.25), 7, 5).median == pytest.approx(
        (0.3 / 60) / (0.25 / 64) - 1
    )
    log: list[Any] = []
    extra(steady(1, 1.0, log), steady(2, 1.0, log), 3, 2)
    assert log == [(1, 3), (2, 3), (2, 3), (1, 3)], "the order alternates"


def test_steps_that_only_restart_a_row_are_not_counted() -> None:
    env = envs.make("Hopper-v5", 3, max_episode_steps=4, num_threads=1)
    steps, spent = batch_run(env)(10)
    assert steps == 3 * 10 - 3 * 2, "4 steps, a restart, 4 steps, a restart"
    assert spent > 0


def test_what_lies_between_two_steps_is_not_counted() -> None:
    env = envs.make("Hopper-v5", 1, num_threads=1)
    start = time.perf_counter()
    _, spent = batch_run(env, between=0.01)(20)
    assert spent <= time.perf_counter() - start - 20 * 0.01


def test_the_plain_loop_counts_every_step() -> None:
    import gymnasium

    env = gymnasium.make("Hopper-v5", max_episode_steps=4)
    assert loop_run(env)(11)[0] == 11


def test_steps_under_backtracking_are_those_paid() -> None:
    world = envs.make("HalfCheetah-v5", 4, num_threads=1, autoreset_mode="Disabled")
    env = VectorBacktrack(world, cost=1e6, budget=10**6)
    run = backtrack_run(env, 0.2)
    steps, _ = run(30)
    assert steps == env.ledger.env_steps.sum() < 4 * 30
    assert env.ledger.restores.sum() > 0
    assert run(5)[0] == env.ledger.env_steps.sum() - steps


def test_actions_are_within_their_space() -> None:
    space = envs.make("Humanoid-v5", 2, num_threads=1).single_action_space
    actions = uniform(space, 2)
    assert actions.dtype == space.dtype
    assert all(space.contains(action) for batch in actions for action in batch)


def make(id: str, rows: int) -> Any:
    return envs.make(id, rows, num_threads=1)


def test_restoring_is_measured_beside_mujoco_and_in_truth() -> None:
    found = restoring_figures(make, "Ant-v5", 3, 1)
    named = {COPY_DATA, SET_STATE, "delegate"}
    assert set(found["microseconds"]["one_row"]) == named | {DEEPCOPY}
    assert set(found["microseconds"]["batch"]) == named
    for how in ("one_row", "batch"):
        took, times = found["microseconds"][how], found["times_as_fast_as"][how]
        assert set(times) == set(took) - {"delegate"}
        for name, figure in times.items():
            assert figure.low * took["delegate"].low <= took[name].high
            assert took[name].low <= figure.high * took["delegate"].high
    differs = found["differs"]
    assert differs["delegate"] == differs[COPY_DATA] == 0.0
    assert differs[DEEPCOPY] > 1e-3, "a deep copy is not one"
    assert differs[SET_STATE] > 1e-3, "the first reward is of a position that was left behind"


def test_memory_is_that_of_the_history_and_stays() -> None:
    found = memory_figures(envs.make, "Hopper-v5", 2, 8)
    assert found["mib"] == found["mib_later"] > 0
    assert memory_figures(envs.make, "Hopper-v5", 2, 16)["mib"] > 1.9 * found["mib"]


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    few = {"rows": 2, "threads": 1, "rounds": 1, "seconds": 0.002, "pairs": 1, "levels": 24}
    settings = Settings(tasks=("Hopper-v5",), **few)  # type: ignore[arg-type]
    told: list[tuple[float, float, str]] = []
    record = measure(settings, lambda *now: told.append(now))
    assert [done for done, _, _ in told] == list(range(int(told[-1][1]) + 1))
    return record


def test_the_record_says_what_was_measured_and_with_what(record: dict[str, Any]) -> None:
    assert json.loads(json.dumps(record)) == json.loads(json.dumps(record, allow_nan=False))
    parts = {"grid", "delegation", "mujoco", "memory", "recall"}
    assert {"commit", "versions", "machine", "settings"} | parts == set(record)
    assert {"python", "numpy", "gymnasium", "mujoco", "delegate"} <= set(record["versions"])
    assert record["settings"]["rows"] == 2
    found = record["mujoco"]["Hopper-v5"]
    assert set(found) == {
        "peers",
        "save_and_restore_share",
        "recording_share",
        "recording_share_back_to_back",
        "one_percent_back_share",
        "restoring",
    }
    assert next(iter(found["peers"]["steps_per_second"])) == "gymnasium", "plain loop first"
    assert {"gymnasium", "SyncVectorEnv"} <= set(found["peers"]["times_as_fast_as"])
    for figure in figures(record):
        assert figure["low"] <= figure["median"] <= figure["high"]
        assert math.isfinite(figure["median"])
    assert record["grid"][0]["rows"] == 0
    assert record["grid"][0]["ratio_to_plain"]["median"] == 1.0


def test_an_arm_is_timed_while_its_rows_run_and_afterwards(record: dict[str, Any]) -> None:
    found = record["delegation"]
    assert found["rows"] == 24
    assert found["steps"] > 24
    assert found["whole"]["median"] < found["running"]["median"]
    assert all(mib > 0 for mib in found["mib"].values())


def figures(value: Any) -> list[dict[str, float]]:
    """Every figure of a record."""
    if isinstance(value, dict):
        if set(value) == {"median", "low", "high"}:
            return [value]
        return [figure for inner in value.values() for figure in figures(inner)]
    return [f for inner in value for f in figures(inner)] if isinstance(value, list) else []


def test_every_figure_has_its_place_in_the_tables(record: dict[str, Any]) -> None:
    shown = dict(tables(record))
    assert len(shown) == 9
    for title, (heading, *body) in shown.items():
        assert body, title
        assert all(len(row) == len(heading) for row in body)
    speeds_of = next(table for title, table in shown.items() if title.startswith("environment"))
    assert speeds_of[1][0] == "Hopper-v5"


def test_without_envpool_the_remedy_is_named(record: dict[str, Any]) -> None:
    bare = json.loads(json.dumps(record))
    for kind in ("steps_per_second", "times_as_fast_as"):
        bare["mujoco"]["Hopper-v5"]["peers"][kind].pop("envpool", None)
    titles = dict(tables(bare))
    assert any("pip install 'delegate[bench]'" in title for title in titles)


def test_parts_alone(record: dict[str, Any]) -> None:
    settings = Settings(parts=("grid",), rounds=1, seconds=0.002)
    assert {"grid"} == set(measure(settings, lambda *_: None)) & {"grid", "mujoco", "memory"}
    assert set(PARTS) == {"grid", "delegation", "peers", "going-back", "restoring", "recall"}
    assert len(TASKS) == 5


SMALL = ["--rows", "2", "--threads", "1", "--rounds", "1", "--seconds", "0.002", "--pairs", "1"]


def test_the_command_prints_json_or_tables(capfd: pytest.CaptureFixture[str]) -> None:
    words = ["bench", "--only", "restoring", "--task", "Hopper-v5", *SMALL]
    assert main([*words, "--json"]) == 0
    printed = json.loads(capfd.readouterr().out)
    assert set(printed["mujoco"]["Hopper-v5"]) == {"restoring"}
    assert printed["mujoco"]["Hopper-v5"]["restoring"]["differs"]["delegate"] == 0
    assert main(words) == 0
    shown = capfd.readouterr().out
    assert "restoring one environment" in shown
    assert "restoring 2 of them" in shown
    assert "how far a replay is off" in shown


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--task", "Hoper-v5"], "'Hoper-v5' cannot be measured; give HalfCheetah-v5, "),
        (
            ["--only", "all"],
            "'all' cannot be measured; give grid, delegation, peers, going-back, restoring, recall",
        ),
        (["--rows", "0"], "--rows"),
        (["--seconds", "nan"], "--seconds"),
    ],
)
def test_nonsense_is_refused(words: list[str], why: str, capsys: Any) -> None:
    assert main(["bench", *words]) == 2
    error = capsys.readouterr().err
    assert why in error
    assert len(error.strip().splitlines()) == 1


def test_one_core_is_left_again() -> None:
    import os

    before = os.sched_getaffinity(0)
    with one_core():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before


def test_figures_are_medians() -> None:
    assert Figure.of([3.0, 1.0, 2.0]) == Figure(2, 1, 3)
    assert Figure.of(np.arange(4.0).tolist()) == Figure(1.5, 0, 3)
