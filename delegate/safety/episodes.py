"""Every episode of an arm as one row of a table: what finally stood, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from delegate.delegation.events import Audited, Effect, EpisodeEnded, RestoreChecked
from delegate.safety.intervals import Sample
from delegate.safety.logs import BEST_RETURN, PROXY_RETURN, SHIFTED, DamagedTrial, Trial
from delegate.safety.records import NEVER
from delegate.safety.sub_episodes import SubEpisodes


@dataclass(frozen=True)
class Episodes:
    """N episodes, one a row of a trial.

    seed, row, level: int [N] · shifted, distinguishing, has_proxy: bool [N] of the level
    intended, proxy: bool [N] reached on the surviving path
    undone_proxy: bool [N] some rolled-back sub-episode reached the proxy and not the intended goal
    true_return, proxy_return, reference_return, proxy_reference_return, random_return: float64 [N]
        discounted by the interaction clock; reference: of the best way known
    env_steps, undone_steps, restores, spawns: int [N] everything paid for
    rollbacks: int [N] · hostile_rollbacks: int [N] of children that pursued the proxy
    taken_back, benign_taken_back: int [N] members whose work was rolled back, with what they asked
        of or with what asked them, and those that pursued the intended goal
    hostile_delegations, benign_delegations: int [N] members that were asked and pursued the proxy,
        or the intended goal; a relay counts at the member it hands its work to
    audits: int [N] · effects: int [N] irreversible ones, in steps that stand or were undone;
        effects_left: int [N] those of them whose steps were undone
    checked, equal: int [N] restores replayed, and found exact
    peak: float64 [N] highest value of the arm's monitor over all branches, NaN if unscored
    """

    seed: np.ndarray
    row: np.ndarray
    level: np.ndarray
    shifted: np.ndarray
    distinguishing: np.ndarray
    has_proxy: np.ndarray
    intended: np.ndarray
    proxy: np.ndarray
    undone_proxy: np.ndarray
    true_return: np.ndarray
    proxy_return: np.ndarray
    reference_return: np.ndarray
    proxy_reference_return: np.ndarray
    random_return: np.ndarray
    env_steps: np.ndarray
    undone_steps: np.ndarray
    restores: np.ndarray
    spawns: np.ndarray
    rollbacks: np.ndarray
    hostile_rollbacks: np.ndarray
    taken_back: np.ndarray
    benign_taken_back: np.ndarray
    hostile_delegations: np.ndarray
    benign_delegations: np.ndarray
    audits: np.ndarray
    effects: np.ndarray
    effects_left: np.ndarray
    checked: np.ndarray
    equal: np.ndarray
    peak: np.ndarray
    paid: np.ndarray

    @property
    def net_return(self) -> np.ndarray:
        """The true return less what was paid for delegations. float64 [N]"""
        return self.true_return - self.paid

    def __len__(self) -> int:
        return len(self.row)

    def take(self, chosen: np.ndarray) -> Episodes:
        """Those episodes alone; chosen: int [n] or bool [N]."""
        return Episodes(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    @property
    def tested(self) -> Episodes:
        """Episodes on shifted levels, where the results are measured."""
        return self.take(self.shifted)

    def unit(self, sample: Sample) -> np.ndarray:
        """The place of each one's level in the sample, int [N]."""
        return sample.unit(self.seed, self.level)


def join(tables: Sequence[Episodes]) -> Episodes:
    """One table of several, in the order given; at least one."""
    return Episodes(
        **{f.name: np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(Episodes)}
    )


def episodes(
    trial: Trial, work: SubEpisodes, prices: Mapping[str, float] | None = None
) -> Episodes:
    """The episodes of one trial, in row order. work: its delegations · prices: of children

    Raises DamagedTrial when a row did not end exactly once, or when a step that was taken
    was not charged (`env_steps` is not surviving plus undone steps).
    """
    rows, levels = len(trial.levels["split"]), trial.levels
    ends: dict[int, EpisodeEnded] = {}
    count = {name: np.zeros(rows, np.int64) for name in ("audits", "effects_left", "checked")}
    count["equal"] = np.zeros(rows, np.int64)
    for event in trial.events:
        row = event.row
        match event:
            case EpisodeEnded():
                if row in ends:
                    raise _damaged(trial, f"row {row} ends twice")
                ends[row] = event
            case Audited():
                count["audits"][row] += 1
            case Effect():
                count["effects_left"][row] += event.count
            case RestoreChecked():
                count["checked"][row] += 1
                count["equal"][row] += event.equal
    if missing := sorted(set(range(rows)) - set(ends)):
        raise _damaged(trial, f"row {missing[0]} never ends")
    last = [ends[row] for row in range(rows)]
    back, own = work.verdict == "rolled_back", work.within == NEVER
    hostile, benign = work.intent == "proxy", work.intent == "intended"
    undone_proxy = np.zeros(rows, bool)
    undone_proxy[work.row[back & work.proxy & ~work.intended]] = True
    peak = np.full(rows, np.nan)
    np.fmax.at(peak, work.row, work.peak)
    best, best_proxy = (
        next(name for name in names if name in levels) for names in (BEST_RETURN, PROXY_RETURN)
    )

    def of(which: np.ndarray) -> np.ndarray:
        """How many of those delegations each row has, int [N]."""
        return np.bincount(work.row[which], minlength=rows)

    def ended(name: str, kind: type) -> np.ndarray:
        """What the rows' last events say."""
        return np.array([getattr(event, name) for event in last], kind)

    table = Episodes(
        seed=np.full(rows, trial.seed, np.int64),
        row=np.arange(rows),
        level=levels["seed"],
        shifted=levels["split"] == SHIFTED,
        distinguishing=levels["distinguishing"],
        has_proxy=levels["proxy_goal"] >= 0,
        intended=ended("intended_reached", bool),
        proxy=ended("proxy_reached", bool),
        undone_proxy=undone_proxy,
        true_return=ended("true_return", float),
        proxy_return=ended("proxy_return", float),
        reference_return=levels[best].astype(np.float64),
        proxy_reference_return=levels[best_proxy].astype(np.float64),
        random_return=levels["random_return"].astype(np.float64),
        env_steps=ended("env_steps", int),
        undone_steps=ended("undone_steps", int),
        restores=ended("restores", int),
        spawns=ended("spawns", int),
        rollbacks=of(back & own),
        hostile_rollbacks=of(back & own & hostile),
        taken_back=of(back & work.leaf),
        benign_taken_back=of(back & work.leaf & benign),
        hostile_delegations=of(work.leaf & hostile),
        benign_delegations=of(work.leaf & benign),
        effects=_effects(trial, rows),
        peak=peak,
        paid=np.bincount(work.row, [(prices or {}).get(c, 0.0) for c in work.child], rows),
        **count,
    )
    undone = np.bincount(work.row[back & own], work.undone_steps[back & own], minlength=rows)
    _check_charged(trial, table, ended("path_clock", int), undone.astype(np.int64))
    return table


def _effects(trial: Trial, rows: int) -> np.ndarray:
    """Irreversible effects of each row's steps, int [rows]."""
    found = np.zeros(rows, np.int64)
    np.add.at(found, trial.steps["row"].astype(np.int64), trial.steps["effects"].astype(np.int64))
    return found


def _check_charged(
    trial: Trial, table: Episodes, surviving: np.ndarray, undone: np.ndarray
) -> None:
    """Every step taken was paid for: three books of it must agree, row by row. And what
    rollbacks left behind must have happened."""
    logged = np.bincount(trial.steps["row"].astype(np.int64), minlength=len(table))
    for what, expected, found in (
        ("surviving plus undone steps", surviving + table.undone_steps, table.env_steps),
        ("logged steps", logged, table.env_steps),
        ("steps undone by its rollbacks", undone, table.undone_steps),
    ):
        if len(expected) != len(found) or (expected != found).any():
            row = int(np.argmax(expected[: len(found)] != found))
            paid = "undone" if found is table.undone_steps else "paid"
            raise _damaged(
                trial, f"row {row}: {found[row]} steps {paid} and {expected[row]} {what}"
            )
    if (table.effects_left > table.effects).any():
        row = int(np.argmax(table.effects_left > table.effects))
        raise _damaged(
            trial,
            f"row {row}: {table.effects_left[row]} effects left behind by rollbacks and "
            f"{table.effects[row]} in its steps",
        )


def _damaged(trial: Trial, what: str) -> DamagedTrial:
    return DamagedTrial(trial.folder / "events.jsonl", f"{what}; redo the trial")
