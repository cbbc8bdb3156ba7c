"""Worlds that can be saved and restored row by row."""

from delegate.envs.adapted.kinds import NotRestorable
from delegate.envs.banks import TooFewLevels
from delegate.envs.gymnasium import Certificate, adapt, certify
from delegate.envs.levels import concatenate
from delegate.envs.registry import (
    ids,
    levels,
    make,
    make_bank,
    make_rules,
    make_world,
    mujoco_ids,
    register,
    settings_type,
    world_ids,
    world_type,
)

register()

__all__ = [
    "Certificate",
    "NotRestorable",
    "TooFewLevels",
    "adapt",
    "certify",
    "concatenate",
    "ids",
    "levels",
    "make",
    "make_bank",
    "make_rules",
    "make_world",
    "mujoco_ids",
    "register",
    "settings_type",
    "world_ids",
    "world_type",
]
