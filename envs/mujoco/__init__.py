"""MuJoCo tasks whose rows can be saved and restored, equal to Gymnasium's bit for bit."""

from delegate.envs.mujoco.goal_decoder import GoalDecoder
from delegate.envs.mujoco.registry import TASKS, make, settings_type
from delegate.envs.mujoco.rendering import RenderingUnavailable
from delegate.envs.mujoco.vector import Diverged, MujocoVectorEnv

__all__ = [
    "TASKS",
    "Diverged",
    "GoalDecoder",
    "MujocoVectorEnv",
    "RenderingUnavailable",
    "make",
    "settings_type",
]
