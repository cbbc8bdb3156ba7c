"""States and actions as random variables: how networks see them, their densities, their draws.

Scales stay on the host in double precision, and draws come from numpy: the device computes in
single precision alone. Shapes: M members of an ensemble, B rows; outputs of networks are
[M, B, ...], values [B, ...] or, where each member has rows of its own, [M B, ...].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from gymnasium.wrappers.utils import update_mean_var_count_from_moments
from torch import Tensor, nn

from delegate.recall.config import RecallModelConfig
from delegate.recall.model import Array, Space

LOG_STD = (-7.0, 3.0)
"""bounds of the logarithm of a learned standard deviation, normalised units"""
_ROUNDING = 1e-7
"""share of the mean below which a deviation is rounding of single precision, not variation"""


def mlp(
    widths: tuple[int, ...], activation: type[nn.Module], generator: torch.Generator
) -> nn.Sequential:
    """Linear layers with the activation between them; weights begin as torch's do, drawn from
    the generator instead of global random numbers."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
        bound = max(inputs, 1) ** -0.5
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -bound, bound, generator=generator)
        layers += [layer, activation()]
    return nn.Sequential(*layers[:-1])


class Normaliser(nn.Module):
    """Takes vectors of some quantity to mean 0 and standard deviation 1, and back.

    Before anything is observed nothing is changed. All is float64.
    count: vectors observed [] · mean, var: [size]
    scale: [size], the standard deviation, or 1 where a coordinate does not vary · spread: or 0
    """

    count: Tensor
    scale: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        for name in ("mean", "var", "scale", "spread"):
            first = torch.zeros if name in ("mean", "var") else torch.ones
            self.register_buffer(name, first(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def _apply(self, fn: Any, recurse: bool = True) -> Normaliser:
        return self  # whatever a device can do, this is in double precision

    def _arrays(self, *names: str) -> list[Array]:
        return [getattr(self, name).numpy() for name in names]

    def observe(self, batch: Array) -> None:
        """batch: [N, size], finite."""
        if not len(batch):
            return
        batch = np.asarray(batch, np.float64)
        mean, var, count = self._arrays("mean", "var", "count")
        mean[:], var[:], count[()] = update_mean_var_count_from_moments(
            mean, var, count, batch.mean(0), batch.var(0), len(batch)
        )
        std = np.sqrt(var)
        varies = std > _ROUNDING * np.abs(mean)
        scale, spread = self._arrays("scale", "spread")
        scale[:], spread[:] = np.where(varies, std, 1.0), np.where(varies, std, 0.0)

    def normalise(self, value: Array) -> Array:
        """[..., size] in units of the data -> float32, normalised."""
        mean, scale = self._arrays("mean", "scale")
        return ((value - mean) / scale).astype(np.float32)

    def restore(self, value: Array) -> Array:
        """[..., size] normalised -> float64, in units of the data; what never varied as it was."""
        mean, spread = self._arrays("mean", "spread")
        return np.asarray(mean + spread * value)


class Variable(nn.Module):
    """A state or an action: seen by networks, and predicted by an ensemble of its own.

    A state is predicted from the other state of its transition, the anchor; that of an action is 0.
    width: of what networks see of it · outputs: of its own network (counts)
    """

    width: int
    outputs: int
    log_prob: Callable[[Tensor, Any, Array], Tensor]
    """of outputs, anchor and a value that it `leads` to: float32 [M, B], in units of the data"""
    draw: Callable[[Tensor, Any, Array, np.random.Generator], Array]
    """of outputs and anchor one value a row, by its member of the ensemble, int [B]"""
    features: Callable[..., Array]
    """of a value, and the layout of a state, what networks see: float32 [B, width]"""

    def build(
        self, members: int, inputs: int, activation: Any, hidden: Any, generator: torch.Generator
    ) -> None:
        """Make the networks that predict it, see `mlp`."""
        widths = (inputs, *hidden, self.outputs)
        self.members = nn.ModuleList(mlp(widths, activation, generator) for _ in range(members))

    def forward(self, inputs: Tensor) -> Tensor:
        """[M or 1, B, inputs] -> [M, B, outputs]"""
        every = inputs.expand(len(self.members), -1, -1)
        return torch.stack([one(rows) for one, rows in zip(self.members, every, strict=True)])

    def sample(
        self, inputs: Tensor, anchor: Any, member: Array, rng: np.random.Generator
    ) -> tuple[Array, Tensor]:
        """What `draw` gives, and its log_prob."""
        outputs = self(inputs)
        value = self.draw(outputs, anchor, member, rng)
        return value, self.log_prob(outputs, anchor, value)

    def observe(self, seen: Array, change: Array) -> None:
        """Update what is known of scales."""

    def supported(self, value: Array) -> Array:
        """bool [B], where there were data."""
        return np.ones(len(value), bool)

    def leads(self, anchor: Array, value: Array) -> Array:
        """bool [B], whether the value can come with the anchor."""
        return np.ones(len(value), bool)


class Vector(Variable):
    """A vector, seen normalised; its normalised change from the anchor is a mixture of Gaussians.

    Outputs are the means [components * size], then the logits of the mixture [components]; the
    deviations of each component and dimension are `learned`, or 1. A change that never varied, as
    of a goal that stays through an episode, is drawn exactly. low, high: what is drawn is clipped
    support: furthest from the mean that there were data (standard deviations), None for anywhere
    """

    def __init__(
        self, low: Any, high: Any, size: int, components: int, learned: bool, support: float | None
    ) -> None:
        super().__init__()
        self.width, self.outputs = size, components * (size + 1)
        self._bounds, self._shape, self._learned = (low, high), (components, size), learned
        self._support = np.inf if support is None else support
        self.seen, self.change = Normaliser(size), Normaliser(size)

    def build(self, members: int, *how: Any) -> None:
        super().build(members, *how)
        components, size = self._shape
        apart = torch.linspace(-1, 1, components).repeat_interleave(size) * (components > 1)
        for member in self.members:  # means that begin together would long stay so
            *_, bias = member.parameters()
            bias.data[: len(apart)] += apart
        self.log_std = nn.Parameter(torch.zeros(members, 1, *self._shape), self._learned)

    def log_prob(self, outputs: Tensor, anchor: Any, value: Array) -> Tensor:
        means, logits = self._split(outputs)
        change = self.change.normalise(np.subtract(value, anchor, dtype=np.float64))
        z = (_rows(change, outputs)[:, :, None] - means) * torch.exp(-self.log_std)
        unit = np.log(self.change.scale.numpy()).sum() + 0.5 * self.width * math.log(2 * math.pi)
        log_density = -0.5 * z.square().sum(-1) - self.log_std.sum(-1) - unit
        if self._shape[0] == 1:
            return log_density[..., 0]
        return torch.logsumexp(log_density + torch.log_softmax(logits, -1), -1)

    def draw(self, outputs: Tensor, anchor: Any, member: Array, rng: np.random.Generator) -> Array:
        means, logits = self._split(outputs)
        component = _choice(_by_member(logits, member), rng)
        row, spread = np.arange(len(member)), self.log_std.exp().expand(means.shape)
        mean, std = (_by_member(part, member)[row, component] for part in (means, spread))
        change = self.change.restore(mean + std * rng.standard_normal(mean.shape))
        return np.clip(anchor + change, *self._bounds).astype(np.float32)

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Means [M, B, components, size] and logits [M, B, components]."""
        means, logits = outputs.split([self.outputs - self._shape[0], self._shape[0]], -1)
        return means.unflatten(-1, self._shape), logits

    def features(self, value: Array, layout: Array | None = None) -> Array:
        return self.seen.normalise(value)

    def observe(self, seen: Array, change: Array) -> None:
        self.seen.observe(seen)
        self.change.observe(change)

    def supported(self, value: Array) -> Array:
        return (np.abs(self.seen.normalise(value)) <= self._support).all(-1)


class Index(Variable):
    """One of several; outputs are logits."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.width = self.outputs = count

    def log_prob(self, outputs: Tensor, anchor: Any, value: Array) -> Tensor:
        chosen = _rows(value, outputs).expand(outputs.shape[:2])[..., None]
        return torch.log_softmax(outputs, -1).gather(-1, chosen)[..., 0]

    def draw(self, outputs: Tensor, anchor: Any, member: Array, rng: np.random.Generator) -> Array:
        return _choice(_by_member(outputs, member), rng)

    def features(self, value: Array, layout: Array | None = None) -> Array:
        return _one_hot(value, self.width)


class Cell(Index):
    """A cell of a grid: predicted is which way it lies of its anchor, or that it is the same. Seen
    are the cell and, in each plane of the layout and the world's edge, the 3 x 3 cells around."""

    def __init__(self, height: int, width: int, planes: int) -> None:
        super().__init__(5)
        self._cells, self._planes = height * width, planes
        self.width = self._cells + 9 * (planes + 1)
        cell, around = np.arange(self._cells)[:, None], np.arange(9)
        row, column = cell // width + around // 3 - 1, cell % width + around % 3 - 1
        self._outside = (row < 0) | (row >= height) | (column < 0) | (column >= width)
        self._around = np.where(self._outside, 0, row * width + column)
        ways = [4, 1, 5, 7, 3]  # of the nine: here, up, right, down, left
        self._lands, self._inside = self._around[:, ways], ~self._outside[:, ways]

    def log_prob(self, outputs: Tensor, anchor: Any, value: Array) -> Tensor:
        way = self._ways(anchor, value).argmax(1)
        return super().log_prob(self._within(outputs, anchor), anchor, way)

    def draw(self, outputs: Tensor, anchor: Any, member: Array, rng: np.random.Generator) -> Array:
        way = super().draw(self._within(outputs, anchor), anchor, member, rng)
        return self._lands[anchor, way]

    def features(self, value: Array, layout: Array | None = None) -> Array:
        outside = self._outside[value]
        seen = [_one_hot(value, self._cells), outside]
        if layout is not None and self._planes:
            planes = layout.reshape(len(value), self._planes, self._cells)
            around = np.take_along_axis(planes, self._around[value][:, None], 2)
            seen.append((around * ~outside[:, None]).reshape(len(value), -1))
        return np.concatenate(seen, 1, dtype=np.float32)

    def leads(self, anchor: Array, value: Array) -> Array:
        return np.asarray(self._ways(anchor, value).any(1))

    def _ways(self, anchor: Array, value: Array) -> Array:
        """bool [B, 5], which ways lead there."""
        return (self._lands[anchor] == value[:, None]) & self._inside[anchor]

    def _within(self, outputs: Tensor, anchor: Array) -> Tensor:
        """No way leads out of the grid."""
        return outputs.masked_fill(~_rows(self._inside[anchor], outputs), -math.inf)


def state_variable(space: Space, config: RecallModelConfig) -> Variable:
    """Raises ValueError where grid, layout and space do not fit together."""
    if config.grid is None:
        if isinstance(space, Discrete):
            return Index(int(space.n))
        of_all = space.shape[0], config.components, True, config.support
        return Vector(-np.inf, np.inf, *of_all)
    height, width = config.grid
    cells = height * width
    if not isinstance(space, Discrete) or space.n != cells:
        raise ValueError(
            f"grid is {height} x {width} and states are {space}; give Discrete({cells})"
        )
    planes, rest = divmod(config.layout_size, cells)
    if rest:
        raise ValueError(
            f"layout_size is {config.layout_size} and the grid has {cells} cells; "
            "give a whole number of planes"
        )
    return Cell(height, width, planes)


def action_variable(space: Space, config: RecallModelConfig) -> Variable:
    """How actions of that space are seen and predicted."""
    if isinstance(space, Discrete):
        return Index(int(space.n))
    learned = config.learn_action_variance
    return Vector(space.low, space.high, space.shape[0], 1, learned, None)


def _rows(values: Array, outputs: Tensor) -> Tensor:
    """[B, ...] or [M B, ...] -> [1 or M, B, ...], beside the outputs [M, B, ...]."""
    return torch.tensor(values, device=outputs.device).unflatten(0, (-1, outputs.shape[1]))


def _by_member(values: Tensor, member: Array) -> Array:
    """values: [M, B, ...], member: int [B] -> [B, ...]"""
    return values.cpu().numpy()[member, np.arange(len(member))]


def _choice(logits: Array, rng: np.random.Generator) -> Array:
    """One choice a row, by the Gumbel-max trick. [B, choices] -> int64 [B]"""
    return (logits + rng.gumbel(size=logits.shape)).argmax(-1)


def _one_hot(index: Array, count: int) -> Array:
    seen = np.zeros((len(index), count), np.float32)
    seen[np.arange(len(index)), index] = 1
    return seen
