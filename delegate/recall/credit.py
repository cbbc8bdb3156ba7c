"""How much each recalled step counts when the policy imitates."""

from __future__ import annotations

import numpy as np

from delegate.recall.targets import Value
from delegate.recall.traces import Traces
from delegate.recall.trajectories import Steps

_SHRINKAGE = 1e-3
"""of the reward's coefficients, in units of the features' variance times their number of rows"""


class RewardModel:
    """What a step earns, by least squares on the state, the action, the change, their squares.

    steps: what was earned · unit: of the rewards it gives
    """

    def __init__(self, steps: Steps, unit: float = 1.0) -> None:
        seen = steps.transitions
        raw = _parts(seen.state, seen.action, seen.next_state)
        self._mean, self._scale = raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-6)
        features = self._features(raw)
        square = features.T @ features
        square[np.diag_indices_from(square)] += _SHRINKAGE * len(features)
        self._offset, reward = float(steps.reward.mean()), steps.reward / unit
        self._offset /= unit
        self._weights = np.linalg.solve(square, features.T @ (reward - self._offset))
        error = reward - self(seen.state, seen.action, seen.next_state)
        self.explained = float(1 - error.var() / max(reward.var(), 1e-12))
        """share of the variance of the rewards it learned from"""

    def __call__(self, state: np.ndarray, action: np.ndarray, next_state: np.ndarray) -> np.ndarray:
        """float64 [N]"""
        features = self._features(_parts(state, action, next_state))
        return np.asarray(features @ self._weights + self._offset)

    def _features(self, raw: np.ndarray) -> np.ndarray:
        scaled = (raw - self._mean) / self._scale
        return np.concatenate([scaled, scaled**2 - 1], axis=1)


def _parts(state: np.ndarray, action: np.ndarray, next_state: np.ndarray) -> np.ndarray:
    return np.concatenate([state, action, next_state - state], axis=1).astype(np.float64)


def advantages(
    traces: Traces, reward: RewardModel, value: Value, discount: float, smoothing: float
) -> np.ndarray:
    """Generalised advantages of the recalled steps, each over the rest of its trace. [N, length]

    smoothing: lambda, in [0, 1] · 0 where the trace is not valid
    Source: Schulman et al. (arXiv 1506.02438), the estimator.
    """
    rows, length = traces.valid.shape
    flat = traces.states.reshape(rows * (length + 1), -1)
    worth = value(flat.astype(traces.states.dtype)).reshape(rows, length + 1)
    found, later = np.zeros((rows, length)), np.zeros(rows)
    for k in range(length):
        state, entered = traces.states[:, k + 1], traces.states[:, k]
        earned = reward(state, traces.actions[:, k], entered)
        error = earned + discount * worth[:, k] - worth[:, k + 1]
        later = error + discount * smoothing * later
        found[:, k] = later
    return np.where(traces.valid, found, 0.0)
