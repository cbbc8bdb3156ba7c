"""How densely states lie: a Gaussian for vectors, frequencies for integers."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf

_LEAST_VARIANCE = 1e-4
"""of the Gaussian in any direction, in units of `scale` or of the mean variance, whichever is
larger: a single state has a density too"""


def log_density(
    states: np.ndarray, space: gymnasium.Space, scale: np.ndarray | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """The log density of states like these: [N, ...] -> float64 [N] (nats).

    Box: a Gaussian whose full covariance is shrunk as Ledoit and Wolf do (2004), in the units of
    the data. Discrete: how often each state is there, each once more than it was seen, so that
    none is impossible.
    states: int [T] or float [T, d], one at least · scale: float [d], in whose units covariances
    are shrunk; the standard deviations of `states` if left out
    Raises ValueError where there are no states.
    """
    if not len(states):
        raise ValueError("states holds none; give one at least")
    if isinstance(space, gymnasium.spaces.Discrete):
        counts = np.bincount(states, minlength=int(space.n)) + 1
        log_share = np.log(counts / counts.sum())
        return lambda asked: log_share[asked]
    values = np.asarray(states, np.float64)
    mean = values.mean(axis=0)
    scale = deviations(values) if scale is None else scale
    centred = (values - mean) / scale
    covariance = np.zeros((len(mean), len(mean)))
    if len(values) > 1:
        covariance = ledoit_wolf(centred, assume_centered=True)[0]
    least = _LEAST_VARIANCE * max(1.0, float(np.diag(covariance).mean()))
    gaussian = multivariate_normal(cov=covariance + least * np.eye(len(mean)))
    volume = float(np.log(scale).sum())
    return lambda asked: np.reshape(gaussian.logpdf((asked - mean) / scale) - volume, len(asked))


def deviations(states: np.ndarray) -> np.ndarray:
    """The standard deviation of each coordinate, float64 [d]; 1 where it does not vary."""
    deviation = np.asarray(states, np.float64).std(axis=0)
    return np.where(deviation > 1e-7 * np.abs(states).max(axis=0), deviation, 1.0)
