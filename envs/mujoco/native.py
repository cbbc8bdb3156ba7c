"""The physics on MuJoCo's own thread pool: `mujoco.batch`, part of MuJoCo since version 4."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from envs.mujoco.physics import Failures, Layout, failures

try:
    from mujoco import batch
except ImportError:  # MuJoCo 3
    batch = None


def available() -> bool:
    """Whether this MuJoCo has a batch engine."""
    return batch is not None


class BatchPhysics:
    """A face of `mujoco.batch.Batch`, whose rows are loaded and saved at every call."""

    def __init__(
        self, model: mujoco.MjModel, rows: int, threads: int, fields: Sequence[str]
    ) -> None:
        self.model = model
        self._batch = batch.Batch(model, rows, threads)
        self._fields = {name: self._batch.bind(name) for name in fields}
        self.state = self._batch.state
        layout = Layout(model)
        self._ctrl = self.state[:, layout.ctrl]
        self._qpos = self.state[:, layout.qpos]
        self._qvel = self.state[:, layout.qvel]
        self._warnings = self._batch.warning
        self._numbers = self._batch.warning[:, :, 1]
        self._everyone = np.arange(rows)
        self._batch.reset()

    def field(self, name: str) -> np.ndarray:
        """See Physics."""
        return self._fields[name]

    def step(self, rows: np.ndarray | None, control: np.ndarray, frame_skip: int) -> Failures:
        """See Physics."""
        raised: Failures = {}
        if rows is None:
            self._ctrl[:] = control
        else:
            self._ctrl[rows] = control[rows]
        try:
            self._batch.step(rows, frame_skip)
        except batch.SimulationError as error:
            raised = {int(row): self._batch.error(int(row)) for row in error.ids}
        if self._warnings.any():
            raised |= failures(self._numbers)
            self._warnings[:] = 0
        return raised

    def forward(self, rows: np.ndarray, qvel: np.ndarray) -> None:
        """See Physics."""
        self._qvel[rows] = qvel
        self._batch.forward(rows)

    def begin(self, rows: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """See Physics."""
        self._batch.reset(rows, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self._qpos[rows] = qpos
        self._qvel[rows] = qvel
        self._batch.forward(rows)

    def written(self, rows: np.ndarray) -> None:
        """See Physics: every call loads the rows anyway."""

    def close(self) -> None:
        """See Physics: the pool ends with the object."""
