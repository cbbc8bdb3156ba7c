"""Walker2d: walk forward on two legs in the plane; falling ends the episode.

Reward: forward velocity and a bonus for being upright, less a cost of control. After Gymnasium's
Walker2d-v5, which follows its Hopper.
"""

from __future__ import annotations

from delegate.envs.mujoco.hopper import Upright, UprightSettings
from delegate.envs.mujoco.task import Range


class Walker2dSettings(UprightSettings):
    """env: {id: Walker2d-v5, healthy_angle_range: [-1.0, 1.0]}"""

    xml_file: str = "walker2d_v5.xml"
    healthy_z_range: Range = (0.8, 2.0)
    healthy_angle_range: Range = (-1.0, 1.0)


class Walker2d(Upright):
    """See the module."""

    id = "Walker2d-v5"
    settings_type = Walker2dSettings
