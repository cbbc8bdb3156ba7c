"""Environments as a user might write them: one of each verdict of `delegate certify`.

cd tests; delegate certify certified_worlds:forgetful --allow-code
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

from delegate import envs

print("imported")
IMPORTED = True


class Counter(gymnasium.Env[np.ndarray, int]):
    """Counts to forty, and says every step that it does."""

    observation_space = Box(-np.inf, np.inf, (1,), np.float64)
    action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1), {}

    def step(self, action: int) -> Any:
        print("a step")
        self.count += 1 + int(action)
        return np.array([float(self.count)]), 0.0, self.count >= 40, False, {}


class Stream(Counter):
    """Its numbers come from a running generator, which nothing can copy."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.numbers = (0.5 * number for number in range(10**9))
        return super().reset(seed=seed)

    def step(self, action: int) -> Any:
        obs, *rest = super().step(action)
        return obs + next(self.numbers), *rest


def complete() -> Any:
    """A world of ours."""
    return envs.make("Corner", 3, max_steps=20)


def forgetful() -> Any:
    """The same, but that a snapshot leaves out how long an episode has run."""
    env = complete()
    arrays = env.state_arrays
    env.state_arrays = lambda: {name: a for name, a in arrays().items() if name != "clock"}
    return env


def broken() -> Any:
    """Cannot be made, as on a machine without a licence."""
    raise RuntimeError("no licence\nfor this machine")


def leaves() -> Any:
    """Ends the process that asks for it."""
    raise SystemExit(3)


def plain() -> Any:
    """No environment at all."""
    return {"not": "an environment"}


def again() -> Any:
    """The same one every time."""
    return _ONE


_ONE = Counter()
