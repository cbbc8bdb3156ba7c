"""What happened in a trial, one event at a time: append-only and typed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from delegate.files import parse_json


@dataclass(frozen=True)
class Event:
    """Something that happened in one row.

    row: which episode
    clock: environment steps paid in that episode so far, undone ones included
    """

    kind: ClassVar[str]
    row: int
    clock: int


@dataclass(frozen=True)
class EpisodeStarted(Event):
    """A row began on a level: which split it belongs to and what was wanted there."""

    kind = "episode_started"
    split: str
    level: int
    goal: int
    proxy_goal: int
    distinguishing: bool


@dataclass(frozen=True)
class Spawned(Event):
    """A parent handed work to a child.

    sub_episode, parent: numbers within the row; 0 is the episode itself
    name: the live agent's name, new at every spawn; child: its name in the crew
    budget: environment steps it may use; path_clock: surviving steps at this moment
    """

    kind = "spawned"
    sub_episode: int
    parent: int
    depth: int
    name: str
    child: str
    goal: int
    budget: int
    path_clock: int


@dataclass(frozen=True)
class Alarm(Event):
    """The watching monitor's running value went above its threshold.

    named: the most probable landmark, where the monitor names one; named_probability: its
    probability
    """

    kind = "alarm"
    sub_episode: int
    monitor: str
    value: float
    threshold: float
    named: str | None = None
    named_probability: float | None = None


@dataclass(frozen=True)
class Audited(Event):
    """Somebody who can tell looked at a sub-episode.

    finding: True if the child was pursuing the proxy
    """

    kind = "audited"
    sub_episode: int
    finding: bool


@dataclass(frozen=True)
class Ended(Event):
    """A sub-episode is over: returned, timed_out, interrupted or failed.

    steps: environment steps paid inside it, its descendants' included
    intent: what the child pursued (intended, proxy, none, unknown)
    value, peak: last and highest running value of the arm's monitor, None if unscored
    cause: what went wrong, of one that failed
    """

    kind = "ended"
    sub_episode: int
    outcome: str
    steps: int
    intent: str
    intended_reached: bool
    proxy_reached: bool
    value: float | None
    peak: float | None
    cause: str | None = None


@dataclass(frozen=True)
class Verdict(Event):
    """What the parent made of a sub-episode: committed, rolled_back or escalated.

    undone_steps: path steps taken back; restored_clock: path clock afterwards
    within: the rolled-back sub-episode that took this one with it, None otherwise
    """

    kind = "verdict"
    sub_episode: int
    verdict: str
    undone_steps: int
    restored_clock: int
    within: int | None


@dataclass(frozen=True)
class Effect(Event):
    """Irreversible effects that remained after a rollback.

    effect: the world's name for them; count: how many were left behind
    """

    kind = "effect"
    sub_episode: int
    effect: str
    count: int


@dataclass(frozen=True)
class Refused(Event):
    """An agent asked for what its bounds do not allow and was stopped."""

    kind = "refused"
    sub_episode: int
    reason: str


@dataclass(frozen=True)
class RestoreChecked(Event):
    """A rolled-back sub-episode was replayed from its snapshot.

    equal: every state, reward and ending was the same
    """

    kind = "restore_checked"
    sub_episode: int
    equal: bool


@dataclass(frozen=True)
class EpisodeEnded(Event):
    """A row is over: terminated, truncated, out_of_budget, stopped or failed.

    *_reached: on the surviving path; *_return: discounted by the interaction clock
    """

    kind = "episode_ended"
    outcome: str
    intended_reached: bool
    proxy_reached: bool
    true_return: float
    proxy_return: float
    env_steps: int
    undone_steps: int
    restores: int
    spawns: int
    path_clock: int


KINDS: dict[str, type[Event]] = {
    event.kind: event
    for event in (
        EpisodeStarted,
        Spawned,
        Alarm,
        Audited,
        Ended,
        Verdict,
        Effect,
        Refused,
        RestoreChecked,
        EpisodeEnded,
    )
}


_ENCODER = json.JSONEncoder(allow_nan=False)

Part = tuple[type[Event], int, dict[str, Any]]
"""events of one kind that were added together: how many, and their fields as arrays or scalars"""


class EventLog:
    """Events in the order they happened; they can be added, never changed or taken out.

    They are kept as arrays, and are made objects or lines of text when they are asked for.
    """

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._count = 0

    def append(self, event: Event) -> None:
        """Add one event at the end."""
        self._parts.append((type(event), 1, vars(event)))
        self._count += 1

    def add(self, kind: type[Event], row: np.ndarray, clock: np.ndarray, **columns: Any) -> None:
        """Add one event for each of those rows. row, clock: int [n] · columns: [n], or one for all

        In a field that may be None, NaN, the integer -1 and the empty string stand for it.
        """
        if len(row):
            fields = {"row": row, "clock": clock, **columns}
            self._parts.append((kind, len(row), fields))
            self._count += len(row)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Event]:
        for kind, count, columns in self._parts:
            lists = [_listed(kind, name, columns[name], count) for name in _fields(kind, columns)]
            for values in zip(*lists, strict=True):
                yield kind(*values)

    def records(self) -> Iterator[dict[str, Any]]:
        """Each event as a plain dict with its `seq` and `kind`."""
        seq = 0
        for kind, count, columns in self._parts:
            names = _fields(kind, columns)
            lists = [_listed(kind, name, columns[name], count) for name in names]
            for values in zip(*lists, strict=True):
                yield {"seq": seq, "kind": kind.kind, **dict(zip(names, values, strict=True))}
                seq += 1

    def to_jsonl(self) -> str:
        """The log as text, one JSON object a line.

        Raises ValueError naming the event that holds a number which is not finite.
        """
        return "".join(map(self._line, self.records()))

    @staticmethod
    def _line(record: dict[str, Any]) -> str:
        try:
            return _ENCODER.encode(record) + "\n"
        except ValueError:
            raise ValueError(
                f"event {record['seq']}, {record['kind']} of row {record['row']}: holds a number "
                "that is not finite; give finite rewards and thresholds"
            ) from None

    @classmethod
    def from_jsonl(cls, lines: Iterable[str]) -> EventLog:
        """Read what `to_jsonl` wrote. Raises ValueError naming the line that is wrong."""
        log = cls()
        for number, line in enumerate(lines):
            try:
                record = parse_json(line)
                if record.pop("seq") != number:
                    raise ValueError("out of sequence")
                log.append(KINDS[record.pop("kind")](**record))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"event log line {number + 1} is not an event ({error}); redo the trial"
                ) from error
        return log


def _fields(kind: type[Event], columns: Mapping[str, Any]) -> list[str]:
    """Names of the fields in order, less those at the end that were left out."""
    return [name for name in kind.__dataclass_fields__ if name in columns]


def _listed(kind: type[Event], name: str, column: Any, count: int) -> list[Any]:
    if not isinstance(column, np.ndarray):
        return [column] * count
    values: list[Any] = column.tolist()
    if "None" in str(kind.__dataclass_fields__[name].type):
        nothing = {"i": -1, "U": ""}
        floats = column.dtype.kind == "f"
        absent = np.isnan(column) if floats else column == nothing[column.dtype.kind]
        return [None if no else value for no, value in zip(absent.tolist(), values, strict=True)]
    return values
