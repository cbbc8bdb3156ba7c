"""The physics of B rows of one model: all that a step depends on, as rows of one array.

Two engines with one face, equal bit for bit: `native.py` (`mujoco.batch`, MuJoCo's own threads) and
`threads.py` (Python threads), for older versions of MuJoCo and for what the former cannot compute:
contact forces after the step, which Ant and Humanoid observe. Both load a row before they step it
and save it after, so whoever writes into the rows need not tell them.
"""

from __future__ import annotations

from collections.abc import Sequence
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

Failures = dict[int, str]
"""row -> what MuJoCo said"""


Place = tuple[np.ndarray, np.ndarray]
"""qpos [nq], qvel [nv]"""


class Physics(Protocol):
    """B simulations of one model.

    state: float64 [B, nstate], mjSTATE_INTEGRATION, live
    """

    model: mujoco.MjModel
    state: np.ndarray

    def field(self, name: str) -> np.ndarray:
        """An MjData field as each row's last call left it. [B, ...], live"""

    def step(self, rows: np.ndarray | None, control: np.ndarray, frame_skip: int) -> Failures:
        """Advance those rows (None: all) by frame_skip substeps under control [B, nu].

        Returns the rows that failed and why; what their state then is, is not defined.
        """

    def forward(self, rows: np.ndarray, qvel: np.ndarray) -> None:
        """Set those rows' velocities [n, nv] and recompute what follows from their state."""

    def begin(self, rows: np.ndarray, places: Sequence[Place]) -> None:
        """Reset those rows, then put each at its place."""

    def close(self) -> None:
        """End the threads."""


class Layout:
    """Where the parts of the integration state lie in a row of it."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self.qpos = _part(model, mujoco.mjtState.mjSTATE_QPOS)
        self.qvel = _part(model, mujoco.mjtState.mjSTATE_QVEL)
        self.ctrl = _part(model, mujoco.mjtState.mjSTATE_CTRL)


def _part(model: mujoco.MjModel, component: mujoco.mjtState) -> slice:
    bit = int(component)
    start = mujoco.mj_stateSize(model, STATE & (bit - 1))
    return slice(start, start + mujoco.mj_stateSize(model, bit))


def failure(numbers: np.ndarray) -> str | None:
    """What the counters of a row's warnings say went wrong. numbers: int [mjNWARNING]"""
    return next((reason for warning, reason in WARNINGS.items() if numbers[warning]), None)
