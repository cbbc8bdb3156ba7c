"""One process at a time writes to a run folder, and one that is killed lets go of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from delegate import store
from delegate.store import RunError

HOLD = """
import pathlib, sys
from delegate import store
with store.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(params=["fcntl", "no fcntl"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """That of a process to start; without `fcntl` the lock is of another kind."""
    return dict(os.environ) if request.param == "fcntl" else without_fcntl(tmp_path)


def without_fcntl(folder: Path) -> dict[str, str]:
    """The environment of a process that finds no `fcntl`, as on Windows."""
    (folder / "fcntl.py").write_text("raise ModuleNotFoundError(\"No module named 'fcntl'\")\n")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def begin(out: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """A process that asks for the lock, and holds it until a line comes."""
    out.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def asked(out: Path, environment: dict[str, str]) -> tuple[int, str, str]:
    """Status, output and complaint of a process that takes the lock and lets go, if it can."""
    process = begin(out, environment)
    said, complaint = process.communicate("\n", timeout=60)
    return process.returncode, said, complaint


@pytest.mark.parametrize("end", ["killed", "told"])
def test_others_are_refused_until_whoever_writes_is_gone(
    end: str, environment: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    holder = begin(out, environment)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        status, said, complaint = asked(out, environment)
        assert (status, said) == (1, "")
        assert f"{out}: another run writes here; wait for it or stop it" in complaint
        assert asked(tmp_path / "other", environment)[:2] == (0, "held\n")
        if end == "killed":
            holder.kill()
        holder.communicate("\n", timeout=60)
        assert holder.returncode == (-9 if end == "killed" else 0)
    finally:
        holder.kill()
        holder.wait()
    assert asked(out, environment)[:2] == (0, "held\n")


def test_one_process_does_not_take_it_twice_and_may_take_it_again(tmp_path: Path) -> None:
    with (
        store.locked(tmp_path),
        pytest.raises(RunError, match="another run"),
        store.locked(tmp_path),
    ):
        raise AssertionError("two hold it")
    with pytest.raises(KeyError), store.locked(tmp_path):
        raise KeyError("an error lets go")
    with store.locked(tmp_path):
        pass


def test_a_place_that_cannot_hold_the_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"), store.locked(tmp_path / "file"):
        raise AssertionError("it holds a lock in a file")


def test_the_command_line_works_without_fcntl(tmp_path: Path) -> None:
    scenario = Path(__file__).parents[1] / "experiments" / "scenarios" / "corner.yaml"
    command = [sys.executable, "-m", "delegate.cli", "validate", str(scenario)]
    done = subprocess.run(command, env=without_fcntl(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ": valid: corner" in done.stdout
