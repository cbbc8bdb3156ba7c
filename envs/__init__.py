"""Worlds that can be saved and restored row by row."""

from envs.adapted.refusal import NotRestorable
from envs.banks import TooFewLevels
from envs.grid.level import concatenate
from envs.gymnasium import adapt
from envs.registry import bank, ids, make, make_rules, mujoco_ids, register, settings_type

register()

__all__ = [
    "NotRestorable",
    "TooFewLevels",
    "adapt",
    "bank",
    "concatenate",
    "ids",
    "make",
    "make_rules",
    "mujoco_ids",
    "register",
    "settings_type",
]
