"""The batched face of any Gymnasium environment: one environment a row, saved and restored."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, iterate

from delegate.backtrack.autoreset import final, reset_rows, row_seeds
from delegate.backtrack.spaces import ActionCheck, copied, empty, leaves, take
from delegate.backtrack.state import (
    RandomStateMode,
    Rows,
    Snapshot,
    SnapshotMismatch,
    StatefulVectorEnv,
    of_rows,
)
from delegate.envs.adapted.kinds import NotRestorable
from delegate.envs.adapted.row import Row, write

FLAGS = ("terminated", "truncated", "ready")
INSIDE = ("objects", "random")
"""what a snapshot holds of the environments: all that can change, states of random generators"""
Step = tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class RowFailed(RuntimeError):
    """One row's environment raised or blew up; the other rows took their step.

    row: which · the row must be reset or restored before it can step again
    """

    def __init__(self, row: int, message: str) -> None:
        super().__init__(f"row {row}: {message}")
        self.row = row


class AdaptedVectorEnv(StatefulVectorEnv):
    """B rows, each a Gymnasium environment of its own; `envs.adapt` makes them.

    Observations are arrays [B, ...] in dicts and tuples like the space, object arrays [B] for
    what is no array. Infos are merged with `_key` masks; those of RecordEpisodeStatistics lose
    their "t", the seconds on the wall clock. `reset(seed=n)` gives row i the seed n + i.

    autoreset_mode: NEXT_STEP resets an ended row at its next step, whose action is ignored;
    SAME_STEP at once, with final_obs and final_info; DISABLED lets it hold still, reward 0,
    until reset with options["reset_mask"] (bool [B]).

    Snapshots hold Python state as objects: they live in memory, and `Snapshot.save` refuses them.
    certificate: what was proved · codec: how rows are saved · max_steps: of TimeLimit, or None
    """

    random_state = frozenset({"random"})

    def __init__(
        self,
        rows: Sequence[Row],
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        certificate: Any = None,
    ) -> None:
        self.rows, self.certificate = list(rows), certificate
        first, self.num_envs = self.rows[0], len(self.rows)
        for number, row in enumerate(self.rows):
            if row.world != first.world:
                raise ValueError(
                    f"row {number}: {row.world} is not what row 0 is, {first.world}; "
                    "the factory must make the same environment every time"
                )
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**first.env.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode, self.spec = first.env.render_mode, first.env.spec
        self.codec, self.max_steps = first.codec, first.max_steps
        # copies: sampling from them must not draw from a row's own random generators
        self.single_observation_space = copy.deepcopy(first.env.observation_space)
        self.single_action_space = copy.deepcopy(first.env.action_space)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._split = splitter(self.single_action_space, self.num_envs, first.name)
        self._shown = empty(self.single_observation_space, self.num_envs)
        self._flags = {name: np.zeros(self.num_envs, bool) for name in FLAGS}
        self._terminated, self._truncated, self._ready = (self._flags[name] for name in FLAGS)

    @property
    def envs(self) -> tuple[Any, ...]:
        """The environment of each row, live."""
        return tuple(row.env for row in self.rows)

    @property
    def action_masks(self) -> Callable[[], np.ndarray]:
        """`action_masks()` gives what each environment's own does, bool [B, n].

        Raises AttributeError for environments without one: there is no such method then.
        """
        own = [row.env.get_wrapper_attr("action_masks") for row in self.rows]
        return lambda: np.array([masks() for masks in own], bool)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes in the rows of options["reset_mask"] (bool [B]) or in all.

        seed: n gives row i n + i; or one for each row. Other options go to each environment.
        Raises ValueError for a mask or seeds that do not fit, RowFailed as `step` does.
        """
        rows, seeds = reset_rows(options, self.num_envs), row_seeds(seed, self.num_envs)
        others = {name: value for name, value in (options or {}).items() if name != "reset_mask"}
        infos: list[Any] = [{}] * self.num_envs
        failures: dict[int, Exception] = {}
        self._begin(np.flatnonzero(rows), infos, failures, seeds, others or None)
        self._raise(failures)
        return copied(self._shown), merge_infos(infos)

    def step(self, actions: Any) -> Step:
        """One step of every row.

        Raises ValueError naming the row of a bad action (no row has moved then), ResetNeeded for
        a row that never began or failed, and RowFailed for a row whose environment raised or
        whose simulation blew up: the others took their step, see `observe`.
        """
        return self._step(np.ones(self.num_envs, bool), self._split(actions))

    def step_rows(self, rows: np.ndarray, actions: Any) -> Step:
        """See StatefulVectorEnv; raises as `step` does."""
        index, chosen = self.step_index(rows), np.zeros(self.num_envs, bool)
        chosen[index] = True
        own = splitter(self.single_action_space, len(index), self.rows[0].name)(actions)
        each: list[Any] = [None] * self.num_envs
        for row, action in zip(index.tolist(), own, strict=True):
            each[row] = action
        seen, *result, info = self._step(chosen, each)
        part = [values[index] for values in result]
        return take(seen, index), *part, of_rows(info, index, self.num_envs)

    def _step(self, rows: np.ndarray, each: list[Any]) -> Step:
        """Step those rows, each by its action. rows: bool [B]"""
        if (unready := np.flatnonzero(rows & ~self._ready)).size:
            raise ResetNeeded(
                f"row {int(unready[0])}: step before its reset; call reset, for some rows with "
                "options={'reset_mask': ...}"
            )
        ended = self._terminated | self._truncated
        reward, failures = np.zeros(self.num_envs), dict[int, Exception]()
        infos: list[Any] = [{}] * self.num_envs
        for row in np.flatnonzero(rows & ~ended).tolist():
            try:
                observation, reward[row], *over, infos[row] = self.rows[row].step(each[row])
                write(self._shown, row, observation, self.rows[row].name)
                self._terminated[row], self._truncated[row] = over
            except Exception as error:
                failures[row] = error
        if self.autoreset_mode == AutoresetMode.NEXT_STEP:
            self._begin(np.flatnonzero(rows & ended), infos, failures)
        terminated, truncated = self._terminated & rows, self._truncated & rows
        over, last = terminated | truncated, dict[str, Any]()
        if self.autoreset_mode == AutoresetMode.SAME_STEP and over.any():
            last = final(self._shown, merge_infos(infos), over)
            self._begin(np.flatnonzero(over), infos, failures)
        self._raise(failures)
        merged = merge_infos(infos) | last
        return copied(self._shown), reward, terminated, truncated, merged

    def _begin(
        self,
        rows: np.ndarray,
        infos: list[Any],
        failures: dict[int, Exception],
        seeds: Sequence[int | None] = (),
        options: dict[str, Any] | None = None,
    ) -> None:
        """Begin episodes in those rows; their infos and failures are added to those there are."""
        for row in rows.tolist():
            try:
                seed = seeds[row] if seeds else None
                observation, infos[row] = self.rows[row].reset(seed, copied(options))
                write(self._shown, row, observation, self.rows[row].name)
                self._terminated[row] = self._truncated[row] = False
                self._ready[row] = True
            except Exception as error:
                failures[row] = error

    def observe(self, rows: Rows = None) -> Any:
        return take(self._shown, self.row_index(rows))

    @property
    def state_space(self) -> gymnasium.Space[Any]:
        """The observation, flat: what it hides of an environment, models do not see.

        Raises NotImplementedError where it is neither Box nor Discrete.
        """
        space = self.single_observation_space
        if isinstance(space, Discrete):
            return Discrete(int(space.n))
        if isinstance(space, Box):
            return Box(-np.inf, np.inf, (int(np.prod(space.shape)),), np.float32)
        raise NotImplementedError(
            f"{self.rows[0].name} observes {space}; wrap it so that it observes a Box or Discrete "
            "(gymnasium.wrappers.FlattenObservation)"
        )

    def markov_state(self, rows: Rows = None) -> np.ndarray:
        space, seen = self.state_space, self._shown
        if isinstance(space, Discrete):
            first = self.single_observation_space.start  # type: ignore[attr-defined]
            return (seen[self.row_index(rows)] - first).astype(np.int32)
        index = self.row_index(rows)
        flat = (len(index), int(np.prod(seen.shape[1:])))
        return seen[index].reshape(flat).astype(np.float32)

    def render(self, row: int | None = None) -> Any:
        """Frames by `render_mode`: that row's, or a tuple of one a row; None without a mode."""
        if self.render_mode is None:
            return None
        if row is None:
            return tuple(copied(each.env.render()) for each in self.rows)
        return copied(self.rows[row].env.render())

    def close_extras(self, **kwargs: Any) -> None:
        for row in self.rows:
            row.env.close()

    @cached_property
    def world(self) -> str:
        return f"{self.rows[0].world} autoreset={self.autoreset_mode.value}"

    def state_arrays(self) -> dict[str, np.ndarray]:
        """Flags and observations live; what lies inside the environments as read now."""
        return {**self._outer(), **self._inner(range(self.num_envs))}

    def snapshot(self, rows: Rows = None) -> Snapshot:
        index = self.row_index(rows)
        outer = {name: array[index] for name, array in self._outer().items()}
        return Snapshot(self.world, {**self._inner(index), **outer})

    def restore(
        self,
        snapshot: Snapshot,
        rows: Rows = None,
        rng: RandomStateMode = "rewind",
        keep: Collection[str] = (),
    ) -> None:
        """See StatefulVectorEnv.restore.

        Raises RowFailed naming the row for one that cannot be restored into.
        """
        index, failures = self.row_index(rows), dict[int, Exception]()
        self.check_fits(snapshot, len(index))
        fresh = rng == "fresh" or "random" in keep
        for place, row in enumerate(index):
            try:
                self.rows[row].load({n: snapshot.arrays[n][place] for n in INSIDE}, fresh)
            except NotRestorable as error:
                failures[int(row)] = error
        for name, array in self._outer().items():
            if name not in keep:
                array[index] = snapshot.arrays[name]
        self._raise(failures)

    def check_fits(self, snapshot: Snapshot, count: int) -> None:
        self.check_world(snapshot)
        self.check_names(set(snapshot.arrays), {*self._outer(), *INSIDE})
        if snapshot.rows != count:
            raise SnapshotMismatch(
                f"snapshot holds {snapshot.rows} rows and {count} were named; "
                "use snapshot.take(rows) or name as many rows"
            )

    def _outer(self) -> dict[str, np.ndarray]:
        """What the batch itself holds of each row."""
        return {**self._flags, **leaves(self._shown, "observation")}

    def _inner(self, rows: Iterable[int]) -> dict[str, np.ndarray]:
        """What the environments of those rows hold."""
        saved = [self.rows[row].save() for row in rows]
        every = np.ones(len(saved), bool)
        return {name: objects((each[name] for each in saved), every) for name in INSIDE}

    def _raise(self, failures: Mapping[int, Exception]) -> None:
        """Report the first row that failed; none of those steps again before a reset."""
        for row in failures:
            self._ready[row] = False
        for row, error in failures.items():
            others = sorted(set(failures) - {row})
            also = f" (rows {others} failed too)" if others else ""
            raise RowFailed(row, f"{type(error).__name__}: {error}{also}") from error


def splitter(space: gymnasium.Space[Any], rows: int, name: str) -> Callable[[Any], list[Any]]:
    """What gives one action for each row, none of them shared with the batch it is given.

    Floats are rounded to those of the space. space: of one row · name: of the environment
    It raises ValueError naming the row of one that is not in the space.
    """
    if not isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary):
        return lambda actions: _split(space, batch_space(space, rows), actions, rows, name)
    check = ActionCheck(space, rows, name)

    def split(actions: Any) -> list[Any]:
        given = check(actions)
        with np.errstate(over="ignore"):
            cast = given.astype(space.dtype)
        if not (fits := np.isfinite(cast)).all():
            row = int(np.argwhere(~fits)[0, 0])
            raise ValueError(
                f"{name}: row {row}: action {given[row].tolist()} does not fit into {space.dtype}; "
                "give smaller numbers"
            )
        return [action.copy() for action in cast]

    return split


def _split(space: Any, batched: Any, actions: Any, rows: int, name: str) -> list[Any]:
    """For dicts, tuples, texts and their like: nothing is rounded."""
    try:
        each = copy.deepcopy(list(iterate(batched, actions)))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{name}: actions are not a batch of {space} ({error}); give {batched}"
        ) from error
    if len(each) != rows:
        raise ValueError(f"{name}: actions are of {len(each)} rows; give {rows}, one a row")
    for row, action in enumerate(each):
        if not space.contains(action):
            raise ValueError(f"{name}: row {row}: action {action!r} is not in {space}")
    return each


def merge_infos(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Copies of the infos of single rows as one, with a bool [rows] mask `_key` for each key.

    Numbers and arrays of one type and shape become arrays [rows, ...], zero where a row has
    none; dicts are merged likewise; anything else becomes an object array.
    """
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for info in infos for key in info):
        merged[f"_{key}"] = have = np.array([key in info for info in infos])
        values = [info[key] for info in infos if key in info]
        if all(isinstance(value, dict) for value in values):
            merged[key] = merge_infos([info.get(key, {}) for info in infos])
        else:
            merged[key] = _column(values, have)
    return merged


def _column(values: list[Any], have: np.ndarray) -> np.ndarray:
    numbers = all(isinstance(value, bool | int | float | np.number | np.bool_) for value in values)
    arrays = all(isinstance(value, np.ndarray) and not value.dtype.hasobject for value in values)
    forms = {(np.shape(v), np.asarray(v).dtype) for v in values} if numbers or arrays else set()
    if len(forms) != 1:
        return objects(map(copy.deepcopy, values), have)
    shape, dtype = forms.pop()
    column = np.zeros((len(have), *shape), dtype)
    column[have] = values
    return column


def objects(values: Iterable[Any], have: np.ndarray) -> np.ndarray:
    """An array of objects, None where there is none. have: bool [rows]"""
    column = np.full(len(have), None)
    for row, value in zip(np.flatnonzero(have), values, strict=True):
        column[row] = value
    return column
