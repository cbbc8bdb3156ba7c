"""What a batch of environments gave back, step by step, so that two plays can be compared exactly.

Rows stand at their own times: a row restored to step 3 is compared with step 3, whatever the
rows beside it are doing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from delegate.backtrack.state import Snapshot, StatefulVectorEnv

Make = Callable[[int], StatefulVectorEnv]
"""makes the world under test with that many rows, the same settings every time"""

Moment = dict[str, Any]
"""everything one step gave, flat: observation, reward, terminated, truncated, info, state"""

RESET_EVERY = 4
"""with autoreset disabled, rows that have ended are reset after every so many steps"""


class FidelityError(AssertionError):
    """A restored row did not do again what it had done."""


@dataclass
class Recording:
    """One play of T steps that replays are held against.

    seed: of the reset · actions: [T, rows, ...]
    snapshots, shown: T + 1, before each step and after the last; shown is what observe() gave
    moments: T · ended: bool [T, rows]
    """

    seed: int
    actions: np.ndarray
    snapshots: list[Snapshot] = field(default_factory=list)
    shown: list[Moment] = field(default_factory=list)
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


def random_actions(space: gymnasium.Space, seed: int, steps: int, rows: int) -> np.ndarray:
    """Actions that depend on the seed, the step and the row alone. [steps, rows, ...]"""
    columns = []
    for row in range(rows):
        space.seed(seed * 1_000 + row)
        columns.append(np.stack([np.asarray(space.sample()) for _ in range(steps)]))
    return np.stack(columns, axis=1)


def record(env: StatefulVectorEnv, seed: int, actions: np.ndarray) -> Recording:
    """Reset with `seed` and play those actions."""
    recording = Recording(seed, actions)
    env.reset(seed=seed)
    ended = []
    for step in range(len(actions)):
        recording.snapshots.append(env.snapshot())
        recording.shown.append(shown(env))
        moment = play(env, actions[step], np.full(env.num_envs, step))
        recording.moments.append(moment)
        ended.append(moment["terminated"] | moment["truncated"])
    recording.snapshots.append(env.snapshot())
    recording.shown.append(shown(env))
    recording.ended = np.array(ended)
    return recording


def play(env: StatefulVectorEnv, actions: np.ndarray, time: np.ndarray) -> Moment:
    """One step of every row and all it gave. time: int [rows], each row's own step number"""
    result = env.step(actions)
    observation, _, terminated, truncated, _ = result
    moment = {name: np.array(value) for name, value in outcome(result).items()}
    returned: Moment = {}
    _flatten("observe()", observation, returned)
    if (differing := difference(shown(env), returned)) is not None:
        raise FidelityError(f"step {time.tolist()}: step returned another observation: {differing}")
    due = (terminated | truncated) & (time % RESET_EVERY == RESET_EVERY - 1)
    if env.metadata.get("autoreset_mode") == AutoresetMode.DISABLED and due.any():
        observation, info = env.reset(options={"reset_mask": due})
        begun = {"observation": observation, "_observation": due}
        if info:
            begun |= {"info": info, "_info": due}
        _flatten("reset", begun, moment)
    moment |= shown(env)
    for name, array in env.snapshot().arrays.items():
        moment[f"state {name}"] = array
    return moment


def outcome(result: tuple[Any, Any, Any, Any, dict[str, Any]]) -> Moment:
    """What a step returned, uncopied."""
    observation, reward, terminated, truncated, info = result
    moment: Moment = {"reward": reward, "terminated": terminated, "truncated": truncated}
    _flatten("observation", observation, moment)
    _flatten("info", info, moment)
    return moment


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
    now_shown = shown(env)
    for place in range(len(time)):
        differing = difference(
            of_row(recording.shown[time[place]], source[place], recording.rows),
            of_row(now_shown, place, len(time)),
        )
        if differing is not None:
            raise FidelityError(
                f"{where}: row {place}, step {time[place]}, just restored: {differing}; "
                "does refresh rebuild all that is derived from the state?"
            )
    compared, watched = 0, np.ones(len(time), bool)
    if one_episode:
        watched = ~((time > 0) & recording.ended[time - 1, source])
    for step in range(length):
        now = time + step
        playing = now < recording.steps
        actions = recording.actions[np.minimum(now, recording.steps - 1), source]
        moment = play(env, actions, now)
        for row in np.flatnonzero(playing & watched):
            if one_episode and recording.ended[now[row], source[row]]:
                watched[row] = False
                continue
            expected = of_row(recording.moments[now[row]], source[row], recording.rows)
            differing = difference(expected, of_row(moment, row, len(time)), leave_out)
            if differing is not None:
                raise FidelityError(
                    f"{where}: row {row}, step {now[row]}, {step + 1} after the restore: "
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
            _flatten(name, value[row] if batched else value, single)
    return single


def difference(expected: Moment, given: Moment, leave_out: str | None = None) -> str | None:
    """The first thing that is not equal, in words; None when all is."""
    names: Collection[str] = expected.keys() | given.keys()
    for name in sorted(names):
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


def shown(env: StatefulVectorEnv) -> Moment:
    """What `observe` gives, copied."""
    found: Moment = {}
    _flatten("observe()", env.observe(), found)
    return {name: np.array(value) for name, value in found.items()}


def _flatten(name: str, value: Any, into: Moment) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key[:1] == "_" and isinstance(told := value.get(key[1:]), dict) and not told:
                continue  # a mask of nothing
            _flatten(f"{name}/{key}", inner, into)
    elif isinstance(value, tuple | list):
        for position, inner in enumerate(value):
            _flatten(f"{name}/{position}", inner, into)
    else:
        into[name] = value
