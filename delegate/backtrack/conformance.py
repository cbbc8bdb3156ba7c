"""Fidelity: save, act, restore, act again, and every array is equal. For any StatefulVectorEnv.

`check_fidelity` proves it by replaying, `check_hands_out_copies` that what a world hands out is
never the live object; `check_fidelity_detects_omission` is the negative control.

In a test of your own:

    from delegate.backtrack.conformance import FidelityConformance

    class TestMyWorld(FidelityConformance):
        def make(self, rows):
            return MyWorld(rows)
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from delegate.backtrack.recording import (
    FidelityError,
    Make,
    Recording,
    difference,
    differing_row,
    flat,
    of_row,
    outcome,
    random_actions,
    record,
    replay,
)
from delegate.backtrack.state import Snapshot, SnapshotMismatch, StatefulVectorEnv

REPLAY = 16
"""steps played after each restore, unless said otherwise"""


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
    make: Make,
    steps: int = 48,
    rows: int = 5,
    seed: int = 0,
    save_points: int = 8,
    replayed: int = REPLAY,
) -> FidelityReport:
    """Prove, by replaying, that the rows of a world can be saved and restored exactly.

    make: rows -> a new world, always the same but for the number of rows
    steps: how long to play with random actions; choose enough for episodes to end
    replayed: steps played after each restore, through all resets that come; faults that build up
    slowly (warm starts, contacts) want 300
    Restores all rows, some rows while others play on, rows into other rows, and a world newly
    made, at the start, in the middle, and where episodes end or begin; checks that fresh noise
    leaves the random stream alone, that irreversible effects stay, that rows do not depend on
    each other, that snapshots that do not fit change nothing, that `step_rows` steps the rows
    named and no other, and all that `check_hands_out_copies` does.
    Raises FidelityError naming the case, the row, the step and the array that differs.
    """
    env = make(rows)
    actions = random_actions(env.single_action_space, seed, steps, rows + 2)
    recording = record(env, seed, actions[:, :rows])
    points = recording.save_points(save_points)

    compared = _check_restores(env, make, recording, points, replayed)
    compared += _check_moved_rows(env, recording, points, replayed)
    compared += _check_independence(make, recording, actions)
    for step in points:
        _check_fresh(env, recording, step)
        _check_misfits(env, recording.snapshots[step])
        if env.metadata.get("autoreset_mode") == AutoresetMode.DISABLED:
            compared += _check_some_rows(env, recording, step)
    _check_handed_out(make, recording)
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
    replayed: int = REPLAY,
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
            _check_restores(env, make, recording, points, replayed, leave_out=name)
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


def check_hands_out_copies(make: Make, steps: int = 48, rows: int = 5, seed: int = 0) -> None:
    """What a world hands out is never the live object, and what it is given it does not keep.

    Plays the same steps twice. The second time all that reset, step, step_rows, observe and
    snapshot gave (arrays, dicts, lists, also those in object arrays) is written to at once, and
    each snapshot after it was restored: nothing that comes may differ for it. And it is held on
    to: no later step may change it. Read-only arrays are only held.
    Raises FidelityError naming the row, the step and what has changed.
    """
    env = make(rows)
    actions = random_actions(env.single_action_space, seed, steps, rows)
    _check_handed_out(make, record(env, seed, actions))


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
    replayed: int,
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
        compared += replay(
            env, recording, time, everyone, replayed, f"restore to {step}", leave_out
        )

        middle = (step + recording.steps) // 2
        _restore(env, recording.snapshots[middle], everyone, None)
        _restore(env, saved.take(some), everyone[some], leave_out)
        time = np.where(some, step, middle)
        where = f"restore of rows {everyone[some].tolist()} to {step} beside {middle}"
        compared += replay(env, recording, time, everyone, replayed, where, leave_out)

    for step in (points[0], points[-1]):
        new = make(recording.rows)
        _restore(new, recording.snapshots[step], everyone, leave_out)
        time = np.full(recording.rows, step)
        where = f"restore to {step} into a world newly made"
        compared += replay(new, recording, time, everyone, replayed, where, leave_out)
    return compared


def _check_moved_rows(
    env: StatefulVectorEnv, recording: Recording, points: list[int], replayed: int
) -> int:
    """Rows restored into other rows do there what they did at home."""
    order = np.roll(np.arange(recording.rows), 1)
    compared = 0
    for step in points:
        env.restore(recording.snapshots[step].take(order))
        time = np.full(recording.rows, step)
        where = f"restore to {step} into other rows"
        compared += replay(env, recording, time, order, replayed, where, one_episode=True)
    return compared


def _check_independence(make: Make, recording: Recording, actions: np.ndarray) -> int:
    """Same seed, same rows, whatever the batch. actions: [T, more rows, ...]"""
    compared = 0
    for rows in (1, actions.shape[1]):
        other = record(make(rows), recording.seed, actions[:, :rows])
        compared += _compare(
            recording,
            other,
            f"{rows} rows instead of {recording.rows}",
            "the outcome of a row must not depend on the others",
        )
    return compared


def _compare(recording: Recording, other: Recording, where: str, remedy: str) -> int:
    """The rows that both have did the same; returns row-steps compared."""
    rows = min(recording.rows, other.rows)
    for step in range(recording.steps):
        for row in range(rows):
            differing = difference(recording.at(step, row), other.at(step, row))
            if differing is not None:
                raise FidelityError(f"{where}: row {row}, step {step}: {differing}; {remedy}")
    return rows * recording.steps


def _check_fresh(env: StatefulVectorEnv, recording: Recording, step: int) -> None:
    """rng="fresh" restores all but the random state; `keep` leaves what it names."""
    saved, later = recording.snapshots[step], recording.snapshots[-1]
    kept = env.random_state | env.irreversible
    env.restore(later)
    env.restore(saved, rng="fresh", keep=env.irreversible)
    for name, array in env.snapshot().arrays.items():
        source, what = (later, "left as it was") if name in kept else (saved, "restored")
        if not _same(array, source.arrays[name]):
            raise FidelityError(f"restore to {step} with rng='fresh': {name} should be {what}")


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
    for name, array in env.snapshot().arrays.items():
        if not _same(array, before.arrays[name]):
            raise FidelityError(f"a refused snapshot changed {name}; check before restoring")


def _check_some_rows(env: StatefulVectorEnv, recording: Recording, step: int) -> int:
    """Rows stepped alone do what they do in company; those that stay are as they were."""
    some = np.arange(0, recording.rows, 2)[::-1]  # in another order than they lie
    env.restore(recording.snapshots[step])
    result = env.step_rows(some, recording.actions[step][some])
    given, where = outcome(result), f"step_rows at {step}"
    before, after = recording.snapshots[step], env.snapshot()
    for place, row in enumerate(some):
        recorded = of_row(recording.moments[step], row, recording.rows)
        expected = {n: value for n, value in recorded.items() if not n.startswith("reset")}
        if (differing := difference(expected, of_row(given, place, len(some)))) is not None:
            raise FidelityError(f"{where}: row {row}, which steps: {differing}")
    for row in np.delete(np.arange(recording.rows), some):
        for name, array in after.arrays.items():
            if not _same(array[[row]], before.arrays[name][[row]]):
                raise FidelityError(f"{where}: row {row} stays, but its {name} has changed")
    returned, shown = (flat("observe()", seen) for seen in (result[0], env.observe(some)))
    if (differing := differing_row(shown, returned, len(some))) is not None:
        raise FidelityError(f"{where}: returned another observation: {differing}")
    return len(some)


def _check_handed_out(make: Make, recording: Recording) -> None:
    """Writing to what was handed out leaves the world alone, and later steps leave it alone."""
    held: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def write(method: str, given: Any) -> None:
        parts = flat(method, given)
        _spoil(given)
        held.append((parts, copy.deepcopy(parts)))

    env, after = make(recording.rows), "after writing to what was handed out"
    try:
        spoiled = record(env, recording.seed, recording.actions, write)
    except Exception as error:  # as it did not when nobody wrote
        raise FidelityError(f"{after} the world raised {error!r}; hand out copies") from error
    _compare(recording, spoiled, after, "hand out copies")
    for parts, then in held:
        if (differing := differing_row(then, parts, recording.rows)) is not None:
            raise FidelityError(f"a later step changed what was handed out: {differing}; copy it")


def _spoil(value: Any) -> None:
    """Write to all that can be written to in what was handed out, down to lists in arrays."""
    if isinstance(value, np.ndarray):
        kind = value.dtype.kind
        if kind == "O":
            _spoil(value.ravel().tolist())
        if value.flags.writeable and kind in "biufcO":
            value[...] = ~value if kind == "b" else None if kind == "O" else value + 1
    elif isinstance(value, dict | tuple | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _spoil(inner)
        if not isinstance(value, tuple):
            value.clear()


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
