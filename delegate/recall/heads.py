"""What the outputs of a network say: a categorical choice, or a mixture of Gaussians.

Shapes: M members, B rows, `width` outputs. A target is [M or 1, B] or [M or 1, B, size].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from delegate.recall.networks import Parameters

Variance = Literal["one", "learned", "from input"]

LOG_STD = (-7.0, 3.0)
"""bounds of the logarithm of a learned standard deviation, normalised units"""
_LOG_TWO_PI = math.log(2 * math.pi)


class Head(ABC):
    """Outputs [M, B, width] as a distribution."""

    width: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Parameters of its own, beside those of the network."""
        return {}

    def bind(self, parameters: Parameters) -> None:
        """Take those parameters from the store, and where their gradients go."""
        self._own = {name: parameters.values[name] for name in self.shapes()}
        self._gradients = {name: parameters.gradients[name] for name in self.shapes()}

    @abstractmethod
    def log_prob(self, outputs: Tensor, target: Tensor) -> Tensor:
        """float32 [M, B]"""

    @abstractmethod
    def loss(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of -log_prob over rows, summed over members; its gradient [M, B, width].

        The gradients of the head's own parameters are written to the store.
        """

    @abstractmethod
    def draw(
        self, outputs: Tensor, member: Tensor, generator: torch.Generator, mean: bool = False
    ) -> Tensor:
        """One draw a row, each from the outputs of its member; int64 [B] or float32 [B, size].

        outputs: [M, B, width] · member: int64 [B] · mean: the likeliest value instead
        """

    def keep_in_bounds(self) -> None:
        """Put the head's own parameters, log deviations, back where they may be after a step."""
        for value in self._own.values():
            value.clamp_(*LOG_STD)


def of_member(values: Tensor, member: Tensor) -> Tensor:
    """values: [M, B, ...], member: int64 [B] -> [B, ...]."""
    if len(values) == 1:
        return values[0]
    return values[member, torch.arange(len(member), device=member.device)]


def _choice(weights: Tensor, generator: torch.Generator, likeliest: bool) -> Tensor:
    """weights: [B, choices] -> int64 [B]"""
    if likeliest:
        return weights.argmax(-1)
    return torch.multinomial(weights, 1, generator=generator)[:, 0]


class Categorical(Head):
    """Outputs are logits; -inf excludes a choice."""

    def __init__(self, choices: int) -> None:
        self.width = choices

    def log_prob(self, outputs: Tensor, target: Tensor) -> Tensor:
        chosen = target.expand(outputs.shape[:2])[..., None]
        return torch.log_softmax(outputs, -1).gather(-1, chosen)[..., 0]

    def loss(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        chosen = target.expand(outputs.shape[:2])[..., None]
        log_prob = torch.log_softmax(outputs, -1)
        rows = outputs.shape[1]
        loss = -log_prob.gather(-1, chosen).sum() / rows
        gradient = log_prob.exp_()
        gradient.scatter_add_(-1, chosen, gradient.new_full((1, 1, 1), -1.0).expand(chosen.shape))
        return loss, gradient.div_(rows)

    def draw(
        self, outputs: Tensor, member: Tensor, generator: torch.Generator, mean: bool = False
    ) -> Tensor:
        return _choice(torch.softmax(of_member(outputs, member), -1), generator, mean)


class Gaussians(Head):
    """A mixture of diagonal Gaussians over vectors.

    Outputs are, in this order, the means [components * size], with several components their
    logits [components], and with variance "from input" the log deviations [components * size].
    """

    def __init__(
        self, name: str, size: int, components: int, members: int, variance: Variance
    ) -> None:
        self._name, self._size, self._members = f"{name}.log_std", size, members
        self._components, self._variance = components, variance
        self._means = components * size
        self._logits = components if components > 1 else 0
        self.width = self._means + self._logits + self._means * (variance == "from input")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        if self._variance != "learned":
            return {}
        return {self._name: (self._members, 1, self._components, self._size)}

    def bind(self, parameters: Parameters) -> None:
        super().bind(parameters)
        shape = (self._members, 1, self._components, self._size)
        learned = self._variance == "learned"
        self._log_std = self._own[self._name] if learned else parameters.vector.new_zeros(shape)

    def log_prob(self, outputs: Tensor, target: Tensor) -> Tensor:
        return self._log_prob(outputs, target, self._log_std)

    def _log_prob(self, outputs: Tensor, target: Tensor, log_std: Tensor) -> Tensor:
        means, log_weights, log_std = self._parts(outputs, log_std)
        z = (target[:, :, None] - means) * torch.exp(-log_std)
        log_density = -0.5 * z.square().sum(-1) - log_std.sum(-1) - 0.5 * self._size * _LOG_TWO_PI
        if log_weights is None:
            return log_density[..., 0]
        return torch.logsumexp(log_density + log_weights, -1)

    def _parts(self, outputs: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Means [M, B, K, size], log weights [M, B, K] or None, log deviations."""
        shape = (*outputs.shape[:2], self._components, self._size)
        means, logits, raw = outputs.split(
            [self._means, self._logits, self.width - self._means - self._logits], -1
        )
        if self._variance == "from input":
            low, high = LOG_STD
            # Bounded smoothly, so that a gradient remains at the bounds.
            below = high - torch.nn.functional.softplus(high - raw)
            log_std = (low + torch.nn.functional.softplus(below - low)).reshape(shape)
        weights = torch.log_softmax(logits, -1) if self._logits else None
        return means.reshape(shape), weights, log_std

    def loss(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if self._components == 1 and self._variance != "from input":
            return self._loss_of_one(outputs, target)
        with torch.enable_grad():
            leaves = [outputs.detach().requires_grad_(), self._log_std.detach().requires_grad_()]
            loss = -self._log_prob(leaves[0], target, leaves[1]).sum() / outputs.shape[1]
            gradient, of_log_std = torch.autograd.grad(loss, leaves, allow_unused=True)
        if self._variance == "learned":
            self._gradients[self._name].copy_(of_log_std)
        return loss.detach(), gradient

    def _loss_of_one(self, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The same for one Gaussian whose deviation is not an output, written out."""
        rows = outputs.shape[1]
        constant = 0.5 * _LOG_TWO_PI * self._size * len(outputs)
        off = outputs - target
        if self._variance == "one":
            loss = torch.dot(off.view(-1), off.view(-1)) / (2 * rows) + constant
            return loss, off.div_(rows)
        log_std = self._log_std[:, :, 0]
        precise = torch.exp(-log_std)
        z = off.mul_(precise)
        squares = z.square().sum(1, keepdim=True).div_(rows)
        torch.sub(1.0, squares[:, :, None], out=self._gradients[self._name])
        loss = squares.sum() / 2 + log_std.sum() + constant
        return loss, z.mul_(precise.div_(rows))

    def draw(
        self, outputs: Tensor, member: Tensor, generator: torch.Generator, mean: bool = False
    ) -> Tensor:
        means, log_weights, log_std = self._parts(outputs, self._log_std)
        log_std = log_std.expand(means.shape)
        means, log_std = of_member(means, member), of_member(log_std, member)
        if log_weights is None:
            means, log_std = means[:, 0], log_std[:, 0]
        else:
            weights = of_member(log_weights, member).exp()
            component = _choice(weights, generator, mean)
            row = torch.arange(len(component), device=component.device)
            means, log_std = means[row, component], log_std[row, component]
        if mean:
            return means
        noise = torch.randn(means.shape, generator=generator, device=means.device)
        return torch.addcmul(means, noise, log_std.exp())
