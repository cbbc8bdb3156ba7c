"""The MuJoCo tasks by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from pydantic import ValidationError

from delegate.backtrack.autoreset import mode_of
from delegate.envs.mujoco.ant import Ant
from delegate.envs.mujoco.ant_maze import AntMaze
from delegate.envs.mujoco.half_cheetah import HalfCheetah
from delegate.envs.mujoco.hopper import Hopper
from delegate.envs.mujoco.humanoid import Humanoid
from delegate.envs.mujoco.point_maze import PointMaze
from delegate.envs.mujoco.reacher import Reacher
from delegate.envs.mujoco.task import Task, TaskSettings
from delegate.envs.mujoco.vector import MujocoVectorEnv
from delegate.envs.mujoco.walker2d import Walker2d
from delegate.scenario.validation import unknown

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
    checked = make_settings(id, settings)
    if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
        raise ValueError(f"num_envs is {num_envs!r}; give an integer, at least 1")
    if num_threads is None:
        num_threads = os.cpu_count() or 1
    elif isinstance(num_threads, bool) or not isinstance(num_threads, int) or num_threads < 1:
        raise ValueError(f"num_threads is {num_threads!r}; give an integer, at least 1, or None")
    mode = mode_of(autoreset_mode)
    if render_mode not in (None, "rgb_array"):
        raise ValueError(f"render_mode is {render_mode!r}; give None or 'rgb_array'")
    return MujocoVectorEnv(
        TASKS[id],
        checked,
        int(num_envs),
        num_threads=min(num_threads, int(num_envs)),
        autoreset_mode=mode,
        render_mode=render_mode,
    )


def make_settings(id: str, settings: Mapping[str, Any]) -> TaskSettings:
    """The settings of a task, checked. Raises ValueError as `make` does."""
    known = settings_type(id)
    for name in settings:
        if name not in known.model_fields:
            accepted = [*known.model_fields, *OPTIONS]
            raise ValueError(unknown(f"setting of {id}", name, accepted))
    try:
        return known(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}: " for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        given = f", not {first['input']!r}" if first["loc"] else ""
        raise ValueError(f"{id}: {place}{message}{given}") from None


def settings_type(id: str) -> type[TaskSettings]:
    """The pydantic model of a task's settings. Raises ValueError for an unknown id."""
    if id not in TASKS:
        raise ValueError(unknown("MuJoCo task", str(id), sorted(TASKS)))
    return TASKS[id].settings_type
