"""Runs: the same whatever the number of workers, whatever killed them, whatever was damaged."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from delegate import run, safety, store
from delegate.monitors.monitor import Control
from delegate.monitors.registry import _MONITORS
from delegate.run import RunError
from delegate.safety import DamagedTrial

TINY = """\
name: tiny
world: {id: Corner, settings: {size: 9}, nominal: {corner_size: 1}, shifted: {corner_size: 7}}
levels: {train: 20, calibrate: 40, validate: 1, test: 16}
children:
  intended: {policy: intended, settings: {noise: 0.1}, trusted: true}
  proxy: {policy: proxy, settings: {noise: 0.1}}
parent: {policy: in_turn, alone: {policy: intended, settings: {noise: 0.6}}}
crew: [proxy, intended]
delegation: {budget: 40, interactions: 120}
monitors:
  reach: {statistic: drawdown}
  path: {backward: counted}
  random: {}
arms:
  none: {protocol: none}
  rollback: {protocol: rollback, monitor: reach}
  rollback_random: {protocol: rollback_random, like: rollback}
seeds: [3, 4]
"""


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenario") / "tiny.yaml"
    path.write_text(TINY)
    return path


def metrics(folder: Path) -> dict:
    """metrics.json without its times, which alone may differ between equal runs."""
    found = safety.write_metrics(folder)
    assert found == json.loads((folder / "metrics.json").read_text())
    found["provenance"].pop("times")
    return found


def execute(scenario: Path, out: Path, **options) -> Path:
    return run.execute(run.load_scenario(scenario), scenario, out, **options)


@pytest.fixture(scope="module")
def whole(scenario, tmp_path_factory):
    """An uninterrupted run with one worker, and its metrics."""
    out = execute(scenario, tmp_path_factory.mktemp("runs") / "whole")
    return out, metrics(out)


def trial_files(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in out.glob("trials/*/*/events.jsonl")
    }


def test_the_same_run_twice_and_with_two_workers_gives_the_same_metrics(scenario, whole, tmp_path):
    out, expected = whole
    for workers in (1, 2):
        again = execute(scenario, tmp_path / f"with-{workers}", workers=workers)
        assert metrics(again) == expected
        assert trial_files(again) == trial_files(out)


def test_metrics_depend_on_the_seeds(scenario, whole, tmp_path):
    other = execute(scenario, tmp_path / "other", seeds=2)
    assert metrics(other)["monitors"] != whole[1]["monitors"]


def begin(scenario: Path, out: Path, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from delegate.cli import main; raise SystemExit(main())"]
    return subprocess.Popen(
        [*command, "run", str(scenario), "--out", str(out), "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )


def group_members(group: int) -> list[int]:
    """Every process of that group that still runs; a zombie does not."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize("trials", [0, 1, 6])
def test_a_run_killed_and_resumed_gives_what_an_uninterrupted_one_gives(
    scenario, whole, tmp_path, trials
):
    out = tmp_path / "killed"
    process = begin(scenario, out)
    deadline = time.monotonic() + 120
    while not (out / "run.json").exists() or len(list(out.glob("trials/*/*/trial.json"))) < trials:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    while group_members(process.pid):
        assert time.monotonic() < deadline, "workers outlive the run that started them"
        time.sleep(0.05)
    assert not (out / "metrics.json").exists()
    execute(scenario, out, workers=2, resume=True)
    assert metrics(out) == whole[1]
    assert not list(out.rglob("*.making"))


@pytest.mark.parametrize("name", ["events.jsonl", "steps.npz", "trial.json"])
def test_a_damaged_trial_is_named_and_redone_and_no_other(scenario, whole, tmp_path, name, capsys):
    out = tmp_path / "damaged"
    execute(scenario, out, seeds=None)
    expected = metrics(out)
    assert expected == whole[1]
    trials = sorted(out.glob("trials/*/*"))
    before = {path: path.stat().st_ino for path in trials}
    victim = out / "trials" / "rollback" / "4"
    content = bytearray((victim / name).read_bytes())
    content[len(content) // 2] ^= 1
    (victim / name).write_bytes(bytes(content))
    capsys.readouterr()
    execute(scenario, out, resume=True)
    said = capsys.readouterr()
    assert "redoing rollback, seed 4" in said.err
    assert str(victim) in said.err
    changed = [path for path in trials if path.stat().st_ino != before[path]]
    assert changed == [victim]
    assert metrics(out) == expected


def test_a_missing_trial_is_redone(scenario, whole, tmp_path):
    out = execute(scenario, tmp_path / "gap")
    victim = out / "trials" / "alone-proxy" / "3"
    for path in victim.iterdir():
        path.unlink()
    victim.rmdir()
    execute(scenario, out, resume=True)
    assert metrics(out) == whole[1]


def test_a_finished_run_is_not_played_again(scenario, whole, tmp_path):
    out = execute(scenario, tmp_path / "done")
    before = {path: path.stat().st_mtime_ns for path in out.glob("trials/*/*/*")}
    execute(scenario, out, resume=True)
    assert {path: path.stat().st_mtime_ns for path in out.glob("trials/*/*/*")} == before


def test_another_scenario_cannot_be_resumed(scenario, tmp_path):
    out = execute(scenario, tmp_path / "one", seeds=1)
    other = tmp_path / "other.yaml"
    other.write_text(TINY.replace("noise: 0.6", "noise: 0.7"))
    with pytest.raises(RunError, match="another scenario"):
        execute(other, out, resume=True)
    with pytest.raises(RunError, match="--resume"):
        execute(scenario, out)


def test_more_seeds_can_be_added_by_resuming(scenario, whole, tmp_path):
    out = tmp_path / "growing"
    plan = run.load_scenario(scenario)
    one = plan.model_copy(update={"seeds": (3,)})
    run.execute(one, scenario, out)
    run.execute(plan, scenario, out, resume=True)
    assert metrics(out) == whole[1]


def test_two_runs_cannot_write_to_one_folder(scenario, tmp_path):
    out = execute(scenario, tmp_path / "shared", seeds=2)
    half = out / "trials" / "none" / ".5.999.making"
    half.mkdir()
    before = (out / "run.json").read_bytes()
    with store.locked(out), pytest.raises(RunError, match="another run writes here"):
        execute(scenario, out, resume=True, seeds=1)
    assert half.exists()
    assert (out / "run.json").read_bytes() == before
    execute(scenario, out, resume=True, seeds=2)
    assert not half.exists()


def test_fewer_seeds_on_resume_give_what_a_run_of_so_many_gives(scenario, tmp_path):
    long = execute(scenario, tmp_path / "long", seeds=2)
    execute(scenario, long, resume=True, seeds=1)
    assert metrics(long) == metrics(execute(scenario, tmp_path / "short", seeds=1))


def test_a_trial_under_another_name_is_noticed_and_redone(scenario, whole, tmp_path, capsys):
    out = execute(scenario, tmp_path / "swapped")
    shutil.rmtree(out / "trials" / "none")
    shutil.copytree(out / "trials" / "rollback", out / "trials" / "none")
    with pytest.raises(DamagedTrial, match=r"none/3: holds rollback, seed 3"):
        safety.write_metrics(out)
    execute(scenario, out, resume=True)
    assert "redoing none, seed 4" in capsys.readouterr().err
    assert metrics(out) == whole[1]


@pytest.mark.parametrize("content", [None, "{", "[]"], ids=["missing", "cut off", "a list"])
def test_a_lost_run_json_is_written_anew(scenario, whole, tmp_path, capsys, content):
    out = execute(scenario, tmp_path / "lost")
    (out / "run.json").unlink()
    if content is not None:
        (out / "run.json").write_text(content)
    execute(scenario, out, resume=True)
    assert "written anew" in capsys.readouterr().err
    assert metrics(out) == whole[1]


def test_a_world_that_cannot_give_the_levels_leaves_no_folder(tmp_path):
    source = tmp_path / "tight.yaml"
    source.write_text(TINY.replace("shifted: {corner_size: 7}", "shifted: {corner_size: 1}"))
    with pytest.raises(RunError, match=r"tight\.yaml: .*distinguishing"):
        execute(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def workers_of(group: int) -> list[int]:
    """The processes of that group that play trials, and not the one that began them."""
    found = []
    for pid in group_members(group):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in command:
            found.append(pid)
    return found


def test_a_killed_worker_is_said_and_the_run_can_go_on(scenario, whole, tmp_path):
    out = tmp_path / "worker"
    process = begin(scenario, out, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    # While it still starts one, a pool that breaks may print a traceback of the interpreter's own.
    while len(workers := workers_of(process.pid)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(workers[0], signal.SIGKILL)  # long before the trials can be over
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert b"a worker was killed" in said
    assert b"Traceback" not in said
    assert len(list(out.glob("trials/*/*/trial.json"))) < 6
    execute(scenario, out, resume=True)
    assert metrics(out) == whole[1]


class Surprise(Control):
    """What a user might register: infinitely surprised by whoever pursues the proxy."""

    name = "surprise"
    default_statistic = "mean"
    most = np.inf

    def score_knowing(self, steps, truth, memory):
        return np.where(truth.intent == 2, self.most, 0.0), memory


def test_an_infinite_score_names_trial_and_monitor_and_bounding_it_helps(
    scenario, tmp_path, monkeypatch
):
    """Calibration, played by the intended child alone, never meets it."""
    monkeypatch.setitem(_MONITORS, "surprise", Surprise)
    source = tmp_path / "surprise.yaml"
    source.write_text(TINY.replace("  random: {}", "  shock: {monitor: surprise}"))
    out = tmp_path / "out"
    with pytest.raises(
        RunError, match=r"out: alone:proxy, seed 0: monitor shock: the score is inf"
    ):
        execute(source, out, seeds=1)
    monkeypatch.setattr(Surprise, "most", 1e6)
    execute(source, out, seeds=1, resume=True)
    assert metrics(out)["monitors"]["shock"]


@pytest.mark.parametrize("place", ["empty", "link"])
def test_an_empty_folder_and_a_link_to_one_will_do(scenario, tmp_path, place):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    out = execute(scenario, tmp_path / place, seeds=1)
    assert (tmp_path / "empty" / "run.json").exists()
    assert metrics(out)


def test_the_splits_share_no_level(scenario):
    plan = run.load_scenario(scenario)
    used: list[int] = []
    for seed in plan.seeds:
        source = run.Source(plan)
        for split in ("train", "calibrate", "test"):
            used += source.bank(seed, split).seed.tolist()
    assert len(set(used)) == len(used)
    assert len(used) == 2 * (20 + 40 + 2 * 16)


def test_a_failed_write_leaves_nothing_half_written(scenario, tmp_path, monkeypatch):
    folder = tmp_path / "trials" / "none" / "0"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "as_json", full)
    with pytest.raises(OSError, match="space"):
        store.write_trial(folder, {"events.jsonl": b"{}"}, {"arm": "none"})
    assert not list(folder.parent.iterdir())


def test_tables_hold_no_pickled_objects():
    with pytest.raises(ValueError, match="Object arrays"):
        store.pack({"bad": np.array([object()])})
