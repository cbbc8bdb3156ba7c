"""Batched generation of mazes whose start, goal and proxy cell are connected."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from delegate.backtrack.random_key import level_draws

MAX_ATTEMPTS = 1000
_AT_ONCE = 8192  # levels proposed together; bounds the memory that generation needs

Proposal = Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]


def interior(size: int) -> np.ndarray:
    """Every cell inside the border walls. bool [size, size]"""
    inside = np.zeros((size, size), dtype=bool)
    inside[1:-1, 1:-1] = True
    return inside


def pick(mask: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """One true cell of each mask, uniformly; -1 where there is none.

    mask: bool [N, S] · chance: float64 [N] in [0, 1) · returns int64 [N]
    """
    rank = np.cumsum(mask, axis=1)
    total = rank[:, -1]
    wanted = np.floor(chance * total).astype(np.int64)
    return np.where(total > 0, (rank > wanted[:, None]).argmax(1), -1)


def flood(passable: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Which cells can be walked to from each source.

    passable: bool [N, H, W], never true on the border · source: int [N] · returns bool [N, H*W]
    """
    count, _, width = passable.shape
    cells = passable.reshape(count, -1)
    reached = np.zeros_like(cells)
    reached[np.arange(count), source] = True
    flat, open_cells = reached.reshape(-1), cells.reshape(-1)
    while True:
        grown = flat.copy()
        for shift in (1, width):
            grown[shift:] |= flat[:-shift]
            grown[:-shift] |= flat[shift:]
        grown &= open_cells
        grown |= flat
        if (grown == flat).all():
            return reached
        flat[:] = grown


def solvable(
    seeds: np.ndarray,
    count: int,
    propose: Proposal,
) -> dict[str, np.ndarray]:
    """Propose levels until each is solvable: start, goal and proxy cell connected.

    seeds: int64 [L] · count: random numbers a proposal spends
    propose(index int [n], chance float64 [n, count]) -> {walls, traps bool [n, H, W]; start,
    goal, proxy_goal int [n]}, start or goal -1 where it found no cell
    Raises ValueError naming a seed that gave no solvable level.
    """
    parts = [
        _solvable(seeds, np.arange(first, min(len(seeds), first + _AT_ONCE)), count, propose)
        for first in range(0, len(seeds), _AT_ONCE)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _solvable(
    seeds: np.ndarray, index: np.ndarray, count: int, propose: Proposal
) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    left = np.arange(len(index))
    for attempt in range(MAX_ATTEMPTS):
        levels = propose(index[left], level_draws(seeds[index[left]], attempt, count))
        good = _connected(levels)
        if not found:
            found = {name: np.empty_like(array) for name, array in levels.items()}
        for name, array in levels.items():
            found[name][left[good]] = array[good]
        left = left[~good]
        if not len(left):
            return found
    raise ValueError(
        f"level seed {int(seeds[index[left[0]]])}: no solvable level in {MAX_ATTEMPTS} attempts; "
        "lower the density of walls or traps"
    )


def _connected(levels: dict[str, np.ndarray]) -> np.ndarray:
    rows = np.arange(len(levels["start"]))
    complete = (levels["start"] >= 0) & (levels["goal"] >= 0)
    reached = flood(~(levels["walls"] | levels["traps"]), np.maximum(levels["goal"], 0))
    return complete & reached[rows, levels["start"]] & reached[rows, levels["proxy_goal"]]
