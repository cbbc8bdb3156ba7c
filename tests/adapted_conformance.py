"""Fidelity of an adapted environment, bare and under backtracking, each with its negative control.

At a size that suits many ids.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from delegate import envs
from delegate.backtrack import Backtrack, Snapshot, StatefulVectorEnv, VectorBacktrack
from delegate.backtrack.conformance import (
    FidelityError,
    OmissionReport,
    check_fidelity,
    check_fidelity_detects_omission,
)

Made = str | Callable[[], gymnasium.Env[Any, Any]]


def check_adapted(
    env: Made,
    *,
    mode: AutoresetMode = AutoresetMode.NEXT_STEP,
    matters: Collection[str] = ("objects", "observation"),
    steps: int = 18,
    rows: int = 3,
    save_points: int = 4,
    **settings: Any,
) -> OmissionReport:
    """Save, act, restore, act again, for all it is made of; and leaving a part out must fail.

    Episodes must end in between. matters: prefixes of names of which one must be noticed each
    """

    def make(count: int) -> StatefulVectorEnv:
        return envs.adapt(env, count, autoreset_mode=mode, **settings)

    report = check_fidelity(make, steps=steps, rows=rows, save_points=save_points)
    assert report.endings > 0, "no episode ended; lower max_episode_steps"
    assert "random" in report.random_state
    control = check_fidelity_detects_omission(make, steps=steps, rows=rows, save_points=save_points)
    for name in matters:
        assert any(noticed.startswith(name) for noticed in control.noticed), (name, control)
    return control


def check_backtrack(env: Made, **settings: Any) -> None:
    """Backtrack around it passes Gymnasium's own check."""
    adapted = envs.adapt(env, autoreset_mode=AutoresetMode.DISABLED, **settings)
    backtrack = Backtrack(adapted, cost=0.5)
    check_env(backtrack, skip_render_check=True)
    backtrack.close()


class ForgetsThePast(VectorBacktrack):
    """Its snapshots leave out the moments that it could go back to."""

    def snapshot(self, rows: np.ndarray | None = None) -> Snapshot:
        whole = super().snapshot(rows)
        past = "backtrack/history/world/"
        arrays = {name: each for name, each in whole.arrays.items() if not name.startswith(past)}
        return Snapshot(whole.world, arrays)

    def restore(self, snapshot: Snapshot, rows: np.ndarray | None = None, **how: Any) -> None:
        present = super().snapshot(rows).arrays
        super().restore(Snapshot(snapshot.world, {**present, **snapshot.arrays}), rows, **how)


def check_adapted_backtrack(
    env: Made,
    *,
    steps: int = 14,
    rows: int = 2,
    seed: int = 0,
    save_points: int = 6,
    **settings: Any,
) -> None:
    """The same under VectorBacktrack, with many backtracks: some go back past the restored moment.

    Forgetting where they lead must be noticed: the negative control.
    """

    def make(count: int, face: type[VectorBacktrack] = VectorBacktrack) -> StatefulVectorEnv:
        world = envs.adapt(env, count, autoreset_mode=AutoresetMode.DISABLED, **settings)
        threshold = 0.0 if isinstance(world.single_action_space, gymnasium.spaces.Box) else 0.5
        return face(world, depths=(1, 3), horizon=4, cost=0.5, budget=99, threshold=threshold)

    def check(face: type[VectorBacktrack]) -> int:
        report = check_fidelity(lambda count: make(count, face), steps, rows, seed, save_points)
        return report.endings

    assert check(VectorBacktrack) > 0, "no episode ended; lower max_episode_steps"
    # a world newly made has no past at all: going back there is torn, noticed all the same
    with pytest.raises((FidelityError, AttributeError)):
        check(ForgetsThePast)
