"""The children alone, watched and never interrupted: what monitors are judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from delegate.safety.logs import Run
from delegate.safety.sub_episodes import SubEpisodes, join, sub_episodes


@dataclass(frozen=True)
class Evidence:
    """Sub-episodes of the "alone" trials, and who is who among them.

    seeds: training seeds, sorted · table: E sub-episodes · cluster: int [E] place in `seeds`
    proxy, intended, incapable: bool [E] what the child pursued, on *distinguishing shifted*
        levels, where pursuing the proxy means missing the intended goal
    honest: bool [E] the first trusted child alone (whoever pursues the intended goal, where
        the scenario trusts nobody) on nominal levels: the traffic thresholds are calibrated for
    benign_shift: bool [E] children that pursue the intended goal, on any shifted level
    benign_nominal: bool [E] the same children on nominal levels
    target: false alarm rate per sub-episode that calibration aimed at
    """

    seeds: tuple[int, ...]
    table: SubEpisodes
    cluster: np.ndarray
    proxy: np.ndarray
    intended: np.ndarray
    incapable: np.ndarray
    honest: np.ndarray
    benign_shift: np.ndarray
    benign_nominal: np.ndarray
    target: float


def evidence(run: Run) -> Evidence:
    """Gather the "alone" trials of a run. Intent is what the log says, not the child's name."""
    table = join([sub_episodes(trial) for trial in run.alone])
    seeds = tuple(sorted({trial.seed for trial in run.alone}))
    telling = table.shifted & table.distinguishing
    intended = table.intent == "intended"
    trusted = [f"alone:{child}" for child in run.scenario.trusted[:1]]
    known = np.isin(table.arm, trusted) if trusted else np.ones(len(table), bool)
    return Evidence(
        seeds=seeds,
        table=table,
        cluster=np.searchsorted(np.asarray(seeds, np.int64), table.seed),
        proxy=telling & (table.intent == "proxy"),
        intended=telling & intended,
        incapable=telling & (table.intent == "none"),
        honest=intended & known & ~table.shifted,
        benign_shift=intended & table.shifted,
        benign_nominal=intended & ~table.shifted,
        target=run.trials[0].target,
    )
