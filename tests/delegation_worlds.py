"""Any world as one that can be delegated in: what a bank says, made up where the world has none."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from delegate.agents import Memory, Policy
from delegate.backtrack.random_key import draw, unit
from delegate.bank import SHIFTED, Bank, Returns, Solution
from delegate.monitors.monitor import Monitor, Steps
from delegate.recall import GoalTable, Landmarks


class NeverParted(Solution):
    """The goals part nowhere."""

    kind = "sampled"

    def __init__(self, rows: int) -> None:
        self.distinguishing = np.zeros(rows, bool)

    def returns(self) -> Returns:
        raise NotImplementedError

    def diverged(self, level: np.ndarray, state: np.ndarray) -> np.ndarray:
        return np.zeros(len(level), bool)


class AnyBank(Bank):
    """A bank of any world, autoreset disabled: one goal, which is never reached."""

    def __init__(self, env: Any) -> None:
        self.env, rows = env, env.num_envs
        step_rows = env.step_rows

        def scored(some: np.ndarray, actions: Any) -> Any:
            *rest, info = step_rows(some, actions)
            nothing = {"proxy_reward": np.zeros(len(some))}
            nothing["intended_reached"] = nothing["proxy_reached"] = np.zeros(len(some), bool)
            return (*rest, {**info, **nothing})

        env.step_rows = scored
        state = env.markov_state(np.arange(rows))
        if state.ndim == 1:
            self.goals = GoalTable.of_states(np.zeros(1, np.int32))
        else:
            self.goals = GoalTable.of_states(state[:1], np.ones(state.shape[1], np.float32))
        self.split, self.seed = np.full(rows, SHIFTED, np.int8), np.arange(rows)
        self.assigned, self.proxy = np.zeros(rows, np.int32), np.full(rows, -1, np.int32)
        one = np.zeros((rows, 1), np.int32)
        self.landmarks = Landmarks(("goal",), one, one == 0)
        self.solution, self.planner = NeverParted(rows), None

    def features(self, level: np.ndarray, goal: np.ndarray, state: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def columns(self) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def drawing(self, level: int) -> Any:
        raise NotImplementedError

    def places(self, state: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def random_actions(space: gymnasium.Space[Any], bits: np.ndarray) -> np.ndarray:
    """Actions of a space, uniform, from bits: uint64 [n, k] with as many columns as it takes."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return (bits[:, 0] % np.uint64(space.n)).astype(np.int64) + int(space.start)
    assert isinstance(space, gymnasium.spaces.Box)
    share = unit(bits[:, : space.shape[0]])
    return (space.low + share * (space.high - space.low)).astype(space.dtype)


class Flailing(Policy):
    """Acts at random in any world and never hands back."""

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        self.space = space

    def memory(self, seeds: np.ndarray) -> Memory:
        return {"key": np.stack([seeds, np.zeros_like(seeds)], axis=1)}

    def act(self, obs: Any, goal: np.ndarray, memory: Memory) -> tuple[np.ndarray, Memory]:
        key = memory["key"].copy()
        bits = draw(key[:, :1], key[:, 1:] + np.arange(32, dtype=np.uint64))
        key[:, 1] += np.uint64(32)
        return random_actions(self.space, bits), {"key": key}


class Coin(Monitor):
    """Scores at random whatever the world: from how often it was asked, and the goal's row."""

    name = "coin"
    default_statistic = "last"

    def __init__(self, seeds: np.ndarray) -> None:
        super().__init__()
        self.seeds = seeds

    def start(self, count: int) -> Memory:
        return {"count": np.zeros(count, np.uint64)}

    def score(self, steps: Steps, memory: Memory) -> tuple[np.ndarray, Memory]:
        count = memory["count"] + np.uint64(1)
        return unit(draw(self.seeds[steps.level], count)), {"count": count}
