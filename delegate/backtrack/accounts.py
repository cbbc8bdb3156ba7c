"""What one tick costs: clocks, budgets and the ledger."""

from __future__ import annotations

import numpy as np

from delegate.backtrack.decisions import Decisions
from delegate.backtrack.ledger import Ledger
from delegate.backtrack.progress import Progress


def count(do: Decisions, progress: Progress, ledger: Ledger) -> None:
    """Every decision of a row in an episode is paid, whatever it was."""
    ledger.step(do.step)
    progress.since += do.step
    progress.clock += do.live
    if not do.everyone:
        ledger.idle(do.confirm | do.refused)


def take_back(do: Decisions, progress: Progress, ledger: Ledger) -> np.ndarray:
    """Move the steps undone from one account to the other, before `count`.

    Returns the rows that have now undone all they did since they last went back. bool [B]
    """
    loop = do.back & (do.depth == progress.since)
    rows = do.back.nonzero()[0]
    if rows.size:
        ledger.undo(rows, do.depth[rows])
        ledger.restore(rows)
        progress.budget_left[rows] -= 1
        progress.loop_ticks[loop] += do.depth[loop] + 1
        progress.since[rows] = 0
    return loop
