"""What going back gives back, and the warning when it gives too much."""

from __future__ import annotations

import warnings

import numpy as np

SAMPLES = 128
"""steps watched before the cost of a step is judged from rewards alone"""


class FreeRefundWarning(UserWarning):
    """Backtracking is so cheap that stepping and undoing for ever beats solving the task."""


def refund(
    reward: np.ndarray, tick: np.ndarray, undone: np.ndarray, now: np.ndarray, gamma: float
) -> np.ndarray:
    """What to emit at `now` so that the undone rewards are as if never paid. float64 [n]

    reward: float64 [n, k] as emitted · tick: int64 [n, k] interaction clock of each
    undone: bool [n, k] which of them are taken back · now: int64 [n]
    gamma: 1 cancels the sum of rewards; below 1, their discounted sum
    """
    worth = np.where(undone, reward, 0.0)
    if gamma < 1:
        age = np.where(undone, now[:, None] - tick, 0)
        with np.errstate(over="ignore"):
            worth = worth * np.power(gamma, -age.astype(np.float64))
    return 0.0 - worth.sum(axis=1)


class StandingStill:
    """Warns, once, when a do-undo loop costs less than the steps it replaces.

    A loop of depth d spends d + 1 interactions for `cost`; walking on would cost d + 1 steps.

    cost: price of one backtrack · depth: the deepest offered
    step_cost: what each step costs, None to learn it from the median reward of the first steps
    """

    def __init__(self, cost: float, depth: int, step_cost: float | None) -> None:
        self._cost, self._depth = cost, depth
        self._sample: list[np.ndarray] = []
        self.judged = step_cost is not None
        """whether more rewards would change anything"""
        if step_cost is not None:
            self._judge(step_cost, "declared by the world")

    def see(self, reward: np.ndarray) -> None:
        """Rewards of steps that ended nothing. float64 [n]"""
        if self.judged:
            return
        self._sample.append(reward.copy())
        if sum(len(seen) for seen in self._sample) >= SAMPLES:
            self.judged = True
            self._judge(-float(np.median(np.concatenate(self._sample))), "the median so far")
            self._sample.clear()

    def _judge(self, step_cost: float, source: str) -> None:
        saved = (self._depth + 1) * step_cost
        if step_cost > 0 and self._cost <= saved:
            warnings.warn(
                f"backtrack.cost {self._cost:g} does not exceed {saved:g}, what doing and undoing "
                f"{self._depth} step(s) saves at a step cost of {step_cost:g} ({source}): an agent "
                f"can stand still for free; set backtrack.cost above {saved:g}",
                FreeRefundWarning,
                stacklevel=4,
            )
