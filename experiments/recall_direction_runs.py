"""Which way imitation of recalled traces pushes a policy, and what that is worth.

TRPO trains and nothing is imitated. At some moments each kind of trace is imitated from the policy
of that moment, by one step of the same divergence along the natural gradient. Two things are
measured: `gain`, the mean of (ratio - 1) x advantage over fresh steps of the policy, advantages in
their standard deviations, which is what TRPO raises and trusts the critic; and `returned`, by how
much the mean return rose, in standard deviations of an episode's, which trusts nothing. Then the
policy is put back. At the same moments the model walks back along what truly happened, given what
was done: `depth`, how far from the true states it is after each step.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from recall_mujoco_plan import FIXED, exacter
from recall_mujoco_runs import COMMIT, LIBRARIES, RECALL_SOURCE, Arm, learner, recalled, world
from recall_mujoco_runs import Run as Training
from running import record_path, source_digest
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from delegate import RecallTraces, store
from delegate.recall import LearnedBacktrackingModel
from delegate.recall.algorithms import learner_of
from delegate.recall.credit import RewardModel, advantages, next_advantages, remembered_advantages
from delegate.recall.natural import natural_step
from delegate.recall.original import cut_short
from delegate.recall.remembered import remembered_traces
from delegate.recall.targets import Ends, entered, most, worth
from delegate.recall.traces import Traces
from delegate.recall.trajectories import Steps
from delegate.recall.transitions import Transitions

MOMENTS = (40_000, 80_000, 130_000)
"""environment steps"""
DIVERGENCE = 0.01
"""nats, of a step along the natural gradient"""
ROWS, STEPS = 128, 512
"""of the fresh steps: half of the rows are followed, the other half judge"""
EPISODES = 256
"""that say what the policy returns; they begin alike and draw alike before and after"""
BURN_IN = 500
"""steps before those, so that they are of all parts of an episode"""
RECALLED, DEPTH, WALKS = 10_240, 20, 2_000
"""steps imitated at once; steps walked back, and how many walks"""
SOURCE = source_digest([Path(__file__)], LIBRARIES) + RECALL_SOURCE
_COLUMNS = ("state", "action", "next_state", "reward", "terminal", "last")
LEARNING = exacter("learning", optimiser="adam", max_divergence=None, imitation_updates=0, **FIXED)
"""the model of `recall`, and no imitation"""
Way = tuple[np.ndarray, np.ndarray, np.ndarray]
"""states, actions, weights"""


class Run(BaseModel):
    """What a run is. recall: settings of the model that learns meanwhile"""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    seed: int
    recall: Arm = LEARNING

    def path(self, folder: Path) -> Path:
        """Where its record is kept; another for any other setting, code or version."""
        return record_path(folder, self, SOURCE, self.task, str(self.seed))


def play(run: Run, folder: Path) -> Path:
    """Train, measure and write the record, whole or not at all; one that is there stays."""
    path = run.path(folder)
    if path.exists():
        return path
    torch.set_num_threads(1)
    training = Training(
        algorithm="trpo",
        task=run.task,
        arm=run.recall,
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
        "depth": directions.depth,
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
        self.depth: list[dict[str, Any]] = []
        self._last: Way
        self._rng = np.random.default_rng([run.seed, 3])
        self._moments = list(MOMENTS)

    def _init_callback(self) -> None:
        self._face = learner_of(self.model)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        seen, normalised = self.model.rollout_buffer, self.model.get_vec_normalize_env()
        size = len(seen.advantages) * seen.n_envs
        state = normalised.unnormalize_obs(seen.observations.reshape(size, -1))
        action, advantage = seen.actions.reshape(size, -1), seen.advantages.ravel()
        self._last = state.astype(np.float32), action.copy(), _standard(advantage)

    def _on_rollout_start(self) -> None:
        if self._moments and self.num_timesteps >= self._moments[0]:
            self._moments.pop(0)
            with torch.random.fork_rng():
                torch.manual_seed(int(self._rng.integers(2**31)))
                self.measure()
                self.depth.append({"steps": int(self.num_timesteps), **self.walk_back()})

    def measure(self) -> None:
        """One row for each way."""
        before = copy.deepcopy(self.model.policy.state_dict())
        seed = int(self._rng.integers(2**31))
        fresh, base = self._judged(self._visit()), self._returns(seed)
        half = np.arange(ROWS * STEPS).reshape(ROWS, STEPS)
        judges = _part(fresh, half[ROWS // 2 :].ravel())
        for name, way in (self._ways() | self._own(fresh, half)).items():
            told = self._follow(way, judges)
            after = self._returns(seed)
            self.model.policy.load_state_dict(before)
            told |= {"returned": float((after - base).mean() / base.std())}
            told |= {"base": float(base.mean()), "base_std": float(base.std())}
            self.found.append({"steps": int(self.num_timesteps), "way": name, **told})

    def _ways(self) -> dict[str, Way]:
        """What to imitate, by name."""
        recall, rng, face = self.recall, self._rng, self._face
        assert recall.buffer is not None
        every, best = recall.buffer.best(1.0), recall.buffer.best(0.2)
        unit, discount = face.original.unit, self.model.gamma
        reward, seen = RewardModel(every, unit), every.transitions
        how = face.value, discount, recall.config.gae_lambda
        known = remembered_advantages(every, *how, unit)
        model = recall.backtracking_model
        assert isinstance(model, LearnedBacktrackingModel)

        def credited(traces: Traces, ends: Ends) -> Way:
            after = next_advantages(every, known, ends)
            return _weighted(traces, advantages(traces, ends, after, reward, *how))

        def recalled(length: int, mean: bool) -> Way:
            ends = entered(every, rng.integers(len(every), size=RECALLED // length))
            traces = model.sample_traces(ends.states, length, 1, rng=rng, mean_changes=mean)
            return credited(traces, ends)

        valued = entered(best, most(worth("critic", best, face.value, discount, unit), 0.1))
        some = valued.states[rng.integers(len(valued.states), size=RECALLED // 20)]
        uniform = model.sample_traces(some, 20, 1, rng=rng)
        ends = entered(every, np.arange(len(every)))
        real = remembered_traces(every, ends, 1)
        states = real.states.copy()
        states[:, 1] = model.state_before(seen.next_state, seen.action, rng=rng)
        return {
            "remembered": (seen.state, seen.action, _standard(known)),
            "remembered, rewards learned": credited(real, ends),
            "remembered, rewards learned, states recalled": credited(
                replace(real, states=states), ends
            ),
            **{
                f"recalled, {'mean' if mean else 'drawn'} changes, {length}": recalled(length, mean)
                for mean in (True, False)
                for length in (1, 2, 5, 20)
            },
            "to states of value, all alike, 20": _flat(uniform),
        }

    def walk_back(self) -> dict[str, list[float]]:
        """How far from the true states the model is after 1 to DEPTH steps back along what was
        done, and how far it is to stay where one is: the root of the mean square, in standard
        deviations of the states remembered."""
        assert self.recall.buffer is not None
        model, steps = self.recall.backtracking_model, self.recall.buffer.best(1.0)
        assert isinstance(model, LearnedBacktrackingModel)
        seen, walks = steps.transitions, steps.runs(DEPTH)
        walks = walks[self._rng.permutation(len(walks))[:WALKS]]
        spread = np.maximum(seen.state.std(axis=0), 1e-6)
        start = state = seen.next_state[walks[:, -1]]
        found: dict[str, list[float]] = {"model": [], "stay": []}
        for place in walks.T[::-1]:
            state = model.state_before(state, seen.action[place], rng=self._rng)
            for name, guess in (("model", state), ("stay", start)):
                off = (guess - seen.state[place]) / spread
                found[name].append(round(float(np.sqrt(np.square(off).mean())), 4))
        return found

    def _own(self, fresh: Way, half: np.ndarray) -> dict[str, Way]:
        """What TRPO has: one rollout, and again the one it has used; for comparison sixteen, and
        one whose credit is shuffled."""
        one = _part(fresh, half[:8, : 2_048 // 8].ravel())
        return {
            "a fresh rollout": one,
            "the last rollout again": self._last,
            "sixteen fresh rollouts": _part(fresh, half[: ROWS // 2].ravel()),
            "a fresh rollout, shuffled": (*one[:2], self._rng.permutation(one[2])),
        }

    def _returns(self, seed: int) -> np.ndarray:
        """Of EPISODES episodes of the policy, undiscounted. float64 [EPISODES]"""
        face, venv = self._face, world(self.run.task, EPISODES)
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

    def _visit(self) -> Steps:
        """Fresh steps of the policy, row by row, of episodes in full run."""
        face = self._face
        venv = world(self.run.task, ROWS)
        venv.seed(int(self._rng.integers(2**31)))
        state, space = venv.reset(), venv.action_space
        kept: dict[str, list[np.ndarray]] = {name: [] for name in _COLUMNS}
        for t in range(BURN_IN + STEPS):
            action = face.act(state)
            after, reward, done, infos = venv.step(np.clip(action, space.low, space.high))
            entered = after.copy()
            for row in np.flatnonzero(done):
                entered[row] = infos[row]["terminal_observation"]
            terminal = done & ~cut_short({"dones": done, "infos": infos})
            last = done | (t == BURN_IN + STEPS - 1)
            if t >= BURN_IN:
                values = state, action, entered, reward, terminal, last
                for name, value in zip(_COLUMNS, values, strict=True):
                    kept[name].append(value)
            state = after
        venv.close()
        flat = {name: np.stack(found, 1) for name, found in kept.items()}
        flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in flat.items()}
        seen = Transitions(flat["state"], flat["action"], flat["next_state"])
        reward = flat["reward"].astype(np.float64)
        return Steps(seen, reward, np.zeros(len(reward)), flat["terminal"], flat["last"])

    def _judged(self, steps: Steps) -> Way:
        """Their advantages, as TRPO sees them."""
        face = self._face
        how = face.value, self.model.gamma, self.model.gae_lambda, face.original.unit
        seen = steps.transitions
        return seen.state, seen.action, remembered_advantages(steps, *how)

    def _follow(self, way: Way, judges: Way) -> dict[str, float]:
        """Imitate by one step; how far that went and what it gained on the steps that judge."""
        face = self._face
        state, action, weight = way
        before, moved = face.log_prob(*judges[:2]), face.moved(judges[0])
        loss = face.losses(state, action)
        loss = (loss * torch.as_tensor(weight, dtype=loss.dtype, device=loss.device)).mean()
        some = self._rng.permutation(len(judges[0]))[:2_048]
        natural_step(loss, face.moved(judges[0][some]), face.parameters(), DIVERGENCE)
        assert before is not None
        ratio = np.exp(face.log_prob(*judges[:2]) - before)
        with torch.no_grad():
            reached = float(moved())
        return {"divergence": reached, "gain": float(((ratio - 1) * judges[2]).mean())}


def _part(way: Way, places: np.ndarray) -> Way:
    """Those, with standardised advantages."""
    state, action, advantage = (part[places] for part in way)
    return state, action, _standard(advantage)


def _flat(found: Traces) -> Way:
    valid = found.valid
    return found.states[:, 1:][valid], found.actions[valid], np.ones(valid.sum())


def _weighted(found: Traces, advantage: np.ndarray) -> Way:
    return (*_flat(found)[:2], _standard(advantage[found.valid]))


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / max(float(values.std()), 1e-9)
