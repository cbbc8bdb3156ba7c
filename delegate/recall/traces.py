"""Traces: what a backtracking model recalls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Traces:
    """N traces recalled backwards, in reversed time: index k is k steps back.

    states:    int32   [N, length + 1]  states[:, 0] is the end; states[:, k] is k steps before it;
                                        float32 [N, length + 1, d] where they are vectors
    actions:   int32   [N, length]      actions[:, k], taken in states[:, k + 1], led to index k;
                                        float32 [N, length, d_a] where they are vectors
    log_prob:  float64 [N, length]      log q(states[:, k + 1], actions[:, k] | states[:, k])
    valid:     bool    [N, length]      the trace reaches k + 1 steps back

    A trace stops at a state that nothing leads to, or where a learned model has no data; from
    there on valid is False, states and actions are -1 (vectors 0) and log_prob is 0, so
    log_prob.sum(1) is the log probability of each trace.
    """

    states: np.ndarray
    actions: np.ndarray
    log_prob: np.ndarray
    valid: np.ndarray

    def __len__(self) -> int:
        return len(self.states)

    def take(self, rows: np.ndarray) -> Traces:
        """Those traces. rows: int or bool [n]"""
        parts = (self.states, self.actions, self.log_prob, self.valid)
        return Traces(*(part[rows] for part in parts))
