"""What each algorithm's own steps are, and what it takes for a gain."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import recall_direction_measure as measure
import torch
from recall_direction_measure import Directions, Step, Way, part, standard

from delegate.recall.credit import remembered_advantages
from delegate.recall.natural import natural_step
from delegate.recall.trajectories import Steps

DIVERGENCE = {"trpo": 0.01, "sac": 0.1}
"""nats, of a step along the natural gradient"""
_CURVED = 2_048
"""states by which its length is measured"""
_WATCHED = 8_192
"""fresh states in which SAC's critic is asked"""


class OnPolicyDirections(Directions):
    """Of TRPO. gain: the mean of (ratio - 1) x advantage over fresh steps of the policy, advantages
    in their standard deviations. Half of the fresh rows are followed, the other half judge."""

    _last: Way

    def _on_rollout_end(self) -> None:
        seen, normalised = self.model.rollout_buffer, self.model.get_vec_normalize_env()
        size = len(seen.advantages) * seen.n_envs
        state = normalised.unnormalize_obs(seen.observations.reshape(size, -1))
        action, advantage = seen.actions.reshape(size, -1), seen.advantages.ravel()
        self._last = state.astype(np.float32), action.copy(), standard(advantage)

    def _steps(self, fresh: Steps) -> dict[str, Step]:
        judged = self._judged(fresh)
        half = np.arange(len(fresh)).reshape(measure.ROWS, -1)
        judges = part(judged, half[measure.ROWS // 2 :].ravel())
        ways = self._ways() | self._own(judged, half)
        return {name: partial(self._follow, way, judges) for name, way in ways.items()}

    def _own(self, fresh: Way, half: np.ndarray) -> dict[str, Way]:
        """What TRPO has: one rollout, and again the one it has used; for comparison sixteen, and
        one whose credit is shuffled."""
        one = part(fresh, half[:8, : 2_048 // 8].ravel())
        return {
            "a fresh rollout": one,
            "the last rollout again": self._last,
            "sixteen fresh rollouts": part(fresh, half[: measure.ROWS // 2].ravel()),
            "a fresh rollout, shuffled": (*one[:2], self._rng.permutation(one[2])),
        }

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
        some = self._rng.permutation(len(judges[0]))[:_CURVED]
        natural_step(loss, face.moved(judges[0][some]), face.parameters(), DIVERGENCE["trpo"])
        assert before is not None
        ratio = np.exp(face.log_prob(*judges[:2]) - before)
        with torch.no_grad():
            reached = float(moved())
        return {"divergence": reached, "gain": float(((ratio - 1) * judges[2]).mean())}


class SoftDirections(Directions):
    """Of SAC. gain: by how much what it raises has risen in fresh states, which is what its critic
    expects of an action and the entropy's worth, in standard deviations over those states."""

    def _steps(self, fresh: Steps) -> dict[str, Step]:
        watched = self._some(fresh.transitions.state, _WATCHED)
        ways = self._ways()
        state, action, weight = ways["remembered"]
        ways["remembered, shuffled"] = state, action, self._rng.permutation(weight)
        steps: dict[str, Step] = {
            name: partial(self._follow, way, watched) for name, way in ways.items()
        }
        steps["its own gradient"] = partial(
            self._climb, self._some(state, measure.RECALLED), watched
        )
        return steps

    def _some(self, states: np.ndarray, count: int) -> np.ndarray:
        return states[self._rng.permutation(len(states))[:count]]

    def _follow(self, way: Way, watched: np.ndarray) -> dict[str, float]:
        """Imitate by one step."""
        state, action, weight = way
        loss = self._face.losses(state, action)
        scale = torch.as_tensor(weight, dtype=loss.dtype, device=loss.device)
        return self._move((loss * scale).mean(), watched)

    def _climb(self, states: np.ndarray, watched: np.ndarray) -> dict[str, float]:
        """What SAC raises in those states, by one step."""
        return self._move(-self._objective(states).mean(), watched)

    def _objective(self, states: np.ndarray) -> torch.Tensor:
        """What SAC's critic expects of a drawn action, and the entropy's worth. [N]"""
        model = self.model
        seen, _ = model.policy.obs_to_tensor(states)
        action, log_prob = model.actor.action_log_prob(seen)
        value = torch.cat(model.critic(seen, action), dim=1).min(dim=1).values
        return value - model.log_ent_coef.detach().exp() * log_prob

    def _move(self, loss: torch.Tensor, watched: np.ndarray) -> dict[str, float]:
        face, before = self._face, self._judge(watched)
        moved = face.moved(watched[:_CURVED])
        reached = natural_step(loss, moved, face.parameters(), DIVERGENCE["sac"])
        gained = (self._judge(watched) - before).mean() / before.std()
        return {"divergence": reached, "gain": float(gained)}

    def _judge(self, watched: np.ndarray) -> torch.Tensor:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)  # the same noise before and after
            return self._objective(watched)


KINDS: dict[str, Any] = {"trpo": OnPolicyDirections, "sac": SoftDirections}
