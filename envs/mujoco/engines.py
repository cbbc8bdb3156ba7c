"""Which engine computes the physics of a task."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco

from delegate.envs.mujoco.native import BatchPhysics, available
from delegate.envs.mujoco.physics import Physics
from delegate.envs.mujoco.profiler import stop_profiler
from delegate.envs.mujoco.threads import ThreadedPhysics

stop_profiler()  # when imported, because no simulation may be under way


def make_physics(
    model: mujoco.MjModel,
    rows: int,
    threads: int,
    fields: Sequence[str] = (),
    contact_forces: bool = False,
) -> Physics:
    """The fastest engine that can give those MjData fields.

    contact_forces: run mj_rnePostConstraint after every step, so that cfrc_ext is current
    """
    if available() and not contact_forces:
        return BatchPhysics(model, rows, threads, fields)
    return ThreadedPhysics(model, rows, threads, fields, contact_forces)
