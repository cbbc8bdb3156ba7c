"""Goal GAN: a generator of goals that a policy reaches now and then, not always.

    gan = GoalGan(low=[-1.5, -1.5], high=[1.5, 1.5])
    goals = gan.sample(300)                  # try them, many times each
    gan.update(goals, success)               # the share of tries that reached each
    RecallTraces(targets_from=gan.as_targets(decoder))

Source: Florensa, Held, Geng and Abbeel, Automatic Goal Generation for Reinforcement Learning
Agents (arXiv 1705.06366), section 4: a least-squares GAN (Mao and others, arXiv 1611.04076) that
also learns from the goals that were too easy or too hard (equation 5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from delegate.recall.config import GoalGanConfig
from delegate.recall.model import Array, check_not_negative
from delegate.recall.saving import Saveable, adam, training_state
from delegate.recall.variables import mlp
from delegate.settings import checked

GOOD, BAD, FOOLED = 1.0, -1.0, 0.0
"""what the discriminator shall say of good goals, and of others; what the generator wants it to
say: b, a and c of the paper"""


@dataclass(frozen=True)
class GanLosses:
    """What `GoalGan.update` did.

    discriminator, generator: least-squares losses, means over the steps; NaN where there were none
    good: goals labelled good · kept: goals kept for replay by now (counts)
    """

    discriminator: float
    generator: float
    good: int
    kept: int


class GoalGan(Saveable):
    """Proposes goals of intermediate difficulty, and learns from how they went.

    low, high: float [d], bounds of the goals, in their own units; size is d
    config: settings; `settings` replaces single ones
    seed: of the first weights, and of everything drawn where no rng is given
    Raises ValueError for bounds that are not finite or not in order, and for bad settings.
    """

    def __init__(
        self,
        low: ArrayLike,
        high: ArrayLike,
        config: GoalGanConfig | None = None,
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        **settings: Any,
    ) -> None:
        self.low, self.high = _checked_bounds(low, high)
        self.size = len(self.low)
        settings = {**({} if config is None else config.model_dump()), **settings}
        self.config = config = checked("GoalGan", GoalGanConfig, settings)
        self.device = torch.device(device)
        self._rng = np.random.default_rng([seed, 23])
        self._replay = np.zeros((config.capacity, self.size))
        self._kept = np.zeros((), np.int64)  # so far, forgotten ones included
        source = torch.Generator().manual_seed(seed)
        widths = config.noise_size, *config.generator_hidden, self.size
        generator = nn.Sequential(*mlp(widths, nn.ReLU, source), nn.Tanh())
        discriminator = mlp((self.size, *config.discriminator_hidden, 1), nn.ReLU, source)
        self.generator, self.discriminator = (
            network.to(self.device) for network in (generator, discriminator)
        )
        self._of_generator = adam(self.generator, config.generator_rate, 0.5)
        self._of_discriminator = adam(self.discriminator, config.discriminator_rate, 0.5)

    @property
    def kept(self) -> Array:
        """The goals kept for replay, a copy. float64 [K, d]"""
        return self._replay[: self._kept].copy()

    def sample(self, count: int, rng: np.random.Generator | None = None) -> Array:
        """Goals to try next: replayed, uniform and generated ones, mixed. float64 [count, d]

        All are uniform until a goal was good. rng: the own stream if left out
        Raises ValueError for a negative count.
        """
        check_not_negative(count=count)
        rng, kept = self._rng if rng is None else rng, self._replay[: self._kept]
        if not len(kept):
            return rng.uniform(self.low, self.high, (count, self.size))
        old = round(count * self.config.replayed)
        uniform = round((count - old) * self.config.uniform)
        parts = (
            kept[rng.choice(len(kept), old, replace=old > len(kept))],
            rng.uniform(self.low, self.high, (uniform, self.size)),
            self.generate(count - old - uniform, rng),
        )
        return rng.permutation(np.concatenate(parts))

    @torch.no_grad()
    def generate(self, count: int, rng: np.random.Generator | None = None) -> Array:
        """Goals of the generator alone, with `jitter`, inside the bounds; see `sample`."""
        check_not_negative(count=count)
        rng = self._rng if rng is None else rng
        made = self._made(count, rng).cpu().numpy().astype(np.float64) / 2 + 0.5
        made += rng.normal(scale=self.config.jitter, size=made.shape)
        return np.clip(self.low + made * (self.high - self.low), self.low, self.high)

    def label(self, success: ArrayLike) -> Array:
        """Which goals are of intermediate difficulty. bool [N]

        success: float [N], the share of tries that reached each goal
        Raises ValueError for what is no such share.
        """
        rate = np.asarray(success, np.float64)
        if rate.ndim != 1:
            raise ValueError(f"success has shape {rate.shape}; give [N], a rate for each goal")
        fine = (rate >= 0) & (rate <= 1)
        if not fine.all():
            row = int(np.argmin(fine))
            raise ValueError(f"row {row}: success is {rate[row]}; give the share of tries, 0 to 1")
        return (rate >= self.config.r_min) & (rate <= self.config.r_max)

    def update(
        self, goals: ArrayLike, success: ArrayLike, rng: np.random.Generator | None = None
    ) -> GanLosses:
        """Learn from goals that were tried, and keep the good ones for replay.

        Where none of them is good the networks stay as they are, since nothing says what is
        better. goals: float [N, d] · success: see `label` · rng: the own stream if left out
        Raises ValueError for other shapes or goals outside the bounds, FloatingPointError where
        training diverges; nothing has changed then.
        """
        tried, good = self._checked_goals(goals), self.label(success)
        if len(tried) != len(good):
            raise ValueError(f"goals are {len(tried)} and success {len(good)}; give a rate a goal")
        losses = np.full((1, 2), np.nan)
        if good.any():
            points = (tried - self.low) / (self.high - self.low) * 2 - 1
            trained = self._trained(points, good, self._rng if rng is None else rng)
            losses = trained if len(trained) else losses
            self._keep(tried[good])
        discriminator, generator = losses.mean(axis=0).tolist()
        return GanLosses(discriminator, generator, int(good.sum()), len(self.kept))

    def as_targets(
        self, decoder: Callable[[Array], Array]
    ) -> Callable[[int, np.random.Generator], Array]:
        """(count, rng) -> states [count, ...] at goals of `sample`, for `RecallTraces`.

        decoder: goals [count, d] -> states [count, ...]; `envs.mujoco.GoalDecoder` is one
        """
        return lambda count, rng: decoder(self.sample(count, rng))

    def _trained(self, points: Array, good: Array, rng: np.random.Generator) -> Array:
        """The losses of discriminator and generator at each step. float64 [updates, 2]

        points: float [N, d] in -1 to 1 · good: bool [N]
        """
        said = np.where(good, GOOD, BAD)
        shown, wanted = (
            torch.tensor(part, dtype=torch.float32, device=self.device) for part in (points, said)
        )
        before, stream = self.state_dict(), rng.bit_generator.state
        losses = np.empty((self.config.updates, 2))
        for step in range(self.config.updates):
            drawn = rng.integers(len(points), size=self.config.batch)
            rows = torch.tensor(drawn, device=self.device)
            losses[step] = self._step(shown[rows], wanted[rows], rng)
        learned = all(torch.isfinite(tensor).all() for tensor in self._live().values())
        if not (learned and np.isfinite(losses).all()):
            self.load_state_dict(before)
            rng.bit_generator.state = stream
            raise FloatingPointError(
                "training diverged; lower generator_rate or discriminator_rate"
            )
        return losses

    def _step(self, points: Tensor, wanted: Tensor, rng: np.random.Generator) -> list[float]:
        real = self._judged(points, rng) - wanted
        fake = self._judged(self._made(len(points), rng).detach(), rng) - BAD
        losses = [_descended(self._of_discriminator, real.square().mean() + fake.square().mean())]
        fooling = self._judged(self._made(len(points), rng), rng) - FOOLED
        return [*losses, _descended(self._of_generator, fooling.square().mean())]

    def _made(self, count: int, rng: np.random.Generator) -> Tensor:
        noise = rng.standard_normal((count, self.config.noise_size), np.float32)
        return self.generator(torch.tensor(noise, device=self.device))

    def _judged(self, points: Tensor, rng: np.random.Generator) -> Tensor:
        blur = rng.standard_normal(tuple(points.shape), np.float32) * (2 * self.config.blur)
        return self.discriminator(points + torch.tensor(blur, device=self.device))[:, 0]

    def _keep(self, goals: Array) -> None:
        width = self.high - self.low
        for goal in goals:
            kept = self._replay[: self._kept]
            if np.all(np.linalg.norm((kept - goal) / width, axis=1) > self.config.apart):
                self._replay[self._kept % len(self._replay)] = goal
                self._kept += 1

    def _checked_goals(self, goals: ArrayLike) -> Array:
        tried = np.asarray(goals, np.float64)
        if tried.ndim != 2 or tried.shape[1] != self.size:
            raise ValueError(f"goals have shape {tried.shape}; give [N, {self.size}]")
        inside = (tried >= self.low) & (tried <= self.high)
        if not inside.all():
            row, column = (int(index[0]) for index in np.nonzero(~inside))
            raise ValueError(
                f"row {row}: goals holds {tried[row, column]} in coordinate {column}; "
                f"give {self.low[column]} to {self.high[column]}"
            )
        return tried

    def _description(self) -> dict[str, Any]:
        bounds = {"low": self.low.tolist(), "high": self.high.tolist()}
        return {"class": type(self).__name__, **bounds, **self.config.model_dump(mode="json")}

    def _live(self) -> dict[str, Tensor]:
        return {
            "replay": torch.from_numpy(self._replay),
            "kept": torch.from_numpy(self._kept),
            **training_state("generator", self.generator, self._of_generator),
            **training_state("discriminator", self.discriminator, self._of_discriminator),
        }


def _checked_bounds(low: ArrayLike, high: ArrayLike) -> tuple[Array, Array]:
    least, most = np.array(low, np.float64), np.array(high, np.float64)
    if least.ndim != 1 or not least.size or least.shape != most.shape:
        raise ValueError(f"low and high have shapes {least.shape} and {most.shape}; give [d] both")
    with np.errstate(over="ignore", invalid="ignore"):
        width = most - least
    fine = np.isfinite(width) & (width > 0)
    if not fine.all():
        place = int(np.argmin(fine))
        raise ValueError(
            f"coordinate {place}: low {least[place]} and high {most[place]}; "
            "give finite bounds, low below high"
        )
    return least, most


def _descended(optimizer: torch.optim.Optimizer, loss: Tensor) -> float:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
