"""The physics with an `MjData` a row, stepped on Python threads: `mj_step` releases the lock."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from queue import SimpleQueue
from threading import Thread

import mujoco
import numpy as np

from envs.mujoco.physics import STATE, Failures, Layout, failures

Body = tuple[int, mujoco.MjData, np.ndarray, np.ndarray, np.ndarray, tuple]
"""a row: its number, its MjData, its live ctrl, control and state row, (field, row of it) pairs"""


class ThreadedPhysics:
    """One MjData a row; the threads take rows in turn, so that slow rows do not hold others up.

    Restored rows are loaded into their MjData only when they next step.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        rows: int,
        threads: int,
        fields: Sequence[str],
        contact_forces: bool,
    ) -> None:
        self.model = model
        layout = Layout(model)
        self.state = np.zeros((rows, mujoco.mj_stateSize(model, STATE)))
        self._time = self.state[:, layout.time]
        self._control = np.zeros((rows, model.nu))
        self._data = [mujoco.MjData(model) for _ in range(rows)]
        self._fields = {
            name: np.zeros((rows, *getattr(self._data[0], name).shape)) for name in fields
        }
        self._numbers = np.zeros((rows, mujoco.mjtWarning.mjNWARNING), np.intc)
        self._bodies: list[Body] = []
        for row, data in enumerate(self._data):
            pairs = [(getattr(data, name), array[row]) for name, array in self._fields.items()]
            pairs.append((data.warning.number, self._numbers[row]))
            body = (row, data, data.ctrl, self._control[row], self.state[row], tuple(pairs))
            self._bodies.append(body)
            mujoco.mj_getState(model, data, self.state[row], STATE)
        self._stale = np.zeros(rows, bool)
        self._any_stale = False
        self._contact_forces = contact_forces
        helpers = min(threads, rows) - 1
        self._orders: SimpleQueue = SimpleQueue()
        self._reports: SimpleQueue = SimpleQueue()
        self._helpers = helpers
        for _ in range(helpers):
            Thread(target=_serve, args=(self._orders, self._reports), daemon=True).start()
        self._finalizer = weakref.finalize(self, _dismiss, self._orders, helpers)

    def field(self, name: str) -> np.ndarray:
        """See Physics."""
        return self._fields[name]

    def step(self, rows: np.ndarray | None, control: np.ndarray, frame_skip: int) -> Failures:
        """See Physics."""
        self._control[:] = control
        bodies = self._bodies if rows is None else [self._bodies[row] for row in rows]
        if self._any_stale:
            self._load(np.flatnonzero(self._stale) if rows is None else rows[self._stale[rows]])
        # A list iterator hands each row to one thread only
        order = (self.model, iter(bodies), frame_skip, self._contact_forces)
        for _ in range(self._helpers):
            self._orders.put(order)
        try:
            raised = _step(*order)
        finally:  # also when interrupted: no helper may still be stepping
            reports = [self._reports.get() for _ in range(self._helpers)]
        for report in reports:
            if isinstance(report, BaseException):
                raise report
            raised |= report
        if self._numbers.any():
            raised |= failures(self._numbers)
            self._forgive()
        return raised

    def forward(self, rows: np.ndarray, qvel: np.ndarray) -> None:
        """See Physics."""
        self._load(rows[self._stale[rows]])
        for row, velocity in zip(rows, qvel, strict=True):
            self._data[row].qvel[:] = velocity
            self._settle(row)

    def begin(self, rows: np.ndarray, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """See Physics."""
        for row, position, velocity in zip(rows, qpos, qvel, strict=True):
            data = self._data[row]
            mujoco.mj_resetData(self.model, data)
            data.qpos[:] = position
            data.qvel[:] = velocity
            self._settle(row)
        self._stale[rows] = False

    def written(self, rows: np.ndarray) -> None:
        """See Physics."""
        self._stale[rows] = True
        self._any_stale = True

    def close(self) -> None:
        """See Physics."""
        self._finalizer()

    def _settle(self, row: int) -> None:
        _, data, _, _, state, pairs = self._bodies[row]
        mujoco.mj_forward(self.model, data)
        mujoco.mj_getState(self.model, data, state, STATE)
        for field, kept in pairs:
            kept[:] = field

    def _load(self, rows: np.ndarray) -> None:
        for row in rows.tolist():
            mujoco.mj_setState(self.model, self._data[row], self.state[row], STATE)
        self._stale[rows] = False
        self._any_stale = bool(self._stale.any())

    def _forgive(self) -> None:
        for row in np.flatnonzero(self._numbers.any(axis=1)):
            self._data[row].warning.number[:] = 0
        self._numbers[:] = 0


def _step(
    model: mujoco.MjModel, bodies: Iterator[Body], frame_skip: int, contact_forces: bool
) -> Failures:
    """Step rows until none is left; a row in which MuJoCo raises does not hold up the others."""
    raised: Failures = {}
    take = _advance_with_contact_forces if contact_forces else _advance
    row = [-1]
    while True:
        try:
            take(model, bodies, frame_skip, row)
        except mujoco.FatalError as error:
            raised[row[0]] = str(error)
        else:
            return raised


def _advance(
    model: mujoco.MjModel, bodies: Iterable[Body], frame_skip: int, current: list[int]
) -> None:
    step, read = mujoco.mj_step, mujoco.mj_getState
    for current[0], data, ctrl, control, state, pairs in bodies:
        ctrl[:] = control
        step(model, data, frame_skip)
        read(model, data, state, STATE)
        for field, kept in pairs:
            kept[:] = field


def _advance_with_contact_forces(
    model: mujoco.MjModel, bodies: Iterable[Body], frame_skip: int, current: list[int]
) -> None:
    step, read, contact_forces = mujoco.mj_step, mujoco.mj_getState, mujoco.mj_rnePostConstraint
    for current[0], data, ctrl, control, state, pairs in bodies:
        ctrl[:] = control
        step(model, data, frame_skip)
        contact_forces(model, data)
        read(model, data, state, STATE)
        for field, kept in pairs:
            kept[:] = field


def _serve(orders: SimpleQueue, reports: SimpleQueue) -> None:
    while (order := orders.get()) is not None:
        report: Failures | BaseException
        try:
            report = _step(*order)
        except BaseException as error:
            report = error
        reports.put(report)
        del order, report


def _dismiss(orders: SimpleQueue, helpers: int) -> None:
    for _ in range(helpers):
        orders.put(None)
