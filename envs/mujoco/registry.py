"""The MuJoCo tasks by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from delegate.backtrack.autoreset import mode_of
from delegate.envs.mujoco.ant import Ant
from delegate.envs.mujoco.humanoid import Humanoid
from delegate.envs.mujoco.maze_tasks import AntMaze, PointMaze
from delegate.envs.mujoco.planar import HalfCheetah, Hopper, Walker2d
from delegate.envs.mujoco.reacher import Reacher
from delegate.envs.mujoco.task import Task, TaskSettings
from delegate.envs.mujoco.vector import MujocoVectorEnv
from delegate.settings import checked, known

TASKS: dict[str, type[Task]] = {
    task.id: task
    for task in (Ant, AntMaze, HalfCheetah, Hopper, Humanoid, PointMaze, Reacher, Walker2d)
}
OPTIONS = ("num_threads", "autoreset_mode", "render_mode")
"""settings of the batch rather than of the task"""


def make(
    id: str,
    num_envs: int = 1,
    *,
    num_threads: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
    **settings: Any,
) -> MujocoVectorEnv:
    """A batch of `num_envs` rows of one task.

    num_threads: for the physics, at most one a row; None: one a processor. What comes out does
    not depend on it.
    autoreset_mode: may also be its value ("NextStep", "SameStep", "Disabled"), as in YAML
    render_mode: None or "rgb_array"
    settings: of the task, Gymnasium's names; see `settings_type(id)`
    Raises ValueError for an unknown id or setting, naming the nearest, and for bad values.
    """
    chosen = make_settings(id, settings)
    if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
        raise ValueError(f"num_envs is {num_envs!r}; give an integer, at least 1")
    if num_threads is None:
        num_threads = os.cpu_count() or 1
    elif isinstance(num_threads, bool) or not isinstance(num_threads, int) or num_threads < 1:
        raise ValueError(f"num_threads is {num_threads!r}; give an integer, at least 1, or None")
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode is {render_mode!r}; give None or 'rgb_array'")
    return MujocoVectorEnv(
        TASKS[id],
        chosen,
        int(num_envs),
        num_threads=min(num_threads, int(num_envs)),
        autoreset_mode=mode_of(autoreset_mode),
        render_mode=render_mode,
    )


def make_settings(id: str, settings: Mapping[str, Any]) -> TaskSettings:
    """The settings of a task, checked. Raises ValueError as `make` does."""
    return checked(id, settings_type(id), settings, OPTIONS)


def settings_type(id: str) -> type[TaskSettings]:
    """The pydantic model of a task's settings. Raises ValueError for an unknown id."""
    return TASKS[known("MuJoCo task", id, sorted(TASKS))].settings_type
