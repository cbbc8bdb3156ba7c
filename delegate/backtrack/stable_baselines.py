"""A batched world as Stable-Baselines3 wants it: its VecEnv, still stepped as one batch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode

from delegate.backtrack.single import one_row
from delegate.backtrack.spaces import clip_rounding, take
from delegate.backtrack.state import RandomStateMode, Rows, Snapshot, StatefulVectorEnv
from delegate.backtrack.vector import VectorBacktrack

try:
    from stable_baselines3.common.env_util import is_wrapped
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import VecEnv
    from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices
except ImportError as error:
    raise ImportError(
        "StableVecEnv needs Stable-Baselines3; pip install 'delegate[sb3]'"
    ) from error

OWN = "stable_baselines/"
"""prefix of the arrays that StableVecEnv adds to its world's state"""

ROW_BY_ROW = frozenset(
    {"action_masks", "can_backtrack", "level_index", "markov_state", "observe", "state_index"}
)
"""what a batch has or returns with one value a row; everything else is told whole"""
DRIVING = frozenset({"reset", "step", "step_rows", "restore", "close"})
"""methods that would move the world without the statistics of its episodes"""
ONE_ROW_SPACES = {
    "action_space": "single_action_space",
    "observation_space": "single_observation_space",
}
"""what Stable-Baselines3 calls the spaces of one environment"""


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

    Actions outside a Box by rounding, which off-policy learners give, are put on its bound; those
    further outside are for the world to refuse (ValueError, nothing has moved). After any other
    error, of a step or of a reset that ends it, begin again with `reset` or `restore`: what the
    rows then are is the world's own affair, and `step` raises ResetNeeded until then.
    Names (`get_attr`, `set_attr`, `env_method`) are looked up in the batch, then in the
    environment of each row, where rows have one (`envs.adapt`).
    sb3-contrib finds `action_masks` here; `snapshot` and `restore` cover the statistics too.
    Raises TypeError or ValueError for another environment or autoreset mode, and for spaces that
    Stable-Baselines3 cannot learn from, with the remedy.
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
        _check_spaces(env)
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
        self._settled = True  # no step or reset broke off half-way
        super().__init__(
            env.num_envs,
            _narrow_space(env.single_observation_space)
            if float32
            else env.single_observation_space,
            env.single_action_space,
        )

    def reset(self) -> Any:
        """Begin new episodes in all rows, with what `seed` and `set_options` asked for.

        Row i is seeded as the batch does with `reset(seed=n)`, n being what `seed` was given.
        Raises ValueError for options that differ between rows or name rows.
        """
        options = self._options[0]
        if not all(data_equivalence(other, options, exact=True) for other in self._options):
            raise ValueError("options differ between rows; give one dict for the whole batch")
        if "reset_mask" in options:
            raise ValueError("reset begins episodes in all rows; leave reset_mask out of options")
        settled, self._settled = self._settled, False
        try:
            observation, info = self.env.reset(seed=self._seeds[0], options=options or None)
        except ValueError:  # seeds or options that the world refuses: nothing has begun
            self._settled = settled
            raise
        self._reset_seeds()
        self._reset_options()
        self.batch_info = info
        self.reset_infos = [one_row(info, row) for row in range(self.num_envs)]
        for array in self._statistics.values():
            array[:] = 0
        self._settled = True
        return self._given(observation)

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """One decision in every row: observation, reward, done, infos.

        Raises what the world raises, and ResetNeeded when that has left episodes half-way.
        """
        if not self._settled:
            raise ResetNeeded("an error has broken off a step; call reset, or restore a snapshot")
        actions, space = self._actions, self.action_space
        if isinstance(space, Box) and isinstance(actions, np.ndarray):
            actions = clip_rounding(actions, space.low, space.high)
        self._settled = False
        try:
            observation, reward, terminated, truncated, info = self.env.step(actions)
        except ValueError:  # an action that the world refuses moves nothing
            self._settled = True
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
        self._settled = True
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
        self._settled |= len(np.unique(index)) == self.num_envs

    def action_masks(self) -> np.ndarray:
        """Which actions each row may take. bool [B, actions]; see VectorBacktrack."""
        return np.stack(self.env_method("action_masks"))

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """That attribute for each of those rows; what belongs to the batch is the same for all."""
        rows = self._rows(indices)
        if not self._has(attr_name):
            return [env.get_wrapper_attr(attr_name) for env in self._environments(attr_name, rows)]
        value = getattr(self.env, ONE_ROW_SPACES.get(attr_name, attr_name))
        return _by_row(attr_name, value, rows)

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set it for the batch, or in the environments of those rows if the batch has none.

        Raises ValueError when only some rows are named of what belongs to the batch.
        """
        rows = self._rows(indices)
        if self._has(attr_name) or self._row_environments() is None:
            self._check_whole(attr_name, rows)
            setattr(self.env, attr_name, value)
            return
        for env in self._environments(attr_name, rows):
            env.set_wrapper_attr(attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call the batch's method once, or that of the environment of each of those rows.

        Raises ValueError when only some rows are named of a method that is the batch's and not
        one of ROW_BY_ROW, and for a method that moves the world past the statistics.
        """
        rows = self._rows(indices)
        if not self._has(method_name):
            environments = self._environments(method_name, rows)
            methods = [env.get_wrapper_attr(method_name) for env in environments]
            return [method(*method_args, **method_kwargs) for method in methods]
        if method_name in DRIVING:
            raise ValueError(
                f"{method_name} would pass by the statistics of episodes; call it on StableVecEnv"
            )
        if method_name not in ROW_BY_ROW:
            self._check_whole(method_name, rows)
        found = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return _by_row(method_name, found, rows)

    def env_is_wrapped(
        self,
        wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]],
        indices: VecEnvIndices = None,
    ) -> list[bool]:
        """Whether each row's environment is; `episode` is told as by SB3's Monitor."""
        rows, environments = self._rows(indices), self._row_environments()
        if issubclass(wrapper_class, Monitor) or environments is None:
            return [issubclass(wrapper_class, Monitor)] * len(rows)
        return [is_wrapped(environments[row], wrapper_class) for row in rows]

    def get_images(self) -> Sequence[np.ndarray | None]:
        frames: Any = self.env.render()
        return [None] * self.num_envs if frames is None else list(frames)

    def close(self) -> None:
        self.env.close()

    def _rows(self, indices: VecEnvIndices) -> list[int]:
        """Those rows, counted from 0. Raises IndexError for one that is not there."""
        every = range(self.num_envs)
        return [every[row] for row in self._get_indices(indices)]

    def _has(self, name: str) -> bool:
        """Whether the batch has it; masks are for discrete actions alone."""
        continuous = not isinstance(self.env.single_action_space, Discrete)
        return hasattr(self.env, name) and not (name == "action_masks" and continuous)

    def _row_environments(self) -> Sequence[gymnasium.Env[Any, Any]] | None:
        """The environment of each row; None for a world that is not made of such."""
        env: Any = self.env.env if isinstance(self.env, VectorBacktrack) else self.env
        return getattr(env, "envs", None)

    def _environments(self, name: str, rows: list[int]) -> list[gymnasium.Env[Any, Any]]:
        """Those of these rows. Raises AttributeError where there are none to look up a name in."""
        environments = self._row_environments()
        if environments is None or (name == "action_masks" and self._backtracks):
            raise AttributeError(f"{type(self.env).__name__} has no {name}")
        return [environments[row] for row in rows]

    def _check_whole(self, name: str, rows: list[int]) -> None:
        if len(set(rows)) < self.num_envs:
            raise ValueError(f"{name} belongs to the whole batch; leave indices out")

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
                    infos[row] |= one_row({key: info[key]}, row)
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


def _by_row(name: str, value: Any, rows: list[int]) -> list[Any]:
    """A value of the batch for each of those rows; a method is told whole."""
    if name in ROW_BY_ROW and value is not None and not callable(value):
        return [take(value, row) for row in rows]
    return [value] * len(rows)


def _check_spaces(env: StatefulVectorEnv) -> None:
    """Raise TypeError, naming the remedy, for spaces that Stable-Baselines3 cannot learn from."""
    seen = env.single_observation_space
    parts = dict(seen.spaces) if isinstance(seen, Dict) else {"": seen}
    spaces = [("Observation", f"observation {name}".strip(), part) for name, part in parts.items()]
    for kind, what, space in [*spaces, ("Action", "action", env.single_action_space)]:
        remedy = f"wrap the environment in gymnasium.wrappers.Transform{kind} before envs.adapt"
        if kind == "Observation":
            remedy = remedy.replace("Transform", "FlattenObservation or Transform")
            if isinstance(env, VectorBacktrack) and len(parts) > 1:
                remedy += ", or give VectorBacktrack observe=()"
        if not isinstance(space, Box | Discrete | MultiDiscrete | MultiBinary):
            raise TypeError(
                f"the {what} is {space}; Stable-Baselines3 takes Box, Discrete, MultiDiscrete and "
                f"MultiBinary, and of observations one Dict of them; {remedy}"
            )
        if isinstance(space, Discrete | MultiDiscrete) and np.any(space.start):
            raise TypeError(f"the {what} is {space}; Stable-Baselines3 counts from 0; {remedy}")


def _narrow_space(space: gymnasium.Space) -> gymnasium.Space:
    """The same space with float32 in place of float64."""
    if isinstance(space, Dict):
        return Dict({name: _narrow_space(inner) for name, inner in space.spaces.items()})
    if isinstance(space, Box) and space.dtype == np.float64:
        with np.errstate(over="ignore"):  # a bound that is too large for 32 bits is none
            low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        return Box(low, high, dtype=np.float32)
    return space
