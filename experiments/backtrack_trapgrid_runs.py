"""One run of the trap grid experiment: all seeds of one arm in one world, measured in training.

Everything is counted on the interaction clock: steps, steps later undone, and backtracks.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from gymnasium.vector import AutoresetMode
from pydantic import BaseModel, ConfigDict

from delegate import envs
from delegate.backtrack import BacktrackConfig, FreeRefundWarning, VectorBacktrack
from delegate.backtrack.spaces import Parts
from delegate.envs.grid.solvers import returns
from delegate.envs.grid.vector import GridVectorEnv
from delegate.policies.tabular import Decision, QLearning, QLearningSettings, train

ROOT = Path(__file__).parents[1]
SOURCES = ("policies/tabular.py", "experiments/backtrack_trapgrid_runs.py")
SOURCE_FOLDERS = ("delegate/backtrack", "envs/grid")
CHECKPOINTS = 100
SAME = 1e-9
"""returns closer than this are the same (return)"""
NEAR = 0.01
"""nearly optimal: within this share of the optimal return, for worlds with noise (ratio)"""

Measured = dict[str, np.ndarray]
"""by seed: online, greedy, backtracks, chances, episodes [B, CHECKPOINTS]; optimal, nearly_optimal,
final, to_optimal, undone, loop_share [B]; seconds []"""


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


class Run(BaseModel):
    """What a run is; two with the same settings are the same run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    world: World
    arm: Arm
    first_seed: int
    seeds: int
    interactions: int

    def fingerprint(self) -> str:
        """Changes with any setting and with the code that decides the outcome (hexadecimal)."""
        digest = hashlib.sha256(self.model_dump_json().encode())
        digest.update(source_digest().encode())
        return digest.hexdigest()[:20]


@cache
def source_digest() -> str:
    """Of the files that decide what a run gives, as they were when first asked (hexadecimal)."""
    files = [ROOT / name for name in SOURCES]
    files += [path for folder in SOURCE_FOLDERS for path in sorted((ROOT / folder).glob("*.py"))]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def play(run: Run, rates: np.ndarray | None = None) -> Measured:
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
    parts: Parts = {"observation": cells, "origin": cells, "budget": full} | {
        name: nothing for name in ("flag", "depth", "action", "held")
    }
    return env, env.encode(dict(parts))


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
        over = it.terminated | it.truncated
        if it.tick == self.interactions - 1:
            over = np.ones_like(over)  # what is unfinished counts with what it has so far
        rows = np.flatnonzero(over)
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


def settled(optimal: np.ndarray) -> np.ndarray:
    """The first checkpoint, from 1, after which all are optimal; their number if the last is not.

    optimal: bool [B, n] · returns int64 [B]
    """
    count = optimal.shape[1]
    since = (~optimal[:, ::-1]).argmax(axis=1)
    last_bad = np.where(optimal.all(axis=1), -1, count - 1 - since)
    return np.minimum(last_bad + 2, count)


def load_or_play(run: Run, folder: Path, reference: Run | None = None) -> Path:
    """The file of a run's measures, played only if it is not there yet.

    reference: the run, played before, whose rates an arm with `rate_of` takes
    """
    path = folder / f"{run.fingerprint()}.npz"
    if not path.exists():
        rates = None
        if reference is not None:
            other = load(reference, folder)
            rates = other["backtracks"] / np.maximum(other["chances"], 1)
        measured = play(run, rates)
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        with unfinished.open("wb") as file:
            np.savez_compressed(file, **measured)  # type: ignore[arg-type]
        os.replace(unfinished, path)
    return path


def load(run: Run, folder: Path) -> Measured:
    """What `load_or_play` left. Raises FileNotFoundError if it has not run."""
    with np.load(folder / f"{run.fingerprint()}.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
