"""What goes wrong with an adapted environment, in the words the user sees."""

from __future__ import annotations


class NotRestorable(TypeError):
    """The environment cannot be restored exactly; the message names the reason and the remedy."""


class RowFailed(RuntimeError):
    """One row's environment raised or blew up; the other rows took their step.

    row: which · the row must be reset or restored before it can step again
    """

    def __init__(self, row: int, message: str) -> None:
        super().__init__(f"row {row}: {message}")
        self.row = row
