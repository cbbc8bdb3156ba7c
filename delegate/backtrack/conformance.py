"""Fidelity: save, act, restore, act again, and every array is equal. For any StatefulVectorEnv.

In a test of your own:

    from delegate.backtrack.conformance import FidelityConformance

    class TestMyWorld(FidelityConformance):
        def make(self, rows):
            return MyWorld(rows)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from gymnasium.vector import AutoresetMode

from delegate.backtrack.recording import (
    FidelityError,
    Make,
    Recording,
    difference,
    of_row,
    outcome,
    random_actions,
    record,
    replay,
    shown,
)
from delegate.backtrack.state import Snapshot, SnapshotMismatch, StatefulVectorEnv

REPLAY = 16
"""steps played after each restore"""


@dataclass(frozen=True)
class FidelityReport:
    """What a passed check covered.

    save_points: steps restored · endings: row-steps that ended an episode in the recording
    compared: row-steps found equal · random_state: names of random arrays in the snapshot
    """

    save_points: tuple[int, ...]
    endings: int
    compared: int
    random_state: tuple[str, ...]


@dataclass(frozen=True)
class OmissionReport:
    """Which arrays the check misses when a snapshot leaves them out.

    noticed:   the check fails without them, as it must
    unnoticed: they change, but nothing else depends on them in the tested steps
    constant:  they never changed in the tested steps
    """

    noticed: tuple[str, ...]
    unnoticed: tuple[str, ...]
    constant: tuple[str, ...]


def check_fidelity(
    make: Make, steps: int = 48, rows: int = 5, seed: int = 0, save_points: int = 8
) -> FidelityReport:
    """Prove, by replaying, that the rows of a world can be saved and restored exactly.

    make: rows -> a new world, always the same but for the number of rows
    steps: how long to play with random actions; choose enough for episodes to end
    Restores all rows, some rows while others play on, rows into other rows, and a world newly
    made, at the start, in the middle, and where episodes end or begin; checks that fresh noise
    leaves the random stream alone, that irreversible effects stay, that rows do not depend on
    each other, that snapshots are copies, that those that do not fit change nothing, that what
    a step returns belongs to the caller, and that `step_rows` steps the rows named and no other.
    Raises FidelityError naming the case, the row, the step and the array that differs.
    """
    env = make(rows)
    space = env.single_action_space
    actions = random_actions(space, seed, steps, rows + 2)
    recording = record(env, seed, actions[:, :rows])
    points = recording.save_points(save_points)
    fingerprint = _fingerprint(recording)

    compared = _check_restores(env, make, recording, points)
    compared += _check_moved_rows(env, recording, points)
    compared += _check_independence(make, recording, actions)
    for step in points:
        _check_fresh(env, recording, step)
        _check_misfits(env, recording.snapshots[step])
        _check_handed_over(env, recording, step)
        if env.metadata.get("autoreset_mode") == AutoresetMode.DISABLED:
            compared += _check_some_rows(env, recording, step)
    if _fingerprint(recording) != fingerprint:
        raise FidelityError("a snapshot changed while the world played on; snapshot must copy")
    named = set(recording.snapshots[0].arrays)
    return FidelityReport(
        tuple(points), int(recording.ended.sum()), compared, tuple(sorted(env.random_state & named))
    )


def check_fidelity_detects_omission(
    make: Make,
    steps: int = 48,
    rows: int = 5,
    seed: int = 0,
    save_points: int = 8,
    matters: Collection[str] = (),
) -> OmissionReport:
    """The negative control: leave each array out of the snapshot in turn, and the check must fail.

    matters: names whose omission has to be noticed; all others are reported
    Raises FidelityError when no omission at all is noticed, or one of `matters` is not.
    """
    env = make(rows)
    actions = random_actions(env.single_action_space, seed, steps, rows)
    recording = record(env, seed, actions)
    points = recording.save_points(save_points)
    first = recording.snapshots[0].arrays
    noticed, unnoticed, constant = [], [], []
    for name in first:
        if all(_same(first[name], other.arrays[name]) for other in recording.snapshots):
            constant.append(name)
            continue
        try:
            _check_restores(env, make, recording, points, leave_out=name)
        except Exception:  # a torn state may also crash the world: noticed all the same
            noticed.append(name)
        else:
            unnoticed.append(name)
    if missed := sorted(set(matters) - set(noticed)):
        raise FidelityError(
            f"leaving {', '.join(missed)} out of the snapshot goes unnoticed; "
            "play more steps, or until it changes"
        )
    if not noticed:
        raise FidelityError("no omission is noticed: the check could not fail; play more steps")
    return OmissionReport(tuple(noticed), tuple(unnoticed), tuple(constant))


class FidelityConformance:
    """Tests to inherit: give `make`, and lower or raise the numbers to suit the world.

    endings: whether episodes must end within `steps`, so that endings are tested too
    matters: arrays whose omission from the snapshot must be noticed
    """

    rows: int = 5
    steps: int = 48
    seed: int = 0
    endings: bool = True
    matters: Collection[str] = ()

    def make(self, rows: int) -> StatefulVectorEnv:
        """A new world with that many rows."""
        raise NotImplementedError("give make(self, rows)")

    def test_fidelity(self) -> None:
        report = check_fidelity(self.make, self.steps, self.rows, self.seed)
        assert report.compared > 0
        assert report.endings > 0 or not self.endings, "no episode ended; raise steps"

    def test_fidelity_detects_omission(self) -> None:
        report = check_fidelity_detects_omission(
            self.make, self.steps, self.rows, self.seed, matters=self.matters
        )
        assert report.noticed


def _check_restores(
    env: StatefulVectorEnv,
    make: Make,
    recording: Recording,
    points: list[int],
    leave_out: str | None = None,
) -> int:
    """All rows, some rows while the others play on, and a world newly made."""
    everyone = np.arange(recording.rows)
    some = everyone % 2 == 0
    compared = 0
    for step in points:
        saved, later = recording.snapshots[step], recording.snapshots[-1]
        _restore(env, later, everyone, None)
        _restore(env, saved, everyone, leave_out)
        time = np.full(recording.rows, step)
        compared += replay(env, recording, time, everyone, REPLAY, f"restore to {step}", leave_out)

        middle = (step + recording.steps) // 2
        _restore(env, recording.snapshots[middle], everyone, None)
        _restore(env, saved.take(some), everyone[some], leave_out)
        time = np.where(some, step, middle)
        where = f"restore of rows {everyone[some].tolist()} to {step} beside {middle}"
        compared += replay(env, recording, time, everyone, REPLAY, where, leave_out)

    for step in (points[0], points[-1]):
        new = make(recording.rows)
        _restore(new, recording.snapshots[step], everyone, leave_out)
        time = np.full(recording.rows, step)
        where = f"restore to {step} into a world newly made"
        compared += replay(new, recording, time, everyone, REPLAY, where, leave_out)
    return compared


def _check_moved_rows(env: StatefulVectorEnv, recording: Recording, points: list[int]) -> int:
    """Rows restored into other rows do there what they did at home."""
    order = np.roll(np.arange(recording.rows), 1)
    compared = 0
    for step in points:
        env.restore(recording.snapshots[step].take(order))
        time = np.full(recording.rows, step)
        where = f"restore to {step} into other rows"
        compared += replay(env, recording, time, order, REPLAY, where, one_episode=True)
    return compared


def _check_independence(make: Make, recording: Recording, actions: np.ndarray) -> int:
    """Same seed, same rows, whatever the batch. actions: [T, more rows, ...]"""
    compared = 0
    for rows in (1, actions.shape[1]):
        other = record(make(rows), recording.seed, actions[:, :rows])
        for step in range(recording.steps):
            for row in range(min(rows, recording.rows)):
                differing = difference(
                    of_row(recording.moments[step], row, recording.rows),
                    of_row(other.moments[step], row, rows),
                )
                if differing is not None:
                    raise FidelityError(
                        f"{rows} rows instead of {recording.rows}: row {row}, step {step}: "
                        f"{differing}; the outcome of a row must not depend on the others"
                    )
                compared += 1
    return compared


def _check_fresh(env: StatefulVectorEnv, recording: Recording, step: int) -> None:
    """rng="fresh" restores all but the random state; `keep` leaves what it names."""
    saved, later = recording.snapshots[step], recording.snapshots[-1]
    kept = env.random_state | env.irreversible
    env.restore(later)
    env.restore(saved, rng="fresh", keep=env.irreversible)
    for name, array in env.snapshot().arrays.items():
        source = later if name in kept else saved
        if not _same(array, source.arrays[name]):
            raise FidelityError(
                f"restore to {step} with rng='fresh': {name} should be "
                f"{'left as it was' if name in kept else 'restored'}"
            )


def _check_misfits(env: StatefulVectorEnv, saved: Snapshot) -> None:
    """A snapshot of another world, or of other rows, is refused and changes nothing."""
    before = env.snapshot()
    few = saved.take(np.arange(saved.rows - 1))
    for misfit in (Snapshot(f"not {saved.world}", saved.arrays), few):
        try:
            env.restore(misfit)
        except SnapshotMismatch:
            pass
        else:
            raise FidelityError("a snapshot that does not fit was restored; call check_fits first")
    after = env.snapshot()
    for name, array in before.arrays.items():
        if not _same(array, after.arrays[name]):
            raise FidelityError(f"a refused snapshot changed {name}; check before restoring")


def _check_some_rows(env: StatefulVectorEnv, recording: Recording, step: int) -> int:
    """Rows stepped alone do what they do in company; those that stay are as they were."""
    some = np.arange(recording.rows) % 2 == 0
    env.restore(recording.snapshots[step])
    result = env.step_rows(recording.actions[step].copy(), some)
    given = outcome(result)
    where = f"step_rows at {step}"
    for row in np.flatnonzero(some):
        recorded = of_row(recording.moments[step], row, recording.rows)
        alone = of_row(given, row, recording.rows)
        expected = {name: value for name, value in recorded.items() if _of_step(name)}
        if (differing := difference(expected, alone)) is not None:
            raise FidelityError(f"{where}: row {row}, which steps: {differing}")
    before, after = recording.snapshots[step], env.snapshot()
    for row in np.flatnonzero(~some):
        for name, array in after.arrays.items():
            if not _same(array[[row]], before.arrays[name][[row]]):
                raise FidelityError(f"{where}: row {row} stays, but its {name} has changed")
        told = of_row(given, row, recording.rows)
        for name in ("reward", "terminated", "truncated"):
            if told[name]:
                raise FidelityError(f"{where}: row {row} stays, but its {name} is {told[name]}")
    returned = {
        f"observe(){name[11:]}": v for name, v in given.items() if name[:11] == "observation"
    }
    if (differing := difference(shown(env), returned)) is not None:
        raise FidelityError(f"{where}: returned another observation: {differing}")
    return int(some.sum())


def _of_step(name: str) -> bool:
    return name.startswith(("observation", "info", "reward", "terminated", "truncated"))


def _check_handed_over(env: StatefulVectorEnv, recording: Recording, step: int) -> None:
    """Later steps leave what a step returned alone, and writing to it leaves the world alone."""
    actions = recording.actions[step]

    def handed_over() -> dict[str, np.ndarray]:
        env.restore(recording.snapshots[step])
        given = outcome(env.step(actions)).items()
        return {n: v for n, v in given if isinstance(v, np.ndarray) and v.dtype.kind in "biuf"}

    given = handed_over()
    copies = {name: value.copy() for name, value in given.items()}
    env.step(actions)
    if (differing := difference(copies, given)) is not None:
        raise FidelityError(
            f"step {step}: a later step changed what it had returned: {differing}; return copies"
        )
    given = handed_over()
    before = {**env.snapshot().arrays, **shown(env)}
    for value in given.values():
        if value.flags.writeable:
            value[...] = ~value if value.dtype == bool else value + 1
    if (differing := difference(before, {**env.snapshot().arrays, **shown(env)})) is not None:
        raise FidelityError(
            f"step {step}: writing to what it returned changed {differing}; return copies"
        )


def _restore(
    env: StatefulVectorEnv, snapshot: Snapshot, rows: np.ndarray, leave_out: str | None
) -> None:
    if leave_out is not None:
        present = env.snapshot(rows).arrays[leave_out]
        snapshot = Snapshot(snapshot.world, {**snapshot.arrays, leave_out: present})
    env.restore(snapshot, rows)


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    floats = first.dtype.kind == "f"
    return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=floats)


def _fingerprint(recording: Recording) -> int:
    return hash(
        tuple(
            array.tobytes()
            for snapshot in recording.snapshots
            for array in snapshot.arrays.values()
        )
    )
