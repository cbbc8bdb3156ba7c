"""Which way imitation of recalled traces pushes a policy, measured without following it.

TRPO trains and nothing is imitated. At some moments each kind of trace is imitated from the policy
of that moment until it has moved by the same divergence on the states it visits. The gain is the
mean of (ratio - 1) x advantage over fresh steps of that policy, advantages in their standard
deviations: what TRPO itself raises. Then the policy is put back.
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
from delegate.recall.targets import Ends, entered, most
from delegate.recall.traces import Traces
from delegate.recall.trajectories import Steps

MOMENTS = (30_000, 60_000, 100_000, 150_000, 200_000)
"""environment steps"""
DIVERGENCE = 0.002
"""nats"""
ROWS, STEPS = 64, 600
"""of the fresh steps"""
TRACES, LENGTHS = 512, (5, 20)
RATE, UPDATES, BATCH = 1e-4, 400, 2_048
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
        self._last: Way | None = None

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        kept = self.model.rollout_buffer
        rows = kept.buffer_size * kept.n_envs
        seen, action = (part.reshape(rows, -1) for part in (kept.observations, kept.actions))
        state = self.training_env.unnormalize_obs(seen)
        self._last = state, action.copy(), _standard(kept.advantages.ravel())

    def _on_rollout_start(self) -> None:
        if self._moments and self.num_timesteps >= self._moments[0]:
            self._moments.pop(0)
            with torch.random.fork_rng():
                torch.manual_seed(int(self._rng.integers(2**31)))
                self.measure()

    def measure(self) -> None:
        """One row for each way."""
        before = copy.deepcopy(self.model.policy.state_dict())
        fresh = self._visit()
        for name, way in self._ways().items():
            told = self._follow(way, fresh)
            self.model.policy.load_state_dict(before)
            self.found.append({"steps": int(self.num_timesteps), "way": name, **told})

    def _ways(self) -> dict[str, Way]:
        """What to imitate, by name."""
        recall, rng, face = self.recall, self._rng, self.recall._learner
        assert recall.buffer is not None
        assert self._last is not None
        every, best = recall.buffer.best(1.0), recall.buffer.best(0.2)
        unit, discount = face.original.unit, self.model.gamma
        reward = RewardModel(every, unit)
        earned = every.to_go / unit - face.value(every.transitions.state)

        def traces(steps: Steps, places: np.ndarray, length: int) -> tuple[Ends, Traces]:
            ends = entered(steps, places[rng.integers(len(places), size=TRACES)])
            return ends, recall.backtracking_model.sample_traces(ends.states, length, 1, rng=rng)

        known = remembered_advantages(every, face.value, discount, 0.95, unit)
        valued = most(face.value(best.transitions.next_state), 0.1)
        found: dict[str, Way] = {}
        for length in LENGTHS:
            good = _flat(traces(best, valued, length)[1])
            lucky = _flat(traces(every, most(earned, 0.3), length)[1])
            ends, anywhere = traces(every, np.arange(len(every)), length)
            plain = _flat(anywhere)
            after = following(every, known, ends)
            worth = advantages(anywhere, ends, after, reward, face.value, discount, 0.95)
            worth = worth[anywhere.valid]
            found[f"to states of value, {length}"] = good
            found[f"to states of advantage, {length}"] = lucky
            found[f"to any state, {length}"] = plain
            found[f"to states of value less any, {length}"] = _less(good, plain)
            found[f"to states of advantage less any, {length}"] = _less(lucky, plain)
            found[f"to any state, by advantage, {length}"] = (*plain[:2], _standard(worth))
        of_best, of_all = best.transitions, every.transitions
        found["best remembered"] = of_best.state, of_best.action, np.ones(len(best))
        found["remembered, by advantage"] = of_all.state, of_all.action, _standard(earned)
        found["last rollout, by advantage"] = self._last
        found["last rollout, shuffled"] = (*self._last[:2], rng.permutation(self._last[2]))
        return found

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

    def _follow(self, way: Way, fresh: Way) -> dict[str, float]:
        """Imitate until the divergence is reached: what that gained."""
        face = self.recall._learner
        optimiser = torch.optim.Adam(face.parameters(), lr=RATE)
        state, action, weight = way
        moved, log_prob = face.moved(fresh[0]), face.log_prob(*fresh[:2])
        divergence, updates = 0.0, 0
        while divergence < DIVERGENCE and updates < UPDATES:
            chosen = self._rng.permutation(len(weight))[:BATCH]
            loss = face.losses(state[chosen], action[chosen])
            loss = (loss * torch.as_tensor(weight[chosen], dtype=loss.dtype)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            updates += 1
            with torch.no_grad():
                divergence = float(moved())
        ratio = np.exp(face.log_prob(*fresh[:2]) - log_prob)
        gain = float(((ratio - 1) * fresh[2]).mean())
        return {"gain": gain, "divergence": divergence, "updates": updates}


def _flat(found: Traces) -> Way:
    valid = found.valid
    return found.states[:, 1:][valid], found.actions[valid], np.ones(valid.sum())


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / max(float(values.std()), 1e-9)


def _less(good: Way, plain: Way) -> Way:
    """Towards the first and away from the second, on the whole nowhere."""
    n, m = len(good[2]), len(plain[2])
    weight = np.concatenate([np.full(n, 1.0), np.full(m, -n / m)])
    return np.concatenate([good[0], plain[0]]), np.concatenate([good[1], plain[1]]), weight
