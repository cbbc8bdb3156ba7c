"""What the studies of recalled traces answer to what cannot be, and how they are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import recall_direction
import recall_four_rooms
import recall_her
import recall_mujoco
import running
from recall_four_rooms_plan import reported

EXPERIMENTS = Path(running.__file__).parent
ROOMS = ["--sizes", "11", "--arms", "actor_critic"]


@pytest.mark.parametrize(
    ("main", "wanted", "said"),
    [
        (
            recall_four_rooms.main,
            ["--arms", "actor_critic", "recal_exact"],
            "--arms: the plan has no arm recal_exact; it has actor_critic, prioritized",
        ),
        (
            recall_her.main,
            ["--seeds", "0", "999"],
            "--seeds: the plan has no seed 999; it has 0, 1, 2",
        ),
        (
            recall_mujoco.main,
            ["trpo", "--tasks", "Hopper-v4"],
            "--tasks: the plan has no task Hopper-v4; it has HalfCheetah-v5",
        ),
        (
            recall_direction.main,
            ["--algorithms", "td3"],
            "--algorithms: the plan has no algorithm td3; it has trpo, sac",
        ),
        (
            recall_mujoco.main,
            ["trpo", "--tasks", "Ant-v5", "--arms", "paper"],
            "no run of the plan is all that; ask for less at once",
        ),
        (recall_her.main, ["--workers", "0"], "--workers: 0 is no whole number above 0"),
        (recall_her.main, ["--steps", "-5"], "--steps: -5 is no whole number above 0"),
        (recall_four_rooms.main, [*ROOMS, "--steps", "512", "--gather"], "nothing to gather in"),
    ],
)
def test_what_is_not_in_the_plan_is_named_before_anything_is_run(
    main: Callable[[Sequence[str]], None],
    wanted: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refused(lambda: main([*wanted, "--out", str(tmp_path)]))
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def refused(ask: Callable[[], None]) -> None:
    with pytest.raises(SystemExit) as given:
        ask()
    assert given.value.code == 2


def test_what_cannot_be_written_or_read_is_named_before_anything_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    ask = [*ROOMS, "--seeds", "0", "--steps", "512", "--out"]
    refused(lambda: recall_four_rooms.main([*ask, str(tmp_path / "file/runs")]))
    assert "file/runs: Not a directory; give a folder that can be" in capsys.readouterr().err
    (tmp_path / "damaged.json").write_text('{"run": ')
    refused(lambda: recall_four_rooms.main([*ask, str(tmp_path), "--gather"]))
    assert "damaged.json is damaged (Expecting value" in capsys.readouterr().err
    (tmp_path / "damaged.json").write_text("[1]")
    refused(lambda: recall_four_rooms.main([*ask, str(tmp_path), "--gather"]))
    assert "damaged.json is damaged (no JSON object)" in capsys.readouterr().err
    run = reported()[0].model_copy(update={"steps": 512})
    run.path(tmp_path).parent.mkdir(parents=True)
    run.path(tmp_path).write_text("{")
    refused(lambda: recall_four_rooms.main([*ROOMS, "--seeds", "0", "1", *ask[-3:], str(tmp_path)]))
    assert f"{run.path(tmp_path)} is damaged" in capsys.readouterr().err
    run.path(tmp_path).write_text("{}")
    refused(lambda: recall_four_rooms.main([*ROOMS, "--seeds", "0", "1", *ask[-3:], str(tmp_path)]))
    assert f"{run.path(tmp_path)} is no record of a run" in capsys.readouterr().err
    assert len(list(tmp_path.rglob("*.json"))) == 2, "nothing was run"


def test_a_run_in_which_no_episode_ends_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["trpo", "--tasks", "HalfCheetah-v5", "--arms", "none", "--seeds", "1"]
    refused(lambda: recall_mujoco.main([*ask, "--steps", "64", "--out", str(tmp_path)]))
    assert "in 64 steps no episode ended; ask for more --steps" in capsys.readouterr().err


def test_a_killed_study_goes_on_where_it_was(tmp_path: Path) -> None:
    ask = [*ROOMS, "--seeds", "0", "1", "2", "--steps", "4096", "--out", str(tmp_path)]
    command = [sys.executable, str(EXPERIMENTS / "recall_four_rooms.py"), *ask]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (there := sorted(tmp_path.glob("11/*/*.json"))):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    there = sorted(tmp_path.glob("11/*/*.json"))
    assert len(there) < 3, "it was killed in the middle"
    assert not (tmp_path / "results").exists()
    when = {path: path.stat().st_mtime_ns for path in there}
    recall_four_rooms.main(ask)
    assert len(list(tmp_path.glob("11/*/*.json"))) == 3
    assert {path: path.stat().st_mtime_ns for path in there} == when
    document = json.loads((tmp_path / "results/recall_four_rooms.json").read_text())
    assert [record["run"]["seed"] for record in document["records"]] == [0, 1, 2]
