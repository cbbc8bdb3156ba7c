"""Observations and rewards as the environment gave them, whatever VecNormalize makes of them.

They are remembered so, since what normalises them moves on. The parts of a Dict, vectors all,
are remembered as one vector, in the order of the space.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Dict
from stable_baselines3.common.vec_env import VecNormalize


class Original:
    """From what an algorithm of Stable-Baselines3 sees to what there was, and back."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._parts: dict[str, slice] = {}
        space = model.observation_space
        if isinstance(space, Dict):
            widths = [part.shape[0] for part in space.spaces.values()]  # type: ignore[index]
            ends = np.cumsum(widths).tolist()
            places = [slice(end - width, end) for width, end in zip(widths, ends, strict=True)]
            self._parts = dict(zip(space.spaces, places, strict=True))

    @property
    def space(self) -> Any:
        """Of the states: Box or Discrete."""
        space = self._model.observation_space
        return gymnasium.spaces.flatten_space(space) if self._parts else space

    def observations(self, observation: Any) -> np.ndarray:
        """The latest batch, a copy. [B, ...]

        Raises ValueError naming the environment for what is not finite.
        """
        normaliser = self._normaliser()
        if normaliser is not None:
            observation = normaliser.get_original_obs()
        return _finite("observation", self._state(observation))

    def entered(self, told: dict[str, Any], now: np.ndarray) -> np.ndarray:
        """Where a step led: the last observation where an episode ended, and not the next one's
        first. told: what callbacks are told of the step · now: `observations` after it. [B, ...]

        Beside VecNormalize it is clipped where that clips.
        Raises ValueError naming the environment for what is not finite.
        """
        entered, normaliser = now.copy(), self._normaliser()
        for row in np.flatnonzero(told["dones"]).tolist():
            last = told["infos"][row]["terminal_observation"]
            entered[row] = self._state(
                last if normaliser is None else normaliser.unnormalize_obs(last)
            )
        return _finite("observation", entered)

    def rewards(self, reward: np.ndarray) -> np.ndarray:
        """Of the latest step, a copy. float64 [B]

        Raises ValueError naming the environment for what is not finite.
        """
        normaliser = self._normaliser()
        given = reward if normaliser is None else normaliser.get_original_reward()
        return _finite("reward", np.array(given, np.float64))

    def seen(self, state: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        """As the policy would see those states now. [N, ...]"""
        normaliser, parts = self._normaliser(), self._parts
        given = {name: state[:, place] for name, place in parts.items()} if parts else state
        return given if normaliser is None else normaliser.normalize_obs(given)

    def _state(self, observation: Any) -> np.ndarray:
        """A copy."""
        if not self._parts:
            return np.array(observation)
        return np.concatenate([observation[name] for name in self._parts], axis=-1)

    @property
    def unit(self) -> float:
        """One unit of the critic's value, in rewards."""
        normaliser = self._normaliser()
        if normaliser is None or not normaliser.norm_reward:
            return 1.0
        return float(np.sqrt(normaliser.ret_rms.var + normaliser.epsilon))

    def _normaliser(self) -> VecNormalize | None:
        return self._model.get_vec_normalize_env()


def _finite(what: str, values: np.ndarray) -> np.ndarray:
    """Those values. [B, ...]"""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        row = int(np.flatnonzero(~finite)[0])
        raise ValueError(
            f"environment {row}: {what} {values[row].tolist()} is not finite; look for NaN in the "
            "environment, or leave its broken rows out"
        )
    return values


def cut_short(told: dict[str, Any]) -> np.ndarray:
    """Whose trajectories were cut short with a step, not ended. bool [B]

    told: what callbacks are told of the step
    """
    cut = np.zeros(len(told["dones"]), bool)
    for row in np.flatnonzero(told["dones"]).tolist():
        cut[row] = told["infos"][row].get("TimeLimit.truncated", False)
    return cut
