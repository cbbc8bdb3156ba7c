"""Worlds that can be saved and restored row by row."""

from delegate.envs.adapted.kinds import NotRestorable
from delegate.envs.banks import TooFewLevels
from delegate.envs.grid.level import concatenate
from delegate.envs.gymnasium import Certificate, adapt, certify
from delegate.envs.registry import bank, ids, make, make_rules, mujoco_ids, register, settings_type

register()

__all__ = [
    "Certificate",
    "NotRestorable",
    "TooFewLevels",
    "adapt",
    "bank",
    "certify",
    "concatenate",
    "ids",
    "make",
    "make_rules",
    "mujoco_ids",
    "register",
    "settings_type",
]
