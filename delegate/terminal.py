"""What people at a terminal see of a run: a progress bar, and tables at its end."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

Advance = Callable[[float, float, str], None]
"""(done, total, what is being done)"""

WIDTH = 80
"""columns of what is no table"""

PIPED_WIDTH = 140
"""columns of a table that goes into a file or a pipe"""


@contextlib.contextmanager
def progress() -> Iterator[Advance]:
    """A progress bar on stderr; silent when that is no terminal."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.percentage:>3.0f}%"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task("starting", total=None)

        def advance(done: float, total: float, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what)

        yield advance


def print_facts(heading: str, facts: Mapping[str, str]) -> None:
    """Print a heading and what is known, by name, on stdout; no line is longer than `WIDTH`."""
    print(heading if len(heading) <= WIDTH else heading[: WIDTH - 3] + "...")
    margin = max(map(len, facts), default=0) + 4
    for name, text in facts.items():
        for line in textwrap.wrap(text, WIDTH - margin, break_on_hyphens=False) or [""]:
            print(f"  {name:<{margin - 2}}{line}".rstrip())
            name = ""


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text on stdout; the first row is the heading."""
    heading, *body = rows
    table = Table(box=box.SIMPLE_HEAD)
    for index, title in enumerate(heading):
        table.add_column(title, justify="left" if index == 0 else "right", no_wrap=index == 0)
    for row in body:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    console.print(table)
