"""How each algorithm of Stable-Baselines3 is asked to do what was recalled.

| algorithm | loss of an action a in a state s |
|---|---|
| A2C, PPO, TRPO | −log π(a given s), a Gaussian's deviations as they are |
| SAC | the same before a is squashed, linear beyond two deviations |
| TD3, DDPG | (π(s) − a)² / 2: −log of a Gaussian about the action, up to a constant |
| DQN | max over b of [Q(s, b) + margin (b ≠ a)] − Q(s, a) |

Sources: Goyal et al., Recall Traces (arXiv 1804.00379), for the first two; Fujimoto and Gu,
A Minimalist Approach to Offline Reinforcement Learning (arXiv 2106.06860), for the third;
Hester et al., Deep Q-learning from Demonstrations (arXiv 1704.03732), for the fourth.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn
from torch.nn.functional import huber_loss

from delegate.recall.original import Original

MARGIN = 0.8
"""by how much a recalled action should be better than any other (DQN; that of the source)"""
ATANH_ROOM = 1e-4
"""recalled actions stay so far within squashed bounds, at which log-probabilities are infinite"""
FAR = 2.0
"""standard deviations beyond which the pull towards an action grows no more (SAC)"""


class Learner(ABC):
    """One algorithm's policy and critic, as recall needs them.

    States are observations as the environment gave them, and actions its own, as arrays [N, ...].
    """

    def __init__(self, model: Any) -> None:
        self.model, self.original = model, Original(model)

    @abstractmethod
    def parameters(self) -> Iterator[nn.Parameter]:
        """What imitation may change: the actor's."""

    @abstractmethod
    def losses(self, state: np.ndarray, action: np.ndarray) -> Tensor:
        """How far the policy is from doing that. [N], to be averaged and lowered"""

    def value(self, state: np.ndarray) -> np.ndarray:
        """How much the critic expects from there (discounted return). float64 [N]"""
        if state.dtype.kind != "i" or state.ndim > 1:
            return self._value(state)
        there, which = np.unique(state, return_inverse=True)  # few states, often met
        return self._value(there)[which]

    @abstractmethod
    def _value(self, state: np.ndarray) -> np.ndarray:
        """`value` of each one."""

    @abstractmethod
    def distribution(self, state: np.ndarray) -> Tensor:
        """What the policy does there, as numbers for `divergence`, differentiable. [N, ...]"""

    def moved(self, state: np.ndarray) -> Callable[[], Tensor]:
        """Asked later, the divergence there from what the policy is now. []"""
        with torch.no_grad():
            before = self.distribution(state)
        return lambda: self.divergence(before, self.distribution(state))

    def log_prob(self, state: np.ndarray, action: np.ndarray) -> np.ndarray | None:
        """log π(action | state), float64 [N], in the units of the environment's actions;
        None for a policy without a density."""
        return None

    def divergence(self, before: Tensor, after: Tensor) -> Tensor:
        """How far the policy has moved: half the mean squared change, or KL where there is one
        (nats). []"""
        return (after - before).pow(2).mean() / 2

    @property
    def action_space(self) -> Box | Discrete:
        """Of the actions that `losses` takes and `act` gives."""
        return self.model.action_space

    def act(self, state: np.ndarray) -> np.ndarray:
        """What the policy does there, drawn from global random numbers. [N, ...]"""
        return np.asarray(self.model.predict(self.original.seen(state), deterministic=False)[0])

    def _tensor(self, state: np.ndarray) -> Tensor:
        return self.model.policy.obs_to_tensor(self.original.seen(state))[0]


class ActorCritic(Learner):
    """A2C, PPO and TRPO. A Gaussian's standard deviation is left to the algorithm: what was
    recalled says where to go, not how sure to be. Its actions count as they were drawn, before
    they are clipped to the environment's bounds: the mean of clipped ones is nearer to the middle,
    and imitating them would draw every mean there. Layers that the actor shares with the critic,
    as a custom features extractor unless told otherwise, move too."""

    @property
    def action_space(self) -> Box | Discrete:
        space = self.model.action_space
        if isinstance(space, Discrete):
            return space
        return Box(-np.inf, np.inf, space.shape, space.dtype.type)

    def act(self, state: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            drawn: Tensor = self.model.policy._predict(self._tensor(state))
        return drawn.cpu().numpy()

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.model.policy.parameters()

    def losses(self, state: np.ndarray, action: np.ndarray) -> Tensor:
        policy = self.model.policy
        distribution = policy.get_distribution(self._tensor(state))
        wanted = self._taken(action)
        if isinstance(policy.action_space, Discrete):
            return -distribution.log_prob(wanted)
        gaussian = distribution.distribution
        off = (wanted - gaussian.mean) / gaussian.stddev.detach()
        return off.pow(2).sum(dim=1) / 2

    def _value(self, state: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            value = self.model.policy.predict_values(self._tensor(state))
        return value.double().cpu().numpy().ravel()

    def distribution(self, state: np.ndarray) -> Tensor:
        inner = self.model.policy.get_distribution(self._tensor(state)).distribution
        if isinstance(self.model.action_space, Discrete):
            return inner.logits
        return torch.stack([inner.mean, inner.stddev])

    def log_prob(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        distribution = self.model.policy.get_distribution
        with torch.no_grad():
            log_prob = distribution(self._tensor(state)).log_prob(self._taken(action))
        return log_prob.double().cpu().numpy()

    def rollout_log_prob(self) -> np.ndarray:
        """log π of the steps of the last rollout, as the algorithm itself saw them and drew their
        actions. float64 [T × B]"""
        policy, seen = self.model.policy, self.model.rollout_buffer
        with torch.no_grad():
            _, log_prob, _ = policy.evaluate_actions(
                _flat(seen.observations, policy.device), self._taken(_flat(seen.actions, "cpu"))
            )
        return log_prob.double().cpu().numpy()

    def _taken(self, action: Any) -> Tensor:
        """Actions as a policy's distribution takes them. [N] integers, or [N, ...]"""
        if isinstance(self.model.action_space, Discrete):
            return torch.as_tensor(action, dtype=torch.int64, device=self.model.device).flatten()
        return torch.as_tensor(action, dtype=torch.float32, device=self.model.device)

    def divergence(self, before: Tensor, after: Tensor) -> Tensor:
        if isinstance(self.model.action_space, Discrete):
            return (before.exp() * (before - after)).sum(dim=1).mean()
        off = (after[0] - before[0]) / before[1]
        return off.pow(2).sum(dim=1).mean() / 2


class SoftActorCritic(Learner):
    """SAC. Its standard deviation is left to the algorithm, whose entropy it is. Before squashing,
    an action near the bounds is far from any mean, and a few such would outweigh all others: what
    is further than FAR deviations pulls no harder than from there."""

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.model.actor.parameters()

    def losses(self, state: np.ndarray, action: np.ndarray) -> Tensor:
        mean, log_std, _ = self.model.actor.get_action_dist_params(self._tensor(state))
        off = (torch.atanh(self._within(action)) - mean) / log_std.detach().exp()
        return huber_loss(off, torch.zeros_like(off), reduction="none", delta=FAR).sum(dim=1)

    def _within(self, action: np.ndarray) -> Tensor:
        """Scaled to [−1, 1], and off those bounds."""
        scaled = np.clip(self.model.policy.scale_action(action), ATANH_ROOM - 1, 1 - ATANH_ROOM)
        return torch.as_tensor(scaled, dtype=torch.float32, device=self.model.actor.device)

    def _value(self, state: np.ndarray) -> np.ndarray:
        seen = self._tensor(state)
        with torch.no_grad():
            return _smallest(self.model.critic, seen, self.model.actor(seen, deterministic=True))

    def distribution(self, state: np.ndarray) -> Tensor:
        mean, log_std, _ = self.model.actor.get_action_dist_params(self._tensor(state))
        return torch.stack([mean, log_std.expand_as(mean).exp()])

    def log_prob(self, state: np.ndarray, action: np.ndarray) -> np.ndarray:
        actor, space = self.model.actor, self.model.action_space
        with torch.no_grad():
            mean, log_std, more = actor.get_action_dist_params(self._tensor(state))
            distribution = actor.action_dist.proba_distribution(mean, log_std, **more)
            log_prob: Tensor = distribution.log_prob(self._within(action))
        # That is of actions scaled to [−1, 1].
        volume = np.log((space.high.astype(np.float64) - space.low) / 2).sum()
        return log_prob.double().cpu().numpy() - volume

    def divergence(self, before: Tensor, after: Tensor) -> Tensor:
        ratio = after[1] / before[1]
        off = (after[0] - before[0]) / after[1]
        divergence = ratio.log() + (ratio.pow(-2) + off.pow(2) - 1) / 2
        return divergence.sum(dim=1).mean()


class DeterministicActor(Learner):
    """TD3 and DDPG."""

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.model.actor.parameters()

    def losses(self, state: np.ndarray, action: np.ndarray) -> Tensor:
        scaled = self.model.policy.scale_action(action)
        wanted = torch.as_tensor(scaled, dtype=torch.float32, device=self.model.device)
        return (self.model.actor(self._tensor(state)) - wanted).pow(2).sum(dim=1) / 2

    def _value(self, state: np.ndarray) -> np.ndarray:
        seen = self._tensor(state)
        with torch.no_grad():
            return _smallest(self.model.critic, seen, self.model.actor(seen))

    def distribution(self, state: np.ndarray) -> Tensor:
        return self.model.actor(self._tensor(state))


class QNetwork(Learner):
    """DQN."""

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.model.q_net.parameters()

    def losses(self, state: np.ndarray, action: np.ndarray) -> Tensor:
        value = self.model.q_net(self._tensor(state))
        index = torch.as_tensor(action, dtype=torch.int64, device=value.device).reshape(-1, 1)
        margin = torch.full_like(value, MARGIN).scatter(1, index, 0.0)
        return (value + margin).max(dim=1).values - value.gather(1, index)[:, 0]

    def _value(self, state: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            value = self.model.q_net(self._tensor(state)).max(dim=1).values
        return value.double().cpu().numpy()

    def distribution(self, state: np.ndarray) -> Tensor:
        return self.model.q_net(self._tensor(state))


def _flat(values: Any, device: Any) -> Any:
    """What a rollout holds, [T, B, ...] or a dict of such, one row after the other."""
    if isinstance(values, dict):
        return {name: _flat(part, device) for name, part in values.items()}
    return torch.as_tensor(values.reshape(-1, *values.shape[2:]), device=device)


def _smallest(critic: Any, observation: Tensor, action: Tensor) -> np.ndarray:
    """The smallest of the critics' values of those actions. float64 [N]"""
    values: Tensor = torch.cat(critic(observation, action), dim=1).min(dim=1).values
    return values.double().cpu().numpy()


def learner_of(model: BaseAlgorithm) -> Learner:
    """The face of an algorithm.

    Raises TypeError for an algorithm, a policy, or spaces that recall does not know, and for what
    changes observations outside VecNormalize.
    """
    _check_spaces(model)
    _check_normaliser(model)
    name = type(model).__name__
    if isinstance(model, OnPolicyAlgorithm):
        policy = model.policy
        if isinstance(policy, ActorCriticPolicy) and not hasattr(policy, "lstm_actor"):
            if getattr(model, "use_sde", False):
                raise TypeError(
                    f"{name} explores with gSDE, which recall does not know; drop use_sde"
                )
            return ActorCritic(model)
    elif isinstance(model, SAC):
        if model.use_sde:
            raise TypeError(f"{name} explores with gSDE, which recall does not know; drop use_sde")
        return SoftActorCritic(model)
    elif isinstance(model, TD3):
        return DeterministicActor(model)
    elif isinstance(model, DQN):
        return QNetwork(model)
    raise TypeError(
        f"{name} is not among the algorithms recall knows: A2C, PPO, TRPO, SAC, TD3, DDPG, DQN"
    )


def _check_normaliser(model: BaseAlgorithm) -> None:
    """Raise TypeError where something outside VecNormalize changes the observations it gives."""
    normaliser, venv = model.get_vec_normalize_env(), model.get_env()
    if normaliser is None or venv is None:
        return
    if venv.observation_space != (inner := normaliser.observation_space):
        raise TypeError(
            f"{type(venv).__name__} makes observations {venv.observation_space} of VecNormalize's "
            f"{inner}; put VecNormalize outside it"
        )


def _check_spaces(model: BaseAlgorithm) -> None:
    """Raise TypeError for observations that are not vectors or an integer, or other actions."""
    observation, action = model.observation_space, model.action_space
    parts = observation.spaces.values() if isinstance(observation, Dict) else [observation]
    vectors = all(isinstance(part, Box) and len(part.shape) == 1 for part in parts)
    if not vectors and not isinstance(observation, Discrete):
        raise TypeError(
            f"observations {observation} cannot be recalled; recall needs a 1-D Box, a Dict of "
            "them, or Discrete: give features instead of images"
        )
    if not isinstance(action, Discrete) and not (
        isinstance(action, Box) and len(action.shape) == 1
    ):
        raise TypeError(f"actions {action} cannot be recalled; recall needs a 1-D Box or Discrete")
