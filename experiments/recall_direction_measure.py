"""Which way imitation of recalled traces pushes a policy, and what that is worth.

An algorithm trains and nothing is imitated. At some moments each kind of trace is imitated from the
policy of that moment, by one step of the same divergence along the natural gradient. Two things are
measured: `gain`, by what the algorithm itself raises, which trusts its critic; and `returned`, by
how much the mean return rose, in standard deviations of an episode's, which trusts nothing. Then
the policy is put back. At the same moments the model walks back along what truly happened, given
what was done: `depth`, how far from the true states it is after each step.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from recall_mujoco_runs import world
from stable_baselines3.common.callbacks import BaseCallback

from delegate import RecallTraces
from delegate.recall import LearnedBacktrackingModel
from delegate.recall.algorithms import learner_of
from delegate.recall.credit import RewardModel, advantages, next_advantages, remembered_advantages
from delegate.recall.original import cut_short
from delegate.recall.remembered import remembered_traces
from delegate.recall.targets import Ends, entered, most, worth
from delegate.recall.traces import Traces
from delegate.recall.trajectories import Steps
from delegate.recall.transitions import Transitions

ROWS, STEPS = 128, 512
"""of the fresh steps"""
EPISODES = 256
"""that say what the policy returns; they begin alike and draw alike before and after"""
BURN_IN = 500
"""steps before those, so that they are of all parts of an episode"""
RECALLED, DEPTH, WALKS = 10_240, 20, 2_000
"""steps imitated at once; steps walked back, and how many walks"""
_COLUMNS = ("state", "action", "next_state", "reward", "terminal", "last")
Way = tuple[np.ndarray, np.ndarray, np.ndarray]
"""states, actions, weights"""
Step = Callable[[], dict[str, float]]
"""moves the policy; its divergence and its gain"""


class Directions(BaseCallback, ABC):
    """Measures at some moments and puts the policy back.

    moments: environment steps · recall: what learns a model meanwhile
    """

    model: Any

    def __init__(
        self, task: str, moments: Sequence[float], seed: int, recall: RecallTraces
    ) -> None:
        super().__init__()
        self.task, self.recall = task, recall
        self.found: list[dict[str, Any]] = []
        self.depth: list[dict[str, Any]] = []
        self._rng = np.random.default_rng([seed, 3])
        self._moments = list(moments)

    def _init_callback(self) -> None:
        self._face = learner_of(self.model)

    def _on_step(self) -> bool:
        return True

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
        steps, base = self._steps(self._visit()), self._returns(seed)
        for name, step in steps.items():
            told = step()
            after = self._returns(seed)
            self.model.policy.load_state_dict(before)
            told |= {"returned": float((after - base).mean() / base.std())}
            told |= {"base": float(base.mean()), "base_std": float(base.std())}
            self.found.append({"steps": int(self.num_timesteps), "way": name, **told})

    @abstractmethod
    def _steps(self, fresh: Steps) -> dict[str, Step]:
        """Of the policy, by name. fresh: steps of the policy of now"""

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
            return weighted(traces, advantages(traces, ends, after, reward, *how))

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
            "remembered": (seen.state, seen.action, standard(known)),
            "remembered, rewards learned": credited(real, ends),
            "remembered, rewards learned, states recalled": credited(
                replace(real, states=states), ends
            ),
            **{
                f"recalled, {'mean' if mean else 'drawn'} changes, {length}": recalled(length, mean)
                for mean in (True, False)
                for length in (1, 2, 5, 20)
            },
            "to states of value, all alike, 20": flat(uniform),
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

    def _returns(self, seed: int) -> np.ndarray:
        """Of EPISODES episodes of the policy, undiscounted. float64 [EPISODES]"""
        face, venv = self._face, world(self.task, EPISODES)
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
        venv = world(self.task, ROWS)
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


def part(way: Way, places: np.ndarray) -> Way:
    """Those, with standardised advantages."""
    state, action, advantage = (each[places] for each in way)
    return state, action, standard(advantage)


def flat(found: Traces) -> Way:
    valid = found.valid
    return found.states[:, 1:][valid], found.actions[valid], np.ones(valid.sum())


def weighted(found: Traces, advantage: np.ndarray) -> Way:
    return (*flat(found)[:2], standard(advantage[found.valid]))


def standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / max(float(values.std()), 1e-9)
