"""What a batch of environments gave, step by step, so that two plays can be compared exactly.

Rows stand at their own times: a row restored to step 3 is compared with step 3, whatever the
rows beside it are doing.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from delegate.backtrack.state import Snapshot, StatefulVectorEnv

Make = Callable[[int], StatefulVectorEnv]
"""makes the world under test with that many rows, the same settings every time"""

Moment = dict[str, Any]
"""everything that was given at one time, by path: observation, reward, info/..., state ..."""

Receive = Callable[[str, Any], None]
"""is given the name of a method and the very object that it handed out, or was handed"""

RESET_EVERY = 4
"""with autoreset disabled, rows that have ended are reset after every so many steps"""


class FidelityError(AssertionError):
    """A restored row did not do again what it had done."""


@dataclass
class Recording:
    """One play of T steps that replays are held against.

    seed: of the reset · actions: [T, rows, ...]
    snapshots: T + 1, before each step and after the last · stands: what `stand` gave then
    moments: T, what the steps gave · ended: bool [T, rows]
    """

    seed: int
    actions: np.ndarray
    snapshots: list[Snapshot] = field(default_factory=list)
    stands: list[Moment] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    ended: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), bool))

    @property
    def steps(self) -> int:
        """T."""
        return len(self.actions)

    @property
    def rows(self) -> int:
        """How many rows played."""
        return self.actions.shape[1]

    def save_points(self, count: int) -> list[int]:
        """At most `count` steps to restore: the first, those around endings, and some between."""
        after_endings = np.flatnonzero(self.ended.any(axis=1)) + 1
        spread = np.linspace(0, self.steps - 1, max(count // 2, 1)).astype(int)
        endings = after_endings[after_endings < self.steps][: count - len(spread)]
        return sorted({*spread.tolist(), *endings.tolist()})

    def add(self, env: StatefulVectorEnv) -> None:
        """Where the rows now stand."""
        self.snapshots.append(env.snapshot())
        self.stands.append(stand(env, self.snapshots[-1]))

    def at(self, step: int, row: int | np.integer) -> Moment:
        """What that row was given by that step, and where it then stood."""
        return {
            **of_row(self.moments[step], row, self.rows),
            **of_row(self.stands[step + 1], row, self.rows),
        }


def random_actions(space: gymnasium.Space, seed: int, steps: int, rows: int) -> np.ndarray:
    """Actions that depend on the seed, the step and the row alone. [steps, rows, ...]"""
    columns = []
    for row in range(rows):
        space.seed(seed * 1_000 + row)
        columns.append(np.stack([np.asarray(space.sample()) for _ in range(steps)]))
    return np.stack(columns, axis=1)


def record(
    env: StatefulVectorEnv, seed: int, actions: np.ndarray, receive: Receive | None = None
) -> Recording:
    """Reset with `seed` and play those actions; see `play`."""
    recording, ended = Recording(seed, actions), []
    begun = env.reset(seed=seed)
    if receive is not None:
        receive("reset", begun)
    for step in range(len(actions)):
        recording.add(env)
        if receive is not None:
            saved = env.snapshot()
            env.restore(saved)
            receive("snapshot", {n: a for n, a in saved.arrays.items() if not a.dtype.hasobject})
            receive("observe", env.observe())
        moment = play(env, actions[step], np.full(env.num_envs, step), receive)
        recording.moments.append(moment)
        ended.append(moment["terminated"] | moment["truncated"])
    recording.add(env)
    recording.ended = np.array(ended)
    return recording


def play(
    env: StatefulVectorEnv, actions: np.ndarray, time: np.ndarray, receive: Receive | None = None
) -> Moment:
    """One step of every row and all it gave, copied.

    time: int [rows], each row's own step number · receive: given all that is handed out
    """
    disabled = env.metadata.get("autoreset_mode") == AutoresetMode.DISABLED
    alone = disabled and receive is not None and time[0] % 2
    given = actions.copy()
    result = env.step_rows(np.arange(env.num_envs), given) if alone else env.step(given)
    if not np.array_equal(given, actions):
        raise FidelityError(f"step {time.tolist()}: step wrote to its actions; copy them")
    moment = copy.deepcopy(outcome(result))
    returned, shown = (flat("observe()", seen) for seen in (result[0], env.observe()))
    if (differing := differing_row(shown, returned, env.num_envs)) is not None:
        raise FidelityError(f"step {time.tolist()}: step returned another observation: {differing}")
    if receive is not None:
        receive("actions", given)
        receive("step_rows" if alone else "step", result)
    due = (moment["terminated"] | moment["truncated"]) & (time % RESET_EVERY == RESET_EVERY - 1)
    if disabled and due.any():
        begun = env.reset(options={"reset_mask": due})
        parts = {"observation": begun[0], "_observation": due}
        if begun[1]:
            parts |= {"info": begun[1], "_info": due}
        moment |= copy.deepcopy(flat("reset", parts))
        if receive is not None:
            receive("reset", begun)
    return moment


def stand(env: StatefulVectorEnv, snapshot: Snapshot) -> Moment:
    """Where every row stands: what `observe` gives, and the state, which `snapshot` has copied."""
    state = {f"state {name}": array for name, array in snapshot.arrays.items()}
    return {**copy.deepcopy(flat("observe()", env.observe())), **state}


def outcome(result: tuple[Any, Any, Any, Any, dict[str, Any]]) -> Moment:
    """What a step returned, uncopied."""
    observation, reward, terminated, truncated, info = result
    flags = {"reward": reward, "terminated": terminated, "truncated": truncated}
    return {**flags, **flat("observation", observation), **flat("info", info)}


def replay(
    env: StatefulVectorEnv,
    recording: Recording,
    time: np.ndarray,
    source: np.ndarray,
    length: int,
    where: str,
    leave_out: str | None = None,
    one_episode: bool = False,
) -> int:
    """Play on and compare every row with the recording, exactly; returns row-steps compared.

    time, source: int [rows], the step each row stands at and the recorded row it must equal
    leave_out: an array of the state not to compare
    one_episode: stop comparing a row when its episode ends, where the next one may depend on
    the row's number
    Raises FidelityError naming the row, the step and the first array that differs.
    """
    rows = len(time)
    now = stand(env, env.snapshot())
    for row in range(rows):
        step = int(time[row])
        expected = of_row(recording.stands[step], source[row], recording.rows)
        if (differing := difference(expected, of_row(now, row, rows), leave_out)) is not None:
            raise FidelityError(
                f"{where}: row {row}, step {step}, just restored: {differing}; "
                "does refresh rebuild all that is derived from the state?"
            )
    compared, watched = 0, np.ones(rows, bool)
    if one_episode:
        watched = ~((time > 0) & recording.ended[time - 1, source])
    for ahead in range(length):
        at = time + ahead
        playing = at < recording.steps
        if not (playing & watched).any():
            break
        actions = recording.actions[np.minimum(at, recording.steps - 1), source]
        moment = play(env, actions, at)
        moment |= stand(env, env.snapshot())
        for row in np.flatnonzero(playing & watched).tolist():
            if one_episode and recording.ended[at[row], source[row]]:
                watched[row] = False
                continue
            expected, given = recording.at(at[row], source[row]), of_row(moment, row, rows)
            if (differing := difference(expected, given, leave_out)) is not None:
                raise FidelityError(
                    f"{where}: row {row}, step {at[row]}, {ahead + 1} after the restore: "
                    f"{differing}; does snapshot hold all that can change?"
                )
            compared += 1
    return compared


def of_row(moment: Moment, row: int | np.integer, rows: int) -> Moment:
    """What one row was given; info that its `_key` mask says it does not have is left out."""
    single: Moment = {}
    for name, value in moment.items():
        if not _is_mask(moment, name) and _has(moment, name, row):
            batched = isinstance(value, np.ndarray) and value.shape[:1] == (rows,)
            single |= flat(name, value[row] if batched else value)
    return single


def difference(expected: Moment, given: Moment, leave_out: str | None = None) -> str | None:
    """The first thing that is not equal, in words; None when all is."""
    for name in sorted(expected.keys() | given.keys()):
        if name == f"state {leave_out}":
            continue
        if name not in given or name not in expected:
            return f"{name} is given {'once only' if name in expected else 'anew'}"
        first, second = np.asarray(expected[name]), np.asarray(given[name])
        if first.dtype != second.dtype or first.shape != second.shape:
            return f"{name} was {first.dtype} {first.shape}, is {second.dtype} {second.shape}"
        if not np.array_equal(first, second, equal_nan=first.dtype.kind == "f"):
            return f"{name} was {first.tolist()}, is {second.tolist()}"
    return None


def differing_row(expected: Moment, given: Moment, rows: int) -> str | None:
    """The first row of two batches that is not equal, in words; None when all are."""
    for row in range(rows):
        differing = difference(of_row(expected, row, rows), of_row(given, row, rows))
        if differing is not None:
            return f"row {row}: {differing}"
    return None


def _has(moment: Moment, name: str, row: int | np.integer) -> bool:
    """Whether a nested info is meant for this row: neither its mask nor one around it denies it."""
    while "/" in name:
        group, _, key = name.rpartition("/")
        mask = moment.get(f"{group}/_{key}")
        if mask is not None and not mask[row]:
            return False
        name = group
    return True


def _is_mask(moment: Moment, name: str) -> bool:
    group, _, key = name.rpartition("/")
    masked = f"{group}/{key[1:]}"
    return key.startswith("_") and any(
        other == masked or other.startswith(f"{masked}/") for other in moment
    )


def flat(name: str, value: Any) -> Moment:
    """What dicts, lists and tuples hold, by path, uncopied."""
    if isinstance(value, dict):
        found: Moment = {}
        for key, inner in value.items():
            if key[:1] == "_" and isinstance(masked := value.get(key[1:]), dict) and not masked:
                continue  # a mask of nothing
            found |= flat(f"{name}/{key}", inner)
        return found
    if isinstance(value, tuple | list):
        return {
            k: v for i, inner in enumerate(value) for k, v in flat(f"{name}/{i}", inner).items()
        }
    return {name: value}
