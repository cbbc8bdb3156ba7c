"""Fidelity of an adapted environment with its negative control, at a size that suits many ids."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import gymnasium
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import envs
from delegate.backtrack import Backtrack, StatefulVectorEnv
from delegate.backtrack.conformance import (
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
