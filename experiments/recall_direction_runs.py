"""Which way imitation of recalled traces pushes a policy, and what that is worth.

TRPO trains and nothing is imitated. At some moments each kind of trace is imitated from the policy
of that moment, by one step of the same divergence along the natural gradient. Two things are
measured: `gain`, the mean of (ratio - 1) x advantage over fresh steps of the policy, advantages in
their standard deviations, which is what TRPO raises and trusts the critic; and `returned`, by how
much the mean return rose, as a share of it, which trusts nothing. Then the policy is put back.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from recall_mujoco_plan import NETWORKS
from recall_mujoco_runs import COMMIT, LIBRARIES, RECALL_SOURCE, Arm, learner, recalled, world
from recall_mujoco_runs import Run as Training
from running import record_path, source_digest
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from delegate import RecallTraces, store
from delegate.recall.credit import RewardModel, advantages, following, remembered_advantages
from delegate.recall.natural import natural_step
from delegate.recall.remembered import remembered_traces
from delegate.recall.targets import entered, most
from delegate.recall.traces import Traces

MOMENTS = (40_000, 80_000, 130_000)
"""environment steps"""
DIVERGENCE = 0.01
"""nats, of a step along the natural gradient"""
ROWS, STEPS = 128, 512
"""of the fresh steps: half of the rows are followed, the other half judge"""
EPISODES = 256
"""that say what the policy returns; they begin alike and draw alike before and after"""
RECALLED, SMOOTHING = 10_240, 0.95
SOURCE = source_digest([Path(__file__)], LIBRARIES) + RECALL_SOURCE
Way = tuple[np.ndarray, np.ndarray, np.ndarray]
"""states, actions, weights"""


class Run(BaseModel):
    """What a run is. remembered: transitions of the buffer"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    seed: int
    remembered: int

    def path(self, folder: Path) -> Path:
        """Where its record is kept; another for any other setting, code or version."""
        return record_path(folder, self, SOURCE, self.task, str(self.remembered), str(self.seed))


def play(run: Run, folder: Path) -> Path:
    """Train, measure and write the record, whole or not at all; one that is there stays."""
    path = run.path(folder)
    if path.exists():
        return path
    torch.set_num_threads(1)
    recall: dict[str, Any] = {
        "imitation_updates": 0,
        "trajectories": 1.0,
        "states": 1.0,
        "model_updates": 20,
        "buffer_size": run.remembered,
    }
    training = Training(
        algorithm="trpo",
        task=run.task,
        arm=Arm(name="none", recall=recall, networks=NETWORKS),
        seed=run.seed,
        steps=MOMENTS[-1] + 4_096,
    )
    model, venv = learner(training)
    callback = recalled(training)
    directions = Directions(run, callback)
    callbacks = CallbackList([callback, directions])
    model.learn(training.steps, callback=callbacks, log_interval=10**9)
    venv.close()
    record = {
        "run": run.model_dump(mode="json"),
        "commit": COMMIT,
        "source": SOURCE,
        "versions": store.versions(LIBRARIES),
        "rows": directions.found,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    store.write_file(path, store.as_json(record))
    return path


class Directions(BaseCallback):
    """Measures at its moments and puts the policy back."""

    def __init__(self, run: Run, recall: RecallTraces) -> None:
        super().__init__()
        self.run, self.recall = run, recall
        self.found: list[dict[str, Any]] = []
        self._rng = np.random.default_rng([run.seed, 3])
        self._moments = list(MOMENTS)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self._moments and self.num_timesteps >= self._moments[0]:
            self._moments.pop(0)
            with torch.random.fork_rng():
                torch.manual_seed(int(self._rng.integers(2**31)))
                self.measure()

    def measure(self) -> None:
        """One row for each way."""
        before = copy.deepcopy(self.model.policy.state_dict())
        seed = int(self._rng.integers(2**31))
        fresh, base = self._visit(), self._returns(seed)
        half = np.arange(STEPS * ROWS).reshape(STEPS, ROWS)
        judges: Way = _part(fresh, half[:, ROWS // 2 :].ravel())
        for name, way in (self._ways() | self._own(fresh, half)).items():
            gain = self._follow(way, judges)
            after = self._returns(seed)
            self.model.policy.load_state_dict(before)
            returned = float((after.mean() - base.mean()) / abs(base.mean()))
            row = {"steps": int(self.num_timesteps), "way": name, "gain": gain}
            self.found.append(row | {"base": float(base.mean()), "returned": returned})

    def _ways(self) -> dict[str, Way]:
        """What to imitate, by name."""
        recall, rng, face = self.recall, self._rng, self.recall._learner
        assert recall.buffer is not None
        every, best = recall.buffer.best(1.0), recall.buffer.best(0.2)
        unit, discount = face.original.unit, self.model.gamma
        reward = RewardModel(every, unit)
        how = face.value, discount, SMOOTHING
        known = remembered_advantages(every, *how, unit)

        def credited(length: int, followed: bool = True, mean: bool = False) -> Way:
            ends = entered(every, rng.integers(len(every), size=RECALLED // length))
            traces = recall.backtracking_model.sample_traces(
                ends.states, length, 1, rng=rng, mean_changes=mean
            )
            after = following(every, known, ends) * followed
            return _weighted(traces, advantages(traces, ends, after, reward, *how))

        valued = entered(best, most(face.value(best.transitions.next_state), 0.1))
        some = valued.states[rng.integers(len(valued.states), size=RECALLED // 20)]
        uniform = recall.backtracking_model.sample_traces(some, 20, 1, rng=rng)
        ends = entered(every, rng.integers(len(every), size=RECALLED // 5))
        real = remembered_traces(every, ends, 5)
        worth = advantages(real, ends, following(every, known, ends), reward, *how)
        return {
            "to states of value, all alike, 20": _flat(uniform),
            "by the critic at the end, 1": credited(1, followed=False),
            "by the critic at the end, 5": credited(5, followed=False),
            "credited, 1": credited(1),
            "credited, 5": credited(5),
            "credited, 20": credited(20),
            "credited, 5, mean changes": credited(5, mean=True),
            "remembered, credited, 5": _weighted(real, worth),
        }

    def _own(self, fresh: Way, half: np.ndarray) -> dict[str, Way]:
        """What TRPO has: one rollout; for comparison sixteen, and one whose credit is shuffled."""
        one = _part(fresh, half[: 2_048 // 8, :8].ravel())
        return {
            "a fresh rollout": one,
            "sixteen fresh rollouts": _part(fresh, half[:, : ROWS // 2].ravel()),
            "a fresh rollout, shuffled": (*one[:2], self._rng.permutation(one[2])),
        }

    def _returns(self, seed: int) -> np.ndarray:
        """Of EPISODES episodes of the policy, undiscounted. float64 [EPISODES]"""
        face, venv = self.recall._learner, world(self.run.task, EPISODES)
        venv.seed(seed)
        torch.manual_seed(seed)
        state, running, total = venv.reset(), np.ones(EPISODES, bool), np.zeros(EPISODES)
        space = venv.action_space
        while running.any():
            action = np.clip(face.act(state), space.low, space.high)
            state, reward, done, _ = venv.step(action)
            total += reward * running
            running &= ~done
        venv.close()
        return total

    def _visit(self) -> Way:
        """Fresh steps of the policy, weighted by their advantages."""
        face, discount = self.recall._learner, self.model.gamma
        venv = world(self.run.task, ROWS)
        venv.seed(int(self._rng.integers(2**31)))
        state = venv.reset()
        kept: dict[str, list[np.ndarray]] = {n: [] for n in ("state", "action", "error", "on")}
        for _ in range(STEPS):
            action = face.act(state)
            space = venv.action_space
            following, reward, done, infos = venv.step(np.clip(action, space.low, space.high))
            after = following.copy()
            for row in np.flatnonzero(done):
                after[row] = infos[row]["terminal_observation"]
            cut = np.array([info.get("TimeLimit.truncated", False) for info in infos])
            ahead = np.where(done & ~cut, 0.0, face.value(after))
            error = reward / face.original.unit + discount * ahead - face.value(state)
            for name, value in zip(kept, (state, action, error, ~done), strict=True):
                kept[name].append(value)
            state = following
        venv.close()
        advantage, later = np.zeros((STEPS, ROWS)), np.zeros(ROWS)
        for t in reversed(range(STEPS)):
            later = kept["error"][t] + discount * 0.95 * later * kept["on"][t]
            advantage[t] = later
        states, actions = (np.concatenate(kept[name]) for name in ("state", "action"))
        return states, actions, _standard(advantage.ravel())

    def _follow(self, way: Way, judges: Way) -> float:
        """Imitate by one step; what that gained on the steps that judge."""
        face = self.recall._learner
        state, action, weight = way
        before = face.log_prob(*judges[:2])
        loss = face.losses(state, action)
        loss = (loss * torch.as_tensor(weight, dtype=loss.dtype)).mean()
        some = self._rng.permutation(len(weight))[:2_048]
        natural_step(loss, face.moved(state[some]), face.parameters(), DIVERGENCE)
        ratio = np.exp(face.log_prob(*judges[:2]) - before)
        return float(((ratio - 1) * judges[2]).mean())


def _part(way: Way, places: np.ndarray) -> Way:
    state, action, weight = (part[places] for part in way)
    return state, action, weight


def _flat(found: Traces) -> Way:
    valid = found.valid
    return found.states[:, 1:][valid], found.actions[valid], np.ones(valid.sum())


def _weighted(found: Traces, advantage: np.ndarray) -> Way:
    return (*_flat(found)[:2], _standard(advantage[found.valid]))


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / max(float(values.std()), 1e-9)
