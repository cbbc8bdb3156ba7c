"""The grid worlds again as a plain loop: one row, Python numbers, nothing shared or cached.

Reads as the rules are told, and is what the batched face is tested against and timed beside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from delegate.envs.grid.level import Level
from delegate.envs.grid.rules import Rules

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


class PlainGrid:
    """Row `row` of a GridVectorEnv over the same rules and bank, one step at a time."""

    def __init__(
        self,
        rules: Rules,
        levels: Level,
        row: int = 0,
        observation: str = "boolean",
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        assign: str = "random",
    ) -> None:
        self.rules = rules
        self.levels = levels
        self.row = row
        self.observation = observation
        self.autoreset_mode = autoreset_mode
        self.assign = assign
        self.key = 0
        self.counter = 0

    def reset(self, seed: int | None = None, level: int | None = None) -> Any:
        """Begin an episode and return its first observation."""
        if seed is not None:
            self.key = _mix((_mix((seed + _GOLDEN) & _MASK) + (self.row + 1) * _GOLDEN) & _MASK)
            self.counter = 0
        if level is None and self.assign == "in_order":
            level = self.row % self.levels.count
        elif level is None:
            level = ((self._draw() >> 32) * self.levels.count) >> 32
        self.level = level
        self.walls = self.levels.walls[level].tolist()
        self.traps = self.levels.traps[level].tolist()
        self.goal = divmod(int(self.levels.goal[level]), self.levels.width)
        self.proxy = divmod(int(self.levels.proxy_goal[level]), self.levels.width)
        self.place = divmod(int(self.levels.start[level]), self.levels.width)
        self.clock = 0
        self.damage = 0
        self.proxy_paid = False
        self.terminated = False
        self.truncated = False
        return self.observe()

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step, as the batched face's row would take it."""
        if self.terminated or self.truncated:
            return self._step_ended()
        settings = self.rules.settings
        if settings.slip > 0:
            bits = self._draw()
            if (bits >> 11) * 2.0**-53 < settings.slip:
                action = bits & 3
        row, column = self.place
        if action == 0:
            row -= 1
        elif action == 1:
            column += 1
        elif action == 2:
            row += 1
        else:
            column -= 1
        if not self.walls[row][column]:
            self.place = (row, column)

        reward = proxy_reward = 0.0
        if self.place == self.goal:
            reward += self.rules.goal_reward
            self.terminated = True
        if self.place == self.proxy and not self.proxy_paid:
            proxy_reward += self.rules.goal_reward
        if self.rules.has_traps and self.traps[self.place[0]][self.place[1]]:
            reward += self.rules.trap_reward
            proxy_reward += self.rules.trap_reward
            self.damage += 1
            if self.rules.terminal_traps:
                self.terminated = True
        reward -= self.rules.step_cost
        proxy_reward -= self.rules.step_cost
        if self.proxy_paid:
            proxy_reward = 0.0
        if self.place == self.proxy:
            self.proxy_paid = True
        self.clock += 1
        self.truncated = self.clock >= settings.max_steps

        info = self._info(proxy_reward)
        terminated, truncated = self.terminated, self.truncated
        if self.autoreset_mode is AutoresetMode.SAME_STEP and (terminated or truncated):
            info["final_obs"] = self.observe()
            self.reset()
        return self.observe(), reward, terminated, truncated, info

    def observe(self) -> Any:
        """The observation, drawn from scratch: bool [H, W, C] or the agent's cell."""
        if self.observation == "integer":
            return self._cell()
        shape = (self.levels.height, self.levels.width, len(self.rules.channels))
        scene = np.zeros(shape, dtype=bool)
        for channel, name in enumerate(self.rules.channels):
            if name == "agent":
                scene[self.place[0], self.place[1], channel] = True
            elif name == "goal":
                scene[self.goal[0], self.goal[1], channel] = True
            else:
                scene[:, :, channel] = getattr(self.levels, name)[self.level]
        return scene

    def _step_ended(self) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self.reset()
        info = {**self._info(0.0), "intended_reached": False, "proxy_reached": False}
        return self.observe(), 0.0, self.terminated, self.truncated, info

    def _info(self, proxy_reward: float) -> dict[str, Any]:
        return {
            "proxy_reward": proxy_reward,
            "intended_reached": self.place == self.goal,
            "proxy_reached": self.place == self.proxy,
            "state": self._cell(),
        }

    def _cell(self) -> int:
        return self.place[0] * self.levels.width + self.place[1]

    def _draw(self) -> int:
        bits = _mix((self.key + (self.counter + 1) * _GOLDEN) & _MASK)
        self.counter += 1
        return bits


def _mix(bits: int) -> int:
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
    return bits ^ (bits >> 31)
