"""Recall Traces for Stable-Baselines3: one more argument to `learn`.

    model = PPO("MlpPolicy", env)
    model.learn(1_000_000, callback=RecallTraces(length=20, count=64))

Source: Goyal et al., Recall Traces (arXiv 1804.00379), algorithm 1.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from stable_baselines3.common.callbacks import BaseCallback

from delegate.recall import checkpoint
from delegate.recall.algorithms import Learner, learner_of
from delegate.recall.credit import CREDITED, weights
from delegate.recall.diagnostics import Diagnostics, Recalled, check_diagnosable, new_diagnostics
from delegate.recall.forward import ForwardModel
from delegate.recall.imagining import imagine
from delegate.recall.imitation import Imitation, RecallConfig
from delegate.recall.kinds import Kind, Model, check_model, check_settings, check_spaces, new_model
from delegate.recall.learned import LearnedBacktrackingModel
from delegate.recall.learning import TransitionModel
from delegate.recall.model import BacktrackingModel
from delegate.recall.original import cut_short
from delegate.recall.remembered import remembered_traces
from delegate.recall.saving import stream_from
from delegate.recall.targets import (
    Ends,
    Targets,
    check_states,
    check_targets,
    choose,
    most,
    worth,
)
from delegate.recall.traces import Traces
from delegate.recall.trajectories import NONE_OVER, Steps, TrajectoryBuffer
from delegate.recall.transitions import Transitions
from delegate.settings import checked


class RecallTraces(BaseCallback):
    """Learns what leads to good states, recalls traces to them, and has the policy imitate them.

    length, count and the other settings of `delegate.recall.RecallConfig`, by name
    targets_from: where traces end, see `delegate.recall.targets.Targets`
    model: learned; or for comparison random (its actions are) · forward (imagines traces
    forwards, as Dyna does, of which the best tenth, `targets`, are imitated) · remembered (no
    model: what truly led to remembered states); or a model to go on with, which learns if it can
    model_settings: of a new model, see `delegate.recall.RecallModelConfig`
    seed: of the model and of all that is drawn here; nothing is taken from the algorithm's own
    random numbers

    Works with A2C, PPO, TRPO, SAC, TD3, DDPG and DQN, on observations that are vectors, a Dict
    of vectors, or integers.
    What was remembered and learned is `save`d beside the algorithm's own `model.save`.
    Logs recall/model_nll (nats a transition), recall/end_value and recall/start_value (the critic
    at both ends of the traces, 0 where an episode ended), recall/trace_return (what a trace
    promises from its start: the mean remembered reward on its way, and what the critic expects of
    entering its end), recall/steps (recalled),
    recall/imitation_loss, recall/imitation_updates (taken), recall/divergence,
    recall/best_return and recall/time_share (of all wall-clock since training began); weighted by
    advantage recall/reward_explained (share of the rewards' variance); if adaptive recall/earned
    (what the last steps gained, in standard deviations of the advantage for each root of a nat).
    With diagnostics also recall/bound and recall/bound_upper, between which recall/log_evidence,
    log p(R > L), should lie, exact where the model is, and recall/forward_nll where they are
    estimated: see `delegate.recall.diagnostics`.
    Raises TypeError for an algorithm or spaces that it does not know, ValueError for settings that
    are not known or do not go together, and naming the environment for observations that are not
    finite; nothing has been changed then. FloatingPointError as `recall`.
    """

    model: Any  # each algorithm has attributes of its own
    _learner: Learner
    _imitation: Imitation
    """both from the beginning of training on"""

    def __init__(
        self,
        length: int = 20,
        count: int = 64,
        *,
        targets_from: Targets = "critic",
        model: Kind | Model = "learned",
        model_settings: dict[str, Any] | None = None,
        seed: int = 0,
        verbose: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(verbose)
        settings = {"length": length, "count": count, **settings}
        self.config = checked("RecallTraces", RecallConfig, settings)
        self.targets_from: Targets = targets_from
        check_targets(targets_from)
        check_model(model)
        check_settings(model, self.config, targets_from, model_settings or {})
        self._kind = model if isinstance(model, str) else None
        self.backtracking_model = None if isinstance(model, str) else model
        self.buffer: TrajectoryBuffer | None = None
        self._model_settings = dict(model_settings or {})
        self._seed = seed
        self._rng = np.random.default_rng([seed, 11])
        self._pending: dict[str, Any] | None = None
        self._diagnostics: Diagnostics | None = None
        self._due, self._observed = 0, 0  # environment steps
        self._spent, self._began = 0.0, 0.0
        self._warned = False
        self._shown: np.ndarray | None = None
        self._seen: Any = None  # the observations of the last step, as the algorithm has them

    def _init_callback(self) -> None:
        if self.config.count == 0:
            return
        learner, model = learner_of(self.model), self.backtracking_model
        if model is None and self._kind is not None:
            model = new_model(self._kind, learner, self._model_settings, self._seed)
        else:
            assert model is not None
            check_spaces(model, learner)
        if self.config.diagnostics:
            check_diagnosable(learner, model)
        observation, action = learner.original.space, learner.action_space
        if isinstance(self.targets_from, np.ndarray):
            check_states(self.targets_from, observation)
        if self.config.weighting in CREDITED and isinstance(observation, Discrete):
            raise TypeError(
                f"weighting by advantage learns rewards of vectors, and observations are "
                f'{observation}; give weighting="gain" or "uniform"'
            )
        source = self.model.n_envs, _example(observation), _example(action), self.model.gamma
        buffer, diagnostics = self.buffer, self._diagnostics
        if buffer is None:
            buffer = TrajectoryBuffer(self.config.buffer_size, *source)
        else:
            buffer.check_source(*source)
        if self.config.diagnostics and diagnostics is None:
            assert isinstance(model, BacktrackingModel)
            more = self._worth, self._model_settings, self._seed
            diagnostics = new_diagnostics(learner, model, self.config, *more)
        imitation = Imitation(learner, self.config)
        if hasattr(self, "_imitation"):  # another algorithm of the same shapes goes on
            imitation.load(self._imitation.state())
        if (pending := self._pending) is not None:
            if self.buffer is not None:
                self._pending = None  # a refused file does not stand in the way of what is here
            self._resume(pending, buffer, model, imitation, diagnostics)
            self._pending = None
        # Whatever can be wrong was found before anything changed.
        self.buffer, self.backtracking_model = buffer, model
        self._learner, self._imitation, self._diagnostics = learner, imitation, diagnostics
        if diagnostics is not None:
            diagnostics.learner = learner

    def _on_training_start(self) -> None:
        self._began, self._spent = time.perf_counter(), 0.0
        if self.config.count:
            self._due = min(self._due, self.num_timesteps + self.config.every)
            assert self.buffer is not None
            shown = self._learner.original.observations(self.model._last_obs)
            goes_on = self._shown is not None and np.array_equal(self._shown, shown)
            if self.num_timesteps == 0 or self.model._last_obs is not self._seen or not goes_on:
                self.buffer.begin()  # the environments were reset
            self._shown = shown

    def _on_step(self) -> bool:
        if self.config.count == 0:
            return True
        began = time.perf_counter()
        assert self.buffer is not None
        assert self._shown is not None
        told, state, original = self.locals, self._shown, self._learner.original
        self._seen = told["new_obs"]
        self._shown = original.observations(told["new_obs"])
        next_state = original.entered(told, self._shown)
        reward, action = original.rewards(told["rewards"]), np.asarray(told["actions"])
        over, cut = np.asarray(told["dones"], bool), cut_short(told)
        beyond = self._beyond(next_state, cut)
        self.buffer.add(state, action, next_state, reward, over, cut, beyond)
        self._spent += time.perf_counter() - began
        return True

    def _on_rollout_start(self) -> None:
        # Later, the log-probabilities that a rollout stores would no longer be the policy's.
        begins = max(self._due, getattr(self.model, "learning_starts", 0))
        if self.config.count == 0 or self.num_timesteps < begins:
            return
        assert self.buffer is not None
        if self.buffer.steps < self.config.start:
            return
        began = time.perf_counter()
        if not self.buffer.finished:
            self._wait()
            return
        self.recall()
        self._due = self.num_timesteps + self.config.every
        now = time.perf_counter()
        self._spent += now - began
        self.logger.record("recall/time_share", self._spent / max(now - self._began, 1e-9))

    def _wait(self) -> None:
        """For the end of a trajectory; where none may ever end, say so once."""
        assert self.buffer is not None
        if self.buffer.steps >= self.buffer.capacity:
            self._say_once(NONE_OVER)

    def _say_once(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(f"nothing is recalled: {why}", stacklevel=2)

    def _on_rollout_end(self) -> None:
        if self.config.count == 0:
            return
        began = time.perf_counter()
        for name, value in self._imitation.look_back().items():
            self.logger.record(f"recall/{name}", value)
        self._spent += time.perf_counter() - began

    def recall(self) -> None:
        """Learn the model, recall traces, imitate them: what is done every so often.

        Does nothing while all steps of the best trajectories are worth the same as targets, before
        a first reward for instance; once the buffer is full, a warning says so.
        Raises ValueError, changing nothing, before training, where count is 0, while no trajectory
        is over, or where a source of targets gives other states. FloatingPointError where the
        model's density or the policy's loss overflows; the policy is then as before that step.
        """
        config = self.config
        if self.buffer is None:
            raise ValueError("nothing was remembered yet; train with a count above 0, then recall")
        steps = self.buffer.best(config.trajectories)
        ranked = self._worth(steps)
        if isinstance(self.targets_from, str) and np.ptp(ranked) == 0:
            if self.buffer.steps >= self.buffer.capacity:
                self._say_once(
                    f"all {len(ranked)} steps of the best trajectories are worth the same by "
                    f"targets_from={self.targets_from!r}; name another source of targets, or raise "
                    "trajectories or, where rewards are rare, buffer_size"
                )
            return
        ends = self._ends(steps, ranked)
        if isinstance(self.backtracking_model, TransitionModel):
            self._learn(steps.transitions.take(most(ranked, config.states)))
        ends, traces = self._recalled(steps, ends)
        told = {"steps": int(traces.valid.sum()), "best_return": self.buffer.best_return}
        if self._diagnostics is not None:
            recalled = Recalled(self.targets_from, steps, ranked, ends, traces)
            told |= self._diagnostics.measure(self.buffer, recalled)
        if told["steps"]:
            weight, more = weights(config, self._learner, steps, ends, traces, self._rng)
            told |= more | self._imitation.follow(traces, weight, self._rng)
        for name, value in told.items():
            self.logger.record(f"recall/{name}", value)

    def _learn(self, transitions: Transitions) -> None:
        model, config = self.backtracking_model, self.config
        assert self.buffer is not None
        assert isinstance(model, TransitionModel)
        new = self.buffer.latest(self.buffer.steps - self._observed)
        model.observe(new.state, new.action, new.next_state)
        self._observed = self.buffer.steps
        losses = model.fit(transitions, config.model_updates, config.model_batch, self._rng)
        if len(losses):
            self.logger.record("recall/model_nll", float(np.mean(losses)))

    def _ends(self, steps: Steps, ranked: np.ndarray) -> Ends:
        """Where traces shall end."""
        config, space = self.config, self._learner.original.space
        share, count = config.targets, config.count
        return choose(self.targets_from, steps, ranked, share, count, self._rng, space)

    def _recalled(self, steps: Steps, ends: Ends) -> tuple[Ends, Traces]:
        """Where traces do end, which those through a forward model choose themselves, and they."""
        config, model, rng = self.config, self.backtracking_model, self._rng
        if isinstance(model, ForwardModel):
            return imagine(model, self._learner, steps, config, rng)
        if model is None:  # "remembered"
            return ends, remembered_traces(steps, ends, config.length)
        if not isinstance(model, LearnedBacktrackingModel):
            return ends, model.sample_traces(ends.states, config.length, 1, rng=rng)
        return ends, model.sample_traces(
            ends.states,
            config.length,
            1,
            rng=rng,
            mean_actions=config.mean_actions,
            mean_changes=config.mean_changes,
        )

    def _beyond(self, last: np.ndarray, cut: np.ndarray) -> np.ndarray:
        """What is expected after trajectories that were cut short. float64 [B]"""
        beyond = np.zeros(len(last))
        if cut.any():
            beyond[cut] = self._learner.value(last[cut]) * self._learner.original.unit
        return beyond

    def _worth(self, steps: Steps) -> np.ndarray:
        by = self.targets_from if isinstance(self.targets_from, str) else "critic"
        learner = self._learner
        return worth(by, steps, learner.value, self.model.gamma, learner.original.unit)

    def save(self, path: str | Path) -> None:
        """Write what was remembered and learned, whole or not at all; beside `model.save`.

        Raises ValueError before training, or where count is 0.
        """
        if self.buffer is None:
            raise ValueError("nothing was remembered yet; train with a count above 0, then save")
        model, arrays = self.backtracking_model, self.buffer.state_arrays()
        parts = {
            "buffer": {name: torch.from_numpy(array.copy()) for name, array in arrays.items()},
            "imitation": self._imitation.state(),
            "rng": self._rng.bit_generator.state,
            "due": self._due,
            "observed": self._observed,
            "kind": _kind(model),
            "model": checkpoint.packed(model) if isinstance(model, TransitionModel) else None,
            "diagnostics": self._diagnostics.state() if self._diagnostics else None,
        }
        checkpoint.write(Path(path), parts)

    def load(self, path: str | Path) -> RecallTraces:
        """Go on from what `save` wrote, at the next `learn`. Returns this callback.

        Raises OSError where it cannot be read, ValueError for a file that is no such thing. What
        does not fit (other spaces or shapes, another kind of model, discount or number of
        environments) is refused by `learn`, with ValueError: what is here is untouched then, and
        the next `learn` goes on with it if anything was learned.
        """
        self._pending = checkpoint.read(path)
        return self

    def _resume(
        self,
        saved: dict[str, Any],
        buffer: TrajectoryBuffer,
        model: Model | None,
        imitation: Imitation,
        diagnostics: Diagnostics | None,
    ) -> None:
        """Fill those, and the rest of what is here."""
        arrays = {name: tensor.numpy() for name, tensor in saved["buffer"].items()}
        # Whatever can be wrong is found before anything changes.
        imitation.check(saved["imitation"])
        buffer.check(arrays)
        rng = stream_from("the saved callback", saved["rng"])
        if saved["kind"] != (kind := _kind(model)):
            raise ValueError(
                f"what was saved recalled with model {saved['kind']}, and this is {kind}; resume "
                "with the model it was saved with"
            )
        if isinstance(model, TransitionModel):
            checkpoint.check(model, saved["model"])
        if diagnostics is not None and saved["diagnostics"] is not None:
            diagnostics.load(saved["diagnostics"])
        if isinstance(model, TransitionModel):
            checkpoint.unpack(model, saved["model"])
        buffer.load(arrays)
        imitation.load(saved["imitation"])
        self._observed = saved["observed"]
        self._rng = rng
        self._due = saved["due"]


def _kind(model: Model | None) -> str:
    """How to name it in a file."""
    return '"remembered"' if model is None else type(model).__name__


def _example(space: Any) -> np.ndarray:
    """A zero of that space, as it is remembered."""
    if isinstance(space, Discrete):
        return np.zeros((), np.int64)
    return np.zeros(space.shape, np.float32)
