"""Progress and tables: seen in a terminal, quiet and plain elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from delegate.terminal import PIPED_WIDTH, WIDTH, print_facts, print_table, progress

WATCHED = """
from delegate.terminal import progress
with progress() as advance:
    for done in range(3):
        advance(done, 2, "arm [red], seed 0")
"""


def test_nothing_is_shown_where_there_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with progress() as advance:
        advance(1, 2, "arm")
        advance(2, 2, "arm")
    assert capfd.readouterr() == ("", "")


def test_a_terminal_shows_the_share_and_what_is_done() -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", WATCHED],
            stderr=theirs,
            stdout=subprocess.PIPE,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        )
        shown = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    assert done.stdout == b""
    assert "100%" in shown
    assert "arm [red], seed 0" in shown


def test_a_table_is_plain_text_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([["arm", "success"], ["[red]none[/]", "10.0%"], ["rollback", "–"]])
    lines = capsys.readouterr().out.splitlines()
    assert not any("\x1b" in line for line in lines)
    assert all(len(line) <= PIPED_WIDTH for line in lines)
    cells = [line.split() for line in lines if line.strip("─ ")]
    assert cells == [["arm", "success"], ["[red]none[/]", "10.0%"], ["rollback", "–"]]


def test_facts_are_wrapped_beside_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    long, unbroken = "word " * 40, "x" * 200
    print_facts("h" * 90, {"a": "1", "longer": long, "one": unbroken, "none": ""})
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading == "h" * (WIDTH - 3) + "..."
    assert max(map(len, lines)) <= WIDTH
    assert lines[0] == "  a       1"
    assert [line[10:] for line in lines if line.startswith("  longer")] == [lines[1][10:]]
    beside = [line[10:] for line in lines]
    assert " ".join(beside[1:4]).split() == long.split()
    assert "".join(beside[4:7]) == unbroken
    assert lines[-1] == "  none"
    print_facts("short", {})
    assert capsys.readouterr().out == "short\n"
