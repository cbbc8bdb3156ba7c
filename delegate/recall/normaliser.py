"""Running mean and standard deviation, merged batch by batch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_ROUNDING = 1e-7
"""share of the mean below which a deviation is rounding of single precision, not variation"""


class Normaliser:
    """Takes vectors of some quantity to mean 0 and standard deviation 1, and back.

    A coordinate that does not vary keeps its scale: it is only shifted. Before anything is
    observed nothing is changed. Batches are merged as in Chan, Golub and LeVeque (1983).

    count: vectors observed · mean, m2: float64 [size], m2 the sum of squared deviations
    """

    def __init__(self, size: int, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.set(0.0, np.zeros(size), np.zeros(size))

    @property
    def size(self) -> int:
        """Coordinates of a vector."""
        return len(self.mean)

    @property
    def std(self) -> np.ndarray:
        """float64 [size]; 1 where the coordinate does not vary."""
        std = np.sqrt(self.m2 / max(self.count, 1.0))
        return np.where(self._still(std), 1.0, std)

    def _still(self, std: np.ndarray) -> np.ndarray:
        return std <= _ROUNDING * np.abs(self.mean)

    def observe(self, batch: np.ndarray) -> None:
        """batch: [N, size], finite."""
        count = float(len(batch))
        if not count:
            return
        batch = np.asarray(batch, np.float64)
        mean = batch.mean(0)
        m2 = np.square(batch - mean).sum(0)
        total = self.count + count
        apart = mean - self.mean
        self.set(
            total,
            self.mean + apart * (count / total),
            self.m2 + m2 + np.square(apart) * (self.count * count / total),
        )

    def set(self, count: float, mean: np.ndarray, m2: np.ndarray) -> None:
        """Replace what was observed."""
        self.count, self.mean, self.m2 = count, mean, m2
        std = self.std
        self._mean = torch.as_tensor(mean, device=self.device)
        self._std = torch.as_tensor(std, device=self.device)
        still = self._still(np.sqrt(m2 / max(count, 1.0))) & (count > 0)
        self._varies = torch.as_tensor(~still, device=self.device)
        self.log_volume = float(np.log(std).sum())

    def normalise(self, value: Tensor) -> Tensor:
        """[..., size] in units of the data -> float32, normalised; the arithmetic is float64."""
        return ((value - self._mean) / self._std).float()

    def restore(self, value: Tensor) -> Tensor:
        """[..., size] normalised -> float32, in units of the data."""
        return (value * self._std + self._mean).float()

    def settle(self, value: Tensor) -> Tensor:
        """[..., size] normalised -> the same, but what does not vary as it always was."""
        return value * self._varies
