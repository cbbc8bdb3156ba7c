"""Weighted paths through a finite world, all at once: sums and expectations, as logarithms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Paths(NamedTuple):
    """Paths x_0 .. x_T of weight first(x_0) Π kernel(x_k, x_k+1) last(x_T), all logarithms.

    log_mass: of the sum of their weights · first, last: [S], of the share of them that begin and
    end in each state · steps: [S, S], of how often they go from x to x'
    """

    log_mass: float
    first: np.ndarray
    last: np.ndarray
    steps: np.ndarray

    @classmethod
    def between(cls, first: np.ndarray, kernel: np.ndarray, last: np.ndarray, length: int) -> Paths:
        """first, last: [S] · kernel: [S, S]"""
        to_go = [last]
        for _ in range(length):
            to_go.append(np.logaddexp.reduce(kernel + to_go[-1], axis=1))
        log_mass = float(np.logaddexp.reduce(first + to_go[length]))
        share = log_mass if log_mass > -np.inf else 0.0
        here, steps = first, np.full_like(kernel, -np.inf)
        for left in reversed(range(length)):
            gone = here[:, None] + kernel
            steps = np.logaddexp(steps, gone + to_go[left])
            here = np.logaddexp.reduce(gone, axis=0)
        return cls(log_mass, first + to_go[length] - share, here + last - share, steps - share)


def among_actions(steps: np.ndarray, log_edge: np.ndarray) -> np.ndarray:
    """What is known of pairs of states [S, S'], shared among actions in proportion [S, A, S']."""
    total = np.logaddexp.reduce(log_edge, axis=1)
    total = np.where(total > -np.inf, total, 0.0)
    return steps[:, None, :] + log_edge - total[:, None, :]


def expectation(log_weight: np.ndarray, value: np.ndarray) -> float:
    """Sum of exp(log_weight) value, infinite where that has any weight at all."""
    met = log_weight > -np.inf
    weight, value = log_weight[met], value[met]
    finite = np.isfinite(value)
    return float((np.exp(weight[finite]) * value[finite]).sum() + value[~finite].sum())
