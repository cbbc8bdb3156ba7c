"""Backward policies: the joint weight w(s, a) that a backtracking model gives each (s, a)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from delegate.recall.table import TransitionTable

Backward = Literal["uniform", "moving"] | np.ndarray
"""how the past is weighted: by name, or weights [S, A] or [L, S, A], 0 or more"""


def moving_weights(table: TransitionTable, staying: float = 0.05) -> np.ndarray:
    """1 for an action that surely leaves its state, `staying` for one that surely does not.

    In between, in proportion: staying + (1 - staying) P(s' is not s | s, a); float64 [L, S, A].
    Uniform weights recall a child that walks into walls as often as along corridors. In a
    grid that makes four equally likely pasts of every cell, save at ends and beside them,
    where fewer edges come in; -log q then tells little more than where episodes end.
    staying: in [0, 1]; 1 gives uniform weights, 0 recalls no step that stays in place
    """
    if not 0 <= staying <= 1:
        raise ValueError(f"staying is {staying}; give a number from 0 to 1")
    here = np.arange(table.num_states)[None, :, None, None]
    stays = (table.probability * (table.next_state == here)).sum(3)
    return np.asarray(staying + (1 - staying) * (1 - stays))


def backward_weights(table: TransitionTable, backward: Backward) -> np.ndarray:
    """w as float64 [L, S, A].

    Raises ValueError for an unknown name, another shape, or a weight negative or not finite.
    """
    wanted = table.probability.shape[:3]
    if isinstance(backward, str):
        if backward == "uniform":
            return np.ones(wanted)
        if backward == "moving":
            return moving_weights(table)
        raise ValueError(
            f'backward is "{backward}"; give "uniform", "moving" or an array of weights'
        )
    weights = np.asarray(backward, np.float64)
    if weights.shape not in (wanted, wanted[1:]):
        raise ValueError(
            f"backward has shape {weights.shape}; give {wanted[1:]} for all levels or {wanted}"
        )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("backward holds a negative or non-finite weight; give 0 or more")
    return np.broadcast_to(weights, wanted)
