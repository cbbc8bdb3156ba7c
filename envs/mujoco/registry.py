"""The MuJoCo tasks by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from gymnasium.vector import AutoresetMode
from pydantic import ValidationError

from envs.mujoco.ant import Ant
from envs.mujoco.half_cheetah import HalfCheetah
from envs.mujoco.hopper import Hopper
from envs.mujoco.humanoid import Humanoid
from envs.mujoco.reacher import Reacher
from envs.mujoco.task import Task, TaskSettings
from envs.mujoco.vector import MujocoVectorEnv
from envs.mujoco.walker2d import Walker2d

TASKS: dict[str, type[Task]] = {
    task.id: task for task in (Ant, HalfCheetah, Hopper, Humanoid, Reacher, Walker2d)
}
OPTIONS = ("num_threads", "autoreset_mode", "render_mode")
"""settings of the batch rather than of the task"""


def make(id: str, num_envs: int = 1, **settings: Any) -> MujocoVectorEnv:
    """A batch of `num_envs` rows of one task.

    settings: Gymnasium's for the task (see `settings_type(id)`), and of the batch: num_threads
    (None: one a processor), autoreset_mode, render_mode
    Raises ValueError for an unknown setting and for bad values.
    """
    options = {name: settings.pop(name) for name in OPTIONS if name in settings}
    threads = options.pop("num_threads", None)
    if threads is None:
        threads = min(len(os.sched_getaffinity(0)), num_envs)
    mode = AutoresetMode(options.pop("autoreset_mode", AutoresetMode.NEXT_STEP))
    return MujocoVectorEnv(
        TASKS[id],
        make_settings(id, settings),
        num_envs,
        num_threads=threads,
        autoreset_mode=mode,
        **options,
    )


def make_settings(id: str, settings: Mapping[str, Any]) -> TaskSettings:
    """The settings of a task, checked."""
    try:
        return settings_type(id)(**settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}: " for part in first["loc"])
        given = f", not {first['input']!r}" if first["loc"] else ""
        raise ValueError(f"{id}: {place}{first['msg']}{given}") from None


def settings_type(id: str) -> type[TaskSettings]:
    """The pydantic model of a task's settings."""
    return TASKS[id].settings_type
