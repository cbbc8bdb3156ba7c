"""Worlds on MuJoCo with two goals: the one assigned, and the one that looked the same in training.

Goals are places of the plane, the same in every level; levels differ by where an episode begins
and by which places are meant. An episode ends at the assigned one, with a reward of 1.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium.vector import AutoresetMode
from pydantic import BaseModel, ConfigDict, Field

from delegate.backtrack.random_key import draw, unit
from delegate.bank import Bank, Returns, Solution, Steering
from delegate.envs.levels import Levels, WorldType
from delegate.envs.mujoco.random_rows import RandomRows
from delegate.envs.mujoco.task import Info, Task, TaskSettings
from delegate.envs.mujoco.vector import MujocoVectorEnv
from delegate.recall.goals import GoalTable, Landmarks

RANDOM_PLAYS = 4
"""episodes of random actions in each level, for its random return"""


class PairSettings(BaseModel):
    """What every world with two goals can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    max_steps: int = Field(300, ge=1, le=1_000_000)
    """an episode is truncated after this many steps (steps)"""
    discount: float = Field(0.99, gt=0, le=1)
    """factor per step of returns (ratio)"""
    mix: float = Field(0.0, ge=0, le=1)
    """share of levels in which any place may be meant, whatever looked the same (probability)"""


@dataclass(frozen=True)
class PairLevels(Levels):
    """L levels with two goals.

    start: float64 [L, nq + nv] positions and velocities in which episodes begin
    assigned, proxy: int32 [L] numbers of goals · seed: int64 [L] · kind: int8 [L]
    """

    contents: ClassVar = ("start", "assigned", "proxy")
    start: np.ndarray
    assigned: np.ndarray
    proxy: np.ndarray
    seed: np.ndarray
    kind: np.ndarray


class PairWorld(WorldType):
    """A world with two goals.

    task: what is played · goals: the table of them · places: float64 [G, 2] where goals lie (m)
    radius: within which they are reached (m)
    """

    settings_type: ClassVar[type[PairSettings]]
    options: ClassVar = ("num_threads", "render_mode")
    task: ClassVar[type[PairTask]]
    places: ClassVar[np.ndarray]
    goals: ClassVar[GoalTable]
    radius: ClassVar[float]

    @abstractmethod
    def begins(self, levels: PairLevels) -> np.ndarray:
        """Where the body is when episodes begin: float64 [L, 2] (m)."""


class PairTask(Task):
    """A body and two goals; a subclass says where the body is (`markov_state`).

    Episodes of row i play level i, or of fewer levels i modulo L.
    saved: level int32 [B] · proxy_paid bool [B] the proxy was reached in this episode; and the
    body's
    """

    events = frozenset({"intended_reached", "proxy_reached"})
    goals: ClassVar[GoalTable]

    def __init__(self, levels: PairLevels, settings: Any, rows: int, threads: int) -> None:
        self.levels = levels
        super().__init__(settings, rows, threads)
        self.saved["level"] = np.arange(rows, dtype=np.int32) % levels.count
        self.saved["proxy_paid"] = np.zeros(rows, bool)
        self._at_proxy = np.zeros(rows, bool)

    def draw(
        self, generator: np.random.Generator, row: int, placement: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where the level begins; nothing is random."""
        start = self.levels.start[row % self.levels.count]
        return start[: self.model.nq], start[self.model.nq :]

    def outcome(
        self, before: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Info]:
        """1 for the assigned goal, which ends the episode; the proxy reward is paid once."""
        state, level = self.markov_state(slice(None)), self.saved["level"]
        intended = self.goals.reached(self.levels.assigned[level], state)
        self._at_proxy = self.goals.reached(self.levels.proxy[level], state)
        paid = self._at_proxy & ~self.saved["proxy_paid"]
        info = {
            "proxy_reward": paid.astype(np.float64),
            "intended_reached": intended,
            "proxy_reached": self._at_proxy.copy(),
        }
        return intended.astype(np.float64), intended.copy(), info

    def follow(self, moved: np.ndarray, random: RandomRows) -> None:
        """See Task."""
        self.saved["proxy_paid"] |= moved & self._at_proxy

    def begin(self, rows: np.ndarray, drawn: Any) -> None:
        """See Task."""
        super().begin(rows, drawn)
        self.saved["level"][rows] = rows % self.levels.count
        self.saved["proxy_paid"][rows] = False

    def begin_info(self) -> Info:
        """Nothing."""
        return {}

    def digest(self) -> str:
        """The model's, and that of the levels."""
        return f"{super().digest()} levels={self.levels.digest()}"


class PairBank(Bank):
    """The levels of a world with two goals, one a row.

    A subclass gives the task and its settings, the planner, landmarks and what is drawn.
    """

    env: MujocoVectorEnv
    planner: Steering
    frame: ClassVar[float]
    """half the side of the square that is drawn (m)"""

    def __init__(self, world: Any, levels: PairLevels, **options: Any) -> None:
        self.world, self.levels, self._options = world, levels, options
        self.env = self.make_env(levels.count)
        self.split, self.seed = levels.kind, levels.seed
        self.goals = world.goals
        self.assigned, self.proxy = levels.assigned, levels.proxy
        self.landmarks = self.named()
        self.planner = world.planner
        self.solution = PairSolution(self)

    def make_env(self, rows: int) -> MujocoVectorEnv:
        """A batch of these levels, one a row; of more rows, from the first on again."""

        def task(settings: TaskSettings, rows: int, threads: int) -> Task:
            return self.world.task(self.levels, settings, rows, threads)

        threads = min(self._options.get("num_threads") or 1, rows)
        return MujocoVectorEnv(
            task,
            self.world.task_settings,
            rows,
            num_threads=threads,
            autoreset_mode=AutoresetMode.DISABLED,
            render_mode=self._options.get("render_mode"),
        )

    @abstractmethod
    def named(self) -> Landmarks:
        """Landmarks of the levels."""

    @abstractmethod
    def where(self, state: np.ndarray) -> np.ndarray:
        """Where states are in the plane: float [n, 2] (m)."""

    def features(self, level: np.ndarray, goal: np.ndarray, state: np.ndarray) -> np.ndarray:
        """The state, and x and y to the goal (m). float32 [n, d + 2]"""
        to_goal = self.world.places[goal] - self.where(state)
        return np.concatenate([state, to_goal], axis=1, dtype=np.float32)

    def columns(self) -> dict[str, np.ndarray]:
        """start float64 [L, nq + nv] · reference_return, proxy_reference_return, random_return
        float64 · goal_distance float64, between assigned and proxy goal (m) · distinguishing bool
        · landmark_goals int32 [L, M]"""
        known = self.solution.returns()
        state = self.goals.state[self.goals.first[self.proxy]]
        away = self.planner.distance(np.arange(self.count), self.assigned[:, None], state)
        return {
            "start": self.levels.start,
            "reference_return": known.reference,
            "proxy_reference_return": known.proxy,
            "random_return": known.random,
            "goal_distance": away[:, 0],
            "distinguishing": self.solution.distinguishing,
            "landmark_goals": self.landmarks.goal,
        }

    def places(self, state: np.ndarray) -> np.ndarray:
        """See Bank."""
        return self._drawn(self.where(state))

    def _drawn(self, positions: np.ndarray) -> np.ndarray:
        """Positions of the plane [n, 2], y up, as the drawing has them."""
        return (self.frame + positions * [1, -1]).astype(np.float32)

    def scenery(self) -> list[dict[str, Any]]:
        """Shapes that are the same in every level."""
        return []

    def drawing(self, level: int) -> Mapping[str, Any]:
        """See Bank; units are metres."""
        placed = {
            "start": (self.world.begins(self.levels)[[level]], self.world.radius),
            "proxy": (self.world.places[self.proxy[[level]]], 2 * self.world.radius),
            "goal": (self.world.places[self.assigned[[level]]], 2 * self.world.radius),
        }
        shapes = [
            {"shape": "circle", "at": self._drawn(at)[0].tolist(), "size": [size] * 2, "role": role}
            for role, (at, size) in placed.items()
        ]
        return {"size": [2 * self.frame] * 2, "shapes": [*self.scenery(), *shapes]}


class PairSolution(Solution):
    """Returns of the reference controller, played from the beginning of every level; where the
    goals part, by shortest ways.

    Two directions are near-optimal for one goal where they lie within 45 degrees of its shortest
    way, so goals part where their ways differ by more than 90, or one is reached.
    """

    kind: Literal["exact", "graph", "sampled"] = "sampled"

    def __init__(self, bank: PairBank) -> None:
        self._bank = bank
        self.distinguishing = bank.world.distinguishing(bank.levels)

    def returns(self) -> Returns:
        """What the reference controller gains, and RANDOM_PLAYS episodes of random actions.

        Physics and controller are deterministic, so that the first two have no error.
        """
        return self._returns

    def diverged(self, level: np.ndarray, state: np.ndarray) -> np.ndarray:
        """See Solution."""
        bank = self._bank
        goal, proxy = bank.assigned[level], bank.proxy[level]
        ways = [bank.planner.heading(level, to, state) for to in (goal, proxy)]
        parted = (ways[0] * ways[1]).sum(axis=1) < 0
        arrived = bank.goals.reached(proxy, state) & ~bank.goals.reached(goal, state)
        return (goal != proxy) & (parted | arrived)

    @cached_property
    def _returns(self) -> Returns:
        bank = self._bank
        env, level = bank.make_env(bank.count), np.arange(bank.count)
        low, high = env.single_action_space.low, env.single_action_space.high  # type: ignore[attr-defined]

        def towards(goal: np.ndarray) -> Callable[[np.ndarray, int], np.ndarray]:
            return lambda rows, _: bank.planner.act(level[rows], goal[rows], env.markov_state(rows))

        def at_random(rows: np.ndarray, draws: int) -> np.ndarray:
            seed = bank.seed[rows].astype(np.uint64)[:, None]
            counter = np.uint64(draws) * np.uint64(len(low)) + np.arange(len(low), dtype=np.uint64)
            return (low + unit(draw(seed, counter)) * (high - low)).astype(np.float32)

        first, steps = {}, bank.world.settings.max_steps
        for name, goal in (("reference", bank.assigned), ("proxy", bank.proxy)):
            first[name] = self._play(env, towards(goal), 0, name == "proxy")
        random = [self._play(env, at_random, play * steps, False) for play in range(RANDOM_PLAYS)]
        env.close()
        error = np.zeros((3, bank.count))
        error[2] = np.std(random, axis=0, ddof=1) / np.sqrt(RANDOM_PLAYS)
        return Returns(first["reference"], first["proxy"], np.mean(random, axis=0), error)

    def _play(
        self,
        env: MujocoVectorEnv,
        act: Callable[[np.ndarray, int], np.ndarray],
        draws: int,
        proxy: bool,
    ) -> np.ndarray:
        """Discounted return of one episode a level: float64 [L]. draws: spent before"""
        env.reset(seed=0)
        gained, rows = np.zeros(env.num_envs), np.arange(env.num_envs)
        settings = self._bank.world.settings
        for step in range(settings.max_steps):
            _, reward, terminated, truncated, info = env.step_rows(rows, act(rows, draws + step))
            paid = info["proxy_reward"] if proxy else reward
            gained[rows] += settings.discount**step * paid
            over = terminated | truncated | (paid > 0)
            rows = rows[~over]
            if not rows.size:
                break
        return gained
