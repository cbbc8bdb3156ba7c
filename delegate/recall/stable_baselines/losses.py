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

What goes to the algorithm's device is 32-bit, for MPS has no 64-bit numbers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, kl_divergence
from torch.nn.functional import huber_loss

MARGIN = 0.8
"""by how much a recalled action should be better than any other (DQN; that of the source)"""
ATANH_ROOM = 1e-4
"""recalled actions stay so far within squashed bounds, at which log-probabilities are infinite"""
HUBER_DELTA = 2.0
"""standard deviations beyond which the pull towards an action grows no more (SAC)"""


class Original:
    """Observations and rewards as the environment gave them, and back to what the policy sees.

    They are remembered without VecNormalize's work on them, since its statistics move on. The
    parts of a Dict, vectors all, are remembered as one vector, in the order of the space.
    Raises ValueError naming the environment for what is not finite.
    """

    def __init__(self, model: Any) -> None:
        space: Any = model.observation_space
        self.space = space  # of the states: Box or Discrete
        self._normaliser: VecNormalize | None = model.get_vec_normalize_env()
        self._parts: dict[str, slice] = {}
        if isinstance(space, Dict):
            end = 0
            for name, part in space.spaces.items():
                width = gymnasium.spaces.flatdim(part)
                self._parts[name], end = slice(end, end + width), end + width
            self.space = gymnasium.spaces.flatten_space(space)

    def observations(self, observation: Any) -> np.ndarray:
        """The latest batch, a copy. [B, ...]"""
        given = self._normaliser.get_original_obs() if self._normaliser else observation
        return _finite("observation", self._state(given))

    def next_states(self, step: dict[str, Any], now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where a step led: where an episode ended its last observation, and not the first of the
        next. [B, ...]; and whether it terminated there, and was not truncated. bool [B]

        step: the `locals` of a callback · now: `observations` after it. Beside VecNormalize the
        last observation is clipped where that clips.
        """
        entered, terminal = now.copy(), np.array(step["dones"], bool)
        for row in np.flatnonzero(terminal).tolist():
            info = step["infos"][row]
            last = info["terminal_observation"]
            last = self._normaliser.unnormalize_obs(last) if self._normaliser else last
            entered[row] = self._state(last)
            terminal[row] = not info.get("TimeLimit.truncated", False)
        return _finite("observation", entered), terminal

    def rewards(self, reward: np.ndarray) -> np.ndarray:
        """Of the latest step, a copy. float64 [B]"""
        given = self._normaliser.get_original_reward() if self._normaliser else reward
        return _finite("reward", np.array(given, np.float64))

    def normalised(self, state: np.ndarray) -> np.ndarray | dict[str, np.ndarray]:
        """As the policy would see those states now. [N, ...]"""
        state = state.astype(np.float32) if state.dtype == np.float64 else state
        parts = {name: state[:, columns] for name, columns in self._parts.items()}
        return (
            self._normaliser.normalize_obs(parts or state) if self._normaliser else parts or state
        )

    @property
    def reward_scale(self) -> float:
        """One unit of the critic's value, in rewards."""
        normaliser = self._normaliser
        if normaliser is None or not normaliser.norm_reward:
            return 1.0
        return float(np.sqrt(normaliser.ret_rms.var + normaliser.epsilon))

    def _state(self, observation: Any) -> np.ndarray:
        """A copy."""
        if not self._parts:
            return np.array(observation)
        return np.concatenate([observation[name] for name in self._parts], axis=-1)


def _finite(what: str, values: np.ndarray) -> np.ndarray:
    """Those values. [B, ...]"""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise ValueError(
            f"environment {row}: {what} {values[row].tolist()} is not finite; look for NaN in the "
            "environment, or leave its broken rows out"
        )
    return values


class Learner(ABC):
    """One algorithm's policy and critic, as recall needs them.

    States are observations as the environment gave them, and actions its own, as arrays [N, ...].
    """

    _actor: ClassVar[str]
    """attribute of the algorithm: what imitation may change"""

    def __init__(self, model: Any) -> None:
        self.model, self.original, self.discount = model, Original(model), float(model.gamma)
        self.action_space: Any = model.action_space
        """of the actions that `losses` takes"""

    def parameters(self) -> Iterator[nn.Parameter]:
        """What imitation may change."""
        return getattr(self.model, self._actor).parameters()

    @abstractmethod
    def losses(self, state: np.ndarray, action: np.ndarray) -> Tensor:
        """How far the policy is from doing that. [N], to be averaged and lowered"""

    def distribution(self, state: np.ndarray) -> Distribution:
        """What the policy does there, N of them; where it is deterministic, Gaussians of deviation
        1 about what it gives."""
        given = getattr(self.model, self._actor)(self._tensor(state))
        return Normal(given, 1.0, validate_args=False)

    @abstractmethod
    def _values(self, observation: Any) -> Tensor:
        """Of the critic. [N] or [N, 1]"""

    def value(self, state: np.ndarray) -> np.ndarray:
        """How much the critic expects from there (discounted return). float64 [N]"""
        if state.dtype.kind == "i" and state.ndim == 1:
            there, which = np.unique(state, return_inverse=True)  # few states, often met
        else:
            there, which = state, np.arange(len(state))
        with torch.no_grad():
            values = self._values(self._tensor(there))
        return values.cpu().numpy().ravel().astype(np.float64)[which]

    def divergence(self, before: Distribution, state: np.ndarray) -> float:
        """How far the policy is there from what its `distribution` was: KL (nats), or half the
        squared change where it is deterministic; the mean over states."""
        with torch.no_grad():
            divergence = kl_divergence(before, self.distribution(state))
        return float(divergence.reshape(len(state), -1).sum(dim=1).mean())

    def _tensor(self, state: np.ndarray) -> Any:
        return self.model.policy.obs_to_tensor(self.original.normalised(state))[0]

    def _numbers(self, action: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(action, np.float32), device=self.model.device)

    def _indices(self, action: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(action, np.int64).ravel(), device=self.model.device)


class ActorCritic(Learner):
    """A2C, PPO and TRPO. A Gaussian's standard deviation is left to the algorithm: what was
    recalled says where to go, not how sure to be. Its actions count as they were drawn, before
    they are clipped to the environment's bounds: the mean of clipped ones is nearer to the middle,
    and imitating them would draw every mean there. Layers that the actor shares with the critic,
    as a custom features extractor by default, move too."""

    _actor = "policy"

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        if isinstance(space := model.action_space, Box):
            self.action_space = Box(-np.inf, np.inf, space.shape, space.dtype.type)

    def losses(self, state: np.ndarray, action: np.ndarray) -> Tensor:
        distribution: Any = self.distribution(state)
        if isinstance(self.model.action_space, Discrete):
            return -distribution.log_prob(self._indices(action))
        off = (self._numbers(action) - distribution.mean) / distribution.stddev.detach()
        return off.pow(2).sum(dim=1) / 2

    def distribution(self, state: np.ndarray) -> Distribution:
        return self.model.policy.get_distribution(self._tensor(state)).distribution

    def _values(self, observation: Any) -> Tensor:
        return self.model.policy.predict_values(observation)


class OffPolicyActor(Learner):
    """What SAC, TD3 and DDPG have in common."""

    _actor = "actor"

    def _values(self, observation: Any) -> Tensor:
        action = self.model.actor._predict(observation, deterministic=True)
        return torch.cat(self.model.critic(observation, action), dim=1).min(dim=1).values


class SoftActorCritic(OffPolicyActor):
    """SAC. Its standard deviation is left to the algorithm, whose entropy it is. Before squashing,
    an action near the bounds is far from any mean, and a few such would outweigh all others: what
    is further than HUBER_DELTA deviations pulls no harder than from there."""

    def losses(self, state: np.ndarray, action: np.ndarray) -> Tensor:
        scaled = np.clip(self.model.policy.scale_action(action), ATANH_ROOM - 1, 1 - ATANH_ROOM)
        distribution: Any = self.distribution(state)
        off = torch.atanh(self._numbers(scaled)) - distribution.mean
        off = off / distribution.stddev.detach()
        return huber_loss(off, torch.zeros_like(off), reduction="none", delta=HUBER_DELTA).sum(
            dim=1
        )

    def distribution(self, state: np.ndarray) -> Distribution:
        """Before squashing, which changes no divergence."""
        mean, log_std, _ = self.model.actor.get_action_dist_params(self._tensor(state))
        return Normal(mean, log_std.exp(), validate_args=False)


class DeterministicActor(OffPolicyActor):
    """TD3 and DDPG."""

    def losses(self, state: np.ndarray, action: np.ndarray) -> Tensor:
        wanted = self._numbers(self.model.policy.scale_action(action))
        return (self.model.actor(self._tensor(state)) - wanted).pow(2).sum(dim=1) / 2


class QNetwork(Learner):
    """DQN."""

    _actor = "q_net"

    def losses(self, state: np.ndarray, action: np.ndarray) -> Tensor:
        value = self.model.q_net(self._tensor(state))
        index = self._indices(action)[:, None]
        margin = torch.full_like(value, MARGIN).scatter(1, index, 0.0)
        return (value + margin).max(dim=1).values - value.gather(1, index)[:, 0]

    def _values(self, observation: Any) -> Tensor:
        return self.model.q_net(observation).max(dim=1).values


def learner_of(model: BaseAlgorithm) -> Learner:
    """The face of an algorithm. Raises TypeError for one, a policy or spaces that recall does not
    know, and for what changes observations outside VecNormalize."""
    name, observation, action = type(model).__name__, model.observation_space, model.action_space
    parts = observation.spaces.values() if isinstance(observation, Dict) else [observation]
    vectors = [isinstance(space, Box) and len(space.shape) == 1 for space in (*parts, action)]
    for space, fits in ((observation, all(vectors[:-1])), (action, vectors[-1])):
        if not fits and not isinstance(space, Discrete):
            raise TypeError(
                f"{'actions' if space is action else 'observations'} {space} cannot be recalled; "
                "recall needs a 1-D Box, a Dict of them for observations, or Discrete: give "
                "features instead of images"
            )
    normaliser, env = model.get_vec_normalize_env(), model.get_env()
    if normaliser and env and env.observation_space != (inner := normaliser.observation_space):
        raise TypeError(
            f"{type(env).__name__} makes observations {env.observation_space} of VecNormalize's "
            f"{inner}; put VecNormalize outside it"
        )
    if getattr(model, "use_sde", False):
        raise TypeError(f"{name} explores with gSDE, which recall does not know; drop use_sde")
    if isinstance(model.policy, ActorCriticPolicy) and not hasattr(model.policy, "lstm_actor"):
        return ActorCritic(model)
    kinds: tuple[tuple[type, type[Learner]], ...]
    kinds = (SAC, SoftActorCritic), (TD3, DeterministicActor), (DQN, QNetwork)
    for kind, learner in kinds:
        if isinstance(model, kind):
            return learner(model)
    raise TypeError(
        f"{name} is not among the algorithms recall knows: A2C, PPO, TRPO, SAC, TD3, DDPG, DQN"
    )
