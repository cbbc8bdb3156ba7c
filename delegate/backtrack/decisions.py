"""What a batch of actions means, row by row, before anything moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from delegate.backtrack.history import History
from delegate.backtrack.progress import Progress


@dataclass(frozen=True)
class Decisions:
    """What each row does in this tick; bool [B] unless said otherwise.

    live:    the row is in an episode; the others hold still or begin one
    step:    the world moves
    back:    it goes `depth` steps back
    confirm: a held ending stands
    refused: a backtrack was asked for in vain, for reason REFUSALS[refusal]
    choice:  int64 [B]  which of the depths is asked for, -1 for none
    depth:   int64 [B]  steps it goes back, 0 where it does not
    refusal: int64 [B]
    calm:     no row asks to go back
    everyone: nothing else happens in this tick than that every row steps
    """

    live: np.ndarray
    step: np.ndarray
    back: np.ndarray
    confirm: np.ndarray
    refused: np.ndarray
    choice: np.ndarray
    depth: np.ndarray
    refusal: np.ndarray
    calm: bool = False
    everyone: bool = False


@lru_cache(maxsize=32)
def everyone_steps(rows: int) -> Decisions:
    """The commonest tick, made once; its arrays are read-only."""
    flags = {name: np.zeros(rows, bool) for name in ("back", "confirm", "refused")}
    flags |= {name: np.ones(rows, bool) for name in ("live", "step")}
    none = {"choice": np.full(rows, -1), "depth": np.zeros(rows, np.int64)}
    none["refusal"] = none["depth"]
    for array in (*flags.values(), *none.values()):
        array.flags.writeable = False
    return Decisions(**flags, **none, calm=True, everyone=True)


def decide(
    choice: np.ndarray | None, depths: np.ndarray, progress: Progress, history: History
) -> Decisions:
    """Sort out what each row does. choice: int64 [B] or None for no backtrack, depths: int64 [k]"""
    live, held = ~progress.ended, progress.held
    if choice is None:
        nothing = everyone_steps(len(live))
        if np.count_nonzero(live) == len(live) and not np.count_nonzero(held):
            return nothing
        step, confirm = live & ~held, live & held
        return replace(nothing, live=live, step=step, confirm=confirm, everyone=False)
    asked = live & (choice >= 0)
    depth = np.where(asked, depths[choice], 0)
    too_far = np.where(depth > history.position, 2, np.where(depth > history.kept, 3, 0))
    refusal = np.where(asked, np.where(progress.budget_left < 1, 1, too_far), 0)
    back = asked & (refusal == 0)
    return Decisions(
        live=live,
        step=live & ~asked & ~held,
        back=back,
        confirm=live & held & ~back,
        refused=asked & ~back,
        choice=choice,
        depth=np.where(back, depth, 0),
        refusal=refusal,
    )
