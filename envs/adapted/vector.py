"""The batched face of any Gymnasium environment: one environment a row, saved and restored."""

from __future__ import annotations

import copy
import math
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
    StatefulVectorEnv,
    of_rows,
)
from delegate.envs.adapted.kinds import NotRestorable
from delegate.envs.adapted.row import Row, write

FLAGS = ("terminated", "truncated", "ready")
INSIDE = ("objects", "random")
"""what a snapshot holds of the environments: all that can change, states of random generators"""
PLAIN = (bool, int, float, np.number, np.bool_, np.ndarray)
"""types of infos that may become arrays"""
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
        self._check: ActionCheck | None = None
        if isinstance(self.single_action_space, Box | Discrete | MultiDiscrete | MultiBinary):
            self._check = ActionCheck(self.single_action_space, self.num_envs, first.name)
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
        failures = dict[int, Exception]()
        for row in np.flatnonzero(rows).tolist():
            given = seeds[row], copied(others) or None
            self._take(infos, failures, row, self.rows[row].reset, *given)
        self._raise(failures)
        return copied(self._shown), merge_infos(infos)

    def step(self, actions: Any) -> Step:
        """One step of every row.

        Raises ValueError naming the row of a bad action (no row has moved then), ResetNeeded for
        a row that never began or failed, and RowFailed for a row whose environment raised or
        whose simulation blew up: the others took their step, see `observe`.
        """
        return self._step(np.arange(self.num_envs), actions)

    def step_rows(self, rows: np.ndarray, actions: Any) -> Step:
        """See StatefulVectorEnv; raises as `step` does."""
        index = self.step_index(rows)
        seen, *result, info = self._step(index, actions)
        part = [values[index] for values in result]
        return take(seen, index), *part, of_rows(info, index, self.num_envs)

    def _step(self, index: np.ndarray, actions: Any) -> Step:
        """Step those rows, each by its action. index: int [n] · returns what [B] rows did"""
        if (unready := index[~self._ready[index]]).size:
            raise ResetNeeded(
                f"row {int(unready[0])}: step before its reset; call reset, for some rows with "
                "options={'reset_mask': ...}"
            )
        ended, reward = self._terminated | self._truncated, np.zeros(self.num_envs)
        infos: list[Any] = [{}] * self.num_envs
        failures = dict[int, Exception]()
        for row, action in zip(index.tolist(), self._split(actions, index), strict=True):
            if not ended[row]:
                reward[row] = self._take(infos, failures, row, self.rows[row].step, action)
            elif self.autoreset_mode == AutoresetMode.NEXT_STEP:
                self._take(infos, failures, row, self.rows[row].reset)
        stepped = np.isin(np.arange(self.num_envs), index)
        terminated, truncated = self._terminated & stepped, self._truncated & stepped
        over, last = terminated | truncated, dict[str, Any]()
        if self.autoreset_mode == AutoresetMode.SAME_STEP and over.any():
            last = final(self._shown, merge_infos(infos), over)
            for row in np.flatnonzero(over).tolist():
                self._take(infos, failures, row, self.rows[row].reset)
        self._raise(failures)
        merged = merge_infos(infos) | last
        return copied(self._shown), reward, terminated, truncated, merged

    def _take(
        self, infos: list[Any], failures: dict[int, Exception], row: int, method: Any, *given: Any
    ) -> float:
        """Reset or step one row and return its reward; its info or failure is added to those."""
        reward = 0.0
        try:
            observation, *outcome, infos[row] = method(*given)
            write(self._shown, row, observation, self.rows[row].name)
            reward, self._terminated[row], self._truncated[row] = outcome or (0.0, False, False)
            self._ready[row] = True
        except Exception as error:
            failures[row] = error
        return reward

    def _split(self, actions: Any, rows: np.ndarray) -> list[Any]:
        """The action of each of those rows, which it may keep; floats as precise as the space's.

        Raises ValueError naming the row of one that is not in the space.
        """
        space, name = self.single_action_space, self.rows[0].name
        if self._check is not None:
            given = self._check(actions, rows)
            with np.errstate(over="ignore"):
                cast = given.astype(space.dtype)
            if (bad := np.argwhere(~np.isfinite(cast))).size:
                raise ValueError(
                    f"{name}: row {rows[bad[0, 0]]}: action {given[bad[0, 0]].tolist()} does not "
                    f"fit into {space.dtype}; give smaller numbers"
                )
            return [action.copy() for action in cast]
        batched = batch_space(space, len(rows))
        try:
            each = copy.deepcopy(list(iterate(batched, actions)))
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{name}: actions are not a batch of {space} ({error}); give {batched}"
            ) from error
        if len(each) != len(rows):
            raise ValueError(f"{name}: actions are of {len(each)} rows; give {len(rows)}")
        for row, action in zip(rows, each, strict=True):
            if not space.contains(action):
                raise ValueError(f"{name}: row {row}: action {action!r} is not in {space}")
        return each

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
            return Box(-np.inf, np.inf, (math.prod(space.shape),), np.float32)
        raise NotImplementedError(
            f"{self.rows[0].name} observes {space}; wrap it so that it observes a Box or Discrete "
            "(gymnasium.wrappers.FlattenObservation)"
        )

    def markov_state(self, rows: Rows = None) -> np.ndarray:
        space, seen = self.single_observation_space, self.observe(rows)
        if isinstance(space, Discrete):
            return (seen - space.start).astype(np.int32)
        return seen.reshape(len(seen), math.prod(seen.shape[1:])).astype(np.float32)

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

    def state_names(self) -> set[str]:
        return {*self._outer(), *INSIDE}

    def _outer(self) -> dict[str, np.ndarray]:
        """What the batch itself holds of each row."""
        return {**self._flags, **leaves(self._shown, "observation")}

    def _inner(self, rows: Iterable[int]) -> dict[str, np.ndarray]:
        """What the environments of those rows hold."""
        saved = [self.rows[row].save() for row in rows]
        held = np.array([[each[name] for each in saved] for name in INSIDE], object)
        return dict(zip(INSIDE, held, strict=True))

    def _raise(self, failures: Mapping[int, Exception]) -> None:
        """Report the first row that failed; none of those steps again before a reset."""
        self._ready[list(failures)] = False
        for row, error in sorted(failures.items()):
            others = sorted(set(failures) - {row})
            also = f" (rows {others} failed too)" if others else ""
            raise RowFailed(row, f"{type(error).__name__}: {error}{also}") from error


def merge_infos(infos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Copies of the infos of single rows as one, with a bool [rows] mask `_key` for each key.

    Numbers and arrays of one type and shape become arrays [rows, ...], zero where a row has
    none; dicts are merged likewise; anything else becomes an object array.
    """
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for info in infos for key in info):
        have = [row for row, info in enumerate(infos) if key in info]
        merged[f"_{key}"] = np.isin(np.arange(len(infos)), have)
        values = [infos[row][key] for row in have]
        if all(isinstance(value, dict) for value in values):
            merged[key] = merge_infos([info.get(key, {}) for info in infos])
            continue
        forms = set()
        if all(isinstance(value, PLAIN) for value in values):
            forms = {(type(v) is np.ndarray, np.shape(v), np.asarray(v).dtype) for v in values}
        merged[key] = column = np.full(len(infos), None)
        if len(forms) == 1 and not (form := forms.pop())[2].hasobject:
            merged[key] = column = np.zeros((len(infos), *form[1]), form[2])
        for row in have:
            column[row] = copy.deepcopy(infos[row][key])
    return merged
