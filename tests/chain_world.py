"""A small real world for exact arithmetic: a corridor with a pit, a prize, wind and digging.

Cells 0..N-1; cell 0 is a pit (reward -1, ends), cell N-1 the prize (reward +1, ends). Actions:
0 left, 1 right, 2 dig (moves nothing, makes a hole for good). Every step costs 1/8.
A hidden wind grows by one each step and, when its random draw says so, blows one cell left.
All rewards are binary fractions, so sums of them are exact.
"""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from delegate.backtrack.state import Rows, StatefulVectorEnv

MASK = 2**64 - 1


def hashed(seed: int, counter: int) -> int:
    """A fixed 64-bit hash of both, in plain Python."""
    bits = (seed * 0x9E3779B97F4A7C15 + (counter + 1) * 0xD1B54A32D192ED03) & MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
    return bits ^ (bits >> 31)


def hashed_rows(key: np.ndarray) -> np.ndarray:
    """The same for rows of keys. key: uint64 [n, 2]"""
    bits = key[:, 0] * np.uint64(0x9E3779B97F4A7C15)
    bits = bits + (key[:, 1] + np.uint64(1)) * np.uint64(0xD1B54A32D192ED03)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


class ChainWorld(StatefulVectorEnv):
    """cell, wind, clock int32 [B]; holes int32 [B], irreversible; key uint64 [B, 2]."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        size: int = 7,
        max_steps: int | None = 40,
        noise: bool = True,
        step_reward: float = -0.125,
        observation: Literal["integer", "vector", "picture", "dict"] = "integer",
        actions: Literal["discrete", "box"] = "discrete",
        autoreset_mode: AutoresetMode = AutoresetMode.DISABLED,
        irreversible: bool = True,
    ) -> None:
        self.num_envs, self.size, self.noise = num_envs, size, noise
        self.max_steps, self.step_reward = max_steps, step_reward
        self.observation, self.autoreset_mode = observation, autoreset_mode
        self.metadata = {"autoreset_mode": autoreset_mode}
        self.irreversible = frozenset({"holes"} if irreversible else ())
        self.single_action_space = (
            gymnasium.spaces.Discrete(3)
            if actions == "discrete"
            else gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        )
        box, discrete = gymnasium.spaces.Box, gymnasium.spaces.Discrete(size)
        self.single_observation_space = {
            "integer": discrete,
            "vector": box(0, 1, (2,), np.float32),
            "picture": box(0, 1, (1, size, 2), np.bool_),
            "dict": gymnasium.spaces.Dict({"cell": discrete, "place": box(0, 1, (2,), np.float32)}),
        }[observation]
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.state = {
            **{name: np.zeros(num_envs, np.int32) for name in ("cell", "wind", "clock", "holes")},
            **{name: np.zeros(num_envs, bool) for name in ("terminated", "truncated")},
            "key": np.zeros((num_envs, 2), np.uint64),
        }
        self.ready = False

    @property
    def world(self) -> str:
        return f"ChainWorld({self.size}, {self.max_steps}, {self.noise}, {self.step_reward})"

    def state_arrays(self) -> dict[str, np.ndarray]:
        return self.state

    def refresh(self, rows: np.ndarray) -> None:
        self.ready = True

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        rows = np.arange(self.num_envs)[(options or {}).get("reset_mask", slice(None))]
        if seed is not None or not self.ready:
            self.state["key"][rows, 0] = 1_000 * (seed or 0) + rows
            self.state["key"][rows, 1] = 0
        self.ready = True
        for name in ("wind", "clock", "holes", "terminated", "truncated"):
            self.state[name][rows] = 0
        key = self.state["key"]
        self.state["cell"][rows] = 1 + hashed_rows(key[rows]) % np.uint64(self.size - 2)
        key[rows, 1] += np.uint64(1)
        return self.observe(), {"start": self.state["cell"].copy()}

    def step(
        self, actions: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if not self.ready:
            raise ResetNeeded("call reset")
        state, actions = self.state, np.asarray(actions)
        if isinstance(self.single_action_space, gymnasium.spaces.Box):
            actions = np.where(actions[:, 1] > 0.5, 2, actions[:, 0] > 0)
        waiting = state["terminated"] | state["truncated"]
        live = ~waiting
        state["holes"][live & (actions == 2)] += 1
        move = np.select([actions == 0, actions == 1], [-1, 1], 0)
        if self.noise:
            gust = hashed_rows(state["key"]) % np.uint64(8) < state["wind"].astype(np.uint64) % 4
            move = move - gust
            state["key"][live, 1] += np.uint64(1)
        state["cell"][live] = np.clip(state["cell"] + move, 0, self.size - 1)[live]
        state["wind"][live] += 1
        state["clock"][live] += 1
        at_pit, at_prize = state["cell"] == 0, state["cell"] == self.size - 1
        reward = np.where(live, self.step_reward + at_prize * 1.0 - at_pit * 1.0, 0.0)
        state["terminated"] |= live & (at_pit | at_prize)
        if self.max_steps is not None:
            state["truncated"] |= live & (state["clock"] >= self.max_steps)
        terminated, truncated = state["terminated"].copy(), state["truncated"].copy()
        info = {"moved": np.where(live, move, 0)}
        if self.autoreset_mode == AutoresetMode.NEXT_STEP and waiting.any():
            self.reset(options={"reset_mask": waiting})
            terminated, truncated = terminated & live, truncated & live
        ended = terminated | truncated
        if self.autoreset_mode == AutoresetMode.SAME_STEP and ended.any():
            info["final_obs"] = np.array([self.observe_row(row) for row in range(self.num_envs)])
            info["_final_obs"] = ended
            self.reset(options={"reset_mask": ended})
        return self.observe(), reward, terminated, truncated, info

    def observe(self, rows: Rows = None) -> Any:
        index = self.row_index(rows)
        cell = self.state["cell"][index].astype(np.int64)
        clock = self.state["clock"][index]
        place = np.stack([cell / self.size, clock % 8 / 8], axis=1).astype(np.float32)
        picture = np.zeros((len(index), 1, self.size, 2), bool)
        picture[np.arange(len(index)), 0, cell, 0] = True
        picture[:, 0, 0, 1] = True
        if self.observation == "dict":
            return {"cell": cell, "place": place}
        return {"integer": cell, "vector": place, "picture": picture}[self.observation]

    def observe_row(self, row: int) -> Any:
        return self.observe(np.array([row]))[0]


class PlainChain:
    """The same world for one row, in plain Python: what the fast one is held against."""

    def __init__(self, size: int, max_steps: int | None, noise: bool, step_reward: float) -> None:
        self.size, self.max_steps = size, max_steps
        self.noise, self.step_reward = noise, step_reward
        self.seed, self.counter = 0, 0

    def reset(self) -> None:
        self.cell = 1 + hashed(self.seed, self.counter) % (self.size - 2)
        self.counter += 1
        self.wind = self.clock = self.holes = 0
        self.terminated = self.truncated = False

    def step(self, action: int) -> tuple[float, bool, bool]:
        move = {0: -1, 1: 1, 2: 0}[action]
        self.holes += action == 2
        if self.noise:
            move -= hashed(self.seed, self.counter) % 8 < self.wind % 4
            self.counter += 1
        self.cell = min(max(self.cell + move, 0), self.size - 1)
        self.wind += 1
        self.clock += 1
        reward = self.step_reward + (self.cell == self.size - 1) - (self.cell == 0)
        self.terminated = self.cell in (0, self.size - 1)
        self.truncated = self.max_steps is not None and self.clock >= self.max_steps
        return reward, self.terminated, self.truncated

    def save(self) -> tuple[int, int, int, bool, bool]:
        """All but the random stream and what cannot be undone."""
        return self.cell, self.wind, self.clock, self.terminated, self.truncated

    def load(self, saved: tuple[int, int, int, bool, bool]) -> None:
        self.cell, self.wind, self.clock, self.terminated, self.truncated = saved

    def observe(self) -> int:
        return int(self.cell)
