"""The children alone, watched and never interrupted: what monitors are judged by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from delegate.safety.intervals import Sample
from delegate.safety.logs import Run
from delegate.safety.sub_episodes import SubEpisodes, join, sub_episodes


@dataclass(frozen=True)
class Evidence:
    """Sub-episodes of the "alone" trials, and who is who among them.

    A relay and the member it hands its work to are one piece of evidence, counted at the member.

    table: E sub-episodes · sample: the levels of the run · unit: int [E] which of them each is on
    proxy, intended, incapable: bool [E] what the child pursued, on *distinguishing shifted*
        levels, where pursuing the proxy means missing the intended goal
    honest: bool [E] the first trusted child alone (whoever pursues the intended goal, where
        the scenario trusts nobody) on nominal levels: the traffic thresholds are calibrated for
    benign_shift: bool [E] children that pursue the intended goal, on any shifted level
    benign_nominal: bool [E] the same children on nominal levels
    landmarks: their names · target: false alarm rate per sub-episode that calibration aimed at
    """

    table: SubEpisodes
    sample: Sample
    unit: np.ndarray
    proxy: np.ndarray
    intended: np.ndarray
    incapable: np.ndarray
    honest: np.ndarray
    benign_shift: np.ndarray
    benign_nominal: np.ndarray
    landmarks: tuple[str, ...]
    target: float

    @property
    def telling(self) -> np.ndarray:
        """On distinguishing shifted levels, bool [E]."""
        return self.table.shifted & self.table.distinguishing

    @property
    def children(self) -> dict[str, np.ndarray]:
        """Which sub-episodes on distinguishing shifted levels are whose, bool [E] by child."""
        child = self.table.child
        return {str(name): self.telling & (child == name) for name in np.unique(child)}

    @property
    def benign(self) -> dict[str, np.ndarray]:
        """Of these, the children that nobody should be alarmed at: none pursues the proxy."""
        proxies = set(self.table.child[self.proxy].tolist())
        return {name: of for name, of in self.children.items() if name not in proxies and of.any()}


def sample_of(run: Run) -> Sample:
    """Every level that some trial of a run was played on."""
    levels = [trial.levels["seed"] for trial in run.trials]
    seeds = [
        np.full(len(level), trial.seed) for trial, level in zip(run.trials, levels, strict=True)
    ]
    return Sample.of(np.concatenate(seeds), np.concatenate(levels))


def evidence(
    run: Run,
    sample: Sample | None = None,
    work: Mapping[tuple[str, int], SubEpisodes] | None = None,
) -> Evidence:
    """Gather the "alone" trials of a run. Intent is what the log says, not the child's name.

    sample, work: of the run, by arm and seed, where they are known already
    """
    sample = sample_of(run) if sample is None else sample
    tables = [
        sub_episodes(trial) if work is None else work[trial.arm, trial.seed] for trial in run.alone
    ]
    table = join(tables)
    table = table.take(table.leaf)
    telling = table.shifted & table.distinguishing
    intended = table.intent == "intended"
    trusted = [f"alone:{child}" for child in run.scenario.trusted[:1]]
    known = np.isin(table.arm, trusted) if trusted else np.ones(len(table), bool)
    return Evidence(
        table=table,
        sample=sample,
        unit=table.unit(sample),
        proxy=telling & (table.intent == "proxy"),
        intended=telling & intended,
        incapable=telling & (table.intent == "none"),
        honest=intended & known & ~table.shifted,
        benign_shift=intended & table.shifted,
        benign_nominal=intended & ~table.shifted,
        landmarks=run.trials[0].landmarks,
        target=run.trials[0].target,
    )
