"""Files that are there whole or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from delegate.files import parse_json, shown, write_whole

WRITER = """
import os, pathlib, resource, signal, sys
from delegate.files import write_whole
if sys.argv[2] == "killed":
    os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
write_whole(pathlib.Path(sys.argv[1]), b"new" * 1_000)
"""


@pytest.mark.parametrize(
    ("how", "status", "words"), [("killed", -9, ""), ("too large", 1, "File too large: ")]
)
def test_what_is_there_outlives_a_write_that_fails(
    how: str, status: int, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "metrics.json"
    write_whole(path, b"old")
    command = [sys.executable, "-c", WRITER, str(path), how]
    failed = subprocess.run(command, check=False, capture_output=True, text=True)
    assert failed.returncode == status
    assert f"{words}{str(path)!r}" in failed.stderr or not words
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == (2 if how == "killed" else 1)
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path, kind in (
        (tmp_path / "none" / "a", FileNotFoundError),
        (tmp_path, IsADirectoryError),
        (tmp_path / "file" / "a", NotADirectoryError),
    ):
        with pytest.raises(kind) as raised:
            write_whole(path, b"new")
        assert raised.value.filename == str(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_others_may_read_what_the_user_lets_them(tmp_path: Path) -> None:
    path, plain = tmp_path / ("m" * 250), tmp_path / "plain"
    plain.write_bytes(b"")
    write_whole(path, b"new")
    assert path.stat().st_mode == plain.stat().st_mode
    path.chmod(0o600)
    write_whole(path, b"newer")
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_a_link_points_to_is_written(tmp_path: Path) -> None:
    (link := tmp_path / "link").symlink_to(tmp_path / "file")
    for content in (b"old", b"new"):
        write_whole(link, content)
        assert (tmp_path / "file").read_bytes() == content
    assert link.is_symlink()


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_json_has_no_number_that_is_not_finite(constant: str) -> None:
    with pytest.raises(ValueError, match=f"^{constant} is not JSON"):
        parse_json(f'{{"a": [1, {constant}]}}')
    assert parse_json(f'{{"a": [1, "{constant}", 1e308]}}') == {"a": [1, constant, 1e308]}


def test_names_are_shown_on_one_line() -> None:
    for plain in ("runs/corner", "we ird", "é🧀"):
        assert shown(plain) == shown(Path(plain)) == plain
    for odd in ("a\nb", "\x1b[31m", "", "\u2028", "\ud800"):
        assert shown(odd) == repr(odd)
        assert shown(odd).isprintable()
