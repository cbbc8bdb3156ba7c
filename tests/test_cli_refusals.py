"""Bad input: status 2, one or two lines that name place, cause and remedy, nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_run import small_scenario

from delegate.cli import main


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place to run in, with a scenario that is in order."""
    small_scenario(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says on stderr when it refuses."""
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert 1 <= len(printed.err.splitlines()) <= 2
    assert "Traceback" not in printed.err
    return printed.err


# (what is replaced in the scenario, by what, words of the message)
FAULTS = {
    "unknown key": ("seeds:", "sedes:", ["small.yaml:", "sedes", "did you mean 'seeds'"]),
    "unknown nested key": ("budget:", "bugdet:", ["delegation.bugdet", "did you mean 'budget'"]),
    "wrong type": ("budget: 128", "budget: many", ["delegation.budget", "whole number"]),
    "unknown env": ("id: Corner", "id: Cornre", ["world.id", "did you mean 'Corner'"]),
    "unknown monitor": ("  path: {}", "  paht: {}", ["monitors.paht", "did you mean 'path'"]),
    "unknown policy": ("policy: proxy", "policy: porxy", ["children.proxy", "mean 'proxy'"]),
    "yaml with a tab": ("  id: Corner", "\tid: Corner", ["a tab", "spaces"]),
    "duplicate key": ("crew:", "name: again\ncrew:", ["name: given twice", "line 4"]),
    "negative budget": ("budget: 128", "budget: -1", ["delegation.budget", "at least 1"]),
    "budget of 10^9": ("budget: 128", "budget: 1000000000", ["delegation.budget", "100,000"]),
    "name with ../": ("name: corner", "name: ../corner", ["name", "safe name", "a-z"]),
    "arm with ../": ("  none: {", "  ../../none: {", ["arms.", "safe name"]),
    "world setting": ("size: 13", "sise: 13", ["world.settings.sise", "did you mean 'size'"]),
    "world too large": ("size: 13", "size: 1000000", ["world.settings.size", "at most"]),
    "corner too large": ("corner_size: 11", "corner_size: 99", ["world.shifted.corner_size"]),
    "policy setting": ("noise: 0.1", "nosie: 0.1", ["settings.nosie", "did you mean 'noise'"]),
    "noise above one": ("noise: 0.1", "noise: 1.5", ["children.intended.settings.noise", "most 1"]),
    "monitor setting": ("path: {}", "path: {settings: {a: 1}}", ["monitors.path.settings.a"]),
    "statistic": ("statistic: drawdown", "statistic: drawup", ["monitors.reach", "'drawdown'"]),
    "protocol": ("protocol: oracle", "protocol: orakel", ["arms.oracle.protocol", "'oracle'"]),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", ["run", "validate"])
def test_a_bad_scenario_is_refused_and_nothing_written(
    fault: str, command: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, words = FAULTS[fault]
    text = (here / "small.yaml").read_text()
    assert old in text
    text = text.replace(old, new, 1)
    (here / "small.yaml").write_text(text)
    before = listing(here)
    message = refused([command, "small.yaml", *(["--out", "o"] * (command == "run"))], capsys)
    line = 1 + next(n for n, line in enumerate(text.splitlines()) if new.split("\n")[0] in line)
    assert message.startswith(f"small.yaml:{line}: ")
    for word in words:
        assert word in message
    assert listing(here) == before


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("nowhere.yaml", ["nowhere.yaml: no such file", "delegate list scenarios"]),
        ("empty.yaml", ["empty.yaml: the file is empty", "delegate schema"]),
        ("folder", ["folder: is a folder", "name the YAML file"]),
        ("binary.yaml", ["binary.yaml:1: is not UTF-8"]),
        ("small.yaml/below", ["cannot be read", "not a directory"]),
        ("", ["is a folder"]),
    ],
)
def test_a_file_that_is_no_scenario_is_refused(
    file: str, words: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "empty.yaml").touch()
    (here / "binary.yaml").write_bytes(b"\x80\x81")
    (here / "folder").mkdir()
    before = listing(here)
    message = refused(["run", file, "--out", "o"], capsys)
    for word in words:
        assert word.lower() in message.lower()
    assert listing(here) == before


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("small.yaml", ["--out small.yaml: is a file", "name a folder"]),
        ("small.yaml/run", ["small.yaml", "is a file", "name a folder"]),
        ("full", ["--out full: holds other things", "name a folder"]),
        (".", ["holds other things"]),
        ("a" * 300, ["--out a", "too long", "name a folder"]),
        ("nul\0byte", ["--out", "null byte"]),
    ],
)
@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_an_out_that_cannot_hold_a_run_is_refused(
    out: str, words: list[str], resume: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "full").mkdir()
    (here / "full" / "thesis.tex").write_text("years of work")
    before, text = listing(here), (here / "small.yaml").read_text()
    message = refused(["run", "small.yaml", "--out", out, *resume], capsys)
    for word in words:
        assert word in message
    assert listing(here) == before
    assert (here / "small.yaml").read_text() == text


@pytest.fixture
def read_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on a disk that cannot be written: a read-only mount where that is allowed, a
    folder without write permission for an ordinary user, else the kernel's own /proc.
    """
    folder = tmp_path_factory.mktemp("disk")
    mounting = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mounting, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        folder.chmod(0o555)
    chosen = folder if mounted or not os.access(folder, os.W_OK) else Path("/proc")
    try:
        with pytest.raises(OSError, match=r".+"):
            (chosen / "probe").mkdir()
        yield chosen
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
        folder.chmod(0o755)


def test_a_read_only_disk_is_named(
    here: Path, read_only: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(here)
    message = refused(["run", "small.yaml", "--out", str(read_only / "run")], capsys)
    assert message.startswith(f"--out {read_only / 'run'}: cannot be written (")
    assert "name a folder" in message
    assert not (read_only / "run").exists()
    message = refused(["run", "small.yaml", "--out", str(read_only / "deep" / "run")], capsys)
    assert str(read_only / "deep" / "run") in message
    assert listing(here) == before


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run"], ["SCENARIO", "delegate run --help"]),
        (["rnu", "small.yaml"], ["rnu", "delegate --help"]),
        (["run", "small.yaml", "--wrokers", "2"], ["--wrokers", "delegate run --help"]),
        (["run", "small.yaml", "--workers", "0"], ["--workers", "1"]),
        (["run", "small.yaml", "--workers", "1000000"], ["--workers", "256"]),
        (["run", "small.yaml", "--workers", "two"], ["--workers", "integer"]),
        (["run", "small.yaml", "--seeds", "0"], ["--seeds", "1"]),
        (["run", "small.yaml", "--seeds", "1000000000"], ["--seeds", "1000"]),
        (["run", "small.yaml", "--out"], ["--out"]),
        (["run", "small.yaml", "other.yaml"], ["other.yaml"]),
        (["list"], ["KIND", "delegate list --help"]),
        (["list", "worlds"], ["worlds", "envs", "scenarios"]),
        (["report", "nowhere"], ["nowhere", "delegate run"]),
        (["report", "small.yaml"], ["small.yaml", "not a folder"]),
        (["report", "."], ["scenario.yaml", "no run folder"]),
        (["replay", "nowhere"], ["nowhere", "name the folder of a run"]),
        (["replay", ".", "--sub-episode", "rollback/0/1.1"], ["rollback/0/1.1", "no finished"]),
        (["replay", ".", "--sub-episode", "../../x"], ["<arm>/<seed>/<row>.<number>"]),
        (["replay", ".", "--gif", "x.gif"], ["--gif needs --sub-episode"]),
        (["replay", ".", "--fps", "0"], ["--fps", "0.5"]),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(
    words: list[str], expected: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing(here)
    message = refused(words, capsys)
    for word in expected:
        assert word.lower() in message.lower()
    assert listing(here) == before


def test_the_process_itself_exits_with_2_and_no_traceback(here: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "delegate.cli", "run", "nowhere.yaml"],
        capture_output=True,
        text=True,
        cwd=here,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_a_fault_of_the_program_is_not_hidden() -> None:
    """What is not the input's fault must not be taken for it: here a caller's wrong type."""
    with pytest.raises((TypeError, AttributeError)):
        main([3])  # type: ignore[list-item]
