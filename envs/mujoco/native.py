"""The physics on MuJoCo's own threads: `mujoco.batch`, part of MuJoCo since 3.17."""

from __future__ import annotations

from collections.abc import Sequence

import mujoco
import numpy as np

from delegate.envs.mujoco.physics import STATE, Failures, Layout, Place, failure

try:
    from mujoco import batch
except ImportError:  # MuJoCo before 3.17
    batch = None


def available() -> bool:
    """Whether this MuJoCo has a batch engine."""
    return batch is not None


class BatchPhysics:
    """A face of `mujoco.batch.Batch`, which loads and saves the rows at every call."""

    def __init__(
        self, model: mujoco.MjModel, rows: int, threads: int, fields: Sequence[str]
    ) -> None:
        self.model = model
        self._batch = batch.Batch(model, rows, threads)
        self._derived = {name: self._batch.bind(name) for name in fields}
        self._fields = {name: array.copy() for name, array in self._derived.items()}
        self.state = self._batch.state
        layout = Layout(model)
        self._ctrl = self.state[:, layout.ctrl]
        self._qvel = self.state[:, layout.qvel]
        self._warnings = self._batch.warning
        self._numbers = self._batch.warning[:, :, 1]
        # Episodes begin a few rows at a time, for which waking the pool costs more than it saves
        self._beginner = mujoco.MjData(model)

    def field(self, name: str) -> np.ndarray:
        """See Physics."""
        return self._fields[name]

    def step(self, rows: np.ndarray | None, control: np.ndarray, frame_skip: int) -> Failures:
        """See Physics."""
        if rows is None:
            self._ctrl[:] = control
        else:
            self._ctrl[rows] = control[rows]
        raised: Failures = {}
        try:
            self._batch.step(rows, frame_skip)
        except batch.SimulationError as error:
            raised = {int(row): self._batch.error(int(row)) for row in error.ids}
        self._read(rows)
        if self._warnings.any():
            for row in np.flatnonzero(self._numbers.any(axis=1)).tolist():
                if reason := failure(self._numbers[row]):
                    raised[row] = reason
            self._warnings[:] = 0
        return raised

    def forward(self, rows: np.ndarray, qvel: np.ndarray) -> None:
        """See Physics."""
        self._qvel[rows] = qvel
        self._batch.forward(rows)
        self._read(rows)

    def begin(self, rows: np.ndarray, places: Sequence[Place]) -> None:
        """See Physics."""
        data = self._beginner
        for row, (qpos, qvel) in zip(rows.tolist(), places, strict=True):
            mujoco.mj_resetData(self.model, data)
            data.qpos[:] = qpos
            data.qvel[:] = qvel
            mujoco.mj_forward(self.model, data)
            mujoco.mj_getState(self.model, data, self.state[row], STATE)
            for name, array in self._fields.items():
                array[row] = getattr(data, name)

    def close(self) -> None:
        """See Physics: the pool ends with the object."""

    def _read(self, rows: np.ndarray | None) -> None:
        chosen = slice(None) if rows is None else rows
        for name, array in self._derived.items():
            self._fields[name][chosen] = array[chosen]
