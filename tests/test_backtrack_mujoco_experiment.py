"""The PPO study: its numbers by hand, who decides to go back, and that a killed run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from stable_baselines3.common.vec_env import VecNormalize

from experiments.backtrack_mujoco.__main__ import (
    PLAIN,
    SEEDS,
    STUDY,
    TUNING_SEEDS,
    by_chance,
    learned,
    on_falls,
    tuning,
)
from experiments.backtrack_mujoco.runs import ROWS, Arm, Run, evaluate, world
from experiments.backtrack_mujoco.summary import summary, table
from experiments.study.records import EXPERIMENTS, ROOT, play, read_records

SHORT = 2_048


def record(arm: str, seed: int, returns: list[float], on: bool = False) -> dict[str, Any]:
    """What a run leaves, made up; going back adds 3 to sampled actions at the end."""
    points = [
        {"interactions": 100 * n, "off": {"return": value}} for n, value in enumerate(returns)
    ]
    points[-1]["training"] = {"undone": 30, "restores": 10}
    end = {"mean_off": {"return": returns[-1]}, "sampled_off": {"return": returns[-1] / 2}}
    if on:
        end["mean_on"], end["sampled_on"] = end["mean_off"], {"return": returns[-1] / 2 + 3}
    return {
        "run": {"task": "T", "seed": seed, "arm": {"name": arm}},
        "interactions": 200,
        "curve": points,
        "end": end,
        "seconds": 1.0,
    }


def test_the_summary_by_hand() -> None:
    runs = [record("none", 1, [0.0, 30.0, 40.0]), record("none", 0, [0.0, 10.0, 20.0])][::-1]
    runs += [
        record("back", 0, [10.0, 20.0, 30.0], on=True),
        record("back", 1, [20.0, 50.0, 60.0], on=True),
    ]
    found = summary(runs)["T"]
    assert found["none"]["area"]["per_seed"] == [10.0, 25.0]
    assert found["back"]["area"]["per_seed"] == [20.0, 45.0]
    assert found["back"]["area_minus_none"]["per_seed"] == [10.0, 20.0], "paired by seed"
    assert "area_minus_none" not in found["none"]
    assert found["back"]["mean_off"]["value"] == 45.0
    assert found["back"]["sampled_off"]["per_seed"] == [15.0, 30.0]
    assert found["back"]["sampled_gain"]["per_seed"] == [3.0, 3.0]
    assert "sampled_gain" not in found["none"]
    assert found["back"]["undone_share"] == pytest.approx(0.15)
    assert found["back"]["backtrack_share"] == pytest.approx(0.05)
    assert "| T | back | 2 | 32 [20, 45] | 15 [10, 20] | – | 45 [30, 60] |" in table({"T": found})


def test_nothing_is_tuned_on_a_reported_seed() -> None:
    reported = {seed for seeds in SEEDS.values() for seed in seeds}
    assert not reported & set(TUNING_SEEDS)
    assert {run.seed for run in tuning()} == set(TUNING_SEEDS)


def seen(arm: Arm, steps: int = 400) -> dict[str, np.ndarray]:
    """What happened to a Hopper that moves at random, by step. bool [steps, rows]"""
    venv, face = world("Hopper-v5", arm, 4, seed=3)
    venv.reset()
    found: dict[str, list[np.ndarray]] = {"held": [], "backtracked": []}
    rng = np.random.default_rng(0)
    for _ in range(steps):
        venv.step(rng.uniform(-1, 1, (4, 3)).astype(np.float32))
        for name, values in found.items():
            values.append(face.batch_info[name].copy())
    return {name: np.array(values) for name, values in found.items()}


def test_falls_are_taken_back_and_nothing_else() -> None:
    found = seen(on_falls("falls", budget=1_000, depths=(4,)))
    assert found["held"].sum() > 10
    np.testing.assert_array_equal(found["backtracked"][1:], found["held"][:-1])


def test_chance_goes_back_at_its_rate() -> None:
    found = seen(by_chance("chance", rate=0.3, depths=(1,), budget=10**6))
    # The first decision of an episode has nothing to undo.
    assert 0.2 < found["backtracked"].mean() < 0.4


def test_a_run_follows_from_its_seed_and_is_not_done_twice(tmp_path: Path) -> None:
    run = Run(task="Hopper-v5", arm=learned("policy"), seed=5, interactions=SHORT)
    first, second = (play(run, tmp_path / name) for name in "ab")
    told = [json.loads(path.read_text()) | {"seconds": 0} for path in (first, second)]
    assert told[0] == told[1]
    assert told[0]["interactions"] == SHORT
    paid = told[0]["curve"][-1]["training"]
    assert paid["interactions"] == SHORT, "undone steps and backtracks are charged"
    assert paid["env_steps"] + paid["restores"] + paid["idled"] == SHORT
    when = first.stat().st_mtime_ns
    assert play(run, tmp_path / "a").stat().st_mtime_ns == when
    for changed in (
        run.model_copy(update={"arm": learned("policy", cost=2.0)}),
        run.model_copy(update={"interactions": 2 * SHORT}),
    ):
        assert changed.path(tmp_path / "a") != first, "another setting is another run"


def test_seeds_share_no_episode() -> None:
    began = []
    for seed in (0, 1):
        venv, _ = world("Hopper-v5", PLAIN, ROWS, seed * 1_000)
        began.append(venv.reset())
    assert not {tuple(row) for row in began[0]} & {tuple(row) for row in began[1]}


class Still:
    """A policy that falls: no force, or noise when sampled."""

    def __init__(self, arm: Arm) -> None:
        self.venv = VecNormalize(world("Hopper-v5", arm, 1, 0)[0])
        self.rng = np.random.default_rng(0)

    def get_vec_normalize_env(self) -> VecNormalize:
        return self.venv

    def predict(self, observation: np.ndarray, deterministic: bool) -> tuple[np.ndarray, None]:
        shape = (len(observation), *self.venv.action_space.shape)  # type: ignore[misc]
        action = np.ones(shape) if deterministic else self.rng.uniform(-1, 1, shape)
        return action.astype(np.float32), None


def test_going_back_is_switched_on_and_off() -> None:
    run = Run(task="Hopper-v5", arm=on_falls("falls"), seed=0, interactions=SHORT)
    told = {
        (on, mean): evaluate(Still(run.arm), run, on, mean, 4)
        for on in (True, False)
        for mean in (True, False)
    }
    for mean in (True, False):
        assert told[False, mean]["backtracks"] == 0
        assert 0 < told[True, mean]["backtracks"] <= 8
        assert told[True, mean]["undone"] == 16 * told[True, mean]["backtracks"]
    the_same_fall = pytest.approx(told[False, True]["return"])
    assert told[True, True]["return"] == the_same_fall
    assert told[True, False]["return"] > told[False, False]["return"] + 1


def alive(session: int) -> bool:
    """Whether any process of that session is left."""
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True


def test_killed_it_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "experiments.backtrack_mujoco", "--workers", "2"]
    command += ["--tasks", "Hopper-v5", "--arms", "none", "falls", "--seeds", "0", "1"]
    command += ["--interactions", str(SHORT), "--out", str(tmp_path / "runs")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    done = tmp_path / "runs"
    while not list(done.rglob("*.json")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)  # its workers follow
    process.wait()
    while alive(process.pid):
        time.sleep(0.05)
    kept = {path: path.stat().st_mtime_ns for path in done.rglob("*.json")}
    assert not (done / "results").exists()
    committed = [path for path in EXPERIMENTS.glob("*/backtrack_mujoco.*")]
    before = [path.stat().st_mtime_ns for path in committed]
    assert len(before) == 3, "summary, records and figure"
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert before == [path.stat().st_mtime_ns for path in committed], "a part is not the whole"
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    document = json.loads((done / f"results/{STUDY.name}.json").read_text())
    records = read_records(done, STUDY.name)
    assert [r["run"]["arm"]["name"] for r in records] == ["none", "falls"] * 2
    assert document["commits"]
    assert {"mujoco", "torch", "stable-baselines3"} <= set(document["versions"])
    assert PLAIN.name in document["summary"]["Hopper-v5"]
    ElementTree.parse(done / "figures/backtrack_mujoco.svg")
