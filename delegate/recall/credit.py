"""How much each recalled step counts when the policy imitates."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from delegate.recall.algorithms import Learner
from delegate.recall.imitation import CREDITED, RecallConfig
from delegate.recall.targets import Ends, Value, entered
from delegate.recall.traces import Traces
from delegate.recall.trajectories import Steps

_ROWS = 2_048
"""remembered steps, evenly spread, that rewards are learned from"""
_SHRINKAGE = 1e-3
"""of the reward's coefficients, in units of the features' variance times their number of rows"""


def weights(
    config: RecallConfig,
    learner: Learner,
    steps: Steps,
    ends: Ends,
    traces: Traces,
    rng: np.random.Generator,
) -> tuple[np.ndarray, dict[str, float]]:
    """How much each valid step counts, trace by trace, and what to log, by name.

    steps: what rewards are learned from · ends: where the traces end, one after the other
    rng: of the order, where they are shuffled
    returns float64 [N], of mean 1, or for advantages of mean 0 and deviation 1
    """
    valid, discount, unit = traces.valid, learner.model.gamma, learner.original.unit
    start, beyond = learner.value(traces.states[:, 1:][valid]), ends.beyond(learner.value)
    promised = _promised(steps, ends, traces, learner)
    first = np.cumsum(valid.sum(axis=1))[valid.any(axis=1)] - 1
    told = {
        "end_value": float(beyond.mean()),
        "start_value": float(start[first].mean()),
        "trace_return": float(promised[first].mean()),
    }
    if config.weighting == "gain":
        gain = np.maximum(promised - start, 0)
        return gain / max(gain.mean(), 1e-9), told
    if config.weighting in CREDITED:
        reward = RewardModel(steps, unit)
        told["reward_explained"] = reward.explained
        how = learner.value, discount, config.gae_lambda
        after = next_advantages(steps, remembered_advantages(steps, *how, unit), ends)
        gained = advantages(traces, ends, after, reward, *how)[valid]
        spread = gained.std() if len(gained) else 0.0
        if spread <= 1e-6 * np.abs(gained).max(initial=1e-3):
            return np.zeros(len(gained)), told  # no step is better than another
        standard = (gained - gained.mean()) / spread
        return rng.permutation(standard) if config.weighting == "shuffled" else standard, told
    return np.ones(len(start)), told


def _promised(steps: Steps, ends: Ends, traces: Traces, learner: Learner) -> np.ndarray:
    """What the rest of the trace promises from each valid step on, in the critic's unit: the mean
    remembered reward on its way, and what the critic expects of entering its end. float64 [N]"""
    valid, discount, unit = traces.valid, learner.model.gamma, learner.original.unit
    left = np.broadcast_to(np.arange(valid.shape[1]), valid.shape)[valid]
    fade = discount**left
    along = left if discount == 1 else (1 - fade) / (1 - discount)
    entering = np.repeat(ends.entering(learner.value, discount, unit), valid.sum(axis=1))
    return np.asarray(steps.reward.mean() / unit * along + fade * entering)


class RewardModel:
    """What a step earns, by least squares on the state, the action, the change, their squares;
    never more or less than was seen, since squares grow fast where nothing was.

    States are vectors; the number of a discrete action counts as one.
    steps: what was earned · unit: of the rewards it gives
    """

    def __init__(self, steps: Steps, unit: float = 1.0) -> None:
        some = np.arange(0, len(steps), -(-len(steps) // _ROWS))
        seen = steps.transitions.take(some)
        raw = _parts(seen.state, seen.action, seen.next_state)
        self._mean, self._scale = raw.mean(axis=0), np.maximum(raw.std(axis=0), 1e-6)
        features = self._features(raw)
        square = features.T @ features
        square[np.diag_indices_from(square)] += _SHRINKAGE * len(features)
        reward = steps.reward[some] / unit
        self._offset = float(reward.mean())
        self._range = reward.min(), reward.max()
        self._weights = np.linalg.solve(square, features.T @ (reward - self._offset))
        error = reward - features @ self._weights - self._offset
        self.explained = float(1 - error.var() / max(reward.var(), 1e-12))
        """share of the variance of the rewards it learned from"""

    def __call__(self, state: np.ndarray, action: np.ndarray, next_state: np.ndarray) -> np.ndarray:
        """float64 [N]"""
        features = self._features(_parts(state, action, next_state))
        return np.clip(features @ self._weights + self._offset, *self._range)

    def _features(self, raw: np.ndarray) -> np.ndarray:
        scaled = (raw - self._mean) / self._scale
        return np.concatenate([scaled, scaled**2 - 1], axis=1)


def _parts(state: np.ndarray, action: np.ndarray, next_state: np.ndarray) -> np.ndarray:
    columns = action[:, None] if action.ndim == 1 else action
    return np.concatenate([state, columns, next_state - state], axis=1).astype(np.float64)


def remembered_advantages(
    steps: Steps, value: Value, discount: float, gae_lambda: float, unit: float = 1.0
) -> np.ndarray:
    """Generalised advantages of the remembered steps, in the critic's unit. float64 [N]"""
    ahead = discount * entered(steps).beyond(value)
    error = steps.reward / unit + ahead - value(steps.transitions.state)
    found = np.empty(len(steps))
    for part in np.split(np.arange(len(steps)), np.flatnonzero(steps.last)[:-1] + 1):
        newest_first = part[::-1]
        found[newest_first] = lfilter([1.0], [1.0, -discount * gae_lambda], error[newest_first])
    return found


def next_advantages(steps: Steps, advantage: np.ndarray, ends: Ends) -> np.ndarray:
    """What was gained after the ends, as it turned out, beyond what the critic expects there: the
    advantage of the step that followed, 0 where none is known. float64 [count]"""
    known = ends.place >= 0
    known[known] = ~steps.last[ends.place[known]]
    found = np.zeros(len(known))
    found[known] = advantage[ends.place[known] + 1]
    return found


def advantages(
    traces: Traces,
    ends: Ends,
    next_advantage: np.ndarray,
    reward: RewardModel,
    value: Value,
    discount: float,
    gae_lambda: float,
) -> np.ndarray:
    """Generalised advantages of the recalled steps, over the rest of the trace and on. [N, length]

    ends: of the traces, one each · next_advantage: of the steps that followed them, float64 [N]
    gae_lambda: lambda, in [0, 1] · 0 where the trace is not valid
    Source: Schulman et al. (arXiv 1506.02438), the estimator.
    """
    rows, length = traces.valid.shape
    flat = traces.states.reshape(rows * (length + 1), -1)
    worth = value(flat).reshape(rows, length + 1)
    worth[ends.terminal, 0] = 0.0
    found, later = np.zeros((rows, length)), next_advantage
    for k in range(length):
        state, entered = traces.states[:, k + 1], traces.states[:, k]
        earned = reward(state, traces.actions[:, k], entered)
        error = earned + discount * worth[:, k] - worth[:, k + 1]
        later = error + discount * gae_lambda * later
        found[:, k] = later
    return np.where(traces.valid, found, 0.0)
