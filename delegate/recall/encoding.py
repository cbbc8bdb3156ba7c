"""Transitions as the networks take them, and what is read off several networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Encoded(NamedTuple):
    """Rows as the networks take them; the first axis is 1 where all members see the same.

    inputs: float32 [M or 1, B, width] · action, state: targets of the heads, likewise
    choices: bool [M or 1, B, choices] or None
    """

    inputs: Tensor
    action: Tensor
    state: Tensor
    choices: Tensor | None

    def take(self, rows: Tensor) -> list[Encoded]:
        """Batches of those rows, int64 [batches, M, B]: those of each member."""
        flat = rows.flatten()

        def part(values: Tensor) -> Tensor:
            return values[0].index_select(0, flat)[None]

        choices = None if self.choices is None else part(self.choices)
        drawn = Encoded(part(self.inputs), part(self.action), part(self.state), choices)
        return drawn.split(rows.shape)

    def split(self, shape: Sequence[int]) -> list[Encoded]:
        """All rows, one after the other, as batches. shape: batches, M, B"""
        count = shape[0]
        parts = (
            [None] * count if part is None else part[0].view(*shape, *part.shape[2:]).unbind()
            for part in self
        )
        return [Encoded(*batch) for batch in zip(*parts, strict=True)]

    def for_all(self, members: int) -> Encoded:
        """The same rows for each member."""
        return self._replace(inputs=self.inputs.expand(members, -1, -1))


def mean_density(log_prob: Tensor) -> Tensor:
    """log of the mean over members of exp of [M, B] -> float64 [B]."""
    log_prob = log_prob.double()
    if len(log_prob) == 1:
        return log_prob[0]
    return torch.logsumexp(log_prob, 0) - math.log(len(log_prob))


def among(outputs: Tensor, choices: Tensor | None) -> Tensor:
    """Logits [M, B, choices], -inf for what is no choice."""
    return outputs if choices is None else outputs.masked_fill_(~choices, -math.inf)
