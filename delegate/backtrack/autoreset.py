"""Resets: of which rows, with which seeds, in which mode, and what they leave of old episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from delegate.backtrack.infos import scatter
from delegate.backtrack.spaces import take


def mode_of(mode: AutoresetMode | str) -> AutoresetMode:
    """That mode, also by its value, as in YAML. Raises ValueError naming the choices."""
    modes = {known.value: known for known in AutoresetMode}
    if isinstance(mode, AutoresetMode):
        return mode
    if mode not in modes:
        raise ValueError(f"autoreset_mode is {mode!r}; give one of {', '.join(modes)}")
    return modes[mode]


def reset_rows(options: Mapping[str, Any] | None, num_envs: int, begun: bool = True) -> np.ndarray:
    """options["reset_mask"], or all rows. bool [B]

    begun: whether every row has been reset before; if not, all must be now
    Raises ValueError for another mask, also for one without a True, as Gymnasium does.
    """
    if not options or "reset_mask" not in options:
        return np.ones(num_envs, bool)
    mask = np.asarray(options["reset_mask"])
    if mask.dtype != bool or mask.shape != (num_envs,) or not mask.any():
        without = " without a True" if mask.dtype == bool and not mask.any() else ""
        raise ValueError(
            f"reset_mask is {mask.dtype} {mask.shape}{without}; "
            f"give bool ({num_envs},) with a True in it"
        )
    if not (begun or mask.all()):
        raise ValueError("reset_mask leaves rows that never began; reset all rows first")
    return mask


def row_seeds(
    seed: int | Sequence[int | None] | np.ndarray | None, num_envs: int
) -> list[int | None]:
    """The seed of each row: seed, seed + 1, ... as Gymnasium's vector environments do.

    seed: an integer, or one a row; None leaves the random streams, or that row's, as they are
    Raises ValueError for anything else.
    """
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, int | np.integer) and not isinstance(seed, bool):
        given: list[Any] = [int(seed) + row for row in range(num_envs)]
    elif isinstance(seed, list | tuple | np.ndarray) and np.ndim(np.asarray(seed, object)) == 1:
        given = list(seed)
    else:
        raise ValueError(f"seed is {seed!r}; give an integer, one a row in a list, or None")
    if len(given) != num_envs:
        raise ValueError(f"{len(given)} seeds for {num_envs} rows; give one integer, or one a row")
    for row, number in enumerate(given):
        if number is None:
            continue
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise ValueError(f"row {row}: seed {number!r} is no integer; give 0 or more, or None")
        if number < 0:
            raise ValueError(f"row {row}: seed {number} is negative; give 0 or more")
        given[row] = int(number)
    return given


def fresh_seed() -> int:
    """A seed from the system's own randomness, for a world that is never given one."""
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0]) >> 1


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
