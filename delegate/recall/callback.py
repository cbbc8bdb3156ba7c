"""Recall Traces for Stable-Baselines3: one more argument to `learn`.

    model = PPO("MlpPolicy", env)
    model.learn(1_000_000, callback=RecallTraces(length=20, count=64))

Source: Goyal et al., Recall Traces (arXiv 1804.00379), algorithm 1.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Discrete
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize

from delegate.recall.algorithms import Learner, learner_of
from delegate.recall.credit import RewardModel, advantages
from delegate.recall.diagnostics import Diagnostics, check_diagnosable
from delegate.recall.forward import ForwardModel
from delegate.recall.imitation import RecallConfig
from delegate.recall.learned import LearnedBacktrackingModel
from delegate.recall.learning import TransitionModel
from delegate.recall.model import BacktrackingModel
from delegate.recall.targets import BY_WORTH, Targets, choose, most, worth
from delegate.recall.traces import Traces
from delegate.recall.trajectories import Steps, TrajectoryBuffer
from delegate.recall.transitions import Transitions


class RecallTraces(BaseCallback):
    """Learns what leads to good states, recalls traces to them, and has the policy imitate them.

    length, count and the other settings of `RecallConfig`, by name
    targets_from: where traces end, see `delegate.recall.targets.Targets`
    model: a BacktrackingModel to use instead of a new one; it learns on if it can. A ForwardModel
    imagines traces forwards, as Dyna does, of which the best tenth (`targets`) are imitated
    model_settings: of the new LearnedBacktrackingModel otherwise, see RecallModelConfig
    seed: of the model and of all that is drawn here; nothing is taken from the algorithm's own
    random numbers

    Works with A2C, PPO, TRPO, SAC, TD3, DDPG and DQN, on observations that are vectors or integers.
    What was remembered and learned is `save`d beside the algorithm's own `model.save`.
    Logs recall/model_nll (nats a transition), recall/end_value and recall/start_value (the critic
    at both ends of the traces), recall/steps (recalled), recall/imitation_loss, recall/divergence,
    recall/best_return and recall/time_share (of all wall-clock since training began).
    With diagnostics also recall/bound and recall/bound_upper, between which recall/log_evidence,
    log p(R > L), should lie, and recall/forward_nll: see `delegate.recall.diagnostics`.
    Raises TypeError for an algorithm or spaces that it does not know, ValueError naming the
    environment for observations that are not finite; nothing has been changed then.
    """

    model: Any  # each algorithm has attributes of its own

    def __init__(
        self,
        length: int = 20,
        count: int = 64,
        *,
        targets_from: Targets = "critic",
        model: BacktrackingModel | ForwardModel | None = None,
        model_settings: dict[str, Any] | None = None,
        seed: int = 0,
        verbose: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(verbose)
        self.config = RecallConfig(length=length, count=count, **settings)
        self.targets_from: Targets = targets_from
        if isinstance(targets_from, str) and targets_from not in BY_WORTH:
            raise ValueError(
                f'targets_from is "{targets_from}"; give one of {", ".join(BY_WORTH)}, states or '
                "a function (count, rng) -> states"
            )
        self.backtracking_model: BacktrackingModel | ForwardModel | None = model
        self.buffer: TrajectoryBuffer | None = None
        self._model_settings = dict(model_settings or {})
        self._seed = seed
        self._rng = np.random.default_rng([seed, 11])
        self._learner: Learner | None = None
        self._optimiser: torch.optim.Optimizer | None = None
        self._pending: dict[str, Any] | None = None
        self._diagnostics: Diagnostics | None = None
        self._due, self._observed = 0, 0  # environment steps
        self._spent, self._began = 0.0, 0.0
        self._shown: np.ndarray | None = None

    def _init_callback(self) -> None:
        if self.config.count == 0:
            return
        learner = learner_of(self.model)
        if self.config.diagnostics:
            check_diagnosable(learner, self.backtracking_model)
        observation, action = self.model.observation_space, learner.action_space
        if self.backtracking_model is None:
            self.backtracking_model = LearnedBacktrackingModel(
                observation,
                action,
                device=self.model.device,
                seed=self._seed,
                **self._model_settings,
            )
        if self.buffer is None:
            self.buffer = TrajectoryBuffer(
                self.config.buffer_size,
                self.model.n_envs,
                _example(observation),
                _example(action),
                self.model.gamma,
            )
        if self.config.diagnostics and self._diagnostics is None:
            assert isinstance(self.backtracking_model, BacktrackingModel)
            self._diagnostics = Diagnostics(
                learner,
                self.backtracking_model,
                self.config,
                self._model_settings,
                self._log_policy,
                self._value,
                self._worth,
                self._seed,
            )
        optimiser = torch.optim.Adam(learner.parameters(), lr=self.config.learning_rate)
        if self._optimiser is not None:  # another algorithm of the same shapes goes on
            _check_optimiser(optimiser, self._optimiser.state_dict())
            optimiser.load_state_dict(self._optimiser.state_dict())
        self._learner, self._optimiser = learner, optimiser
        if self._pending is not None:
            self._resume(self._pending)
            self._pending = None

    def _on_training_start(self) -> None:
        self._began, self._spent = time.perf_counter(), 0.0
        if self.config.count:
            self._due = min(self._due, self.num_timesteps + self.config.every)
            shown, before = self._originals(self.model._last_obs), self._shown
            assert self.buffer is not None
            if before is None or not np.array_equal(before, shown):
                self.buffer.begin()  # the environments were reset
            self._shown = shown

    def _on_step(self) -> bool:
        if self.config.count == 0:
            return True
        began = time.perf_counter()
        assert self.buffer is not None
        assert self._shown is not None
        told, state = self.locals, self._shown
        entered = self._originals(told["new_obs"])
        next_state, over = entered.copy(), np.asarray(told["dones"], bool)
        for row in np.flatnonzero(over).tolist():
            last = told["infos"][row]["terminal_observation"]
            next_state[row] = self._original(last)
        self._check(next_state)
        reward = np.asarray(self._rewards(told["rewards"]), np.float64).copy()
        self.buffer.add(
            state, np.asarray(told["actions"]), next_state, reward, over, self._beyond(next_state)
        )
        self._shown = entered
        self._spent += time.perf_counter() - began
        return True

    def _on_rollout_start(self) -> None:
        # Later, the log-probabilities that a rollout stores would no longer be the policy's.
        if self.config.count == 0 or self.num_timesteps < self._due:
            return
        assert self.buffer is not None
        if not self.buffer.finished or self.buffer.steps < self.config.start:
            return
        began = time.perf_counter()
        self.recall()
        self._due = self.num_timesteps + self.config.every
        now = time.perf_counter()
        self._spent += now - began
        self.logger.record("recall/time_share", self._spent / max(now - self._began, 1e-9))

    def recall(self) -> None:
        """Learn the model, recall traces, imitate them: what is done every so often.

        Raises ValueError, changing nothing, while no trajectory is over.
        """
        config = self.config
        assert self.buffer is not None
        assert self.backtracking_model is not None
        steps = self.buffer.best(config.trajectories)
        ranked = self._worth(steps)
        if isinstance(self.targets_from, str) and np.ptp(ranked) == 0:
            return  # nothing is better than anything else
        if isinstance(self.backtracking_model, TransitionModel):
            self._learn(steps.transitions.take(most(ranked, config.states)))
        ends, traces = self._recalled(steps, ranked)
        if self._diagnostics is not None:
            told = self._diagnostics.measure(
                self.buffer, self.targets_from, steps, ranked, ends, traces
            )
            for key, value in told.items():
                self.logger.record(key, value)
        state, action = traces.states[:, 1:][traces.valid], traces.actions[traces.valid]
        back = np.broadcast_to(np.arange(1, config.length + 1), traces.valid.shape)[traces.valid]
        end = np.repeat(self._value(ends), traces.valid.sum(axis=1))
        self.logger.record("recall/steps", len(state))
        self.logger.record("recall/best_return", self.buffer.best_return)
        if not len(state):
            return
        start = self._value(state)
        self.logger.record("recall/end_value", float(end.mean()))
        self.logger.record("recall/start_value", float(start.mean()))
        weight = np.ones(len(state))
        if config.weighting == "gain":
            fade = self.model.gamma**back
            rate = steps.reward.mean() / self._unit() / max(1 - self.model.gamma, 1e-9)
            promised = rate * (1 - fade) + fade * end
            weight = np.maximum(promised - start, 0)
            weight /= max(weight.mean(), 1e-9)
        if config.weighting == "advantage":
            earned = RewardModel(steps, self._unit())
            gained = advantages(traces, earned, self._value, self.model.gamma, config.smoothing)
            weight = gained[traces.valid]
            weight = (weight - weight.mean()) / max(weight.std(), 1e-9)
            self.logger.record("recall/reward_explained", earned.explained)
        self._imitate(self._seen(state), action, weight)

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

    def _imitate(self, observation: np.ndarray, action: np.ndarray, weight: np.ndarray) -> None:
        """Lower the weighted loss. observation, action: [N, ...] · weight: [N]"""
        learner, optimiser, config = self._learner, self._optimiser, self.config
        assert learner is not None
        assert optimiser is not None
        before, divergence, losses = learner.distribution(observation), 0.0, []
        for _ in range(config.imitation_updates):
            chosen = self._rng.permutation(len(weight))[: config.imitation_batch]
            loss = learner.losses(observation[chosen], action[chosen])
            scale = torch.as_tensor(weight[chosen], dtype=loss.dtype, device=loss.device)
            loss = (loss * scale).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            divergence = learner.divergence(before, learner.distribution(observation))
            if config.max_divergence is not None and divergence > config.max_divergence:
                break
        optimiser.zero_grad(set_to_none=True)
        if losses:
            self.logger.record("recall/imitation_loss", losses[0])
            self.logger.record("recall/imitation_updates", len(losses))
            self.logger.record("recall/divergence", divergence)

    def _recalled(self, steps: Steps, ranked: np.ndarray) -> tuple[np.ndarray, Traces]:
        """Where traces end, and the traces."""
        config, model, rng = self.config, self.backtracking_model, self._rng
        assert model is not None
        if isinstance(model, ForwardModel):
            return self._imagined(model, steps)
        ends = choose(self.targets_from, steps, ranked, config.targets, config.count, rng)
        learned = isinstance(model, LearnedBacktrackingModel)
        how = {"mean_actions": config.mean_actions} if learned else {}
        return ends, model.sample_traces(ends, config.length, 1, rng=rng, **how)

    def _imagined(self, model: ForwardModel, steps: Steps) -> tuple[np.ndarray, Traces]:
        """Of traces of the policy from remembered states, those that end where the critic expects
        most: the same share as the remembered states that traces may end in."""
        config, rng = self.config, self._rng
        start = rng.integers(len(steps), size=max(1, round(config.count / config.targets)))

        def policy(state: np.ndarray) -> np.ndarray:
            assert self._learner is not None
            return self._learner.act(self._seen(state))

        with _own_stream(rng, self.model.device):
            traces = model.sample_traces(
                steps.transitions.state[start], policy, config.length, 1, rng=rng
            )
        ends = traces.states[:, 0]
        kept = most(self._value(ends), config.count / len(ends))
        return ends[kept], traces.take(kept)

    def _unit(self) -> float:
        """One unit of the critic's value, in rewards."""
        normaliser = self._normaliser()
        if normaliser is None or not normaliser.norm_reward:
            return 1.0
        return float(np.sqrt(normaliser.ret_rms.var + normaliser.epsilon))

    def _beyond(self, last: np.ndarray) -> np.ndarray:
        """What is expected after trajectories that were cut short with this step. float64 [B]"""
        cut = [
            row
            for row, info in enumerate(self.locals["infos"])
            if self.locals["dones"][row] and info.get("TimeLimit.truncated", False)
        ]
        beyond = np.zeros(len(last))
        if cut:
            beyond[cut] = self._value(last[cut]) * self._unit()
        return beyond

    def _value(self, state: np.ndarray) -> np.ndarray:
        assert self._learner is not None
        if state.dtype.kind == "i":  # few states, often met
            there, which = np.unique(state, return_inverse=True)
            return self._learner.value(there)[which]
        return self._learner.value(self._seen(state))

    def _worth(self, steps: Steps) -> np.ndarray:
        by = self.targets_from if isinstance(self.targets_from, str) else "critic"
        return worth(by, steps, self._value, self._unit())

    def _log_policy(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        assert self._learner is not None
        log_prob = self._learner.log_prob(self._seen(state), action)
        assert log_prob is not None
        return log_prob

    def save(self, path: str | Path) -> None:
        """Write what was remembered and learned, whole or not at all; beside `model.save`."""
        assert self.buffer is not None, "there is nothing to save before training"
        path = Path(path)
        saved = {
            "settings": self.config.model_dump_json(),
            "buffer": {
                n: torch.from_numpy(a.copy()) for n, a in self.buffer.state_arrays().items()
            },
            "optimiser": self._optimiser.state_dict() if self._optimiser else {},
            "rng": self._rng.bit_generator.state,
            "due": self._due,
            "observed": self._observed,
            "model": None,
            "diagnostics": self._diagnostics.state() if self._diagnostics else None,
        }
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        if isinstance(self.backtracking_model, TransitionModel):
            self.backtracking_model.save(unfinished)
            saved["model"] = torch.from_numpy(np.fromfile(unfinished, np.uint8))
        torch.save(saved, unfinished)
        os.replace(unfinished, path)

    def load(self, path: str | Path) -> RecallTraces:
        """Go on from what `save` wrote, at the next `learn`. Returns this callback.

        Raises ValueError for a file that is no such thing, or of another environment; what is
        here is untouched then.
        """
        try:
            saved = torch.load(path, weights_only=True)
            self._pending = {name: saved[name] for name in _SAVED}
            self._pending["diagnostics"] = saved.get("diagnostics")
        except FileNotFoundError:
            raise
        except Exception as error:  # whatever a damaged file makes of the reader
            raise ValueError(
                f"{path}: not what RecallTraces.save writes, or damaged; give the file it wrote"
            ) from error
        return self

    def _resume(self, saved: dict[str, Any]) -> None:
        assert self.buffer is not None
        assert self._optimiser is not None
        arrays = {name: tensor.numpy() for name, tensor in saved["buffer"].items()}
        _check_optimiser(self._optimiser, saved["optimiser"])
        if isinstance(self.backtracking_model, TransitionModel) and saved["model"] is not None:
            with tempfile.NamedTemporaryFile() as file:
                file.write(saved["model"].numpy().tobytes())
                file.flush()
                self.backtracking_model.load(file.name)
        if self._diagnostics is not None and saved["diagnostics"] is not None:
            self._diagnostics.load(saved["diagnostics"])
        self.buffer.load(arrays)
        self._optimiser.load_state_dict(saved["optimiser"])
        self._observed = saved["observed"]
        self._rng.bit_generator.state = saved["rng"]
        self._due = saved["due"]

    # Observations are remembered as the environment gave them: what normalises them moves on.

    def _normaliser(self) -> VecNormalize | None:
        return self.model.get_vec_normalize_env()

    def _originals(self, observation: Any) -> np.ndarray:
        """The batch as the environment gave it, a copy."""
        normaliser = self._normaliser()
        if normaliser is not None:
            observation = normaliser.get_original_obs()
        return np.array(observation)

    def _original(self, observation: np.ndarray) -> np.ndarray:
        normaliser = self._normaliser()
        return observation if normaliser is None else normaliser.unnormalize_obs(observation)  # type: ignore[return-value]

    def _rewards(self, reward: np.ndarray) -> np.ndarray:
        normaliser = self._normaliser()
        return reward if normaliser is None else normaliser.get_original_reward()

    def _seen(self, state: np.ndarray) -> np.ndarray:
        """As the policy sees it now."""
        normaliser = self._normaliser()
        return state if normaliser is None else normaliser.normalize_obs(state)  # type: ignore[return-value]

    @staticmethod
    def _check(state: np.ndarray) -> None:
        if state.dtype.kind == "f" and not np.isfinite(state).all():
            row = int(np.flatnonzero(~np.isfinite(state).reshape(len(state), -1).all(axis=1))[0])
            raise ValueError(
                f"environment {row}: observation {state[row].tolist()} is not finite; look for "
                "NaN in the environment, or leave its broken rows out"
            )


def _example(space: Any) -> np.ndarray:
    """A zero of that space, as it is remembered."""
    if isinstance(space, Discrete):
        return np.zeros((), np.int64)
    return np.zeros(space.shape, np.float32)


@contextmanager
def _own_stream(rng: np.random.Generator, device: torch.device) -> Iterator[None]:
    """What draws from global random numbers meanwhile does not change what comes after."""
    before = np.random.get_state()
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        seed = int(rng.integers(2**32))
        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)


def _check_optimiser(optimiser: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Raise ValueError unless that state is of parameters of the same shapes."""
    mine = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    groups = saved.get("param_groups", [])
    count = sum(len(group["params"]) for group in groups)
    if len(mine) != count:
        raise ValueError(
            f"the saved policy optimiser has {count} parameters and this policy {len(mine)}; "
            "resume with the algorithm it was saved beside"
        )
    for place, state in saved["state"].items():
        if state["exp_avg"].shape != mine[place].shape:
            raise ValueError(
                f"the saved policy optimiser: parameter {place} has shape "
                f"{tuple(state['exp_avg'].shape)}, and here {tuple(mine[place].shape)}; resume "
                "with the algorithm it was saved beside"
            )


_SAVED = ("settings", "buffer", "optimiser", "rng", "due", "observed", "model")
