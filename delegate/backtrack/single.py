"""The backtrack action for one environment."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker

from delegate.backtrack.config import BacktrackConfig
from delegate.backtrack.ledger import Ledger
from delegate.backtrack.spaces import take
from delegate.backtrack.state import RandomStateMode, Snapshot, StatefulVectorEnv
from delegate.backtrack.vector import VectorBacktrack


class Backtrack(gymnasium.Env[Any, Any]):
    """Adds going back to the actions of one environment; see VectorBacktrack.

    env: a StatefulVectorEnv of one row in AutoresetMode.DISABLED (`envs.adapt` makes one of any
    Gymnasium environment), or an environment over one (`gymnasium.make("delegate/Corner-v0")`),
    which must not be used beside this one
    config, or its settings by name: see BacktrackConfig

    `vector` is the batch of one row that does the work. Options of `reset` are for that batch.
    Raises TypeError for any other environment, ValueError as VectorBacktrack does.
    """

    def __init__(
        self,
        env: StatefulVectorEnv | gymnasium.Env[Any, Any],
        config: BacktrackConfig | None = None,
        **settings: Any,
    ) -> None:
        self.vector = VectorBacktrack(
            _one_row_batch(env), config, autoreset_mode=AutoresetMode.DISABLED, **settings
        )
        self.metadata = dict(env.metadata)
        self.render_mode = env.render_mode
        self.action_space = self.vector.single_action_space
        self.observation_space = self.vector.single_observation_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        observation, info = self.vector.reset(seed=seed, options=options)
        return take(observation, 0), one_row(info, 0)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One decision. Raises ValueError for an action outside the space."""
        observation, reward, terminated, truncated, info = self.vector.step(
            np.asarray(action)[None]
        )
        return (
            take(observation, 0),
            float(reward[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            one_row(info, 0),
        )

    def action_masks(self) -> np.ndarray:
        """Which actions would not be refused, for sb3-contrib. bool [n + k]"""
        return self.vector.action_masks()[0]

    @property
    def ledger(self) -> Ledger:
        """What was paid so far, all episodes together."""
        return self.vector.ledger

    def snapshot(self) -> Snapshot:
        """A copy of all that can change."""
        return self.vector.snapshot()

    def restore(self, snapshot: Snapshot, rng: RandomStateMode = "rewind") -> None:
        """Be again as when `snapshot` was taken; see StatefulVectorEnv.restore."""
        self.vector.restore(snapshot, rng=rng)

    def render(self) -> Any:
        """The frame of the world's `render_mode`."""
        frames = self.vector.render()
        return frames[0] if isinstance(frames, tuple) else frames

    def close(self) -> None:
        self.vector.close()


def _one_row_batch(env: Any) -> StatefulVectorEnv:
    """The batch of one row that `env` is, or is a face of."""
    while isinstance(env, gymnasium.Wrapper):
        if not isinstance(env, OrderEnforcing | PassiveEnvChecker):
            raise TypeError(
                f"{type(env).__name__} keeps state that could not be restored; give "
                "envs.adapt(env, autoreset_mode='Disabled'), which restores wrappers too, or put "
                "Backtrack inside it, around the bare environment"
            )
        env = env.env
    batch = env if isinstance(env, StatefulVectorEnv) else getattr(env, "vector", None)
    if not isinstance(batch, StatefulVectorEnv):
        raise TypeError(
            f"{type(env).__name__} cannot be restored; give a StatefulVectorEnv of one row, as "
            "envs.adapt(env, autoreset_mode='Disabled') makes of any environment, or an "
            "environment over one (`vector`), as gymnasium.make('delegate/Corner-v0') is"
        )
    if batch.num_envs != 1:
        raise ValueError(
            f"{type(batch).__name__} has {batch.num_envs} rows; give one, or use VectorBacktrack"
        )
    return batch


def one_row(info: Mapping[str, Any], row: int) -> dict[str, Any]:
    """The info of one row of a batch, copied, as a single environment gives it."""
    single: dict[str, Any] = {}
    for key, value in info.items():
        if key[:1] == "_" and key[1:] in info:
            continue
        present = info.get(f"_{key}")
        if present is not None and not np.all(present[row]):
            continue
        if isinstance(value, dict):
            single[key] = one_row(value, row)
        else:
            rows = isinstance(value, np.ndarray) and value.ndim
            single[key] = copy.deepcopy(value[row] if rows else value)
    return single
