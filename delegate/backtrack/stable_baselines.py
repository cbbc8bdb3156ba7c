"""A batched world as Stable-Baselines3 wants it: its VecEnv, still stepped as one batch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from gymnasium.vector import AutoresetMode

from delegate.backtrack.spaces import take
from delegate.backtrack.state import RandomStateMode, Rows, Snapshot, StatefulVectorEnv, one_row
from delegate.backtrack.vector import VectorBacktrack

try:
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import VecEnv
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices
except ImportError as error:
    raise ImportError(
        "StableVecEnv needs Stable-Baselines3; pip install 'delegate[sb3]'"
    ) from error

OWN = "stable_baselines/"
"""prefix of the arrays that StableVecEnv adds to its world's state"""


class StableVecEnv(VecEnv):
    """What Stable-Baselines3 and sb3-contrib learn from: `PPO("MlpPolicy", StableVecEnv(env))`.

    env: a StatefulVectorEnv or VectorBacktrack, in AutoresetMode NEXT_STEP or DISABLED; rows
    that end are reset at once, so use it through this face alone
    float32: give 64-bit observations as 32-bit ones, as networks see them anyway
    path_return: `r` of an episode is the return of the surviving path, without refunds and
    costs; otherwise it is the return of what was emitted, which is what a learner maximises
    info_keys: what every row is told of the batch's info at every step; each costs a little

    Rewards are float32 [B]. The info of a row that goes on holds `info_keys` only; that of one
    that ends holds all the world said, `terminal_observation`, `TimeLimit.truncated` and
    `episode`: r (undiscounted, summed in 64 bits), l (decisions, undone ones included), t
    (seconds since the start), and of a VectorBacktrack also path_return, path_length, undone
    (steps) and backtracks. `batch_info` is the last step's info of the whole batch.
    sb3-contrib finds `action_masks` here; `snapshot` and `restore` cover the statistics too.
    Raises TypeError or ValueError for another environment or autoreset mode.
    """

    def __init__(
        self,
        env: StatefulVectorEnv,
        *,
        float32: bool = True,
        path_return: bool = False,
        info_keys: Sequence[str] = (),
    ) -> None:
        if not isinstance(env, StatefulVectorEnv):
            raise TypeError(
                f"{type(env).__name__} is no StatefulVectorEnv; give one, or a VectorBacktrack"
            )
        mode = env.metadata.get("autoreset_mode")
        if mode not in (AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED):
            raise ValueError(
                f"{type(env).__name__} resets itself ({mode}), which hides how episodes end; "
                "make it with autoreset_mode=AutoresetMode.DISABLED"
            )
        self.env = env
        self.float32, self.path_return, self.info_keys = float32, path_return, tuple(info_keys)
        self.batch_info: dict[str, Any] = {}
        self._backtracks = isinstance(env, VectorBacktrack)
        self._statistics = {
            name: np.zeros(env.num_envs, dtype)
            for name, dtype in (
                ("emitted", np.float64),
                ("decisions", np.int64),
                ("path_return", np.float64),
                ("undone", np.int64),
                ("backtracks", np.int64),
            )
        }
        self._began = time.time()
        self._actions: np.ndarray | None = None
        super().__init__(
            env.num_envs,
            _narrow_space(env.single_observation_space)
            if float32
            else env.single_observation_space,
            env.single_action_space,
        )

    def reset(self) -> Any:
        """Begin new episodes in all rows, with what `seed` and `set_options` asked for."""
        if any(options != self._options[0] for options in self._options):
            raise ValueError("options differ between rows; give one dict for the whole batch")
        observation, info = self.env.reset(seed=self._seeds[0], options=self._options[0] or None)
        self._reset_seeds()
        self._reset_options()
        self.batch_info = info
        self.reset_infos = [one_row(info, row) for row in range(self.num_envs)]
        for array in self._statistics.values():
            array[:] = 0
        return self._given(observation)

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """One decision in every row: observation, reward, done, infos.

        When the world raises, all rows are as they were before.
        """
        # A VectorBacktrack puts its own rows back.
        before = None if self._backtracks else self.env.snapshot()
        try:
            observation, reward, terminated, truncated, info = self.env.step(self._actions)
        except BaseException:
            if before is not None:
                self.env.restore(before)
            raise
        self.batch_info = info
        self._count(reward, info)
        done = terminated | truncated
        infos = self._infos(info)
        ended = np.flatnonzero(done)
        if ended.size:
            last = self._given(take(observation, ended))
            for place, row in enumerate(ended.tolist()):
                infos[row] = one_row(info, row) | {
                    "terminal_observation": take(last, place),
                    "TimeLimit.truncated": bool(truncated[row] and not terminated[row]),
                    "episode": self._episode(row),
                }
            observation = self._begin(done, ended)
        return self._given(observation), reward.astype(np.float32), done, infos

    def observe(self) -> Any:
        """The observation of every row now; after `restore`, a learner's `_last_obs`."""
        return self._given(self.env.observe())

    def snapshot(self, rows: Rows = None) -> Snapshot:
        """A copy of all that can change in those rows, the episode statistics included."""
        index = self.env.row_index(rows)
        saved = self.env.snapshot(index)
        own = {OWN + name: array[index] for name, array in self._statistics.items()}
        return Snapshot(saved.world, {**saved.arrays, **own})

    def restore(
        self, snapshot: Snapshot, rows: Rows = None, rng: RandomStateMode = "rewind"
    ) -> None:
        """Make those rows again as they were; see StatefulVectorEnv.restore."""
        index = self.env.row_index(rows)
        own = {name for name in snapshot.arrays if name.startswith(OWN)}
        self.env.check_names(own, {OWN + name for name in self._statistics})
        world = {n: array for n, array in snapshot.arrays.items() if n not in own}
        self.env.restore(Snapshot(snapshot.world, world), index, rng)
        for name, array in self._statistics.items():
            array[index] = snapshot.arrays[OWN + name]

    def action_masks(self) -> np.ndarray:
        """Which actions each row may take. bool [B, actions]; see VectorBacktrack."""
        masks: np.ndarray = self._of_batch("action_masks")()
        return masks

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """That attribute of the batch, row by row where it has one value a row."""
        return self._by_row(self._of_batch(attr_name), indices)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set it for the whole batch. Raises ValueError when only some rows are named."""
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(f"{attr_name} belongs to the whole batch; leave indices out")
        setattr(self.env, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call the batch's method once; the result row by row where it has one value a row."""
        return self._by_row(self._of_batch(method_name)(*method_args, **method_kwargs), indices)

    def env_is_wrapped(
        self,
        wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]],
        indices: VecEnvIndices = None,
    ) -> list[bool]:
        """No row is wrapped, but `episode` is told as by SB3's Monitor."""
        return [issubclass(wrapper_class, Monitor) for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        frames: Any = self.env.render()
        return [None] * self.num_envs if frames is None else list(frames)

    def close(self) -> None:
        self.env.close()

    def _of_batch(self, name: str) -> Any:
        """That attribute of the whole batch. Raises AttributeError where there is none."""
        continuous = not isinstance(self.env.single_action_space, gymnasium.spaces.Discrete)
        if name == "action_masks" and continuous:
            raise AttributeError("continuous actions have no masks")
        return getattr(self.env, name)

    def _count(self, reward: np.ndarray, info: Mapping[str, Any]) -> None:
        counts = self._statistics
        counts["emitted"] += reward
        counts["decisions"] += 1
        if not self._backtracks:
            return
        earned, back = counts["path_return"], info["backtracked"]
        np.add(earned, reward, out=earned, where=~(back | info["backtrack_refused"]))
        if back.any():
            earned -= info["undone_reward"]
            counts["undone"] += info["undone_steps"]
            counts["backtracks"] += back

    def _episode(self, row: int) -> dict[str, Any]:
        """What Monitor would say of the episode that has just ended in that row."""
        counts = {name: array[row].item() for name, array in self._statistics.items()}
        episode = {
            "r": counts["emitted"],
            "l": counts["decisions"],
            "t": round(time.time() - self._began, 6),
        }
        if not self._backtracks:
            return episode
        if self.path_return:
            episode["r"] = counts["path_return"]
        return episode | {
            "path_return": counts["path_return"],
            "path_length": int(self.batch_info["path_clock"][row]),
            "undone": counts["undone"],
            "backtracks": counts["backtracks"],
        }

    def _infos(self, info: Mapping[str, Any]) -> list[dict[str, Any]]:
        """`info_keys` of every row; what a row was not told is left out."""
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for key in self.info_keys:
            if key in info:
                told = info.get(f"_{key}", np.ones(self.num_envs, bool))
                for row in np.flatnonzero(told).tolist():
                    infos[row][key] = info[key][row]
        return infos

    def _begin(self, done: np.ndarray, ended: np.ndarray) -> Any:
        """Begin new episodes in those rows. done: bool [B], ended: the same as int [n]"""
        observation, info = self.env.reset(options={"reset_mask": done})
        for row in ended.tolist():
            self.reset_infos[row] = one_row(info, row)
        for array in self._statistics.values():
            array[ended] = 0
        return observation

    def _given(self, observation: Any) -> Any:
        """A copy that no later step of the world changes, in 32 bits where asked for."""
        if isinstance(observation, dict):
            return {name: self._given(value) for name, value in observation.items()}
        wide = self.float32 and observation.dtype == np.float64
        return np.array(observation, np.float32 if wide else observation.dtype)

    def _by_row(self, value: Any, indices: VecEnvIndices) -> list[Any]:
        rows = self._get_indices(indices)
        has_rows = (
            value.shape[:1] == (self.num_envs,)
            if isinstance(value, np.ndarray)
            else isinstance(value, list | tuple) and len(value) == self.num_envs
        )
        return [value[row] if has_rows else value for row in rows]


def _narrow_space(space: gymnasium.Space) -> gymnasium.Space:
    """The same space with float32 in place of float64."""
    if isinstance(space, Dict):
        return Dict({name: _narrow_space(inner) for name, inner in space.spaces.items()})
    if isinstance(space, Box) and space.dtype == np.float64:
        return Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
    return space
