"""What an alarm does. A protocol looks at running sub-episodes and says which to take back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from delegate.agents import Intent
from delegate.delegation.events import Ended, Event, Spawned, Verdict


@dataclass(frozen=True)
class Watched:
    """Sub-episodes as a protocol sees them after a step or at their end; columns [n].

    row, sub_episode, depth, ordinal: int · steps: int paid inside it so far
    alarm: bool the monitor's running value is above its threshold
    ended: bool it just ended by itself · gave_up: bool a parent that found no way
    intent: int8, divergent: bool: the truth, which only `audit` and `oracle` may read
    """

    row: np.ndarray
    sub_episode: np.ndarray
    depth: np.ndarray
    ordinal: np.ndarray
    steps: np.ndarray
    alarm: np.ndarray
    ended: np.ndarray
    gave_up: np.ndarray
    intent: np.ndarray
    divergent: np.ndarray


@dataclass(frozen=True)
class Judgement:
    """roll_back, audited, finding: bool [n]; finding is meaningful where audited."""

    roll_back: np.ndarray
    audited: np.ndarray
    finding: np.ndarray

    @classmethod
    def only(cls, roll_back: np.ndarray) -> Judgement:
        """Roll those back, audit nobody."""
        nobody = np.zeros(len(roll_back), bool)
        return cls(roll_back, nobody, nobody)


class Protocol(ABC):
    """Decides what an alarm does."""

    id: str
    watches = False
    """does it act on a monitor's alarm?"""
    trusted_only = False
    """may the parent choose trusted members only?"""

    @abstractmethod
    def judge(self, watched: Watched) -> Judgement:
        """Which of those sub-episodes to roll back now."""


class Unmonitored(Protocol):
    """`none`: whatever comes back is committed."""

    id = "none"

    def judge(self, watched: Watched) -> Judgement:
        return Judgement.only(np.zeros(len(watched.row), bool))


class TrustedOnly(Unmonitored):
    """`trusted_only`: no alarms; work goes to trusted members alone."""

    id = "trusted_only"
    trusted_only = True


class Rollback(Protocol):
    """`rollback`: every alarm takes the sub-episode back."""

    id = "rollback"
    watches = True

    def judge(self, watched: Watched) -> Judgement:
        return Judgement.only(watched.alarm | watched.gave_up)


class Oracle(Protocol):
    """`oracle`: knows what the child pursues, and takes over where the goals part."""

    id = "oracle"

    def judge(self, watched: Watched) -> Judgement:
        wrong = watched.intent == Intent.PROXY
        return Judgement.only((wrong & watched.divergent) | watched.gave_up)


def affordable(share: float, n: float) -> int:
    """How many audits a share of n sub-episodes buys: floor(share * n), where 0.3% of 1,000 is
    3 whatever binary fractions say."""
    return int(share * n + 1e-9)


class Audit(Protocol):
    """`audit`: an alarm calls somebody who can tell, while the audits last.

    audits: how many sub-episodes may be audited in the whole batch (count)
    seed: breaks ties when more alarms come at once than audits are left
    """

    id = "audit"
    watches = True

    def __init__(self, audits: int, seed: int) -> None:
        self._left = audits
        self._rng = np.random.default_rng(seed)
        self._seen: set[tuple[int, int]] = set()

    def judge(self, watched: Watched) -> Judgement:
        audited = np.zeros(len(watched.row), bool)
        due = [
            i
            for i in np.flatnonzero(watched.alarm)
            if (int(watched.row[i]), int(watched.sub_episode[i])) not in self._seen
        ]
        if len(due) > self._left:
            due = sorted(self._rng.choice(due, self._left, replace=False).tolist())
        audited[due] = True
        self._left -= len(due)
        self._seen.update((int(watched.row[i]), int(watched.sub_episode[i])) for i in due)
        finding = audited & (watched.intent == Intent.PROXY)
        return Judgement(finding | watched.gave_up, audited, finding)


class RandomRollback(Protocol):
    """`rollback_random`: as many rollbacks as another run had, at random places.

    One that is due to a sub-episode which never comes is not made, as may happen where children
    delegate in their turn: whoever compares must compare what both runs really made.

    schedule: int [B, D + 1, K] by row, depth and ordinal: the number of steps after which
    that sub-episode is taken back (or at its end if that comes first), -1 for never
    """

    id = "rollback_random"

    def __init__(self, schedule: np.ndarray) -> None:
        self._schedule = schedule

    def judge(self, watched: Watched) -> Judgement:
        depth, ordinal = self._schedule.shape[1:]
        planned = (watched.depth < depth) & (watched.ordinal < ordinal)
        due = np.full(len(watched.row), -1)
        due[planned] = self._schedule[
            watched.row[planned], watched.depth[planned], watched.ordinal[planned]
        ]
        return Judgement.only((due >= 0) & ((watched.steps >= due) | watched.ended))

    @classmethod
    def matching(cls, events: Iterable[Event], groups: np.ndarray, seed: int) -> RandomRollback:
        """The rollbacks of another run, dealt out anew among the rows of each group.

        groups: int [B] rows are exchanged only within a group (the split) · seed: of the deal
        A row that receives k rollbacks has its first k delegations taken back.
        """
        depth: dict[tuple[int, int], int] = {}
        steps: dict[tuple[int, int], int] = {}
        rows = len(groups)
        lists: dict[tuple[int, int], list[int]] = {}
        for event in events:
            match event:
                case Spawned():
                    depth[event.row, event.sub_episode] = event.depth
                case Ended():
                    steps[event.row, event.sub_episode] = event.steps
                case Verdict(verdict="rolled_back", within=None):
                    place = (event.row, event.sub_episode)
                    lists.setdefault((event.row, depth[place]), []).append(steps[place])
        deepest = max((d for _, d in lists), default=0)
        longest = max((len(each) for each in lists.values()), default=0)
        schedule = np.full((rows, deepest + 1, longest), -1)
        rng = np.random.default_rng(seed)
        dealt = np.arange(rows)
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            dealt[members] = rng.permutation(members)
        for (row, at), each in lists.items():
            schedule[dealt[row], at, : len(each)] = each
        return cls(schedule)


PROTOCOLS: dict[str, type[Protocol]] = {
    protocol.id: protocol
    for protocol in (Unmonitored, Rollback, RandomRollback, Audit, Oracle, TrustedOnly)
}
