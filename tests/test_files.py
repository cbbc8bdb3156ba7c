"""Files that are there whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from delegate.files import write_whole, written_whole


def half_written(path: Path) -> None:
    with written_whole(path) as file:
        file.write(b"ne")
        file.write("w")  # type: ignore[call-overload]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_whole(path, b"old")
    with pytest.raises(TypeError, match="bytes-like"):
        half_written(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_there_outlives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_whole(path, b"old")
    writer = (
        "import os, pathlib, signal, sys\n"
        "from delegate.files import written_whole\n"
        "with written_whole(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write(b'ne')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", writer, str(path)], check=False)
    assert killed.returncode == -9
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for path, kind in ((tmp_path / "none" / "a", FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(kind) as raised:
            write_whole(path, b"new")
        assert raised.value.filename == str(path)
    assert not list(tmp_path.iterdir())


def test_others_may_read_what_the_user_lets_them(tmp_path: Path) -> None:
    path, plain = tmp_path / "metrics.json", tmp_path / "plain"
    plain.write_bytes(b"")
    write_whole(path, b"new")
    assert path.stat().st_mode == plain.stat().st_mode
