"""The batched face of any Gymnasium environment: one environment a row, saved and restored."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from delegate.backtrack.autoreset import final
from delegate.backtrack.spaces import copied, empty, leaves, take
from delegate.backtrack.state import (
    RandomStateMode,
    Rows,
    Snapshot,
    SnapshotMismatch,
    StatefulVectorEnv,
)
from delegate.envs.adapted.batch import merge_infos, split_actions, write
from delegate.envs.adapted.refusal import NotRestorable, RowFailed
from delegate.envs.adapted.row import Row, Saved

FLAGS = ("terminated", "truncated", "ready")


class AdaptedVectorEnv(StatefulVectorEnv):
    """B rows, each a Gymnasium environment of its own; `envs.adapt` makes them.

    Observations are arrays [B, ...] in dicts and tuples like the space, object arrays [B] for
    what is no array. Infos are merged with `_key` masks; "episode" loses its "t", the seconds on
    the wall clock. `reset(seed=n)` gives row i the seed n + i.

    autoreset_mode: NEXT_STEP resets an ended row at its next step, whose action is ignored;
    SAME_STEP at once, with final_obs and final_info; DISABLED lets it hold still, reward 0,
    until reset with options["reset_mask"] (bool [B]).

    Snapshots hold numbers as arrays and Python state as objects: they live in memory, and
    `Snapshot.save` refuses them. codec: how rows are saved · max_steps: of TimeLimit, or None
    """

    def __init__(
        self, rows: Sequence[Row], autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP
    ) -> None:
        self.rows = list(rows)
        first = self.rows[0]
        self.num_envs = len(self.rows)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**first.env.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = first.env.render_mode
        self.spec = first.env.spec
        self.codec, self.random_state = first.codec, first.random
        self.max_steps = first.max_steps
        # copies: sampling from them must not draw from a row's own random generators
        self.single_observation_space = copy.deepcopy(first.env.observation_space)
        self.single_action_space = copy.deepcopy(first.env.action_space)
        self._check_alike()
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

        self._shown = empty(self.single_observation_space, self.num_envs)
        self._flags = {name: np.zeros(self.num_envs, bool) for name in FLAGS}
        self._terminated, self._truncated, self._ready = (self._flags[name] for name in FLAGS)

    @property
    def envs(self) -> tuple[Any, ...]:
        """The environment of each row, live."""
        return tuple(row.env for row in self.rows)

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
        others = dict(options or {})
        rows = self._reset_rows(others.pop("reset_mask", None))
        seeds = self._seeds(seed)
        infos: list[dict[str, Any] | None] = [None] * self.num_envs
        failures = {}
        for row in rows:
            try:
                infos[row] = self._begin(row, seeds[row], others or None)
            except Exception as error:
                failures[row] = error
        self._raise(failures)
        return copied(self._shown), merge_infos(infos, self.num_envs)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of every row.

        Raises ValueError naming the row of a bad action (no row has moved then), ResetNeeded for
        a row that never began or failed, and RowFailed for a row whose environment raised or
        whose simulation blew up: the others took their step, see `observe`.
        """
        self._check_ready(np.ones(self.num_envs, bool))
        each = split_actions(self.single_action_space, self.action_space, actions, self.num_envs)
        return self._step(each, np.ones(self.num_envs, bool))

    def step_rows(
        self, actions: Any, rows: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step those rows alone, see StatefulVectorEnv; raises as `step` does. rows: bool [B]"""
        self._check_ready(rows)
        each = split_actions(self.single_action_space, self.action_space, actions, self.num_envs)
        observation, reward, terminated, truncated, info = self._step(each, rows)
        return observation, reward, terminated & rows, truncated & rows, info

    def _check_ready(self, rows: np.ndarray) -> None:
        if (unready := np.flatnonzero(rows & ~self._ready)).size:
            raise ResetNeeded(
                f"row {int(unready[0])}: step before its reset; call reset, for some rows with "
                "options={'reset_mask': ...}"
            )

    def _step(
        self, each: list[Any], rows: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        ended = self._terminated | self._truncated
        reward = np.zeros(self.num_envs)
        infos: list[dict[str, Any] | None] = [None] * self.num_envs
        failures = {}
        for row in np.flatnonzero(rows).tolist():
            try:
                if not ended[row]:
                    reward[row], infos[row] = self._move(row, each[row])
                elif self.autoreset_mode == AutoresetMode.NEXT_STEP:
                    infos[row] = self._begin(row, None, None)
            except Exception as error:
                failures[row] = error
        terminated, truncated = self._terminated.copy(), self._truncated.copy()
        over = terminated | truncated
        last: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP and over.any():
            info = merge_infos(infos, self.num_envs)
            last = final(self._shown, info, over)
            for row in np.flatnonzero(over).tolist():
                try:
                    infos[row] = self._begin(row, None, None)
                except Exception as error:
                    failures[row] = error
        self._raise(failures)
        merged = merge_infos(infos, self.num_envs) | last
        return copied(self._shown), reward, terminated, truncated, merged

    @property
    def action_masks(self) -> Callable[[], np.ndarray]:
        """`action_masks()` gives what each environment's own does, bool [B, n].

        Raises AttributeError for environments without one: there is no such method then.
        """
        own = [row.env.get_wrapper_attr("action_masks") for row in self.rows]
        return lambda: np.array([masks() for masks in own], bool)

    def observe(self, rows: Rows = None) -> Any:
        return take(self._shown, self.row_index(rows))

    def render(self, row: int | None = None) -> Any:
        """Frames by `render_mode`: that row's, or a tuple of one a row; None without a mode."""
        if self.render_mode is None:
            return None
        if row is None:
            return tuple(each.render() for each in self.rows)
        return self.rows[row].render()

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
        index = self.row_index(rows)
        self.check_fits(snapshot, len(index))
        failures: dict[int, Exception] = {}
        for place, row in enumerate(index):
            saved = {name: snapshot.arrays[name][place] for name in self.rows[row].template}
            if kept := set(keep) & set(saved):
                now = self.rows[row].save()
                saved |= {name: now[name] for name in kept}
            try:
                self.rows[row].load(saved, rng)
            except NotRestorable as error:
                failures[int(row)] = error
        for name, array in self._outer().items():
            if name not in keep:
                array[index] = snapshot.arrays[name]
        self._raise(failures)

    def check_fits(self, snapshot: Snapshot, count: int) -> None:
        self.check_world(snapshot)
        self.check_names(set(snapshot.arrays), set(self._outer()) | set(self.rows[0].template))
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
        return {
            name: _stacked(value, [each[name] for each in saved])
            for name, value in self.rows[0].template.items()
        }

    def _move(self, row: int, action: Any) -> tuple[float, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.rows[row].step(action)
        write(self._shown, row, observation)
        self._terminated[row], self._truncated[row] = terminated, truncated
        return reward, info

    def _begin(self, row: int, seed: int | None, options: dict[str, Any] | None) -> dict[str, Any]:
        observation, info = self.rows[row].reset(seed, options)
        write(self._shown, row, observation)
        self._terminated[row] = self._truncated[row] = False
        self._ready[row] = True
        return info

    def _raise(self, failures: Mapping[int, Exception]) -> None:
        """Report the first row that failed; none of those steps again before a reset."""
        for row in failures:
            self._ready[row] = False
        for row, error in failures.items():
            others = sorted(set(failures) - {row})
            also = f" (rows {others} failed too)" if others else ""
            raise RowFailed(row, f"{type(error).__name__}: {error}{also}") from error

    def _reset_rows(self, mask: Any) -> list[int]:
        if mask is None:
            return list(range(self.num_envs))
        mask = np.asarray(mask)
        if mask.shape != (self.num_envs,) or mask.dtype != bool or not mask.any():
            raise ValueError(
                f"reset_mask is {mask.dtype} {mask.shape}; give bool ({self.num_envs},) with a "
                "True in it"
            )
        return [int(row) for row in np.flatnonzero(mask)]

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + row for row in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"{len(seed)} seeds for {self.num_envs} rows; give one for each")
        return list(seed)

    def _check_alike(self) -> None:
        for number, row in enumerate(self.rows):
            if row.world != self.rows[0].world or list(row.template) != list(self.rows[0].template):
                raise ValueError(
                    f"row {number}: {row.world} is not what row 0 is, {self.rows[0].world}; "
                    "the factory must make the same environment every time"
                )


def _stacked(example: Any, values: list[Saved]) -> np.ndarray:
    """One saved thing of several rows as an array [rows, ...]."""
    if isinstance(example, np.ndarray):
        return np.array(values, example.dtype).reshape(len(values), *example.shape)
    column = np.full(len(values), None)
    for row, value in enumerate(values):
        column[row] = value
    return column
