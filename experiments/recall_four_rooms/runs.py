"""One run on Four Rooms: A2C alone, with prioritized replay, or with recalled traces.

Start and goal are in opposite corners and never change. Every environment step is counted.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from cpprb import PrioritizedReplayBuffer
from gymnasium.vector import AutoresetMode
from pydantic import BaseModel, ConfigDict
from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from delegate import RecallTraces, StableVecEnv, envs
from delegate.recall import ExactBacktrackingModel
from experiments.study import records

BINS = 100
"""points of a curve"""
MAX_STEPS = 128
"""steps of an episode"""
ROWS = 16
EARLY = 50_000
"""environment steps whose places are counted"""
CODE = records.Code(
    "experiments/recall_four_rooms/runs.py",
    "delegate/recall",
    "delegate/backtrack",
    "envs/grid",
    libraries=("gymnasium", "stable-baselines3", "cpprb", "torch"),
)


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


class Run(records.Run):
    """What a run is. size: cells a side · steps: of all rows together · a2c: its settings"""

    code: ClassVar = CODE
    names: ClassVar = ("size", "arm", "seed")

    size: int
    arm: Arm
    seed: int
    steps: int
    a2c: dict[str, Any]

    def train(self) -> dict[str, Any]:
        world = envs.make(
            "FourRooms",
            ROWS,
            size=self.size,
            start="corner",
            max_steps=MAX_STEPS,
            num_levels=1,
            observation="integer",
            autoreset_mode=AutoresetMode.DISABLED,
        )
        face = StableVecEnv(world)
        face.seed(self.seed)
        model = A2C("MlpPolicy", face, seed=self.seed, device="cpu", **self.a2c)
        watch = Watch(self, world.num_states)
        callbacks: list[BaseCallback] = [watch]
        if self.arm.prioritized is not None:
            callbacks.append(PrioritizedUpdates(self.arm.prioritized))
        if self.arm.recall is not None:
            callbacks.append(recalled(self, world))
        began = time.process_time()
        model.learn(self.steps, callback=CallbackList(callbacks), log_interval=10**9)
        return {
            "success": records.binned(watch.ended, self.steps, BINS),
            "visits": watch.visits.tolist(),
            "seconds": round(time.process_time() - began, 1),
        }


def recalled(run: Run, world: Any) -> RecallTraces:
    """The callback of an arm."""
    given: dict[str, Any] = {"model": run.arm.model}
    if run.arm.model == "exact":
        given["model"] = ExactBacktrackingModel(world.transition_table(), "moving")
    else:
        given["model_settings"] = {"grid": (run.size, run.size)}
    if run.arm.goal:
        given["targets_from"] = np.array([world.levels.goal[0]])
    return RecallTraces(seed=run.seed, **given, **(run.arm.recall or {}))


class Watch(BaseCallback):
    """Which episodes reached the goal, and where the first `EARLY` steps went.

    ended: the environment step at which each episode ended, and whether at the goal
    visits: int64 [S]
    """

    def __init__(self, run: Run, states: int) -> None:
        super().__init__()
        self.run, self.visits = run, np.zeros(states, np.int64)
        self.ended: list[tuple[int, bool]] = []

    def _on_step(self) -> bool:
        entered, truncated = outcome(self.locals)
        if self.num_timesteps <= EARLY:
            np.add.at(self.visits, entered, 1)
        for row in np.flatnonzero(self.locals["dones"]).tolist():
            self.ended.append((self.num_timesteps, not truncated[row]))
        return True


def outcome(step: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """The state that each row entered, also where a new episode has begun since, int [B], and
    where its episode was truncated, bool [B]. step: the locals of an algorithm's rollout"""
    entered, truncated = np.array(step["new_obs"]), np.zeros(len(step["dones"]), bool)
    for row in np.flatnonzero(step["dones"]).tolist():
        info = step["infos"][row]
        entered[row], truncated[row] = info["terminal_observation"], info["TimeLimit.truncated"]
    return entered, truncated


class PrioritizedUpdates(BaseCallback):
    """Now and then, an actor-critic step on replayed transitions with large errors.

    Priorities are absolute one-step errors of the critic; the actor follows the same errors,
    weighted for how the transitions were drawn. The optimiser is the algorithm's own. cpprb draws
    from the machine's entropy and cannot be seeded: these runs do not repeat bit for bit.
    Source: Schaul et al., Prioritized Experience Replay (arXiv 1511.05952); settings as reported
    for Recall Traces (arXiv 1804.00379).
    """

    model: Any  # each algorithm has attributes of its own

    def __init__(self, settings: Prioritized) -> None:
        super().__init__()
        self.settings, self._updates = settings, 0
        fields: dict[str, Any] = {name: {} for name in ("obs", "act", "rew", "next_obs", "done")}
        self._replay = PrioritizedReplayBuffer(settings.capacity, fields, alpha=settings.alpha)

    def _on_step(self) -> bool:
        step = self.locals
        entered, truncated = outcome(step)
        self._replay.add(
            obs=self.model._last_obs,
            act=step["actions"],
            rew=step["rewards"],
            next_obs=entered,
            done=(step["dones"] & ~truncated).astype(float),
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
