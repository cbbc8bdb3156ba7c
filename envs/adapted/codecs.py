"""Which codec a simulator gets."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from delegate.backtrack.state import RandomStateMode, Snapshot, StatefulVectorEnv
from delegate.envs.adapted.engine import Engine


class RowsEngine(Engine):
    """A StatefulVectorEnv inside the environment: it saves its own rows."""

    codec = "rows"

    def __init__(self, env: StatefulVectorEnv) -> None:
        self.env = env
        self.random = env.random_state

    def save(self) -> dict[str, Any]:
        return dict(self.env.snapshot().arrays)

    def load(self, values: Mapping[str, Any], rng: RandomStateMode) -> None:
        self.env.restore(Snapshot(self.env.world, values), rng=rng)

    @property
    def world(self) -> str:
        return self.env.world


def engine_of(simulator: Any) -> Engine:
    """The codec of a simulator that `is_engine` knows."""
    if isinstance(simulator, StatefulVectorEnv):
        return RowsEngine(simulator)
    if (mujoco := sys.modules.get("mujoco")) is not None:
        from delegate.envs.adapted.mujoco_state import DataEngine, ModelEngine

        if isinstance(simulator, mujoco.MjData):
            return DataEngine(simulator)
        if isinstance(simulator, mujoco.MjModel):
            return ModelEngine(simulator)
    from delegate.envs.adapted.ale_state import AtariEngine

    return AtariEngine(simulator)
