"""From a place to go to, to the state of having arrived there: the body stands there, at rest.

    decode = GoalDecoder("AntMaze_UMaze-v5")
    decode(goals)                            # [N, 2] -> flat observations [N, 109]

The decoder g -> s that Recall Traces (arXiv 1804.00379) puts behind a Goal GAN.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import mujoco
import numpy as np
from numpy.typing import ArrayLike

from delegate.backtrack.state import Snapshot
from delegate.envs.mujoco.maze_tasks import AntMaze, PointMaze
from delegate.envs.mujoco.registry import make

ROWS = 64
"""states made at a time"""
STILL = 1e-9
"""a body has settled once no velocity is above this (m/s, rad/s)"""
PATIENCE = 5_000
"""steps without force within which it must"""


class GoalDecoder:
    """States of a maze in which its body stands still at given places, as the world computes them.

    The body is let go where episodes begin, without force, until it has settled; that pose it
    takes everywhere, with all velocities 0. The point mass stays as it is; the Ant stands upright
    on its four feet, torso 0.38 m high, which is not the pose of a reset: from that it falls. Its
    contact forces are those of standing there. The goal observed as desired is the place itself.
    Places in walls, or so near to one that the body might touch it, and places outside the maze
    are moved to the nearest one that is free; `nearest` says where.

    id: PointMaze_UMaze-v3 or AntMaze_UMaze-v5 · settings: of the task, see `envs.mujoco.make`,
    and `autoreset_mode`, which only snapshots depend on
    space: Box [d], gymnasium.spaces.flatten_space of the world's observation space, as
    gymnasium.wrappers.FlattenObservation has it: achieved goal, desired goal, observation
    Raises ValueError for another task or setting, a maze too narrow for the body, and a body
    that does not settle.
    """

    space: gymnasium.spaces.Box

    def __init__(self, id: str, **settings: Any) -> None:
        known = (PointMaze.id, AntMaze.id)
        if id not in known:
            raise ValueError(f"{id!r} is not sent to places; give {' or '.join(known)}")
        self._world = make(id, ROWS, num_threads=1, **settings)
        self._world.reset(seed=0)
        self._task: Any = self._world.task
        self._spaces: Any = self._world.single_observation_space
        self.space = gymnasium.spaces.flatten_space(self._spaces)  # type: ignore[assignment]
        self._pose = self._settled()
        self._clearance = self._reach()
        self.nearest(np.zeros((1, 2)))

    def __call__(self, goals: ArrayLike) -> np.ndarray:
        """Flat observations of standing there. float64 [N, d]

        goals: float [N, 2] (m)
        Raises ValueError for another shape, or a place that is not finite.
        """
        found = np.empty((len(places := self.nearest(goals)), *self.space.shape))
        for chosen in self._stand(places):
            observed = self._world.observe(np.arange(len(places[chosen])))
            found[chosen] = np.concatenate([observed[name] for name in self._spaces], axis=1)
        return found

    def snapshot(self, goals: ArrayLike) -> Snapshot:
        """The same states, N rows at the beginning of an episode, to `restore` into a world of the
        same settings; with rng="fresh", since the random streams in it are always the same.

        goals: float [N, 2] (m); raises ValueError as decoding does
        """
        places = self.nearest(goals)
        live = self._world.state_arrays()
        arrays = {n: np.empty((len(places), *a.shape[1:]), a.dtype) for n, a in live.items()}
        for chosen in self._stand(places):
            for name, array in arrays.items():
                array[chosen] = live[name][: len(places[chosen])]
        return Snapshot(self._world.world, arrays)

    def nearest(self, goals: ArrayLike) -> np.ndarray:
        """Where the body is put for those goals: there, or at the nearest place that is free.

        goals: float [N, 2] (m), returned likewise; raises ValueError as decoding does
        """
        return self._task.maze.nearest(_checked(goals), self._clearance)

    def _stand(self, places: np.ndarray) -> Iterator[slice]:
        """Put the first rows of the world at some of those places after others, and say which."""
        task = self._task
        force = np.zeros((ROWS, task.model.nu))
        for first in range(0, len(places), ROWS):
            chosen = slice(first, first + ROWS)
            rows = np.arange(len(places[chosen]))
            qpos = np.tile(self._pose, (len(rows), 1))
            qpos[:, :2] = places[chosen]
            task.begin(rows, [(row, task.init_qvel) for row in qpos])
            standing = task.physics.state[rows].copy()
            task.advance(rows, force)  # only a step says which forces the ground returns
            task.keep(rows)
            task.physics.state[rows] = standing
            for array in task.goals.saved.values():
                array[rows] = places[chosen]
            yield chosen

    def _settled(self) -> np.ndarray:
        """qpos [nq] of the body at rest, somewhere."""
        task, row = self._task, np.zeros(1, np.int64)
        qpos = task.init_qpos.copy()
        qpos[:2] = task.maze.starts[0]
        task.begin(row, [(qpos, task.init_qvel)])
        for _ in range(PATIENCE):
            if failed := task.advance(row, np.zeros((ROWS, task.model.nu))):
                raise ValueError(f"{task.id}: let go, the body comes to harm: {failed[0]}")
            if np.abs(task.qvel[0]).max() <= STILL:
                return task.qpos[0].copy()
        raise ValueError(
            f"{task.id}: let go, the body still moves after {PATIENCE} steps; "
            "give an xml_file whose body comes to rest"
        )

    def _reach(self) -> float:
        """How far from its place the settled body might touch a wall, in x or in y (m)."""
        model = self._task.model
        data = mujoco.MjData(model)
        data.qpos[:] = self._pose
        mujoco.mj_kinematics(model, data)
        body = model.geom_bodyid > 0
        offset = np.abs(data.geom_xpos[body, :2] - self._pose[:2]).max(axis=1)
        margin = model.geom_margin[body] + model.geom_margin.max()
        return float((offset + model.geom_rbound[body] + margin).max())


def _checked(goals: ArrayLike) -> np.ndarray:
    places = np.asarray(goals, np.float64)
    if places.ndim != 2 or places.shape[1] != 2:
        raise ValueError(f"goals have shape {places.shape}; give [N, 2], x and y")
    if not np.isfinite(places).all():
        row = int(np.argmin(np.isfinite(places).all(axis=1)))
        raise ValueError(f"row {row}: goals holds {places[row].tolist()}; give finite places")
    return places
