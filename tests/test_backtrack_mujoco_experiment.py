"""The PPO study: its numbers by hand, who decides to go back, and that a killed run goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import backtrack_mujoco
import numpy as np
import pytest
from backtrack_mujoco_plan import PLAIN, SEEDS, TUNING_SEEDS, by_chance, learned, on_falls, tuning
from backtrack_mujoco_runs import Arm, Run, play, world
from backtrack_mujoco_summary import summary, table
from curves import area, band, interval

SCRIPT = Path(backtrack_mujoco.__file__)
SHORT = 2_048


def record(arm: str, seed: int, returns: list[float], on: bool = False) -> dict[str, Any]:
    """What a run leaves, made up."""
    told = [{"return": value} for value in returns]
    points = [
        {"interactions": 100 * n, "off": point, "training": {"undone": 30, "restores": 10}}
        | ({"on": point} if on else {})
        for n, point in enumerate(told)
    ]
    sampled = {mode: {"return": returns[-1] / 2} for mode in (("off", "on") if on else ("off",))}
    return {
        "run": {"task": "T", "seed": seed, "arm": {"name": arm}},
        "interactions": 200,
        "curve": points,
        "sampled": sampled,
        "seconds": 1.0,
    }


def test_the_summary_by_hand() -> None:
    runs = [record("none", 0, [0.0, 10.0, 20.0]), record("none", 1, [0.0, 30.0, 40.0])]
    runs += [
        record("back", 0, [10.0, 20.0, 30.0], on=True),
        record("back", 1, [20.0, 50.0, 60.0], on=True),
    ]
    found = summary(runs)["T"]
    assert found["none"]["area_off"]["per_seed"] == [10.0, 25.0]
    assert found["back"]["area_off"]["per_seed"] == [20.0, 45.0]
    assert found["back"]["area_off_minus_none"]["per_seed"] == [10.0, 20.0], "paired by seed"
    assert found["back"]["final_on"]["value"] == 45.0
    assert found["back"]["sampled_off"]["per_seed"] == [15.0, 30.0]
    assert "area_on" not in found["none"]
    assert found["back"]["undone_share"] == pytest.approx(0.15)
    assert found["back"]["backtrack_share"] == pytest.approx(0.05)
    assert "| T | back | 2 | 32 [20, 45] | 15 [10, 20] |" in table({"T": found})


def test_interquartile_means_leave_the_outer_quarters_out() -> None:
    found = interval([0.0, 1.0, 3.0, 1_000.0])
    assert found["value"] == 2.0
    assert found["low"] >= 0.0
    assert found["n"] == 4
    value, low, high = band(np.array([[1.0, 5.0], [1.0, 5.0]]))
    assert value.tolist() == low.tolist() == high.tolist() == [1.0, 5.0]
    assert area(np.array([0.0, 1.0, 4.0]), np.array([2.0, 2.0, 4.0])) == pytest.approx(11 / 4)


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
    first.write_text("{}")
    assert play(run, tmp_path / "a").read_text() == "{}"
    other = play(run.model_copy(update={"seed": 6}), tmp_path / "a")
    assert json.loads(other.read_text())["curve"] != told[0]["curve"]


def test_killed_it_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--tasks", "Hopper-v5", "--arms", "none", "falls"]
    command += ["--seeds", "0", "1", "--interactions", str(SHORT), "--home", str(tmp_path / "h")]
    command += ["--out", str(tmp_path / "runs")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    done = tmp_path / "runs"
    while not list(done.rglob("*.json")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in done.rglob("*.json")}
    assert not (tmp_path / "h").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    document = json.loads((tmp_path / "h/results/backtrack_mujoco.json").read_text())
    assert [r["run"]["arm"]["name"] for r in document["records"]] == ["none", "falls"] * 2
    assert document["commit"]
    assert PLAIN.name in document["summary"]["Hopper-v5"]
    ElementTree.parse(tmp_path / "h/figures/backtrack_mujoco.svg")
