"""What each algorithm's own steps are, and what it takes for a gain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import recall_direction_measure as measure
import torch
from recall_direction_measure import Directions, Loss, part

from delegate.recall.credit import remembered_advantages
from delegate.recall.trajectories import Steps

_WATCHED = 8_192
"""fresh states in which SAC's critic is asked"""


class OnPolicyDirections(Directions):
    """Of TRPO. gain: the mean of (ratio - 1) x advantage over fresh steps of the policy, advantages
    in their standard deviations. The first rows are a rollout to follow, the last half judges."""

    def _ask(
        self, fresh: Steps
    ) -> tuple[dict[str, tuple[Loss, int]], np.ndarray, Callable[[], float]]:
        face, seen, settings = self._face, fresh.transitions, self.model
        how = face.value, settings.gamma, settings.gae_lambda, face.original.unit
        judged = seen.state, seen.action, remembered_advantages(fresh, *how)
        rows = np.arange(len(fresh)).reshape(measure.ROWS, -1)
        rollout = rows[: settings.n_envs, : settings.n_steps]
        ways = {"a fresh rollout": part(judged, rollout.ravel())} | self._ways()
        states, actions, advantage = part(judged, rows[measure.ROWS // 2 :].ravel())
        before = face.log_prob(states, actions)
        assert before is not None

        def gained() -> float:
            ratio = np.exp(face.log_prob(states, actions) - before)
            return float(((ratio - 1) * advantage).mean())

        return {name: self._loss(way) for name, way in ways.items()}, states, gained


class SoftDirections(Directions):
    """Of SAC. gain: by how much what it raises has risen in fresh states, which is what its critic
    expects of an action and the entropy's worth, in standard deviations over those states."""

    def _ask(
        self, fresh: Steps
    ) -> tuple[dict[str, tuple[Loss, int]], np.ndarray, Callable[[], float]]:
        states = fresh.transitions.state
        states = states[self._rng.permutation(len(states))[:_WATCHED]]
        ways = self._ways()
        remembered = ways["remembered"][0]
        before = self._judge(states)

        def gained() -> float:
            return float((self._judge(states) - before).mean() / before.std())

        def own() -> torch.Tensor:
            return -self._objective(remembered).mean()

        losses: dict[str, tuple[Loss, int]] = {"its own gradient": (own, len(remembered))}
        return losses | {name: self._loss(way) for name, way in ways.items()}, states, gained

    def _objective(self, states: np.ndarray) -> torch.Tensor:
        """What SAC's critic expects of a drawn action, and the entropy's worth. [N]"""
        model = self.model
        seen, _ = model.policy.obs_to_tensor(states)
        action, log_prob = model.actor.action_log_prob(seen)
        value = torch.cat(model.critic(seen, action), dim=1).min(dim=1).values
        return value - model.log_ent_coef.detach().exp() * log_prob

    def _judge(self, states: np.ndarray) -> torch.Tensor:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)  # the same noise before and after
            return self._objective(states)


KINDS: dict[str, Any] = {"trpo": OnPolicyDirections, "sac": SoftDirections}
