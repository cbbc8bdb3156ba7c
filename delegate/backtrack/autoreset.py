"""Which rows a reset names, and what autoreset in the same step leaves of the old episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from delegate.backtrack.spaces import take
from delegate.backtrack.state import scatter


def mode_of(mode: AutoresetMode | str) -> AutoresetMode:
    """That mode, also by its value, as in YAML. Raises ValueError naming the choices."""
    modes = {known.value: known for known in AutoresetMode}
    if isinstance(mode, AutoresetMode):
        return mode
    if mode not in modes:
        raise ValueError(f"autoreset_mode is {mode!r}; give one of {', '.join(modes)}")
    return modes[mode]


def reset_rows(options: dict[str, Any] | None, num_envs: int) -> np.ndarray:
    """options["reset_mask"], or all rows. bool [B]. Raises ValueError for one that does not fit."""
    if not options or "reset_mask" not in options:
        return np.ones(num_envs, bool)
    mask = np.asarray(options["reset_mask"])
    if mask.dtype != bool or mask.shape != (num_envs,) or not mask.any():
        raise ValueError(
            f"reset_mask is {mask.dtype} {mask.shape}; give bool ({num_envs},) with a True in it"
        )
    return mask


def final(observation: Any, info: dict[str, Any], ended: np.ndarray) -> dict[str, Any]:
    """final_obs and final_info of the rows that ended, as Gymnasium's vector environments do.

    observation, info: of the step that ended them · ended: bool [B]
    """
    final_obs = np.full(len(ended), None, object)
    for row in np.flatnonzero(ended):
        final_obs[row] = take(observation, row)
    final_info: dict[str, Any] = {}
    scatter(final_info, info, ended)
    return {
        "final_obs": final_obs,
        "_final_obs": ended.copy(),
        "final_info": final_info,
        "_final_info": ended.copy(),
    }
