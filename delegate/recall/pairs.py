"""Pairs of a state and a goal that comes later: what a critic of reachability learns from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from delegate.recall.learned import LearnedBacktrackingModel
from delegate.recall.model import Array, Rng


class PairBatch(NamedTuple):
    """Pairs for each of Λ discounts, and states to tell them from.

    state: float32 [Λ, B, d] k steps before · goal: float32 [Λ, B, d] the goal state, k geometric
    others: float32 [B, d] drawn from the reference's states, whatever came of them
    """

    state: Array
    goal: Array
    others: Array


class Pairs(ABC):
    """Where pairs come from. states: float32 [T, d] all of the reference, μ their density"""

    states: Array

    @abstractmethod
    def draw(self, discounts: tuple[float, ...], count: int, rng: np.random.Generator) -> PairBatch:
        """`count` pairs for each discount λ, k steps apart in proportion to λ^k, k = 0 among them.

        A pair lies within one episode or trace, so that h counts what is reached before its end.
        """

    def _others(self, count: int, rng: np.random.Generator) -> Array:
        return self.states[rng.integers(len(self.states), size=count)]


class RememberedPairs(Pairs):
    """Pairs of states that followed one another in remembered episodes.

    state: float [T, d], in time order within each episode, its last state included
    episode: int [T] which episode each belongs to, those of one side by side
    Raises ValueError for other shapes, what is not finite, or episodes that lie in pieces.
    """

    def __init__(self, state: Array, episode: Array) -> None:
        self.states = _vectors("state", state)
        episode = np.asarray(episode)
        if episode.shape != (len(self.states),):
            raise ValueError(
                f"episode has shape {episode.shape} beside {len(self.states)} states; "
                "give one number a state"
            )
        first = np.flatnonzero(np.append(True, episode[1:] != episode[:-1]))
        if len(np.unique(episode)) < len(first):
            raise ValueError("an episode lies in pieces; put its states side by side, in order")
        length = np.diff(np.append(first, len(episode)))
        self._left = np.repeat(first + length, length) - 1 - np.arange(len(episode))

    @classmethod
    def of_steps(cls, state: Array, next_state: Array, episode: Array) -> RememberedPairs:
        """Those of transitions, in time order within each episode. [T, d], [T, d], int [T]"""
        order = np.argsort(episode, kind="stable")
        state, next_state, episode = state[order], next_state[order], episode[order]
        last = np.flatnonzero(np.append(episode[1:] != episode[:-1], True))
        return cls(
            np.insert(state, last + 1, next_state[last], axis=0),
            np.insert(episode, last + 1, episode[last]),
        )

    def draw(self, discounts: tuple[float, ...], count: int, rng: np.random.Generator) -> PairBatch:
        drawn = [_apart(self._left, discount, count, rng) for discount in discounts]
        first = np.array([row for row, _ in drawn])
        later = first + [k for _, k in drawn]
        return PairBatch(self.states[first], self.states[later], self._others(count, rng))


class RecalledPairs(Pairs):
    """Pairs of a state and what a backtracking model recalls before it.

    Traces are recalled once, from states drawn from the reference's.
    model: over Box states · state: float [T, d] of the reference, at any moment
    ends: states to recall from (count) · length: longest trace (steps): where λ^length is not
        small, what is further back is not seen
    Raises ValueError where no trace goes back a step, and as RememberedPairs.
    """

    def __init__(
        self,
        model: LearnedBacktrackingModel,
        state: Array,
        ends: int,
        length: int,
        rng: Rng = None,
    ) -> None:
        self.states = _vectors("state", state)
        rng = np.random.default_rng(rng)
        traces = model.sample_traces(self._others(ends, rng), length, 1, rng=rng)
        self._traces, self._left = traces.states, traces.valid.sum(1)
        if not self._left.any():
            raise ValueError("the model recalls nothing before these states; train it on more")

    def draw(self, discounts: tuple[float, ...], count: int, rng: np.random.Generator) -> PairBatch:
        drawn = [_apart(self._left, discount, count, rng) for discount in discounts]
        trace, back = (np.array(part) for part in zip(*drawn, strict=True))
        goal, state = self._traces[trace, 0], self._traces[trace, back]
        return PairBatch(state, goal, self._others(count, rng))


def _apart(
    left: Array, discount: float, count: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Rows and distances (row, k), each pair with 0 <= k <= left[row] in proportion to λ^k."""
    total = np.cumsum(1 - discount ** (left + 1))
    row = np.searchsorted(total, rng.random(count) * total[-1], side="right")
    row = np.minimum(row, len(left) - 1)
    within = rng.random(count) * (1 - discount ** (left[row] + 1))
    k = np.floor(np.log1p(-within) / np.log(discount)).astype(np.int64)
    return row, np.clip(k, 0, left[row])


def _vectors(name: str, state: Array) -> Array:
    state = np.asarray(state)
    if state.ndim != 2 or not len(state) or state.dtype.kind != "f":
        raise ValueError(
            f"{name} is {state.dtype} of shape {state.shape}; give floats [T, d], one or more"
        )
    if not np.isfinite(state).all():
        row = int(np.nonzero(~np.isfinite(state))[0][0])
        raise ValueError(f"row {row}: {name} is not finite; leave such episodes out")
    return state.astype(np.float32)
