"""Recall Traces for Stable-Baselines3: one more argument to `learn`.

    model = PPO("MlpPolicy", env)
    model.learn(1_000_000, callback=RecallTraces(length=20, count=64))

Source: Goyal et al., Recall Traces (arXiv 1804.00379), algorithm 1.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor
from torch.optim import Adam

from delegate.files import write_whole
from delegate.recall.learned import LearnedBacktrackingModel
from delegate.recall.model import BacktrackingModel, Traces
from delegate.recall.stable_baselines import buffer as remembered
from delegate.recall.stable_baselines.buffer import TrajectoryBuffer
from delegate.recall.stable_baselines.config import MODELS, Targets, check_spaces, configured
from delegate.recall.stable_baselines.losses import Learner, learner_of

Saved = dict[str, Tensor]


class RecallTraces(BaseCallback):
    """Learns what leads to good states, recalls traces to them, and has the policy imitate them.

    length, count and the other settings of `delegate.recall.RecallConfig`, by name
    preset: settings that go by a name, of which others given here replace single ones. "paper":
    those of Goyal et al. (arXiv 1804.00379) · "known_goal": those that helped in Four Rooms, where
    targets_from was the goal; see `delegate.recall.stable_baselines.config.PRESETS`
    targets_from: where traces end. In the next states of the highest priority: by "critic", the
    reward and the critic's value; by "reward"; or by "return", the discounted reward-to-go · in an
    array of states [n, ...] · or in what a function (count, rng) -> states [count, ...] gives, as
    that of `GoalGan.as_targets`
    model: "learned" · "random", for comparison: its actions are · or a model to go on with, which
    learns if it can, such as an ExactBacktrackingModel of one level
    model_settings: of a new model: those of `delegate.recall.RecallModelConfig`, device, seed
    seed: of the model and of all that is drawn here, apart from the algorithm's random numbers

    Works with A2C, PPO, TRPO, SAC, TD3, DDPG and DQN, on observations that are vectors, a Dict of
    vectors (also beside hindsight replay), or integers; also beside VecNormalize, unless something
    outside it changes observations. Every so often, before a rollout, the model learns from the
    best states of the best trajectories of late, traces are recalled, and the policy takes steps of
    Adam towards their actions. Nothing is recalled while no trajectory is finished, or while all
    steps of the best have one priority; if so when the buffer is full, a warning says it once.

    Logs recall/model_nll (nats a transition), recall/end_value and recall/start_value (the critic
    at both ends of the traces, 0 where an episode is known to end), recall/steps (recalled),
    recall/model_steps (recalled since training began), recall/imitation_loss, recall/divergence (of
    the policy from before imitation, where it was recalled: nats of KL; half the squared change of
    TD3's actions and DQN's values), recall/best_return and recall/time_share (of the wall-clock
    since training began). A VectorBacktrack beneath StableVecEnv has its ledger charged the same
    model steps, spread over the rows.

    Raises TypeError for an algorithm or spaces that it does not know, ValueError for settings, a
    model, targets or a file that do not fit, and for observations that are not finite, naming the
    environment; nothing has been changed then. FloatingPointError as `recall`.
    """

    model: Any  # each algorithm has attributes of its own
    _learner: Learner
    _optimiser: Adam  # of imitation

    def __init__(
        self,
        length: int | None = None,
        count: int | None = None,
        *,
        preset: Literal["paper", "known_goal"] | None = None,
        targets_from: Targets = "critic",
        model: Literal["learned", "random"] | BacktrackingModel = "learned",
        model_settings: dict[str, Any] | None = None,
        seed: int = 0,
        verbose: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(verbose)
        settings |= {n: v for n, v in (("length", length), ("count", count)) if v is not None}
        model_settings = model_settings or {}
        checked = configured(preset, settings, targets_from, model, model_settings)
        self.config, self._model_settings = checked[0], {"seed": seed, **checked[1]}
        self.targets_from: Targets = targets_from
        self.backtracking_model = None if isinstance(model, str) else model
        self.buffer: TrajectoryBuffer | None = None
        self._kind = model if isinstance(model, str) else ""
        self._seed, self._recalls, self._model_steps = seed, 0, 0
        self._due, self._observed = 0, 0  # steps of the environments
        self._saved: Saved | None = None  # to go on from
        self._last_state: Any = None  # of each environment, before its next step
        self._last_obs: Any = None  # the same, as the algorithm has it
        self._spent, self._began = 0.0, 0.0
        self._warned = False

    def _init_callback(self) -> None:
        if self.config.count == 0:
            return
        learner, model, saved = learner_of(self.model), self.backtracking_model, self._saved
        states, actions = learner.original.space, learner.action_space
        if model is None:
            # Random actions are drawn between the bounds of the environment.
            space = self.model.action_space if self._kind == "random" else actions
            own = {"device": self.model.device, **self._model_settings}
            model = MODELS[self._kind](states, space, **own)
        check_spaces(model, states, actions)
        if isinstance(self.targets_from, np.ndarray):
            remembered.check_states(self.targets_from, states)
        buffer = TrajectoryBuffer(self.config.buffer_size, self.model.n_envs, states, actions)
        optimiser = Adam(learner.parameters(), lr=self.config.learning_rate)
        if self.buffer is not None:  # a second training, maybe of another algorithm
            buffer.check_state_dict(self.buffer.state_dict())
            buffer = self.buffer
            _load_moments(optimiser, _moments(self._optimiser))
            self._saved = None  # a refused file does not stand in the way of what is here
        if saved is not None:
            self._resume(saved, buffer, model, optimiser)
            self._saved = None
        # Whatever can be wrong was found before anything changed.
        self.buffer, self.backtracking_model = buffer, model
        self._learner, self._optimiser = learner, optimiser

    def _on_training_start(self) -> None:
        self._began, self._spent = time.perf_counter(), 0.0
        if self.buffer is None:  # count is 0
            return
        self._due = min(self._due, self.num_timesteps + self.config.every)
        state = self._learner.original.observations(self.model._last_obs)
        starts = self.model._last_episode_starts.all()  # off-policy always, else after a reset
        reset = starts and self.model._last_obs is not self._last_obs
        if self.num_timesteps == 0 or reset or not np.array_equal(self._last_state, state):
            self.buffer.begin()
        self._last_state = state

    def _on_step(self) -> bool:
        if self.buffer is None:
            return True
        began = time.perf_counter()
        step, original, state = self.locals, self._learner.original, self._last_state
        now, reward = original.observations(step["new_obs"]), original.rewards(step["rewards"])
        next_state, terminal = original.next_states(step, now)
        self.buffer.add(state, step["actions"], next_state, reward, step["dones"], terminal)
        self._last_state, self._last_obs = now, step["new_obs"]
        self._spent += time.perf_counter() - began
        return True

    def _on_rollout_start(self) -> None:
        # Later, the log-probabilities that a rollout stores would no longer be the policy's.
        begins = max(self._due, getattr(self.model, "learning_starts", 0))
        if self.buffer is None or self.num_timesteps < begins:
            return
        if self.buffer.steps < self.config.start:
            return
        if not self.buffer.finished:
            self._warn_once(remembered.NONE_FINISHED)
            return
        began = time.perf_counter()
        self.recall()
        self._due = self.num_timesteps + self.config.every
        now = time.perf_counter()
        self._spent += now - began
        self.logger.record("recall/time_share", self._spent / max(now - self._began, 1e-9))

    def _warn_once(self, why: str) -> None:
        """Why nothing is recalled, once the buffer is full: waiting longer will not help."""
        if not self._warned and self.buffer and len(self.buffer) == self.buffer.capacity:
            self._warned = True
            warnings.warn(f"nothing is recalled: {why}", stacklevel=2)

    def recall(self) -> None:
        """Learn the model, recall traces, imitate them: what is done every so often.

        Raises ValueError, changing nothing, before training, where count is 0, while no trajectory
        is finished, or where a source of targets gives other states. FloatingPointError where the
        model's density or the policy's loss overflows; the policy is then as before that step.
        """
        config, targets = self.config, self.targets_from
        model, buffer = self.backtracking_model, self.buffer
        if buffer is None or model is None:
            raise ValueError("nothing was remembered yet; train with a count above 0, then recall")
        learner, steps = self._learner, buffer.best(config.trajectories)
        rng = np.random.default_rng([self._seed, 11, self._recalls])
        by = targets if isinstance(targets, str) else "critic"
        priorities = remembered.priority(by, steps, learner)
        if isinstance(targets, str) and np.ptp(priorities) == 0:
            self._warn_once(
                f"all {len(priorities)} steps of the best trajectories have the same priority by "
                f"targets_from={targets!r}; name another source of targets, or raise trajectories "
                "or, where rewards are rare, buffer_size"
            )
            return
        ends, terminal = remembered.draw_targets(targets, steps, priorities, learner, config, rng)
        self._recalls += 1
        found: dict[str, float] = {"best_return": buffer.best_return}
        if isinstance(model, LearnedBacktrackingModel):
            new = buffer.latest(buffer.steps - self._observed)
            model.observe(new.state, new.action, new.next_state)
            self._observed = buffer.steps
            best = steps.transitions.take(remembered.top(priorities, config.states))
            losses = model.fit(best, config.model_updates, config.model_batch, rng)
            if len(losses):
                found["model_nll"] = float(np.mean(losses))
        traces = model.sample_traces(ends, config.length, 1, rng=rng)
        found["steps"] = count = int(traces.valid.sum())
        found["model_steps"] = self._charge(count)
        if count:
            starts = traces.states[np.arange(len(traces)), traces.valid.sum(axis=1)]
            found["end_value"] = float(np.where(terminal, 0.0, learner.value(ends)).mean())
            found["start_value"] = float(learner.value(starts).mean())
            found |= self._imitate(traces, rng)
        for name, value in found.items():
            self.logger.record(f"recall/{name}", value)

    def _charge(self, count: int) -> int:
        """That many steps of the model, also to the ledger of the world; all there were."""
        self._model_steps += count
        ledger = getattr(getattr(self.model.get_env().unwrapped, "env", None), "ledger", None)
        if ledger is not None:
            each, more = divmod(count, ledger.num_envs)
            ledger.model(None, each + (np.arange(ledger.num_envs) < more))
        return self._model_steps

    def _imitate(self, traces: Traces, rng: np.random.Generator) -> dict[str, float]:
        """Lower the loss of the recalled steps; what to log, by name."""
        config, learner, optimiser = self.config, self._learner, self._optimiser
        state, action = traces.states[:, 1:][traces.valid], traces.actions[traces.valid]
        with torch.no_grad():
            before = learner.distribution(state)
        losses: list[float] = []
        for _ in range(config.imitation_updates):
            rows: Any = slice(None)
            if len(state) > config.imitation_batch:
                rows = rng.permutation(len(state))[: config.imitation_batch]
            loss = learner.losses(state[rows], action[rows]).mean()
            losses.append(loss.item())
            if not np.isfinite(losses[-1]):
                far = [f"{np.abs(part).max():.3g}" for part in (state, action)]
                raise FloatingPointError(
                    f"the loss of imitation is {losses[-1]}, of states up to {far[0]}, actions up "
                    f"to {far[1]}: lower the model's support or give targets nearer by; if these "
                    "are usual the policy overflows, lower the step size that it learns with"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if not losses:
            return {}
        return {"imitation_loss": losses[0], "divergence": learner.divergence(before, state)}

    def state_dict(self) -> Saved:
        """All that was remembered and learned, copies; see `load_state_dict`.

        Raises ValueError before training, or where count is 0.
        """
        if self.buffer is None or self._last_state is None:
            raise ValueError("nothing was remembered yet; train with a count above 0, then save")
        arrays = {f"buffer.{name}": array for name, array in self.buffer.state_dict().items()}
        counts = self._seed, self._recalls, self._model_steps, self._due, self._observed
        arrays |= {"state": self._last_state, "counts": np.array(counts)}
        saved = {name: torch.tensor(array) for name, array in arrays.items()}
        saved |= {n: part.cpu().clone() for n, part in _moments(self._optimiser).items()}
        if isinstance(self.backtracking_model, LearnedBacktrackingModel):
            own = self.backtracking_model.state_dict()
            saved |= {f"model.{name}": part for name, part in own.items()}
        return saved

    def load_state_dict(self, saved: Saved) -> None:
        """Go on from what `state_dict` gave, its seed included, at the next `learn`.

        What does not fit (other spaces or shapes, another kind of model or number of environments)
        is refused by `learn`, with ValueError: what is here is untouched then, and the next `learn`
        goes on with it if anything was learned.
        """
        if "state" not in saved or "counts" not in saved or saved["counts"].shape != (5,):
            raise ValueError("these are not what state_dict gives")
        self._saved = dict(saved)

    def save(self, path: str | Path) -> None:
        """Write `state_dict` (safetensors), whole or not at all; beside `model.save`."""
        write_whole(Path(path), safetensors.torch.save(self.state_dict()))

    def load(self, path: str | Path) -> RecallTraces:
        """`load_state_dict` of what `save` wrote, on whatever device. Returns this callback.

        Raises OSError where it cannot be read, ValueError for a file that is no such thing.
        """
        content = Path(path).read_bytes()
        try:
            self.load_state_dict(safetensors.torch.load(content))
        except Exception as error:  # whatever a damaged file makes of the reader
            raise ValueError(
                f"{path}: not what RecallTraces.save writes, or damaged; give the file it wrote"
            ) from error
        return self

    def _resume(self, saved: Saved, buffer: TrajectoryBuffer, model: Any, optimiser: Adam) -> None:
        """Fill those, and the rest of what is here, with what `state_dict` gave."""
        arrays = {name: part.numpy() for name, part in _part(saved, "buffer.").items()}
        own, learns = _part(saved, "model."), isinstance(model, LearnedBacktrackingModel)
        if learns != bool(own):
            learned = "learned" if own else "did not learn"
            raise ValueError(
                f"model is {type(model).__name__}, and the saved one {learned}; resume with the "
                "model it was saved with"
            )
        buffer.check_state_dict(arrays)
        _load_moments(optimiser, saved)
        if learns:
            try:
                model.load_state_dict(own)  # the last to refuse, changing nothing
            except ValueError as error:
                raise ValueError(f"the saved model does not fit: {error}") from None
        buffer.load_state_dict(arrays)
        self._last_state, self._last_obs = saved["state"].numpy(), None
        counts = saved["counts"].tolist()
        self._seed, self._recalls, self._model_steps, self._due, self._observed = counts


def _part(saved: Saved, prefix: str) -> Saved:
    """What has that prefix, without it."""
    found = (name for name in saved if name.startswith(prefix))
    return {name.removeprefix(prefix): saved[name] for name in found}


def _moments(optimiser: Adam) -> Saved:
    """By parameter and name."""
    found = optimiser.state_dict()["state"]
    return {f"adam.{i}.{name}": part for i, own in found.items() for name, part in own.items()}


def _load_moments(optimiser: Adam, saved: Saved) -> None:
    """Go on from those of `_moments`, with the step size of today; raises ValueError for those of
    other parameters"""
    moments: dict[int, Saved] = {}
    mine = dict(enumerate(optimiser.param_groups[0]["params"]))
    for name, part in _part(saved, "adam.").items():
        index, of = int(name.split(".")[0]), name.split(".")[1]
        moments.setdefault(index, {})[of] = part.clone()
        if index not in mine or part.shape not in ((), mine[index].shape):
            raise ValueError(
                f"the saved optimiser of the policy: {of} of parameter {index} has shape "
                f"{tuple(part.shape)}; resume with the algorithm it was saved beside"
            )
    optimiser.load_state_dict(optimiser.state_dict() | {"state": moments})
