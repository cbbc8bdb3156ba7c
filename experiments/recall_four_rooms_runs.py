"""One run on Four Rooms: A2C alone, with prioritized replay, or with recalled traces.

Start and goal are in opposite corners and never change. Every environment step is counted.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from cpprb import PrioritizedReplayBuffer
from gymnasium.vector import AutoresetMode
from pydantic import BaseModel, ConfigDict
from running import kept, record_path, source_digest, success_rates
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from delegate import RecallTraces, StableVecEnv, envs, store
from delegate.recall import ExactBacktrackingModel, RandomBacktrackingModel
from delegate.recall.original import Original, cut_short

ROOT = Path(__file__).parents[1]
LIBRARIES = ("gymnasium", "stable-baselines3", "cpprb", "torch")
BINS = 100
"""points of a curve"""
MAX_STEPS = 128
"""steps of an episode"""
ROWS = 16
EARLY = 50_000
"""environment steps whose places are counted"""
_FILES = (
    Path(__file__),
    Path(__file__).with_name("running.py"),
    ROOT / "delegate/recall",
    ROOT / "delegate/backtrack/stable_baselines.py",
    ROOT / "envs/grid",
)
SOURCE = source_digest(_FILES, LIBRARIES)


class Prioritized(BaseModel):
    """Prioritized replay beside A2C. Source: Recall Traces (arXiv 1804.00379).

    batch: transitions · every: A2C updates to one from the buffer
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: int
    alpha: float
    beta: float = 0.1
    capacity: int = 100_000
    every: int = 3


class Arm(BaseModel):
    """What a learner has beside its actor and critic.

    {name: learned, recall: {length: 20, count: 64}, model: learned, goal: true}
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    prioritized: Prioritized | None = None
    recall: dict[str, Any] | None = None
    """settings of RecallTraces; None for none"""
    model: Literal["exact", "learned", "random"] = "learned"
    """exact: Bayes' rule on the world's own transitions, steps that stay in place weighing
    little"""
    goal: bool = False
    """is the place of the goal known, so that traces end there from the beginning?"""


class Run(BaseModel):
    """What a run is. size: cells a side · steps: of all rows together · a2c: its settings"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int
    arm: Arm
    seed: int
    steps: int
    a2c: dict[str, Any]

    def path(self, folder: Path) -> Path:
        """Where its record is kept; another for any other setting, code or version."""
        return record_path(folder, self, SOURCE, str(self.size), self.arm.name, str(self.seed))


def play(run: Run, folder: Path) -> Path:
    """Train from its seed and write the record."""
    code = {"source": SOURCE, "versions": store.versions(LIBRARIES)}
    return kept(run.path(folder), run, code, partial(_train, run))


def _train(run: Run) -> dict[str, Any]:
    world = envs.make(
        "FourRooms",
        ROWS,
        size=run.size,
        start="corner",
        max_steps=MAX_STEPS,
        num_levels=1,
        observation="integer",
        autoreset_mode=AutoresetMode.DISABLED,
    )
    face = StableVecEnv(world)
    face.seed(run.seed)
    model = A2C("MlpPolicy", face, seed=run.seed, device="cpu", **run.a2c)
    watch, extra = Watch(run, world.num_states), []
    if run.arm.prioritized is not None:
        extra.append(PrioritizedUpdates(run.arm.prioritized))
    if run.arm.recall is not None:
        extra.append(recalled(run, world))
    began = time.process_time()
    model.learn(run.steps, callback=CallbackList([watch, *extra]), log_interval=10**9)
    return {
        "success": watch.success(),
        "visits": watch.visits.tolist(),
        "seconds": round(time.process_time() - began, 1),
    }


def recalled(run: Run, world: Any) -> RecallTraces:
    """The callback of an arm."""
    networks = {"grid": (run.size, run.size)}
    given: dict[str, Any] = {"model_settings": networks}
    if run.arm.model == "exact":
        given = {"model": ExactBacktrackingModel(world.transition_table(), "moving")}
    elif run.arm.model == "random":
        spaces = world.single_observation_space, world.single_action_space
        given = {"model": RandomBacktrackingModel(*spaces, seed=run.seed, **networks)}
    if run.arm.goal:
        given["targets_from"] = np.array([world.levels.goal[0]])
    return RecallTraces(seed=run.seed, **given, **(run.arm.recall or {}))


class Watch(BaseCallback):
    """Episodes that reached the goal, and where the first `EARLY` steps went.

    visits: int64 [S]
    """

    def __init__(self, run: Run, states: int) -> None:
        super().__init__()
        self.run, self.visits = run, np.zeros(states, np.int64)
        self._ended: list[tuple[int, bool]] = []

    def _on_step(self) -> bool:
        if self.num_timesteps <= EARLY:
            np.add.at(self.visits, entered(self), 1)
        cut = cut_short(self.locals)
        for row in np.flatnonzero(self.locals["dones"]).tolist():
            self._ended.append((self.num_timesteps, not cut[row]))
        return True

    def success(self) -> list[float | None]:
        """See `success_rates`."""
        return success_rates(self._ended, self.run.steps, BINS)


def entered(callback: BaseCallback) -> np.ndarray:
    """The state that each row's step entered, also where a new episode has begun since. int [B]"""
    told = callback.locals
    return Original(callback.model).entered(told, told["new_obs"])


class PrioritizedUpdates(BaseCallback):
    """Now and then, an actor-critic step on replayed transitions with large errors.

    Priorities are absolute one-step errors of the critic; the actor follows the same errors,
    weighted for how the transitions were drawn. The optimiser is the algorithm's own. cpprb draws
    from the machine's entropy and cannot be seeded: these runs do not repeat bit for bit.
    Source: Schaul et al., Prioritized Experience Replay (arXiv 1511.05952); settings as reported
    for Recall Traces (arXiv 1804.00379).
    """

    def __init__(self, settings: Prioritized) -> None:
        super().__init__()
        self.settings, self._updates = settings, 0
        fields = {"obs": {}, "act": {}, "rew": {}, "next_obs": {}, "done": {}}
        self._replay = PrioritizedReplayBuffer(settings.capacity, fields, alpha=settings.alpha)

    def _on_step(self) -> bool:
        told = self.locals
        self._replay.add(
            obs=self.model._last_obs,
            act=told["actions"],
            rew=told["rewards"],
            next_obs=entered(self),
            done=(told["dones"] & ~cut_short(told)).astype(float),
        )
        return True

    def _on_rollout_start(self) -> None:
        self._updates += 1
        size = self._replay.get_stored_size()
        if size < self.settings.batch or self._updates % self.settings.every:
            return
        drawn = self._replay.sample(self.settings.batch, self.settings.beta)
        policy = self.model.policy
        flat = {name: array[:, 0] for name, array in drawn.items() if array.ndim > 1}
        state, after = (
            policy.obs_to_tensor(flat[n].astype(np.int64))[0] for n in ("obs", "next_obs")
        )
        action = torch.as_tensor(flat["act"].astype(np.int64))
        weight = torch.as_tensor(drawn["weights"], dtype=torch.float32)
        values, log_prob, _ = policy.evaluate_actions(state, action)
        with torch.no_grad():
            follows = policy.predict_values(after)[:, 0] * torch.as_tensor(1 - flat["done"])
            target = torch.as_tensor(flat["rew"]) + self.model.gamma * follows
        error = target.float() - values[:, 0]
        loss = (weight * (self.model.vf_coef * error.pow(2) - error.detach() * log_prob)).mean()
        policy.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), self.model.max_grad_norm)
        policy.optimizer.step()
        self._replay.update_priorities(drawn["indexes"], error.detach().abs().numpy() + 1e-6)
