"""The physics of B rows of one model: integration state as rows of one array.

Two engines with one face, equal bit for bit: `mujoco.batch` (MuJoCo 4, C++ threads), and an
`MjData` a row on Python threads (`threads.py`), for older versions and for what the former cannot
compute: contact forces after the step, which Ant and Humanoid observe.
"""

from __future__ import annotations

from typing import Protocol

import mujoco
import numpy as np

STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)
"""all that a step depends on, the solver's warm start included"""

WARNINGS = {
    int(mujoco.mjtWarning.mjWARN_BADQPOS): "mjWARN_BADQPOS: NaN or huge position",
    int(mujoco.mjtWarning.mjWARN_BADQVEL): "mjWARN_BADQVEL: NaN or huge velocity",
    int(mujoco.mjtWarning.mjWARN_BADQACC): "mjWARN_BADQACC: NaN or huge acceleration",
    int(mujoco.mjtWarning.mjWARN_BADCTRL): "mjWARN_BADCTRL: NaN or huge control",
}
"""the warnings after which MuJoCo silently resets the simulation, or ignores its control"""

FATAL = np.array(sorted(WARNINGS))


Failures = dict[int, str]
"""row -> what MuJoCo said"""


class Physics(Protocol):
    """B simulations of one model.

    state: float64 [B, nstate], the integration state; whoever writes rows calls `written`
    """

    model: mujoco.MjModel
    state: np.ndarray

    def field(self, name: str) -> np.ndarray:
        """An MjData field as [B, ...]: of each row's last call, live; ask before the first call."""

    def step(self, rows: np.ndarray | None, control: np.ndarray, frame_skip: int) -> Failures:
        """Advance those rows (None: all) by frame_skip substeps under control [B, nu].

        Returns the rows that failed and why; what their state then is, is not defined.
        """

    def forward(self, rows: np.ndarray, qvel: np.ndarray) -> None:
        """Set those rows' velocities [n, nv] and recompute what follows from their state."""

    def begin(self, rows: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Reset those rows, then put them at qpos [n, nq], qvel [n, nv]."""

    def written(self, rows: np.ndarray) -> None:
        """Those rows of `state` were written from outside."""

    def close(self) -> None:
        """End the threads."""


class Layout:
    """Where the parts of the integration state lie in a row of it."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self.time = _part(model, mujoco.mjtState.mjSTATE_TIME)
        self.qpos = _part(model, mujoco.mjtState.mjSTATE_QPOS)
        self.qvel = _part(model, mujoco.mjtState.mjSTATE_QVEL)
        self.ctrl = _part(model, mujoco.mjtState.mjSTATE_CTRL)


def _part(model: mujoco.MjModel, component: mujoco.mjtState) -> slice:
    bit = int(component)
    below = STATE & (bit - 1)
    start = mujoco.mj_stateSize(model, below) if below else 0
    return slice(start, start + mujoco.mj_stateSize(model, bit))


def failures(numbers: np.ndarray) -> Failures:
    """The rows that any fatal warning was raised in. numbers: int [B, warnings]"""
    raised = numbers[:, FATAL]
    if not raised.any():
        return {}
    return {
        int(row): WARNINGS[int(FATAL[raised[row].argmax()])]
        for row in np.flatnonzero(raised.any(axis=1))
    }
