"""Small finite worlds whose every number can be enumerated."""

from __future__ import annotations

import numpy as np

from delegate.recall import TransitionTable


def random_table(
    seed: int,
    levels: int = 1,
    states: int = 4,
    actions: int = 2,
    outcomes: int = 3,
    ends: bool = True,
) -> TransitionTable:
    """Random outcomes, some of them twice the same state; with `ends`, some states terminal."""
    rng = np.random.default_rng(seed)
    shape = (levels, states, actions, outcomes)
    terminal = (rng.random((levels, states)) < 0.25) & ends
    probability = rng.dirichlet(np.ones(outcomes), shape[:3]) * ~terminal[:, :, None, None]
    return TransitionTable(
        rng.integers(0, states, shape), probability, terminal, np.ones((levels, states), bool)
    )


def maze(rows: list[str], slip: float = 0.0) -> TransitionTable:
    """One grid level: `#` wall, `G` terminal, anything else open; up, right, down, left.

    slip: probability that the move goes in a uniformly random direction instead
    """
    picture = np.array([list(row) for row in rows])
    height, width = picture.shape
    open_cell = (picture != "#").ravel()
    terminal = (picture == "G").ravel()
    moves = [(-1, 0), (0, 1), (1, 0), (0, -1)]
    lands = np.zeros((height * width, 4), np.int64)
    for cell in range(height * width):
        for action, (down, right) in enumerate(moves):
            row, column = cell // width + down, cell % width + right
            inside = 0 <= row < height and 0 <= column < width
            free = inside and open_cell[row * width + column]
            lands[cell, action] = row * width + column if free else cell
    chance = np.full((4, 4), slip / 4) + np.eye(4) * (1 - slip)
    leads = (open_cell & ~terminal)[:, None, None]
    if slip:
        next_state = np.repeat(lands[:, None, :], 4, axis=1)
        probability = chance[None] * leads
    else:
        next_state, probability = lands[:, :, None], 1.0 * np.repeat(leads, 4, axis=1)
    return TransitionTable(next_state[None], probability[None], terminal[None], open_cell[None])


def dense(table: TransitionTable, level: int = 0) -> np.ndarray:
    """P(s' | s, a) as [S, A, S'], outcome by outcome in a plain loop."""
    states, actions, outcomes = table.probability.shape[1:]
    P = np.zeros((states, actions, states))
    for s in range(states):
        for a in range(actions):
            for k in range(outcomes):
                P[s, a, table.next_state[level, s, a, k]] += table.probability[level, s, a, k]
    return P


def bayes(P: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """q(s, a | s') as [S', S, A] by Bayes' rule in a plain loop; zeros where nothing leads to s'.

    P: [S, A, S'] · weights: [S, A]
    """
    states, actions, _ = P.shape
    q = np.zeros((states, states, actions))
    for after in range(states):
        for s in range(states):
            for a in range(actions):
                q[after, s, a] = weights[s, a] * P[s, a, after]
        if (total := q[after].sum()) > 0:
            q[after] /= total
    return q
