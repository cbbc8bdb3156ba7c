"""How far recall may move a policy: by what its last steps turned out to be worth.

The rollout that follows a step was drawn after it, and judges it: had the policy stayed where it
was, what would these fresh steps have gained? On MuJoCo that is much while a policy is young, and
ever less after, until each step only shakes it (experiments/README.md).

What a step costs grows with its divergence, and what it gains with the root of that. So the best
length is proportional to the gain, up to one that is never passed. One rollout says little of a
gain, and its noise alone must not count as one: what is trusted is the mean of many less its
standard error.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from delegate.recall.algorithms import ActorCritic

FORGETTING = 0.05
"""weight of the newest step's gain in the running mean"""
FULL = 0.01
"""gain from which on a step is as long as it may be: in standard deviations of the advantage, for
each square root of a nat. In Hopper and Walker2d recalled steps gain two to four times that during
the first 100,000 steps of TRPO, in HalfCheetah somewhat less than that"""
LEAST = 0.02
"""share of a full step's length that is always taken, so that there is something to judge"""


class AdaptiveStep:
    """The running mean of what a policy's steps gained, each for the root of its divergence."""

    def __init__(self, learner: ActorCritic) -> None:
        self._learner = learner
        self.earned, self._variance = FULL, 0.0
        self._before: Tensor | None = None
        self._divergence = 0.0

    @property
    def share(self) -> float:
        """How much of the divergence that is allowed is to be used. In (0, 1]"""
        error = (self._variance * FORGETTING / (2 - FORGETTING)) ** 0.5
        return float(np.clip((self.earned - error) / FULL, LEAST, 1.0)) ** 2

    def begin(self) -> None:
        """A step is about to be taken."""
        self._before = parameters_to_vector(self._learner.parameters()).detach().clone()

    def end(self, divergence: float) -> None:
        """It was taken, and moved the policy that far (nats); not at all says nothing."""
        self._divergence = divergence
        if divergence <= 0:
            self._before = None

    def judge(self) -> float | None:
        """What the last step gained by the rollout that has just ended, for the root of its
        divergence; None where there was no step."""
        before, self._before = self._before, None
        if before is None:
            return None
        gain = self._gain(before) / self._divergence**0.5
        if np.isfinite(gain):
            off = gain - self.earned
            self.earned += FORGETTING * off
            self._variance = (1 - FORGETTING) * (self._variance + FORGETTING * off**2)
        return gain

    def state(self) -> dict[str, float]:
        """All that can change between two rollouts; see `load`."""
        return {"earned": self.earned, "variance": self._variance}

    @staticmethod
    def check(saved: dict[str, float]) -> None:
        """Raise ValueError for what `state` cannot have given."""
        if saved.keys() != {"earned", "variance"} or not np.isfinite([*saved.values()]).all():
            raise ValueError("what recall has earned is damaged in the saved file; start anew")

    def load(self, saved: dict[str, float]) -> None:
        """Go on from what `state` gave."""
        self.earned, self._variance = saved["earned"], saved["variance"]

    def _gain(self, before: Tensor) -> float:
        """Mean of (1 − π_before / π) × standardised advantage over the rollout."""
        seen, parameters = self._learner.model.rollout_buffer, self._learner.parameters
        now = parameters_to_vector(parameters()).detach().clone()
        vector_to_parameters(before, parameters())
        try:
            earlier = self._learner.rollout_log_prob()
        finally:
            vector_to_parameters(now, parameters())
        advantage = seen.advantages.astype(np.float64).ravel()
        advantage -= advantage.mean()
        ratio = np.exp(earlier - seen.log_probs.astype(np.float64).ravel())
        return float(((1 - ratio) * advantage).mean() / max(advantage.std(), 1e-9))
