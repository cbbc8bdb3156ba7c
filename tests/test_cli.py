"""The command line from end to end on a small run, and stopping it half-way."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image
from small_run import small_scenario

from delegate import run as engine
from delegate.cli import main

ROOT = Path(__file__).parents[1]
DELEGATE = [sys.executable, "-m", "delegate.cli"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    out = folder / "run"
    assert main(["run", str(small_scenario(folder)), "--out", str(out)]) == 0
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_run_writes_metrics_and_report_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "run"
    assert main(["run", str(small_scenario(tmp_path)), "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "\x1b" not in printed.out
    for name in ("rollback_random", "trusted_only", "nearest_neighbours"):
        assert name in printed.out
    assert printed.out.rstrip().endswith(str(out / "report.html"))
    assert (out / "report.html").stat().st_size > 0
    assert json.loads((out / "metrics.json").read_text())["scenario"]
    assert [path.name for path in out.parent.iterdir()] == ["run"]


def test_a_run_goes_to_runs_and_its_name_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = small_scenario(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["run", str(source), "--seeds", "1"]) == 0
    assert (tmp_path / "runs" / "corner" / "metrics.json").is_file()


def test_seeds_overrides_the_scenario(tmp_path: Path) -> None:
    out = tmp_path / "run"
    source = small_scenario(tmp_path, seeds=7, test=4)
    assert main(["run", str(source), "--out", str(out), "--seeds", "2"]) == 0
    assert sorted(path.name for path in (out / "trials" / "none").iterdir()) == ["0", "1"]


def test_a_finished_run_is_not_run_over(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(run)
    source = run.parent / "small.yaml"
    assert main(["run", str(source), "--out", str(run)]) == 2
    refused = capsys.readouterr().err
    assert str(run) in refused
    assert "--resume" in refused
    assert len(refused.splitlines()) <= 2
    assert contents(run) == before


def test_resuming_a_finished_run_changes_no_trial(run: Path) -> None:
    source = run.parent / "small.yaml"
    before = contents(run / "trials")
    assert main(["run", str(source), "--out", str(run), "--resume"]) == 0
    assert contents(run / "trials") == before


def test_resuming_another_scenario_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run)
    other = small_scenario(tmp_path, test=13)
    assert main(["run", str(other), "--out", str(run), "--resume"]) == 2
    assert "another scenario" in capsys.readouterr().err
    assert contents(run) == before


def test_report_is_made_anew_from_the_logs(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = (run / "metrics.json").read_bytes()
    (run / "metrics.json").unlink()
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert (run / "metrics.json").read_bytes() == first
    assert (run / "report.html").is_file()
    assert str(run / "report.html") in capsys.readouterr().out


def test_replay_lists_shows_and_draws(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(run)]) == 0
    first = capsys.readouterr().out.split()[0]
    assert main(["replay", str(run), "--sub-episode", first]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(first)
    assert "rolled back" in shown
    gif = tmp_path / "x.gif"
    assert main(["replay", str(run), "--sub-episode", first, "--gif", str(gif), "--fps", "5"]) == 0
    with Image.open(gif) as image:
        assert image.info["duration"] == 200


def test_validate_says_what_it_read(capsys: pytest.CaptureFixture[str]) -> None:
    path = ROOT / "experiments" / "scenarios" / "corner.yaml"
    assert main(["validate", str(path)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{path}: valid: corner, world Corner, 7 children")
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (ROOT / "experiments" / "scenarios").glob("*.yaml"))
)
def test_shipped_scenarios_pass_every_check(name: str) -> None:
    assert main(["validate", str(ROOT / "experiments" / "scenarios" / f"{name}.yaml")]) == 0


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("envs", ["Corner", "FourRooms", "TrapGrid"]),
        ("policies", ["intended", "proxy", "random", "trigger"]),
        ("monitors", ["goal_odds", "path", "reach", "destination", "mahalanobis"]),
        ("statistics", ["last", "mean", "drawdown", "cusum"]),
        ("protocols", ["none", "rollback", "rollback_random", "audit", "oracle", "trusted_only"]),
    ],
)
def test_list_shows_names_with_a_line_each(
    kind: str, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", kind]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(names) <= set(listed)
    assert all(len(text) > 10 for text in listed.values())


def test_scenarios_are_listed_from_here_and_a_bad_one_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "experiments" / "scenarios"
    small_scenario(folder)
    (folder / "broken.yaml").write_text("a: 1\n\tb: 2\n")
    monkeypatch.chdir(tmp_path)
    assert main(["list", "scenarios"]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert listed["experiments/scenarios/small.yaml"] == "The cheese moved"
    assert "broken.yaml:2: a tab" in listed["experiments/scenarios/broken.yaml"]
    assert str(ROOT / "experiments" / "scenarios" / "corner.yaml") in listed


def test_the_schema_is_json_and_knows_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    worlds = schema["$defs"]["WorldSection"]["properties"]["id"]["anyOf"][0]["enum"]
    assert worlds == sorted(engine.registries()["envs"])


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"delegate {version('delegate')}\n"
    for words in ([], ["--help"]):
        assert main(words) == 0
        printed = capsys.readouterr().out
        for command in ("run", "validate", "report", "replay", "list", "schema"):
            assert f"\n  {command} " in printed


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{shlex.join(DELEGATE)} schema | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "{\n"
    assert done.stderr == ""


def test_output_that_cannot_show_a_sign_shows_another(run: Path) -> None:
    done = subprocess.run(
        [*DELEGATE, "replay", str(run), "--sub-episode", "alone:proxy/0/3.1"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        cwd=ROOT,
    )
    assert done.returncode == 0
    assert done.stderr == b""
    assert b"moves ?" in done.stdout


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_run_says_how_to_go_on_and_does(
    tmp_path: Path, run: Path, workers: int
) -> None:
    out, source = tmp_path / "run", run.parent / "small.yaml"
    command = ["run", str(source), "--out", str(out), "--seeds", "8", "--workers", str(workers)]
    # A group of its own, because Ctrl-C in a terminal reaches every process of the group; whoever
    # runs the tests in the background has them ignore it.
    process = subprocess.Popen(
        [*DELEGATE, *command],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 60
        while not list(out.glob("trials/*/0/trial.json")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert complaint.startswith("stopped; go on with: delegate run ")
    assert len(complaint.splitlines()) == 1
    assert not (out / "metrics.json").exists()
    words = shlex.split(complaint.partition("delegate ")[2])
    words[words.index("--seeds") + 1] = "1"
    assert main(words) == 0
    done = contents(out / "trials" / "none" / "0")
    expected = contents(run / "trials" / "none" / "0")
    assert done["steps.npz"] == expected["steps.npz"]
    assert done["events.jsonl"] == expected["events.jsonl"]
