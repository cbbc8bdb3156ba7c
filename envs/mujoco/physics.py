"""The physics of B rows of one model: all that a step depends on, as rows of one array.

Two engines with one face, equal bit for bit: `mujoco.batch`, MuJoCo's own threads, part of MuJoCo
since 3.17; and Python threads, for older versions and for what the former cannot compute: contact
forces after the step, which Ant and Humanoid observe. Both load a row before they step it and save
it after, so whoever writes into the rows need not tell them.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

import mujoco
import numpy as np

from delegate.envs.mujoco.profiler import unprofiled

try:
    from mujoco import batch
except ImportError:  # MuJoCo before 3.17
    batch = None

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
            unprofiled(self._batch.step, rows, frame_skip)
        except batch.SimulationError as error:
            raised = {int(row): self._batch.error(int(row)) for row in error.ids}
        self._read(rows)
        if np.count_nonzero(self._warnings):
            for row in np.flatnonzero(self._numbers.any(axis=1)).tolist():
                if reason := failure(self._numbers[row]):
                    raised[row] = reason
            self._warnings[:] = 0
        return raised

    def forward(self, rows: np.ndarray, qvel: np.ndarray) -> None:
        """See Physics."""
        self._qvel[rows] = qvel
        unprofiled(self._batch.forward, rows)
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


Row = tuple[int, np.ndarray, tuple[np.ndarray, ...]]
"""a row's number, its state, and its place in each array of fields"""


class ThreadedPhysics:
    """Each thread loads a row, steps it and saves it, then takes the next one that is left.

    One MjData a thread, not a row: it stays in the processor's cache (Ant: 7% faster).
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
        self._contact_forces = contact_forces
        self._workers = [_Worker(model, fields) for _ in range(min(threads, rows))]
        self._main = self._workers[0]
        self.state = np.zeros((rows, mujoco.mj_stateSize(model, STATE)))
        layout = Layout(model)
        self._ctrl = self.state[:, layout.ctrl]
        self._fields = {
            name: np.zeros((rows, *field.shape))
            for name, field in zip(fields, self._main.fields, strict=True)
        }
        places = zip(*self._fields.values(), strict=True) if fields else [()] * rows
        self._rows: list[Row] = [
            (row, state, place)
            for row, (state, place) in enumerate(zip(self.state, places, strict=True))
        ]
        self._orders: SimpleQueue = SimpleQueue()
        self._reports: SimpleQueue = SimpleQueue()
        for worker in self._workers[1:]:
            Thread(
                target=_serve,
                args=(worker, self._orders, self._reports),
                name="physics",
                daemon=True,
            ).start()
        self._helpers = len(self._workers) - 1
        self._finalizer = weakref.finalize(self, _dismiss, self._orders, self._helpers)

    def field(self, name: str) -> np.ndarray:
        """See Physics."""
        return self._fields[name]

    def step(self, rows: np.ndarray | None, control: np.ndarray, frame_skip: int) -> Failures:
        """See Physics."""
        if rows is None:
            self._ctrl[:] = control
            chosen = self._rows
        else:
            self._ctrl[rows] = control[rows]
            chosen = [self._rows[row] for row in rows.tolist()]
        return unprofiled(self._step, chosen, frame_skip)

    def _step(self, chosen: Sequence[Row], frame_skip: int) -> Failures:
        # The threads share a list iterator, which hands each row to one of them only
        order = (iter(chosen), frame_skip, self._contact_forces)
        for _ in range(self._helpers):
            self._orders.put(order)
        try:
            raised = self._main.step(*order)
        finally:  # also when interrupted: no helper may still be stepping
            reports = [self._reports.get() for _ in range(self._helpers)]
        for report in reports:
            if isinstance(report, BaseException):
                raise report
            raised |= report
        return raised

    def forward(self, rows: np.ndarray, qvel: np.ndarray) -> None:
        """See Physics."""
        data = self._main.data
        for row, velocity in zip(rows.tolist(), qvel, strict=True):
            mujoco.mj_setState(self.model, data, self.state[row], STATE)
            data.qvel[:] = velocity
            unprofiled(self._main.settle, self._rows[row])

    def begin(self, rows: np.ndarray, places: Sequence[Place]) -> None:
        """See Physics."""
        for row, (qpos, qvel) in zip(rows.tolist(), places, strict=True):
            self._main.begin(self._rows[row], qpos, qvel)

    def close(self) -> None:
        """See Physics: what is stepped after this is stepped by the calling thread."""
        self._finalizer()
        self._helpers = 0


class _Worker:
    """What one thread steps rows with."""

    def __init__(self, model: mujoco.MjModel, fields: Sequence[str]) -> None:
        self.model = model
        self.data = mujoco.MjData(model)
        self.fields = [getattr(self.data, name) for name in fields]
        self.warnings = self.data.warning.number

    def step(self, rows: Iterator[Row], frame_skip: int, contact_forces: bool) -> Failures:
        """Step rows until none is left; one in which MuJoCo raises does not hold up the others."""
        raised: Failures = {}
        for row, state, places in rows:
            try:
                self._step(state, frame_skip, contact_forces)
            except mujoco.FatalError as error:
                raised[row] = str(error)
            for field, place in zip(self.fields, places, strict=True):
                place[:] = field
            if self.warnings.any():
                if reason := failure(self.warnings):
                    raised[row] = reason
                self.warnings[:] = 0
        return raised

    def _step(self, state: np.ndarray, frame_skip: int, contact_forces: bool) -> None:
        model, data = self.model, self.data
        mujoco.mj_setState(model, data, state, STATE)
        mujoco.mj_step(model, data, frame_skip)
        if contact_forces:
            mujoco.mj_rnePostConstraint(model, data)
        mujoco.mj_getState(model, data, state, STATE)

    def begin(self, row: Row, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Reset a row and put it there."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = qpos
        self.data.qvel[:] = qvel
        self.settle(row)

    def settle(self, row: Row) -> None:
        """Compute what follows from the state, and save both."""
        _, state, places = row
        mujoco.mj_forward(self.model, self.data)
        mujoco.mj_getState(self.model, self.data, state, STATE)
        for field, place in zip(self.fields, places, strict=True):
            place[:] = field


def _serve(worker: _Worker, orders: SimpleQueue, reports: SimpleQueue) -> None:
    while (order := orders.get()) is not None:
        report: Failures | BaseException
        try:
            report = worker.step(*order)
        except BaseException as error:
            report = error
        reports.put(report)
        del order, report


def _dismiss(orders: SimpleQueue, helpers: int) -> None:
    for _ in range(helpers):
        orders.put(None)
