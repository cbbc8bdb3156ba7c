"""Worlds that can be saved and restored row by row."""

from envs.banks import TooFewLevels
from envs.grid.level import concatenate
from envs.registry import bank, ids, make, make_rules, mujoco_ids, register, settings_type

register()

__all__ = [
    "TooFewLevels",
    "bank",
    "concatenate",
    "ids",
    "make",
    "make_rules",
    "mujoco_ids",
    "register",
    "settings_type",
]
