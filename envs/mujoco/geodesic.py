"""Shortest ways among the walls of a maze, kept clear of them: how long, and where to first."""

from __future__ import annotations

import numpy as np
from scipy.sparse.csgraph import shortest_path

from delegate.envs.mujoco.maze import WALL, Maze

_GRAZE = 1e-6
"""how far a way may cut into what it keeps clear of: it leads along it (m)"""


class Geodesics:
    """Ways from anywhere in a maze to given places, by the corners they turn around.

    places: float64 [K, 2] (m) · clearance: kept from every wall, in x or in y (m)
    """

    def __init__(self, maze: Maze, places: np.ndarray, clearance: float) -> None:
        self._maze, self._clearance = maze, clearance
        solid = np.array([[kind == WALL for kind in row] for row in maze.cells])
        # A way between two free places never meets a closed border: what it leaves free is convex.
        around = np.ones_like(solid)
        around[1:-1, 1:-1] = False
        inner = solid & ~around if solid[around].all() else solid
        middles = np.array([maze.position(cell) for cell in np.argwhere(inner)]).reshape(-1, 2)
        half = maze.scaling / 2 + clearance - _GRAZE
        self._low, self._high = middles - half, middles + half
        self.corners = self._corners(solid)
        nodes = np.concatenate([self.corners, places])
        lengths = self._lengths(nodes, nodes)
        ways = shortest_path(np.where(np.isfinite(lengths), lengths, 0.0), directed=False)
        count = len(self.corners)
        self._places, self._onward = places, ways[:count, count:]
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def distance(self, positions: np.ndarray) -> np.ndarray:
        """How far each place is by the shortest way: float64 [N, K] (m). positions: [N, 2]"""
        return self._ways(positions).min(axis=1)

    def waypoint(self, positions: np.ndarray, place: np.ndarray) -> np.ndarray:
        """What to walk to in a straight line: the place, or the corner before it. float64 [N, 2]

        place: int [N]
        """
        first = self._ways(positions)[np.arange(len(place)), :, place].argmin(axis=1)
        corner = self.corners[np.maximum(first - 1, 0)]
        return np.where((first == 0)[:, None], self._places[place], corner)

    def _ways(self, positions: np.ndarray) -> np.ndarray:
        """Lengths of the straight way, then of those by each corner: [N, 1 + C, K].

        Controllers and judges ask several things of one moment, so the last answer is kept.
        """
        if self._last is not None and np.array_equal(self._last[0], positions):
            return self._last[1]
        free = self._maze.nearest(np.asarray(positions, np.float64), self._clearance)
        by = self._lengths(free, self.corners)[:, :, None] + self._onward
        straight = self._lengths(free, self._places)
        found = np.concatenate([straight[:, None], by], axis=1)
        self._last = np.array(positions), found
        return found

    def _corners(self, solid: np.ndarray) -> np.ndarray:
        """Where ways turn: diagonally off each corner of a wall that juts out. [C, 2]"""
        found = []
        for row in range(1, solid.shape[0]):
            for column in range(1, solid.shape[1]):
                around = solid[row - 1 : row + 1, column - 1 : column + 1]
                if around.sum() == 1:
                    below, right = np.argwhere(around)[0]
                    middle = self._maze.position((row - 1 + below, column - 1 + right))
                    off = self._maze.scaling / 2 + self._clearance
                    found.append(middle + off * np.array([1 - 2 * right, 2 * below - 1]))
        return np.array(found).reshape(-1, 2)

    def _lengths(self, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Straight lengths, inf where a wall is in between. [n, 2], [m, 2] -> [n, m]"""
        along = end - start[:, None]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            near = (self._low - start[:, None])[:, None] / along[:, :, None]
            far = (self._high - start[:, None])[:, None] / along[:, :, None]
        inside = (start[:, None] > self._low) & (start[:, None] < self._high)
        still = along[:, :, None] == 0
        first = np.where(still, np.where(inside[:, None], -np.inf, np.inf), np.minimum(near, far))
        last = np.where(still, np.where(inside[:, None], np.inf, -np.inf), np.maximum(near, far))
        enters, leaves = first.max(axis=-1), last.min(axis=-1)
        blocked = (enters < leaves) & (leaves > 0) & (enters < 1)
        return np.where(blocked.any(axis=-1), np.inf, np.linalg.norm(along, axis=-1))
