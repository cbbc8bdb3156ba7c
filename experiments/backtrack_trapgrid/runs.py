"""One run of the trap grid experiment: all seeds of one arm in one world, measured in training.

Everything is counted on the interaction clock: steps, steps later undone, and backtracks.
"""

from __future__ import annotations

import time
import warnings
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode
from pydantic import BaseModel, ConfigDict

from delegate import envs
from delegate.backtrack import BacktrackConfig, FreeRefundWarning, VectorBacktrack
from delegate.envs.grid.solvers import returns
from delegate.envs.grid.vector import GridVectorEnv
from delegate.policies.tabular import Decision, QLearning, QLearningSettings, train
from experiments.backtrack_trapgrid.measures import (
    CHECKPOINTS,
    NEAR,
    SAME,
    Measured,
    recorded,
    settled,
)
from experiments.study import records

CODE = records.Code(
    "experiments/backtrack_trapgrid/runs.py",
    "experiments/backtrack_trapgrid/measures.py",
    "policies/tabular.py",
    "delegate/safety/intervals.py",
    "delegate/backtrack",
    "envs/grid",
)


class World(BaseModel):
    """A trap grid; the size counts the border walls."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = 10
    trap_density: float = 0.2
    step_cost: float = 0.0
    slip: float = 0.0
    terminal_traps: bool = True
    max_steps: int = 128


class Arm(BaseModel):
    """A learner and how it may go back. rate_of: the arm whose rate it goes back at, at random"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    learner: QLearningSettings
    backtrack: BacktrackConfig | None = None
    rate_of: str | None = None


class Run(records.Run):
    """What a run is: that many seeds of an arm in a world. interactions: of each seed"""

    code: ClassVar = CODE
    names: ClassVar = ("arm",)

    world: World
    arm: Arm
    first_seed: int
    seeds: int
    interactions: int

    @property
    def reference(self) -> Run | None:
        """The run whose rate of going back a random arm takes: the same but for that."""
        if self.arm.rate_of is None:
            return None
        free = self.arm.model_copy(update={"name": self.arm.rate_of, "rate_of": None})
        return self.model_copy(update={"arm": free})

    def train(self) -> dict[str, Any]:
        rates = None
        if self.reference is not None:
            other = measure(self.reference)
            rates = other["backtracks"] / np.maximum(other["chances"], 1)
        return recorded(measure(self, rates), self.interactions)


def measure(run: Run, rates: np.ndarray | None = None) -> Measured:
    """Train and measure. rates: float [B, CHECKPOINTS] of going back, for an arm with `rate_of`"""
    began = time.perf_counter()
    width, left_over = divmod(run.interactions, CHECKPOINTS)
    if left_over:
        raise ValueError(f"interactions {run.interactions} must be a multiple of {CHECKPOINTS}")
    world = make_world(run.world, run.first_seed, run.seeds)
    env, states = widened(world, run.arm.backtrack)
    seeds = np.arange(run.first_seed, run.first_seed + run.seeds)
    learner = QLearning.of(env, run.arm.learner, seeds)
    watch = Watch(run.seeds, run.interactions)
    objective, levels, settings = world.rules.objective(world.levels), world.levels, world.settings
    rows, best = np.arange(run.seeds), world.facts().optimal_return
    greedy = np.zeros((run.seeds, CHECKPOINTS))

    def each(decision: Decision) -> None:
        watch.see(decision)
        bin_, into = divmod(decision.tick + 1, width)
        if into:
            return
        value = returns(
            levels.walls,
            objective,
            settings.max_steps,
            settings.discount,
            settings.slip,
            policy=learner.greedy(states),
        )
        greedy[:, bin_ - 1] = value[rows, levels.start]
        if rates is not None and bin_ < CHECKPOINTS:
            learner.backtrack_rate = rates[:, bin_]

    learner.backtrack_rate = None if rates is None else rates[:, 0]
    train(env, learner, run.interactions, each, seed=run.first_seed)
    optimal = np.abs(greedy - best[:, None]) < SAME
    loops, undone = np.zeros(run.seeds), np.zeros(run.seeds)
    if isinstance(env, VectorBacktrack):
        loops, undone = env.progress.loop_ticks / run.interactions, env.ledger.undone
    return {
        "online": watch.online(),
        "greedy": greedy / best[:, None],
        "backtracks": watch.backtracks,
        "chances": watch.chances,
        "episodes": watch.episodes(),
        "optimal": optimal[:, -1],
        "nearly_optimal": greedy[:, -1] >= best * (1 - NEAR) - SAME,
        "final": greedy[:, -1] / best,
        "to_optimal": settled(optimal) * width,
        "undone": undone,
        "loop_share": loops,
        "seconds": np.array(time.perf_counter() - began),
    }


def make_world(world: World, first_seed: int, seeds: int) -> GridVectorEnv:
    """Row i plays the level of seed first_seed + i in every episode, whatever the arm."""
    return envs.make(
        "TrapGrid",
        seeds,
        observation="integer",
        assign="in_order",
        autoreset_mode=AutoresetMode.DISABLED,
        level_seed=first_seed,
        num_levels=seeds,
        **world.model_dump(),
    )


def widened(
    world: GridVectorEnv, config: BacktrackConfig | None
) -> tuple[GridVectorEnv | VectorBacktrack, np.ndarray]:
    """The environment of an arm, and what a policy that never goes back observes in each cell.

    states: int [S]
    """
    cells = np.arange(world.num_states)
    if config is None:
        return world, cells
    with warnings.catch_warnings():
        # costs too low to be safe are part of what is measured here
        warnings.simplefilter("ignore", FreeRefundWarning)
        env = VectorBacktrack(world, config, autoreset_mode=AutoresetMode.DISABLED)
    nothing, full = np.zeros_like(cells), np.full_like(cells, config.budget)
    parts: dict[str, np.ndarray] = {"observation": cells, "origin": cells, "budget": full} | {
        name: nothing for name in ("flag", "depth", "action", "held")
    }
    return env, env.encode(parts)


class Watch:
    """Counts what happens in training. backtracks, chances: int64 [B, CHECKPOINTS]"""

    def __init__(self, rows: int, interactions: int) -> None:
        self.rows, self.interactions = rows, interactions
        self.width = interactions // CHECKPOINTS
        self.backtracks = np.zeros((rows, CHECKPOINTS), np.int64)
        self.chances = np.zeros((rows, CHECKPOINTS), np.int64)
        self._gained = np.zeros(rows)
        self._ended: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def see(self, it: Decision) -> None:
        """One tick."""
        bin_ = it.tick // self.width
        self.chances[:, bin_] += it.could_go_back
        if "backtracked" in it.info:
            self.backtracks[:, bin_] += it.info["backtracked"]
        self._gained += it.reward
        done = it.terminated | it.truncated
        if it.tick == self.interactions - 1:
            done = np.ones_like(done)  # what is unfinished counts with what it has so far
        rows = np.flatnonzero(done)
        if rows.size:
            self._ended.append((rows, np.full(rows.size, it.tick + 1), self._gained[rows]))
            self._gained[rows] = 0.0

    def online(self) -> np.ndarray:
        """The return of the episode each interaction belongs to, averaged over each bin.

        float [B, CHECKPOINTS]
        """
        edges = np.arange(CHECKPOINTS + 1) * self.width
        row, ended, gained = self._columns()
        found = np.empty((self.rows, CHECKPOINTS))
        for each in range(self.rows):
            mine = row == each
            times = np.concatenate([[0], ended[mine]])
            area = np.concatenate([[0.0], np.cumsum(gained[mine] * np.diff(times))])
            found[each] = np.diff(np.interp(edges, times, area)) / self.width
        return found

    def episodes(self) -> np.ndarray:
        """Episodes that ended in each bin, the last, unfinished ones too. int64 [B, CHECKPOINTS]"""
        row, ended, _ = self._columns()
        place = row * CHECKPOINTS + (ended - 1) // self.width
        return np.bincount(place, minlength=self.rows * CHECKPOINTS).reshape(self.rows, -1)

    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        row, ended, gained = (np.concatenate(column) for column in zip(*self._ended, strict=True))
        return row, ended, gained
