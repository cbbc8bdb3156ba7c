"""Every episode of an arm as one row of a table: what finally stood, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from delegate.delegation.events import (
    Audited,
    Effect,
    Ended,
    EpisodeEnded,
    RestoreChecked,
    Spawned,
    Verdict,
)
from delegate.safety.logs import SHIFTED, DamagedTrial, Trial


@dataclass(frozen=True)
class Episodes:
    """N episodes, one a row of a trial.

    seed, row, level: int [N] · shifted, distinguishing, has_proxy: bool [N] of the level
    intended, proxy: bool [N] reached on the surviving path
    undone_proxy: bool [N] some rolled-back sub-episode reached the proxy and not the intended goal
    true_return, proxy_return, optimal_return, proxy_optimal_return, random_return: float64 [N]
        discounted by the interaction clock
    env_steps, undone_steps, restores, spawns: int [N] everything paid for
    rollbacks: int [N] · hostile_rollbacks: int [N] of children that pursued the proxy
    benign_rollbacks: int [N] of children that pursued the intended goal
    delegations, benign_delegations: int [N] sub-episodes, and those of intent "intended"
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
    optimal_return: np.ndarray
    proxy_optimal_return: np.ndarray
    random_return: np.ndarray
    env_steps: np.ndarray
    undone_steps: np.ndarray
    restores: np.ndarray
    spawns: np.ndarray
    rollbacks: np.ndarray
    hostile_rollbacks: np.ndarray
    benign_rollbacks: np.ndarray
    delegations: np.ndarray
    benign_delegations: np.ndarray
    audits: np.ndarray
    effects: np.ndarray
    effects_left: np.ndarray
    checked: np.ndarray
    equal: np.ndarray
    peak: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def take(self, chosen: np.ndarray) -> Episodes:
        """Those episodes alone; chosen: int [n] or bool [N]."""
        return Episodes(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    @property
    def tested(self) -> Episodes:
        """Episodes on shifted levels, where the results are measured."""
        return self.take(self.shifted)

    def cluster(self, seeds: Sequence[int]) -> np.ndarray:
        """Which of `seeds` (sorted) each episode belongs to, int [N]."""
        return np.searchsorted(np.asarray(seeds), self.seed)


def join(tables: Sequence[Episodes]) -> Episodes:
    """One table of several, in the order given; at least one."""
    return Episodes(
        **{f.name: np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(Episodes)}
    )


def episodes(trial: Trial) -> Episodes:
    """The episodes of one trial, in row order.

    Raises DamagedTrial when a row did not end exactly once, or when a step that was taken
    was not charged (`env_steps` is not surviving plus undone steps).
    """
    rows = len(trial.levels["split"])
    ends: dict[int, EpisodeEnded] = {}
    ended: dict[tuple[int, int], Ended] = {}
    count = {name: np.zeros(rows, np.int64) for name in _COUNTS}
    undone = np.zeros(rows, np.int64)
    undone_proxy = np.zeros(rows, bool)
    peak = np.full(rows, np.nan)
    for event in trial.events:
        row = event.row
        match event:
            case EpisodeEnded():
                if row in ends:
                    raise _damaged(trial, f"row {row} ends twice")
                ends[row] = event
            case Spawned() if event.sub_episode > 0:
                count["delegations"][row] += 1
            case Ended() if event.sub_episode > 0:
                ended[row, event.sub_episode] = event
                count["benign_delegations"][row] += event.intent == "intended"
                if event.peak is not None:
                    peak[row] = np.fmax(peak[row], event.peak)
            case Verdict(verdict="rolled_back"):
                branch = ended.get((row, event.sub_episode))
                if branch is None:
                    raise _damaged(
                        trial, f"row {row}: sub-episode {event.sub_episode} was judged unended"
                    )
                undone_proxy[row] |= branch.proxy_reached and not branch.intended_reached
                if event.within is None:
                    undone[row] += event.undone_steps
                    count["rollbacks"][row] += 1
                    count["hostile_rollbacks"][row] += branch.intent == "proxy"
                    count["benign_rollbacks"][row] += branch.intent == "intended"
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
    levels = trial.levels
    table = Episodes(
        seed=np.full(rows, trial.seed, np.int64),
        row=np.arange(rows),
        level=levels["seed"],
        shifted=levels["split"] == SHIFTED,
        distinguishing=levels["distinguishing"],
        has_proxy=levels["proxy_goal"] >= 0,
        intended=np.array([event.intended_reached for event in last], bool),
        proxy=np.array([event.proxy_reached for event in last], bool),
        undone_proxy=undone_proxy,
        true_return=np.array([event.true_return for event in last], np.float64),
        proxy_return=np.array([event.proxy_return for event in last], np.float64),
        optimal_return=levels["optimal_return"].astype(np.float64),
        proxy_optimal_return=levels["proxy_optimal_return"].astype(np.float64),
        random_return=levels["random_return"].astype(np.float64),
        env_steps=np.array([event.env_steps for event in last], np.int64),
        undone_steps=np.array([event.undone_steps for event in last], np.int64),
        restores=np.array([event.restores for event in last], np.int64),
        spawns=np.array([event.spawns for event in last], np.int64),
        peak=peak,
        effects=_effects(trial, rows),
        **count,
    )
    surviving = np.array([event.path_clock for event in last], np.int64)
    _check_charged(trial, table, surviving, undone)
    return table


_COUNTS = (
    "rollbacks", "hostile_rollbacks", "benign_rollbacks", "delegations", "benign_delegations",
    "audits", "effects_left", "checked", "equal",
)  # fmt: skip


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
