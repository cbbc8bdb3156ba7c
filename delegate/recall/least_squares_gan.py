"""Two networks that learn from each other what good points look like, and what the others.

Source: Mao and others, Least Squares Generative Adversarial Networks (arXiv 1611.04076), with
the negative examples of Florensa and others (arXiv 1705.06366), equation 5.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from delegate.recall.config import GoalGanConfig

GOOD, BAD, FOOLED = 1.0, -1.0, 0.0
"""what the discriminator shall say of good points, and of others; what the generator wants it to
say: b, a and c of the paper"""


class LeastSquaresGan:
    """A generator of points in [-1, 1]^d and a discriminator that tells good ones from others.

    size: d · seed: of the first weights, for which no global random numbers are taken
    """

    def __init__(self, size: int, config: GoalGanConfig, seed: int, device: torch.device) -> None:
        self.size, self.config, self.device = size, config, device
        source = torch.Generator().manual_seed(seed)
        sizes = config.noise_size, *config.generator_hidden, size
        self._generator = nn.Sequential(*_layers(sizes, source), nn.Tanh()).to(device)
        sizes = size, *config.discriminator_hidden, 1
        self._discriminator = nn.Sequential(*_layers(sizes, source)).to(device)
        self._networks = {"generator": self._generator, "discriminator": self._discriminator}
        self._optimisers = {
            "generator": _adam(self._generator, config.generator_rate),
            "discriminator": _adam(self._discriminator, config.discriminator_rate),
        }

    @torch.no_grad()
    def generate(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Points that shall be good. float64 [count, d]"""
        return self._made(count, rng).cpu().numpy().astype(np.float64)

    def train(self, points: np.ndarray, good: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`config.updates` steps of both optimisers, the discriminator's first.

        points: float [N, d] · good: bool [N]
        returns float64 [updates, 2], the losses of discriminator and generator
        Raises FloatingPointError where losses or weights are not finite; all is then as it was.
        """
        shown = torch.as_tensor(points, dtype=torch.float32, device=self.device)
        said = np.where(good, GOOD, BAD)[:, None]
        wanted = torch.as_tensor(said, dtype=torch.float32, device=self.device)
        before = {name: tensor.clone() for name, tensor in self.tensors().items()}
        stream = rng.bit_generator.state
        losses = np.empty((self.config.updates, 2))
        for step in range(self.config.updates):
            rows = torch.from_numpy(rng.integers(len(points), size=self.config.batch))
            losses[step] = self._step(shown[rows], wanted[rows], rng)
        learned = all(torch.isfinite(tensor).all() for tensor in self.tensors().values())
        if not (learned and np.isfinite(losses).all()):
            for name, tensor in self.tensors().items():
                tensor.copy_(before[name])
            rng.bit_generator.state = stream
            raise FloatingPointError(
                "training diverged; lower generator_rate or discriminator_rate"
            )
        return losses

    def tensors(self) -> dict[str, Tensor]:
        """All that training changes, live."""
        found = {}
        for name, network in self._networks.items():
            state = self._optimisers[name].state
            for part, parameter in network.named_parameters():
                found[f"{name} {part}"] = parameter.data
                found |= {f"{name} {part} {key}": value for key, value in state[parameter].items()}
        return found

    def _step(
        self, points: Tensor, wanted: Tensor, rng: np.random.Generator
    ) -> tuple[float, float]:
        count = len(points)
        real = self._judged(points, rng) - wanted
        fake = self._judged(self._made(count, rng).detach(), rng) - BAD
        loss = real.square().mean() + fake.square().mean()
        _descend(self._optimisers["discriminator"], loss)
        fooling = (self._judged(self._made(count, rng), rng) - FOOLED).square().mean()
        _descend(self._optimisers["generator"], fooling)
        return loss.item(), fooling.item()

    def _made(self, count: int, rng: np.random.Generator) -> Tensor:
        return self._generator(self._noise(count, self.config.noise_size, rng))

    def _judged(self, points: Tensor, rng: np.random.Generator) -> Tensor:
        blur = 2 * self.config.blur * self._noise(len(points), self.size, rng)
        return self._discriminator(points + blur)

    def _noise(self, count: int, size: int, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(rng.standard_normal((count, size), np.float32)).to(self.device)


def _layers(sizes: tuple[int, ...], generator: torch.Generator) -> list[nn.Module]:
    """Linear layers with ReLU between them; weights as torch begins them, drawn from there."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=generator)
        layers += [layer, nn.ReLU()]
    return layers[:-1]


def _adam(network: nn.Module, rate: float) -> torch.optim.Adam:
    """An optimiser whose moments are there from the beginning, to be saved and loaded."""
    optimiser = torch.optim.Adam(network.parameters(), rate, betas=(0.5, 0.999))
    for parameter in network.parameters():
        optimiser.state[parameter] = {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimiser


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
