"""forward_ensemble and random_network_distillation: are the networks of the reference surprised?"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from delegate.monitors.features import FeatureMonitor, FeatureSettings
from delegate.monitors.monitor import MonitorSettings, Steps

Layers = list[tuple[np.ndarray, np.ndarray]]
"""weight [in, out] and bias [out] of each layer"""


class NetworkSettings(FeatureSettings):
    """Small networks, trained on the kept reference.

    forward_ensemble: {hidden: 64, updates: 300, batch: 256, learning_rate: 0.001}
    """

    hidden: int = Field(default=64, ge=1, le=1024)
    """width of the hidden layers (units)"""
    updates: int = Field(default=300, ge=1, le=100_000)
    """steps of Adam (count)"""
    batch: int = Field(default=256, ge=1, le=100_000)
    """transitions in each (count)"""
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    """step size of Adam (standardised units)"""


class ForwardEnsembleSettings(NetworkSettings):
    """An ensemble of forward models.

    forward_ensemble: {members: 3, hidden: 64, updates: 300}
    """

    members: int = Field(default=3, ge=1, le=100)
    """networks, each of other first weights and batches (count)"""


class ForwardEnsemble(FeatureMonitor):
    """Does the world answer as in the reference?

    Mean squared error, over features, of what an ensemble of forward models expects of s' from s
    and a. Source: Chua et al. 2018 (arXiv 1805.12114), for the ensemble.
    """

    name: ClassVar[str] = "forward_ensemble"
    Settings: ClassVar[type[MonitorSettings]] = ForwardEnsembleSettings
    settings: ForwardEnsembleSettings

    def fit_vectors(self, vectors: np.ndarray) -> None:
        given, expected = self._parts(vectors)
        seeds = range(self.settings.seed, self.settings.seed + self.settings.members)
        self._networks = [
            trained(given, expected, self.settings, 1000 * seed, seed) for seed in seeds
        ]

    def score_vectors(self, vectors: np.ndarray) -> np.ndarray:
        given, after = self._parts(vectors)
        expected = np.mean([forward(layers, given) for layers in self._networks], axis=0)
        return single(((expected - after) ** 2).mean(1))

    def _parts(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is known before the step, and what came of it."""
        size = (vectors.shape[1] - self._actions) // 2
        return vectors[:, size:], vectors[:, :size]

    def _raw(self, steps: Steps) -> np.ndarray:
        before = self.world.features(steps.level, steps.goal, steps.state)
        after_and_action = super()._raw(steps)
        return np.concatenate([after_and_action, np.asarray(before, np.float64)], axis=1)

    def _code(self, steps: Steps) -> np.ndarray:
        return super()._code(steps) * self.model.num_states + steps.state


class RandomNetworkDistillation(FeatureMonitor):
    """Can what was learned to imitate a random network on the reference do so here?

    Mean squared error against the random network. Source: Burda et al. 2018 (arXiv 1810.12894).
    """

    name: ClassVar[str] = "random_network_distillation"
    Settings: ClassVar[type[MonitorSettings]] = NetworkSettings
    settings: NetworkSettings

    def fit_vectors(self, vectors: np.ndarray) -> None:
        seed = self.settings.seed
        width = self.settings.hidden
        self._target = drawn_layers(vectors.shape[1], width, width, 2 * seed + 1)
        expected = forward(self._target, vectors)
        self._learned = trained(vectors, expected, self.settings, 2 * seed, seed)

    def score_vectors(self, vectors: np.ndarray) -> np.ndarray:
        away = forward(self._learned, vectors) - forward(self._target, vectors)
        return single((away**2).mean(1))


def drawn_layers(inputs: int, hidden: int, outputs: int, seed: int) -> Layers:
    """Two hidden layers and an output, at random."""
    rng = np.random.default_rng(seed)
    sizes = (inputs, hidden, hidden, outputs)
    return [
        (rng.normal(0, np.sqrt(2 / before), (before, after)), np.zeros(after))
        for before, after in itertools.pairwise(sizes)
    ]


def forward(layers: Layers, given: np.ndarray) -> np.ndarray:
    """float64 [N, inputs] -> float64 [N, outputs]"""
    for weight, bias in layers[:-1]:
        given = np.maximum(given @ weight + bias, 0.0)
    weight, bias = layers[-1]
    return np.asarray(given @ weight + bias)


def trained(
    given: np.ndarray, expected: np.ndarray, settings: NetworkSettings, first: int, seed: int
) -> Layers:
    """Layers that give `expected` [T, outputs] of `given` [T, inputs], by least squares.

    first: seed of the first weights · seed: of the batches
    """
    import torch  # takes a second to import, so only when used

    drawn = drawn_layers(given.shape[1], settings.hidden, expected.shape[1], first)
    layers: list[Any] = [torch.tensor(part, requires_grad=True) for pair in drawn for part in pair]
    x, y = torch.tensor(given), torch.tensor(expected)
    optimizer = torch.optim.Adam(layers, lr=settings.learning_rate)
    rng = np.random.default_rng(seed)
    for _ in range(settings.updates):
        rows = torch.tensor(rng.integers(0, len(given), min(settings.batch, len(given))))
        hidden = x[rows]
        for weight, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
            hidden = torch.relu(hidden @ weight + bias)
        loss = ((hidden @ layers[-2] + layers[-1] - y[rows]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    flat = [layer.detach().numpy() for layer in layers]
    return list(zip(flat[::2], flat[1::2], strict=True))


def single(score: np.ndarray) -> np.ndarray:
    """Rounded to single precision: products of matrices round by the rows beside them."""
    return score.astype(np.float32).astype(np.float64)
