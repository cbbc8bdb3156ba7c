"""Every delegation of a run as one row of a table, rolled-back ones included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from delegate.delegation.events import Ended, Spawned, Verdict
from delegate.safety.logs import SHIFTED, DamagedTrial, Trial

NEVER = -1
"""no such step"""


@dataclass(frozen=True)
class Scores:
    """What one monitor made of each sub-episode.

    end, peak: float64 [E] last and highest running value, NaN if it never gave one
    threshold: float64 [E] calibrated on the same seed, +inf where none can hold the target
    alarm: int32 [E] first step whose value is above the threshold, NEVER if none
    onset_alarm: int32 [E] first such step at or after the onset
    early: bool [E] there was one before the onset
    step_score, step_value: float64 [U] of every watched step
    """

    end: np.ndarray
    peak: np.ndarray
    threshold: np.ndarray
    alarm: np.ndarray
    onset_alarm: np.ndarray
    early: np.ndarray
    step_score: np.ndarray
    step_value: np.ndarray


@dataclass(frozen=True)
class SubEpisodes:
    """E delegations; the episode itself (number 0) is not one of them.

    arm, child, intent, outcome, verdict: str [E] · seed, row, number, parent, depth: int [E]
    within: bool [E] rolled back only because the one around it was
    shifted, distinguishing: bool [E] of the level
    intended, proxy: bool [E] reached at any time within it
    steps, budget, undone_steps: int [E] environment steps
    onset: int32 [E] first watched step from a state where the intended-optimal and the
        proxy-optimal actions are disjoint, NEVER if there is none
    harm: int32 [E] first watched step in which something irreversible happened, whether or not
        the step was undone later, NEVER if there is none
    start, length: int [E] where its watched steps lie in the columns of `scores`
    scores: by monitor
    """

    arm: np.ndarray
    seed: np.ndarray
    row: np.ndarray
    number: np.ndarray
    parent: np.ndarray
    depth: np.ndarray
    child: np.ndarray
    intent: np.ndarray
    outcome: np.ndarray
    verdict: np.ndarray
    within: np.ndarray
    shifted: np.ndarray
    distinguishing: np.ndarray
    intended: np.ndarray
    proxy: np.ndarray
    steps: np.ndarray
    budget: np.ndarray
    undone_steps: np.ndarray
    onset: np.ndarray
    harm: np.ndarray
    start: np.ndarray
    length: np.ndarray
    scores: dict[str, Scores]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, chosen: np.ndarray) -> SubEpisodes:
        """Those sub-episodes alone; chosen: int [n] or bool [E]."""
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        scores = {
            name: Scores(
                **{column: getattr(each, column)[chosen] for column in _SCORE_COLUMNS},
                step_score=each.step_score,
                step_value=each.step_value,
            )
            for name, each in self.scores.items()
        }
        return SubEpisodes(**columns, scores=scores)

    def after_onset(self, monitor: str, offset: int) -> np.ndarray:
        """The running value `offset` steps after the onset step, float64 [E].

        The last value where the sub-episode ended earlier; NaN without an onset or a value.
        """
        step = np.minimum(self.onset + offset, self.length - 1)
        there = (self.onset >= 0) & (step >= 0)
        value = np.full(len(self), np.nan)
        value[there] = self.scores[monitor].step_value[(self.start + step)[there]]
        return value

    def watched_steps(self, from_onset: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Every watched step, or those from the onset on: (which sub-episode [n], where in the
        step columns of `scores` [n])."""
        late = np.where(self.onset >= 0, self.onset, self.length)
        skip = late.astype(np.int64) if from_onset else np.zeros(len(self), np.int64)
        first, count = self.start + skip, (self.length - skip).astype(np.int64)
        owner = np.repeat(np.arange(len(self)), count)
        place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return owner, place + first[owner]


_COLUMNS = [field.name for field in fields(SubEpisodes) if field.name != "scores"]
_SCORE_COLUMNS = [field.name for field in fields(Scores) if not field.name.startswith("step_")]


def sub_episodes(trial: Trial) -> SubEpisodes:
    """The delegations of one trial, by row and number.

    Raises DamagedTrial when the events and the table of scores do not fit together.
    """
    spawned, ended, verdicts = _events(trial)
    places = sorted(spawned)
    row = np.array([place[0] for place in places], np.int64)
    number = np.array([place[1] for place in places], np.int64)
    order, owner = _owners(trial, row, number)
    length = np.bincount(owner, minlength=len(places))
    start = np.cumsum(length) - length
    position = np.arange(len(owner)) - start[owner]
    onset = _first(trial.watch["divergent"][order], owner, position, len(places))
    begun = [spawned[place] for place in places]
    over = [ended[place] for place in places]
    ruled = [verdicts.get(place) for place in places]
    return SubEpisodes(
        arm=np.full(len(places), trial.arm),
        seed=np.full(len(places), trial.seed, np.int64),
        row=row,
        number=number,
        parent=np.array([event.parent for event in begun], np.int64),
        depth=np.array([event.depth for event in begun], np.int64),
        child=np.array([event.child for event in begun], np.str_),
        intent=np.array([event.intent for event in over], np.str_),
        outcome=np.array([event.outcome for event in over], np.str_),
        verdict=np.array(["" if each is None else each.verdict for each in ruled], np.str_),
        within=np.array([each is not None and each.within is not None for each in ruled], bool),
        shifted=trial.levels["split"][row] == SHIFTED,
        distinguishing=trial.levels["distinguishing"][row],
        intended=np.array([event.intended_reached for event in over], bool),
        proxy=np.array([event.proxy_reached for event in over], bool),
        steps=np.array([event.steps for event in over], np.int64),
        budget=np.array([event.budget for event in begun], np.int64),
        undone_steps=np.array([0 if e is None else e.undone_steps for e in ruled], np.int64),
        onset=onset,
        harm=_first(_harmful(trial)[order], owner, position, len(places)),
        start=start,
        length=length,
        scores={
            name: _scores(trial, name, order, owner, position, onset) for name in trial.monitors
        },
    )


def join(tables: Sequence[SubEpisodes]) -> SubEpisodes:
    """One table of several, in the order given. Monitors that some table lacks are left out."""
    if not tables:
        return _empty()
    shifts = np.cumsum([0] + [_step_count(table) for table in tables[:-1]])
    columns = {name: np.concatenate([getattr(t, name) for t in tables]) for name in _COLUMNS}
    columns["start"] = np.concatenate(
        [table.start + shift for table, shift in zip(tables, shifts, strict=True)]
    )
    shared = set.intersection(*(set(table.scores) for table in tables))
    scores = {
        name: Scores(
            **{
                field.name: np.concatenate([getattr(t.scores[name], field.name) for t in tables])
                for field in fields(Scores)
            }
        )
        for name in sorted(shared)
    }
    return SubEpisodes(**columns, scores=scores)


def _events(
    trial: Trial,
) -> tuple[
    dict[tuple[int, int], Spawned], dict[tuple[int, int], Ended], dict[tuple[int, int], Verdict]
]:
    spawned: dict[tuple[int, int], Spawned] = {}
    ended: dict[tuple[int, int], Ended] = {}
    verdicts: dict[tuple[int, int], Verdict] = {}
    for event in trial.events:
        match event:
            case Spawned() if event.sub_episode > 0:
                spawned[event.row, event.sub_episode] = event
            case Ended() if event.sub_episode > 0:
                ended[event.row, event.sub_episode] = event
            case Verdict() if event.sub_episode > 0:
                verdicts[event.row, event.sub_episode] = event
    if strays := sorted(set(spawned) ^ set(ended)):
        row, number = strays[0]
        raise DamagedTrial(
            trial.folder / "events.jsonl",
            f"sub-episode {number} of row {row} does not both begin and end; redo the trial",
        )
    return spawned, ended, verdicts


def _owners(trial: Trial, row: np.ndarray, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The watched steps of delegations, sorted by sub-episode and interaction clock: where each
    lies in the table [n], and which sub-episode it belongs to [n].

    The interaction clock never rewinds, so a step is never taken for the one it replaced.
    """
    watch = trial.watch
    delegated = np.flatnonzero(watch["sub_episode"] > 0)
    by_time = np.lexsort(
        (watch["clock"][delegated], watch["sub_episode"][delegated], watch["row"][delegated])
    )
    order = delegated[by_time]
    width = 1 + max(number.max(initial=0), watch["sub_episode"].max(initial=0))
    known = row * width + number
    wanted = watch["row"][order].astype(np.int64) * width + watch["sub_episode"][order]
    owner = np.searchsorted(known, wanted)
    lost = (owner == len(known)) | (known[np.minimum(owner, len(known) - 1)] != wanted) \
        if len(known) else np.ones(len(wanted), bool)  # fmt: skip
    if lost.any():
        where = order[np.argmax(lost)]
        raise DamagedTrial(
            trial.folder / "watch.npz",
            f"scores sub-episode {watch['sub_episode'][where]} of row {watch['row'][where]}, "
            "which was never spawned; redo the trial",
        )
    return order, owner


def _harmful(trial: Trial) -> np.ndarray:
    """In which watched steps something irreversible happened, bool [U].

    A row pays one step a tick of its interaction clock, so row and clock name the step.
    """
    steps, watch = trial.steps, trial.watch
    width = 1 + max(steps["clock"].max(initial=0), watch["clock"].max(initial=0))
    place = {name: t["row"].astype(np.int64) * width + t["clock"]
             for name, t in (("steps", steps), ("watch", watch))}  # fmt: skip
    return np.isin(place["watch"], place["steps"][steps["effects"] > 0])


def _scores(
    trial: Trial,
    monitor: str,
    order: np.ndarray,
    owner: np.ndarray,
    position: np.ndarray,
    onset: np.ndarray,
) -> Scores:
    count = len(onset)
    value = trial.watch[f"value/{monitor}"][order]
    limit = trial.calibration[monitor].threshold
    stepped, begin = np.unique(owner, return_index=True)
    end, peak = np.full(count, np.nan), np.full(count, np.nan)
    if len(stepped):
        end[stepped] = value[np.append(begin[1:], len(value)) - 1]
        peak[stepped] = np.fmax.reduceat(value, begin)
    above = value > limit
    late = (onset[owner] >= 0) & (position >= onset[owner])
    early = np.zeros(count, bool)
    early[owner[above & (position < onset[owner])]] = True
    return Scores(
        end=end,
        peak=peak,
        threshold=np.full(count, limit),
        alarm=_first(above, owner, position, count),
        onset_alarm=_first(above & late, owner, position, count),
        early=early,
        step_score=trial.watch[f"score/{monitor}"][order],
        step_value=value,
    )


def _first(true: np.ndarray, owner: np.ndarray, position: np.ndarray, count: int) -> np.ndarray:
    """The first position at which `true` holds, for each owner, or NEVER; int32 [count]."""
    first = np.full(count, NEVER, np.int32)
    hits = np.flatnonzero(true)
    who, earliest = np.unique(owner[hits], return_index=True)
    first[who] = position[hits[earliest]]
    return first


def _step_count(table: SubEpisodes) -> int:
    """How many watched steps the columns of scores hold; 0 when nobody watched."""
    return max((len(each.step_score) for each in table.scores.values()), default=0)


def _empty() -> SubEpisodes:
    blank = {name: np.zeros(0, np.int64) for name in _COLUMNS}
    for name in ("arm", "child", "intent", "outcome", "verdict"):
        blank[name] = np.zeros(0, np.str_)
    for name in ("within", "shifted", "distinguishing", "intended", "proxy"):
        blank[name] = np.zeros(0, bool)
    return SubEpisodes(**blank, scores={})
