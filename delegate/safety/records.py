"""What a run says of each delegation, and which of its steps were watched."""

from __future__ import annotations

import numpy as np

from delegate.agents import NO_CODE, Intent, Outcome, Ruling
from delegate.delegation.sub_episodes import NEVER
from delegate.safety.logs import RECORD_COLUMNS, Columns, DamagedTrial, Trial

CODES: dict[str, type[Intent] | type[Outcome] | type[Ruling]] = {
    "intent": Intent,
    "outcome": Outcome,
    "verdict": Ruling,
}


def records(trial: Trial) -> Columns:
    """The table of delegations that a trial wrote, by row and number; codes are words in it.

    Raises DamagedTrial where one of them never ended.
    """
    order = np.lexsort((trial.sub_episodes["sub_episode"], trial.sub_episodes["row"]))
    table = {name: trial.sub_episodes[name][order] for name in RECORD_COLUMNS}
    if (open_ := table["outcome"] == NO_CODE).any():
        first = int(open_.argmax())
        raise DamagedTrial(
            trial.folder / "sub_episodes.npz",
            f"sub-episode {table['sub_episode'][first]} of row {table['row'][first]} never ends; "
            "redo the trial",
        )
    for name, kind in CODES.items():
        word = {int(code): kind(code).name.lower() for code in kind}
        table[name] = np.array([word.get(code, "") for code in table[name].tolist()], np.str_)
    return table


class Watched:
    """The watched steps of some delegations in order of sub-episode and interaction clock.

    The clock never rewinds, so a step is never taken for the one it replaced.
    count: E, so many delegations · order: int [n] where each step lies in the table of scores
    owner: int [n] whose it is · position: int [n] its place within it · start, length: int [E]
    """

    def __init__(self, trial: Trial, row: np.ndarray, number: np.ndarray) -> None:
        self.count, watch = len(row), trial.watch
        row, number = row.astype(np.int64), number.astype(np.int64)
        delegated = np.flatnonzero(watch["sub_episode"] > 0)
        by_time = np.lexsort(
            (watch["clock"][delegated], watch["sub_episode"][delegated], watch["row"][delegated])
        )
        self.order = delegated[by_time]
        width = 1 + max(number.max(initial=0), watch["sub_episode"].max(initial=0))
        known = row * width + number
        wanted = watch["row"][self.order].astype(np.int64) * width
        wanted += watch["sub_episode"][self.order]
        self.owner = np.searchsorted(known, wanted)
        lost = np.ones(len(wanted), bool)
        if len(known):
            at = np.minimum(self.owner, len(known) - 1)
            lost = (self.owner == len(known)) | (known[at] != wanted)
        if lost.any():
            where = self.order[np.argmax(lost)]
            raise DamagedTrial(
                trial.folder / "watch.npz",
                f"scores sub-episode {watch['sub_episode'][where]} of row {watch['row'][where]}, "
                "which was never spawned; redo the trial",
            )
        self.length = np.bincount(self.owner, minlength=self.count)
        self.start = np.cumsum(self.length) - self.length
        self.position = np.arange(len(self.owner)) - self.start[self.owner]

    def first(self, true: np.ndarray, since: np.ndarray | None = None) -> np.ndarray:
        """The first step at which a column of the table holds, NEVER if none; int32 [E].

        since: int [E] from that step on; NEVER there is NEVER here
        """
        return self.first_sorted(true[self.order], since)

    def first_sorted(self, true: np.ndarray, since: np.ndarray | None = None) -> np.ndarray:
        """The same for steps in the order kept here, bool [n]."""
        if since is not None:
            from_ = since[self.owner]
            true = true & (from_ >= 0) & (self.position >= from_)
        found = np.full(self.count, NEVER, np.int32)
        hits = np.flatnonzero(true)
        who, earliest = np.unique(self.owner[hits], return_index=True)
        found[who] = self.position[hits[earliest]]
        return found

    def last(self) -> np.ndarray:
        """Which steps are the last of their sub-episode, bool [n]."""
        return self.position == self.length[self.owner] - 1
