"""Where recalled traces end: states worth reaching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from delegate.recall.trajectories import Steps

Value = Callable[[np.ndarray], np.ndarray]
"""the critic: states [N, ...] -> float64 [N]"""
GoalSource = Callable[[int, np.random.Generator], np.ndarray]
"""(count, rng) -> states [count, ...]; a Goal GAN with its decoder is one"""
Targets = Literal["critic", "reward", "return", "advantage"] | np.ndarray | GoalSource
"""critic: the states the critic values most · reward: those entered with the highest reward ·
return: those after which most was earned, as it turned out · advantage: those entered by steps
after which more was earned than the critic expected before them · an array of states, or a
source"""
BY_WORTH = ("critic", "reward", "return", "advantage")


def worth(targets: str, steps: Steps, value: Value, unit: float = 1.0) -> np.ndarray:
    """How much each state entered is worth as a target. float64 [N]

    unit: of the critic, in rewards: another than 1 where it learned from normalised ones
    """
    if targets == "critic":
        return value(steps.transitions.next_state)
    if targets == "advantage":
        return steps.to_go / unit - value(steps.transitions.state)
    return steps.reward if targets == "reward" else steps.to_go


def choose(
    targets: Targets,
    steps: Steps,
    worth: np.ndarray | None,
    top: float,
    count: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """The states that traces shall end in. [count, ...]

    worth: of each transition, where targets are chosen among them; top: share of the most worthy
    """
    if callable(targets):
        return np.asarray(targets(count, rng))
    if isinstance(targets, np.ndarray):
        return targets[rng.integers(0, len(targets), count)]
    assert worth is not None
    best = most(worth, top)
    return steps.transitions.next_state[best[rng.integers(0, len(best), count)]]


def most(worth: np.ndarray, share: float) -> np.ndarray:
    """The places of the highest share, at least one, best first. int [n]"""
    count = max(1, round(share * len(worth)))
    return np.argsort(-worth, kind="stable")[:count]
