"""Show one sub-episode again, from its log alone: in the terminal or as a GIF.

A sub-episode is named `<arm>/<seed>/<row>.<number>`, as in `rollback/0/217.2`; number 0 is the
whole episode.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from delegate.delegation.events import Alarm, Ended, EpisodeEnded, Event, EventLog, Spawned, Verdict
from delegate.drawing import Map
from delegate.files import parse_json
from delegate.safety.logs import DamagedTrial, Trial, load_trial, read_drawing

ID_FORMAT = "<arm>/<seed>/<row>.<number>"
MAX_FRAMES = 1_000
"""longer sub-episodes are shown in larger strides"""

_ID = re.compile(
    r"(?P<arm>(?:alone:)?[a-z0-9][a-z0-9_-]{0,63})/(?P<seed>[0-9]{1,10})"
    r"/(?P<row>[0-9]{1,9})\.(?P<number>[0-9]{1,5})"
)
_MOVES = "↑→↓←"
_GLYPHS = {
    "goal": ("G ", "bold green"),
    "proxy": ("P ", "bold magenta"),
    "wall": ("██", "bright_black"),
    "trap": ("x ", "yellow"),
}
"""what stands in a cell of that role, and its style"""

E = TypeVar("E", bound=Event)


class UnknownSubEpisode(LookupError):
    """No sub-episode of the run has that id; the message says which do."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Replay:
    """One sub-episode as it was played, its descendants' steps included.

    drawing: of its level, as Bank.drawing gives it
    places: float [T, 2, 2] where each step began and ended in it, as x and y
    clock: int [T] steps paid before each · action: [T, ...]
    value: float [T] the monitor's running value, NaN where unscored
    alarm: steps paid when it had gone above `threshold`, None if it never did
    heading: where the monitor thinks it is going after each step, "" where it names nothing
    """

    id: str
    who: str
    ending: str
    drawing: Mapping[str, Any]
    places: np.ndarray
    clock: np.ndarray
    action: np.ndarray
    monitor: str | None
    value: np.ndarray
    threshold: float | None
    alarm: int | None
    heading: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def map(self) -> Map:
        """The drawing in cells."""
        return Map(self.drawing)

    @cached_property
    def cells(self) -> np.ndarray:
        """Cells of the map where each step began and ended: int [T, 2]."""
        return self.map.cells(self.places.reshape(-1, 2)).reshape(-1, 2)


@dataclass(frozen=True)
class Frame:
    """One picture: where the agent stands after `step` steps and where it has been.

    step: 0 is the start · place: x and y in the drawing · agent, trail: cells of the map
    alarmed: the alarm has been raised by now
    """

    step: int
    place: tuple[float, float]
    agent: int
    trail: frozenset[int]
    alarmed: bool
    caption: str


def load(run: Path, sub_episode: str) -> Replay:
    """Read one sub-episode of a run folder.

    Raises UnknownSubEpisode, with some ids that exist, and DamagedTrial.
    """
    match = _ID.fullmatch(sub_episode)
    if match is None:
        raise UnknownSubEpisode(
            f"{sub_episode!r} is not a sub-episode; write {ID_FORMAT}{_examples(run)}"
        )
    folder = run / "trials" / match["arm"].replace(":", "-") / match["seed"]
    if not folder.is_dir():
        raise UnknownSubEpisode(
            f"{sub_episode}: the run has no trial {match['arm']}/{match['seed']}{_examples(run)}"
        )
    trial = load_trial(folder)
    row, number = int(match["row"]), int(match["number"])
    if row >= len(trial.levels["split"]):
        last = len(trial.levels["split"]) - 1
        raise UnknownSubEpisode(f"{sub_episode}: rows go from 0 to {last}{_examples(run)}")
    numbers = _with_descendants(trial, row, number)
    if number and number not in {e.sub_episode for e in _events(trial, row, Spawned)}:
        last = len(_events(trial, row, Spawned))
        raise UnknownSubEpisode(
            f"{sub_episode}: row {row} has sub-episodes 0 to {last}{_examples(run)}"
        )
    chosen = (trial.steps["row"] == row) & np.isin(trial.steps["sub_episode"], numbers)
    index = np.flatnonzero(chosen)
    index = index[np.argsort(trial.steps["clock"][index], kind="stable")]
    if not len(index):
        raise UnknownSubEpisode(f"{sub_episode}: took no step{_examples(run)}")
    monitor = _monitor(trial)
    clock = trial.steps["clock"][index]
    alarms = [e.clock for e in _events(trial, row, Alarm) if e.sub_episode == number]
    return Replay(
        id=sub_episode,
        who=_who(trial, row, number),
        ending=_ending(trial, row, number),
        drawing=read_drawing(folder, row),
        places=_places(trial, index),
        clock=clock,
        action=trial.steps["action"][index],
        monitor=monitor,
        value=_watched(trial, row, number, f"value/{monitor}", clock),
        heading=_headings(trial, row, number, monitor, clock),
        threshold=trial.calibration[monitor].threshold if monitor else None,
        alarm=min(alarms, default=None),
    )


def sub_episode_ids(run: Path, limit: int = 20) -> list[str]:
    """Up to `limit` ids of a run's delegations, rolled-back ones first; unreadable trials are
    passed over. Raises UnknownSubEpisode if `run` holds no trials.
    """
    folders = sorted((run / "trials").glob("*/*/trial.json"))
    if not folders:
        raise UnknownSubEpisode(f"{run}: holds no finished trial; name the folder of a run")
    rolled_back: list[str] = []
    others: list[str] = []
    for folder in (path.parent for path in folders):
        try:
            text = (folder / "events.jsonl").read_text(encoding="utf-8")
            log = list(EventLog.from_jsonl(text.splitlines()))
        except (OSError, ValueError):
            continue
        undone = {
            (e.row, e.sub_episode)
            for e in log
            if isinstance(e, Verdict) and e.verdict == "rolled_back"
        }
        for event in log:
            if isinstance(event, Spawned):
                where = (event.row, event.sub_episode)
                name = f"{folder.parent.name}/{folder.name}/{event.row}.{event.sub_episode}"
                (rolled_back if where in undone else others).append(name)
        if len(rolled_back) >= limit:
            break
    return (rolled_back + others)[:limit]


def frames(replay: Replay) -> Iterator[Frame]:
    """The pictures in order, at most `MAX_FRAMES` and always the first and the last."""
    last = len(replay)
    stride = -(-last // (MAX_FRAMES - 1))
    trail: set[int] = set()
    for step in range(last + 1):
        agent = int(replay.cells[0, 0] if step == 0 else replay.cells[step - 1, 1])
        if step:
            trail.add(int(replay.cells[step - 1, 0]))
        if step % stride and step != last:
            continue
        paid = replay.clock[step - 1] + 1 if step else replay.clock[0]
        alarmed = replay.alarm is not None and bool(paid >= replay.alarm)
        x, y = replay.places[0, 0] if step == 0 else replay.places[step - 1, 1]
        caption = _caption(replay, step, alarmed)
        yield Frame(step, (float(x), float(y)), agent, frozenset(trail), alarmed, caption)


def show(replay: Replay, console: Console, frames_per_second: float = 12.0) -> None:
    """Animate in a terminal; anywhere else print one map with the whole way on it."""
    console.print(f"{replay.id}  {replay.who}", markup=False, highlight=False)
    if not console.is_terminal:
        *_, final = frames(replay)
        console.print(draw(replay, final), highlight=False)
        if replay.action.ndim == 1:
            way = "".join(_MOVES[a] if 0 <= a < len(_MOVES) else "?" for a in replay.action)
            console.print(f"moves {way}", markup=False, highlight=False, soft_wrap=True)
        console.print(replay.ending, markup=False, highlight=False)
        return
    with Live(console=console, auto_refresh=False) as live:
        for frame in frames(replay):
            live.update(draw(replay, frame), refresh=True)
            time.sleep(1 / frames_per_second)
    console.print(replay.ending, markup=False, highlight=False)


def draw(replay: Replay, frame: Frame) -> Text:
    """The map as text, two characters a cell, and the caption below it."""
    height, width = replay.map.shape
    text = Text(no_wrap=True)
    for row, column in itertools.product(range(height), range(width)):
        role = str(replay.map.roles[row, column])
        text.append(*_glyph(frame, row * width + column, role))
        if column == width - 1:
            text.append("\n")
    text.append("@ agent  G goal  P proxy  · been here\n", style="dim")
    text.append(frame.caption, style="bold red" if frame.alarmed else "bold")
    return text


def _glyph(frame: Frame, cell: int, role: str) -> tuple[str, str]:
    if cell == frame.agent:
        return "@ ", "bold red" if frame.alarmed else "bold cyan"
    if role in _GLYPHS:
        return _GLYPHS[role]
    return ("· ", "red" if frame.alarmed else "cyan") if cell in frame.trail else ("  ", "")


def _caption(replay: Replay, step: int, alarmed: bool) -> str:
    parts = [f"step {step} of {len(replay)}"]
    if replay.monitor and step and np.isfinite(value := replay.value[step - 1]):
        limit = "" if replay.threshold is None else f", alarm above {replay.threshold:.2f}"
        parts.append(f"{replay.monitor} {value:.2f}{limit}")
    if step and replay.heading and replay.heading[step - 1]:
        parts.append(f"heading for: {replay.heading[step - 1]}")
    if alarmed:
        parts.append("ALARM")
    return " · ".join(parts)


def _events(trial: Trial, row: int, kind: type[E]) -> list[E]:
    return [e for e in trial.events if e.row == row and isinstance(e, kind)]


def _with_descendants(trial: Trial, row: int, number: int) -> list[int]:
    """`number` and everything spawned below it; a child's number is above its parent's."""
    numbers = [number]
    for event in _events(trial, row, Spawned):
        if event.parent in numbers:
            numbers.append(event.sub_episode)
    return numbers


def _monitor(trial: Trial) -> str | None:
    """Whose values to show: the arm's own monitor, else reach, else the first there is."""
    named = [m for m in (trial.monitor, "reach", *trial.monitors) if m in trial.monitors]
    return named[0] if named else None


def _places(trial: Trial, index: np.ndarray) -> np.ndarray:
    """Where those steps began and ended: float [T, 2, 2]."""
    if "place" not in trial.steps:
        raise DamagedTrial(
            trial.folder / "steps.npz", "has no column place; redo the trial with this version"
        )
    return np.stack([trial.steps[name][index] for name in ("place", "next_place")], axis=1)


def _headings(
    trial: Trial, row: int, number: int, monitor: str | None, clock: np.ndarray
) -> tuple[str, ...]:
    """Landmark and probability at each of those clocks, where the monitor names one."""
    names = [*_landmarks(trial), "the assigned goal"]
    named = _watched(trial, row, number, f"named/{monitor}", clock)
    chance = _watched(trial, row, number, f"named_probability/{monitor}", clock)
    return tuple(
        "" if np.isnan(place) or place >= len(names) else f"{names[int(place)]}, {share:.2f}"
        for place, share in zip(named, chance, strict=True)
    )


def _landmarks(trial: Trial) -> list[str]:
    """The names that `named` counts in."""
    record = parse_json((trial.folder / "calibration.json").read_text(encoding="utf-8"))
    return [str(name) for name in record.get("landmarks", [])]


def _watched(trial: Trial, row: int, number: int, name: str, clock: np.ndarray) -> np.ndarray:
    """A column of the table of scores at each of those clocks, NaN where it says nothing."""
    values = np.full(len(clock), np.nan)
    if name not in trial.watch:
        return values
    mine = (trial.watch["row"] == row) & (trial.watch["sub_episode"] == number)
    watched, value = trial.watch["clock"][mine], trial.watch[name][mine]
    if len(watched):
        order = np.argsort(watched, kind="stable")
        place = np.searchsorted(watched[order], clock).clip(max=len(watched) - 1)
        same = watched[order][place] == clock
        values[same] = value[order][place][same]
    return values


def _who(trial: Trial, row: int, number: int) -> str:
    if number == 0:
        return "the whole episode"
    spawned = next(e for e in _events(trial, row, Spawned) if e.sub_episode == number)
    return f"{spawned.name}, sent to goal {spawned.goal} with {spawned.budget} steps"


def _ending(trial: Trial, row: int, number: int) -> str:
    if number == 0:
        return "; ".join(
            f"{e.outcome}, {e.undone_steps} of {e.env_steps} steps undone, intended goal "
            f"{'reached' if e.intended_reached else 'missed'}"
            for e in _events(trial, row, EpisodeEnded)
        )
    ended = [e for e in _events(trial, row, Ended) if e.sub_episode == number]
    verdicts = [e for e in _events(trial, row, Verdict) if e.sub_episode == number]
    words = [f"{e.outcome}, pursued {e.intent}" for e in ended]
    words += [
        e.verdict.replace("_", " ") + (f", {e.undone_steps} steps undone" if e.undone_steps else "")
        for e in verdicts
    ]
    return "; ".join(words) or "never ended"


def _examples(run: Path) -> str:
    """Some ids to choose from, or nothing when the run has none."""
    try:
        ids = sub_episode_ids(run, limit=3)
    except UnknownSubEpisode as error:
        return f"\n{error}"
    return f", for example {', '.join(ids)}" if ids else ""
