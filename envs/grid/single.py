"""The single-environment face of the grid worlds: one row of the batch, for Gymnasium."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from delegate.backtrack.state import RandomStateMode, Snapshot


class GridEnv(gymnasium.Env[Any, Any]):
    """One environment over a batch of one row; `vector` is that batch.

    world: an id of `envs.ids()` · settings: as for `envs.make`
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 8}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(self, world: str, render_mode: str | None = None, **settings: Any) -> None:
        from delegate.envs.registry import make

        self.vector = make(
            world,
            1,
            **settings,
            autoreset_mode=AutoresetMode.DISABLED,
            render_mode=render_mode,
        )
        self.render_mode = render_mode
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode. options: {"level": int} which level of the bank to play"""
        super().reset(seed=seed)
        if options and "level" in options:
            options = {**options, "level": np.array([options["level"]])}
        observation, info = self.vector.reset(seed=seed, options=options)
        return observation[0], {"state": int(info["state"][0])}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step. Raises ValueError for an action that does not exist."""
        observation, reward, terminated, truncated, info = self.vector.step(np.array([action]))
        return (
            observation[0],
            float(reward[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            {name: value[0].item() for name, value in info.items()},
        )

    def render(self) -> Any:
        """The frame of `render_mode`."""
        return self.vector.render(0)

    def snapshot(self) -> Snapshot:
        """A copy of all that can change."""
        return self.vector.snapshot()

    def restore(self, snapshot: Snapshot, rng: RandomStateMode = "rewind") -> None:
        """Be again as when `snapshot` was taken; see StatefulVectorEnv.restore."""
        self.vector.restore(snapshot, rng=rng)
