"""Which way imitation of recalled traces pushes a policy, and what that is worth.

An algorithm trains and nothing is imitated. At some moments each kind of trace is imitated from the
policy of that moment, by one step along the natural gradient, of the same divergence for all. Two
things are measured: `gain`, by what the algorithm itself raises, which trusts its critic; and
`returned`, by how much the mean return rose, in standard deviations of an episode's, which trusts
nothing. Then the policy is put back. At the same moments the model walks back along what the policy
of that moment truly does, given what was done: how far from the true states it is after each step.
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
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from delegate import RecallTraces
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

ROWS, STEPS = 128, 512
"""of the fresh steps"""
WITHIN = 1_000
"""first steps of a row, at one of which, drawn for each, those begin: an episode has no more, so
that they are of all its parts"""
EPISODES = 256
"""that say what the policy returns; they begin alike and draw alike before and after"""
DEPTH, WALKS = 20, 2_000
"""steps walked back, and how many walks"""
_CURVED = 2_048
"""states by which curvature is measured"""
_NEAR = 0.01
"""how near to the divergence wanted a step has to come, as a share of it"""
_TRIES = 50
_COLUMNS = ("state", "action", "next_state", "reward", "terminal", "last")
Way = tuple[np.ndarray, np.ndarray, np.ndarray]
"""states float32 [N, d], actions [N, ...] and weights float64 [N]"""
Loss = Callable[[], Tensor]
"""of the policy as it is now, a scalar"""


class Directions(BaseCallback, ABC):
    """Measures at some moments and puts the policy back.

    moments: environment steps · divergences: of the steps of the policy (nats), the longest last,
    which alone is judged by returns too · recall: what learns a model meanwhile
    """

    model: Any

    def __init__(
        self,
        task: str,
        moments: Sequence[float],
        divergences: Sequence[float],
        seed: int,
        recall: RecallTraces,
    ) -> None:
        super().__init__()
        self.task, self.recall, self.divergences = task, recall, divergences
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
                fresh = self._visit()
                self.measure(fresh)
                self.depth.append({"steps": int(self.num_timesteps), **self.walk_back(fresh)})

    def measure(self, fresh: Steps) -> None:
        """One row for each way and divergence. fresh: steps of the policy of now"""
        policy = self.model.policy
        before = copy.deepcopy(policy.state_dict())
        seed = int(self._rng.integers(2**31))
        losses, states, gained = self._ask(fresh)
        base, step = self._returns(seed), Step(self._face, states, self._rng)
        for name, (loss, imitated) in losses.items():
            along = step.direction(loss())
            for nats in self.divergences:
                reached = step.go(along, nats)
                told: dict[str, Any] = {"nats": nats, "divergence": reached, "gain": gained()}
                if nats == self.divergences[-1]:
                    rise = (self._returns(seed) - base) / base.std()
                    told["returned"] = float(rise.mean())
                    told["error"] = float(rise.std() / np.sqrt(len(rise)))
                policy.load_state_dict(before)
                at = {"steps": int(self.num_timesteps), "way": name, "imitated": imitated}
                self.found.append(at | told)

    @abstractmethod
    def _ask(
        self, fresh: Steps
    ) -> tuple[dict[str, tuple[Loss, int]], np.ndarray, Callable[[], float]]:
        """What to lower and of how many steps it is, by name; states float32 [N, d] over which a
        divergence is a mean; and what the policy has gained on the one of now."""

    def _loss(self, way: Way) -> tuple[Loss, int]:
        """Of imitating it."""
        state, action, weight = way

        def loss() -> Tensor:
            each = self._face.losses(state, action)
            return (each * torch.as_tensor(weight, dtype=each.dtype, device=each.device)).mean()

        return loss, len(state)

    def _ways(self) -> dict[str, Way]:
        """What to imitate, by name: as many steps of each as `recall` imitates at once, less those
        at which a trace had left the model's support."""
        recall, rng, face = self.recall, self._rng, self._face
        assert recall.buffer is not None
        every, best = recall.buffer.best(1.0), recall.buffer.best(0.2)
        unit, discount, count = face.original.unit, self.model.gamma, recall.config.imitation_batch
        reward, seen = RewardModel(every, unit), every.transitions
        how = face.value, discount, recall.config.gae_lambda
        known = remembered_advantages(every, *how, unit)
        model = recall.backtracking_model
        assert isinstance(model, LearnedBacktrackingModel)

        def credited(traces: Traces, ends: Ends) -> Way:
            after = next_advantages(every, known, ends)
            return weighted(traces, advantages(traces, ends, after, reward, *how))

        def recalled(length: int, mean: bool = True) -> Way:
            ends = entered(every, rng.integers(len(every), size=count // length))
            traces = model.sample_traces(ends.states, length, 1, rng=rng, mean_changes=mean)
            return credited(traces, ends)

        places = rng.permutation(len(every))[:count]
        ends = entered(every, places)
        real = remembered_traces(every, ends, 1)
        states = real.states.copy()
        states[:, 1] = model.state_before(seen.next_state[places], seen.action[places], rng=rng)
        valued = entered(best, most(worth("critic", best, face.value, discount, unit), 0.1))
        some = valued.states[rng.integers(len(valued.states), size=count // 20)]
        by_length = {f"recalled, {length}": recalled(length) for length in (1, 2, 5, 20)}
        state, action, weight = by_length["recalled, 2"]
        return {
            "remembered": part((seen.state, seen.action, known), places),
            "remembered, rewards learned": credited(real, ends),
            "remembered, rewards learned, states recalled": credited(
                replace(real, states=states), ends
            ),
            **by_length,
            "recalled, 2, shuffled": (state, action, rng.permutation(weight)),
            "recalled, 2, drawn changes": recalled(2, mean=False),
            "to the best states, all alike, 20": flat(model.sample_traces(some, 20, 1, rng=rng)),
        }

    def walk_back(self, fresh: Steps) -> dict[str, list[float]]:
        """How far from the true states the model is after 1 to DEPTH steps back along what was
        done, and how far it is to stay where one is: the root of the mean square over a state's
        parts, in their standard deviations over those remembered; the median over walks."""
        assert self.recall.buffer is not None
        model, remembered = self.recall.backtracking_model, self.recall.buffer.best(1.0)
        assert isinstance(model, LearnedBacktrackingModel)
        seen, walks = fresh.transitions, fresh.runs(DEPTH)
        walks = walks[self._rng.permutation(len(walks))[:WALKS]]
        spread = np.maximum(remembered.transitions.state.std(axis=0), 1e-6)
        start = state = seen.next_state[walks[:, -1]]
        found: dict[str, list[float]] = {"model": [], "stay": []}
        for place in walks.T[::-1]:
            state = model.state_before(state, seen.action[place], rng=self._rng)
            for name, guess in (("model", state), ("stay", start)):
                off = np.sqrt(np.square((guess - seen.state[place]) / spread).mean(axis=1))
                found[name].append(round(float(np.median(off)), 4))
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
        """Fresh steps of the policy, row by row, STEPS in a row of each."""
        face, venv = self._face, world(self.task, ROWS)
        venv.seed(int(self._rng.integers(2**31)))
        state, space = venv.reset(), venv.action_space
        kept: dict[str, list[np.ndarray]] = {name: [] for name in _COLUMNS}
        for _ in range(WITHIN + STEPS):
            action = face.act(state)
            after, reward, done, infos = venv.step(np.clip(action, space.low, space.high))
            reached = after.copy()
            for row in np.flatnonzero(done):
                reached[row] = infos[row]["terminal_observation"]
            terminal = done & ~cut_short({"dones": done, "infos": infos})
            values = state, action, reached, reward, terminal, done
            for name, value in zip(_COLUMNS, values, strict=True):
                kept[name].append(value)
            state = after
        venv.close()
        window = self._rng.integers(WITHIN, size=(ROWS, 1)) + np.arange(STEPS)
        of_rows = {name: np.stack(found, 1) for name, found in kept.items()}
        of_rows = {name: found[np.arange(ROWS)[:, None], window] for name, found in of_rows.items()}
        of_rows["last"][:, -1] = True
        each = {name: found.reshape(-1, *found.shape[2:]) for name, found in of_rows.items()}
        seen = Transitions(each["state"], each["action"], each["next_state"])
        reward = each["reward"].astype(np.float64)
        return Steps(seen, reward, np.zeros(len(reward)), each["terminal"], each["last"])


class Step:
    """Steps of a policy from where it is now, as long as is wanted.

    states: float32 [N, d], over which a divergence is a mean
    """

    def __init__(self, face: Any, states: np.ndarray, rng: np.random.Generator) -> None:
        self._parameters = [each for each in face.parameters() if each.requires_grad]
        self._start = parameters_to_vector(self._parameters).detach().clone()
        self._moved = face.moved(states)
        self._moved_some = face.moved(states[rng.permutation(len(states))[:_CURVED]])

    def direction(self, loss: Tensor) -> Tensor:
        """Along the natural gradient; the policy stays. [parameters]"""
        reached = natural_step(loss, self._moved_some, self._parameters, 1e-3)
        if not reached:
            raise ValueError("a gradient is zero or not finite; nothing can be told of that way")
        along = parameters_to_vector(self._parameters).detach() - self._start
        vector_to_parameters(self._start, self._parameters)
        return along

    def go(self, along: Tensor, nats: float) -> float:
        """Move so far; the divergence, which is that to a hundredth."""
        scale = 1.0
        for _ in range(_TRIES):
            vector_to_parameters(self._start + scale * along, self._parameters)
            with torch.no_grad():
                reached = float(self._moved())
            if abs(reached / nats - 1) <= _NEAR:
                return reached
            scale *= float(np.clip(np.sqrt(nats / max(reached, 1e-12)), 0.5, 2.0))
        raise ValueError(f"no step of {nats} nats was found: the last one went {reached}")


def part(way: Way, places: np.ndarray) -> Way:
    """Those, with standardised weights."""
    state, action, weight = (each[places] for each in way)
    return state, action, standard(weight)


def flat(found: Traces) -> Way:
    """Every recalled step, all alike."""
    valid = found.valid
    return found.states[:, 1:][valid], found.actions[valid], np.ones(valid.sum())


def weighted(found: Traces, advantage: np.ndarray) -> Way:
    """Every recalled step, by its standardised advantage float64 [traces, length]."""
    return (*flat(found)[:2], standard(advantage[found.valid]))


def standard(values: np.ndarray) -> np.ndarray:
    """Of mean 0 and deviation 1. float64 [N]"""
    return (values - values.mean()) / max(float(values.std()), 1e-9)
