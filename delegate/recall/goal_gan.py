"""Goal GAN: a generator of goals that a policy reaches now and then, not always.

    gan = GoalGan(low=[-1.5, -1.5], high=[1.5, 1.5])
    goals = gan.sample(300)                  # try them, many times each
    gan.update(goals, success)               # the share of tries that reached each
    RecallTraces(targets_from=gan.as_targets(decoder))

Source: Florensa, Held, Geng and Abbeel, Automatic Goal Generation for Reinforcement Learning
Agents (arXiv 1705.06366), section 4: a least-squares GAN (Mao and others, arXiv 1611.04076) that
also learns from the goals that were too easy or too hard.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from delegate.recall import saving
from delegate.recall.config import GoalGanConfig
from delegate.recall.least_squares_gan import LeastSquaresGan
from delegate.settings import checked

GoalSource = Callable[[int, np.random.Generator], np.ndarray]
"""(count, rng) -> states [count, ...]"""
Decoder = Callable[[np.ndarray], np.ndarray]
"""goals [N, d] -> states [N, ...]"""


@dataclass(frozen=True)
class GanLosses:
    """What `GoalGan.update` did.

    discriminator, generator: least-squares losses, means over the optimiser steps; NaN where
    there were none
    good: goals labelled good · kept: goals kept for replay by now (counts)
    """

    discriminator: float
    generator: float
    good: int
    kept: int


class GoalGan:
    """Proposes goals of intermediate difficulty, and learns from how they went.

    low, high: float [d], bounds of the goals, in their own units
    config: settings; `settings` replaces single ones
    seed: of the first weights, and of everything drawn where no rng is given; nothing is taken
    from global random numbers
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
        given = {} if config is None else config.model_dump()
        self.config = checked("GoalGan", GoalGanConfig, {**given, **settings})
        self._rng = np.random.default_rng([seed, 23])
        self._gan = LeastSquaresGan(self.size, self.config, seed, torch.device(device))
        self._replay = np.zeros((self.config.capacity, self.size))
        self._kept = 0  # so far, forgotten ones included

    @property
    def size(self) -> int:
        """d, numbers in a goal."""
        return len(self.low)

    @property
    def kept(self) -> np.ndarray:
        """The goals kept for replay, a copy. float64 [K, d]"""
        return self._replay[: self._kept].copy()

    def sample(self, count: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """Goals to try next: replayed, uniform and generated ones, mixed. float64 [count, d]

        All are uniform until a goal has been labelled good. rng: the own stream if left out
        Raises ValueError for a negative count.
        """
        rng = self._stream(count, rng)
        if not self._kept:
            return self._uniform(count, rng)
        old = round(count * self.config.replayed)
        uniform = round((count - old) * self.config.uniform)
        kept = self._replay[: self._kept]
        chosen = rng.choice(len(kept), old, replace=old > len(kept))
        parts = (
            kept[chosen],
            self._uniform(uniform, rng),
            self.generate(count - old - uniform, rng),
        )
        return rng.permutation(np.concatenate(parts))

    def generate(self, count: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """Goals of the generator alone, with `jitter`, inside the bounds. float64 [count, d]

        Raises ValueError for a negative count.
        """
        rng = self._stream(count, rng)
        made = self._gan.generate(count, rng) / 2 + 0.5
        made += rng.normal(scale=self.config.jitter, size=made.shape)
        return np.clip(self.low + made * (self.high - self.low), self.low, self.high)

    def label(self, success: ArrayLike) -> np.ndarray:
        """Which goals are of intermediate difficulty. bool [N]

        success: float [N], the share of tries that reached each goal
        Raises ValueError for what is no such share.
        """
        rate = _checked_success(success)
        return (rate >= self.config.r_min) & (rate <= self.config.r_max)

    def update(
        self, goals: ArrayLike, success: ArrayLike, rng: np.random.Generator | None = None
    ) -> GanLosses:
        """Learn from goals that were tried, and keep the good ones for replay.

        Where none of them is good the networks stay as they are, since nothing says what is
        better. goals: float [N, d], inside the bounds · success: see `label`
        rng: the own stream if left out
        Raises ValueError for other shapes and for values outside the bounds, and
        FloatingPointError where training diverges; nothing has changed then.
        """
        tried, good = self._checked_goals(goals), self.label(success)
        if len(tried) != len(good):
            raise ValueError(f"goals are {len(tried)} and success {len(good)}; give a rate a goal")
        discriminator, generator = math.nan, math.nan
        if good.any():
            points = (tried - self.low) / (self.high - self.low) * 2 - 1
            losses = self._gan.train(points, good, self._rng if rng is None else rng)
            self._keep(tried[good])
            if len(losses):
                discriminator, generator = losses.mean(axis=0).tolist()
        kept = min(self._kept, len(self._replay))
        return GanLosses(discriminator, generator, int(good.sum()), kept)

    def as_targets(self, decoder: Decoder) -> GoalSource:
        """(count, rng) -> states [count, ...] at goals of `sample`, for `RecallTraces`.

        decoder: goals [count, d] -> states [count, ...]; `envs.mujoco.GoalDecoder` is one
        """

        def targets(count: int, rng: np.random.Generator) -> np.ndarray:
            states = np.asarray(decoder(self.sample(count, rng)))
            if not states.ndim or len(states) != count:
                raise ValueError(
                    f"decoder made states of shape {states.shape} of {count} goals; "
                    f"give one that returns [{count}, ...]"
                )
            return states

        return targets

    def save(self, path: str | Path) -> None:
        """Write all there is to a file, whole or not at all: networks, optimisers, kept goals and
        the state of the random stream, so that training goes on as if never stopped."""
        stream = {"kept": self._kept, "rng": self._rng.bit_generator.state}
        saving.write(Path(path), self._description(), stream, self._tensors())

    def load(self, path: str | Path) -> None:
        """Become the Goal GAN that was saved there.

        Raises FileNotFoundError, or ValueError where the file is not one of `save` or of other
        settings or bounds; this one is then as it was.
        """
        mine = self._tensors()
        stream, tensors = saving.read(Path(path), self._description(), mine)
        rng, kept = saving.stream_from(path, stream.get("rng", {})), stream.get("kept")
        if not isinstance(kept, int) or kept < 0:
            raise ValueError(f"{path} does not say how many goals were kept; train anew")
        self._rng, self._kept = rng, kept
        for name, tensor in mine.items():
            tensor.copy_(tensors[name])

    def _keep(self, goals: np.ndarray) -> None:
        width = self.high - self.low
        for goal in goals:
            kept = self._replay[: self._kept]
            if np.all(np.linalg.norm((kept - goal) / width, axis=1) > self.config.apart):
                self._replay[self._kept % len(self._replay)] = goal
                self._kept += 1

    def _uniform(self, count: int, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(self.low, self.high, (count, self.size))

    def _stream(self, count: int, rng: np.random.Generator | None) -> np.random.Generator:
        if count < 0:
            raise ValueError(f"count is {count} goals; give 0 or more")
        return self._rng if rng is None else rng

    def _checked_goals(self, goals: ArrayLike) -> np.ndarray:
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
        return {"model": type(self).__name__, **bounds, **self.config.model_dump(mode="json")}

    def _tensors(self) -> dict[str, Tensor]:
        return {"replay": torch.from_numpy(self._replay), **self._gan.tensors()}


def _checked_bounds(low: ArrayLike, high: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
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


def _checked_success(success: ArrayLike) -> np.ndarray:
    rate = np.asarray(success, np.float64)
    if rate.ndim != 1:
        raise ValueError(f"success has shape {rate.shape}; give [N], a rate for each goal")
    fine = (rate >= 0) & (rate <= 1)
    if not fine.all():
        row = int(np.argmin(fine))
        raise ValueError(f"row {row}: success is {rate[row]}; give the share of tries, 0 to 1")
    return rate
