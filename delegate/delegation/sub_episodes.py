"""Every sub-episode of every row, as arrays; and which of them are running."""

from __future__ import annotations

from typing import Any

import numpy as np

from delegate.agents import NO_CODE, Intent, Member, Ruling

NEVER = -1
"""no such step, sub-episode or landmark"""

COLUMNS: dict[str, tuple[Any, type[np.generic]]] = {
    "parent": (-1, np.int16),
    "depth": (0, np.int16),
    "member": (-1, np.int16),
    "ordinal": (0, np.int16),
    "goal": (0, np.int32),
    "budget": (0, np.int32),
    "start_clock": (0, np.int32),
    "start_path": (0, np.int32),
    "steps": (0, np.int32),
    "outcome": (NO_CODE, np.int8),
    "verdict": (NO_CODE, np.int8),
    "intent": (Intent.UNKNOWN, np.int8),
    "intended": (False, np.bool_),
    "proxy": (False, np.bool_),
    "true_return": (0.0, np.float64),
    "proxy_return": (0.0, np.float64),
    "parting": (NEVER, np.int32),
    "defection": (NEVER, np.int32),
    "alarm": (NEVER, np.int32),
    "value": (np.nan, np.float64),
    "peak": (np.nan, np.float64),
    "named": (NEVER, np.int16),
    "named_probability": (np.nan, np.float64),
    "within": (NEVER, np.int16),
    "undone_steps": (0, np.int32),
}
"""columns of the table: what stands there at first, and of which type"""

TOTALS = ("intended", "proxy", "true_return", "proxy_return", "intent")
"""what the path of a sub-episode has come to"""

_ROOM = 4
"""sub-episodes a row there is room for at first"""


class SubEpisodes:
    """One delegation a cell: arrays [B, N], which grow with the most delegations of a row.

    Number 0 is the episode itself; numbers grow in spawn order, so what a sub-episode
    spawned has a higher number than it.

    parent, depth, member; ordinal counts within the row and depth
    goal, budget, start_clock, start_path; steps paid inside it, descendants' included
    outcome, verdict: codes, NO_CODE before · intent: the most proxy-like so far
    intended, proxy: reached on its surviving path; true_return, proxy_return: of that path
    parting: first of its steps from a state where the goals part; defection: first of its steps
        at which it pursues the proxy and they have parted; alarm: first one whose value is above
        the threshold; counted from 0 in all that it paid, NEVER if none
    value, peak, named, named_probability: of the arm's monitor, when it ended
    within: the rolled-back sub-episode that took it along, NEVER if none
    undone_steps: path steps that its own rollback took back
    gave_up, audited: bool · cause: why it failed
    active: int16 [B, D + 1] the running sub-episode at each depth, -1 for none
    top: int8 [B] the deepest running depth
    count: int16 [B] numbers given so far
    """

    parent: np.ndarray
    depth: np.ndarray
    member: np.ndarray
    ordinal: np.ndarray
    goal: np.ndarray
    budget: np.ndarray
    start_clock: np.ndarray
    start_path: np.ndarray
    steps: np.ndarray
    outcome: np.ndarray
    verdict: np.ndarray
    intent: np.ndarray
    intended: np.ndarray
    proxy: np.ndarray
    true_return: np.ndarray
    proxy_return: np.ndarray
    parting: np.ndarray
    defection: np.ndarray
    alarm: np.ndarray
    value: np.ndarray
    peak: np.ndarray
    named: np.ndarray
    named_probability: np.ndarray
    within: np.ndarray
    undone_steps: np.ndarray
    gave_up: np.ndarray
    audited: np.ndarray
    slot: np.ndarray
    """int32 [B, N] where what it started from is kept, -1 nowhere"""

    def __init__(self, rows: int, max_spawns: int, max_depth: int) -> None:
        self._held: dict[str, tuple[Any, Any]] = {
            **COLUMNS,
            "gave_up": (False, np.bool_),
            "audited": (False, np.bool_),
        }
        self._held["slot"] = (-1, np.int32)
        room = min(max_spawns, _ROOM) + 1
        for name, (blank, kind) in self._held.items():
            setattr(self, name, np.full((rows, room), blank, kind))
        self.cause: dict[tuple[int, int], str] = {}
        self.active = np.full((rows, max_depth + 1), -1, np.int16)
        self.active[:, 0] = 0
        self.top = np.zeros(rows, np.int8)
        self.count = np.ones(rows, np.int16)
        self._born = np.zeros((rows, max_depth + 1), np.int16)

    def current(self, rows: np.ndarray) -> np.ndarray:
        """The deepest running sub-episode of those rows, int16 [n]."""
        return self.active[rows, self.top[rows]]

    def open(
        self,
        rows: np.ndarray,
        member: np.ndarray,
        goal: np.ndarray,
        budget: np.ndarray,
        clock: np.ndarray,
        path_clock: np.ndarray,
    ) -> np.ndarray:
        """A new sub-episode below the running one of each row; returns its number [n]."""
        number = self.count[rows]
        if number.max() >= self.parent.shape[1]:
            self._make_room()
        self.parent[rows, number] = self.current(rows)
        self.count[rows] += 1
        self.top[rows] += 1
        depth = self.top[rows]
        self.active[rows, depth] = number
        self.depth[rows, number] = depth
        self.ordinal[rows, number] = self._born[rows, depth]
        self._born[rows, depth] += 1
        self.member[rows, number] = member
        self.goal[rows, number] = goal
        self.budget[rows, number] = budget
        self.start_clock[rows, number] = clock
        self.start_path[rows, number] = path_clock
        return number

    def close(self, rows: np.ndarray) -> None:
        """The running sub-episode of each row ends and its parent runs again."""
        self.active[rows, self.top[rows]] = -1
        self.top[rows] -= 1

    def cut(self, rows: np.ndarray, depth: np.ndarray) -> None:
        """Nothing runs at those depths or below any more."""
        below = np.arange(self.active.shape[1]) >= depth[:, None]
        self.active[rows] = np.where(below, -1, self.active[rows])
        self.top[rows] = depth - 1

    def totals(self, rows: np.ndarray, number: np.ndarray) -> dict[str, np.ndarray]:
        """What the paths of those sub-episodes have come to, a copy."""
        return {name: getattr(self, name)[rows, number] for name in TOTALS}

    def set_totals(
        self, rows: np.ndarray, number: np.ndarray, totals: dict[str, np.ndarray]
    ) -> None:
        """Make them that again."""
        for name in TOTALS:
            getattr(self, name)[rows, number] = totals[name]

    def hand_up(self, rows: np.ndarray, number: np.ndarray) -> None:
        """A committed sub-episode's path becomes part of its parent's path."""
        parent = self.parent[rows, number]
        self.intended[rows, parent] |= self.intended[rows, number]
        self.proxy[rows, parent] |= self.proxy[rows, number]
        self.true_return[rows, parent] += self.true_return[rows, number]
        self.proxy_return[rows, parent] += self.proxy_return[rows, number]
        self.intent[rows, parent] = np.maximum(self.intent[rows, parent], self.intent[rows, number])

    def running_intent(self, rows: np.ndarray, depth: np.ndarray | int) -> np.ndarray:
        """What each sub-episode at that depth pursues, by itself or through what runs in it."""
        intent = np.full(len(rows), Intent.UNKNOWN, np.int8)
        for level in range(self.active.shape[1]):
            at = self.active[rows, level]
            counts = (at >= 0) & (level >= depth)
            if counts.any():
                intent = np.where(counts, np.maximum(intent, self.intent[rows, at]), intent)
        return intent

    def stands(self, rows: np.ndarray, number: np.ndarray) -> np.ndarray:
        """Whether those sub-episodes were committed or escalated, and not taken back since."""
        return np.isin(self.verdict[rows, number], (Ruling.COMMITTED, Ruling.ESCALATED))

    def table(self, members: list[Member]) -> dict[str, np.ndarray]:
        """One record a delegation, by row and number: columns [E].

        row, sub_episode, and COLUMNS; member is a number of `members`, `child` its name;
        outcome, verdict and intent are codes of delegate.agents; cause is "" where none failed
        """
        numbers = np.arange(self.parent.shape[1])
        row, number = np.nonzero((numbers > 0) & (numbers < self.count[:, None]))
        places = zip(row.tolist(), number.tolist(), strict=True)
        causes = [self.cause.get(place, "") for place in places]
        names = np.array([member.name for member in members], np.str_)
        return {
            "row": row.astype(np.int32),
            "sub_episode": number.astype(np.int16),
            **{name: getattr(self, name)[row, number] for name in COLUMNS},
            "child": names[self.member[row, number]],
            "cause": np.array(causes, np.str_) if causes else np.zeros(0, np.str_),
        }

    def _make_room(self) -> None:
        for name, (blank, kind) in self._held.items():
            array = getattr(self, name)
            more = np.full(array.shape, blank, np.dtype(kind))
            setattr(self, name, np.concatenate([array, more], axis=1))
