"""Settings of recalling traces while a policy learns, and the policy's imitation of them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from delegate.recall.adaptive import AdaptiveStep
from delegate.recall.algorithms import ActorCritic, Learner
from delegate.recall.natural import natural_step
from delegate.recall.traces import Traces

CREDITED = ("advantage", "shuffled")
"""weightings that need to know what was earned"""
_CURVED = 1_024
"""recalled states, at most, by which the length of a natural step is measured"""


class RecallConfig(BaseModel):
    """What is recalled, from what, and how strongly the policy follows.

    {length: 20, count: 64, trajectories: 0.2, states: 0.5, every: 2048, imitation_updates: 1}
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    length: int = Field(20, ge=1)
    """steps of a trace"""
    count: int = Field(64, ge=0)
    """traces recalled each time; 0 does nothing at all and leaves training as it would be"""
    every: int = Field(1_000, ge=1)
    """least environment steps between two recalls, which come at the beginning of a rollout"""
    start: int = Field(2_000, ge=1)
    """environment steps to remember before the first recall; off-policy it also waits for the
    algorithm's learning_starts, before which its critic knows nothing"""
    buffer_size: int = Field(50_000, ge=1)
    """transitions remembered; older ones are forgotten, since what the policy did long ago pulls
    it back"""
    trajectories: float = Field(0.2, gt=0, le=1)
    """share of the finished trajectories, by return, that the model learns from"""
    states: float = Field(0.5, gt=0, le=1)
    """share of their steps, by the worth of the state entered, that the model learns from"""
    targets: float = Field(0.1, gt=0, le=1)
    """share of their steps, by the same worth, in whose states traces may end; below 1 in none of
    those that are worth the least, as without a reward where rewards are rare"""
    model_updates: int = Field(50, ge=0)
    """optimiser steps of the model each time"""
    model_batch: int = Field(256, ge=1)
    """transitions of one of them"""
    optimiser: Literal["adam", "natural"] = "adam"
    """natural: one step along the natural gradient, until max_divergence or somewhat less; adam:
    steps of its learning_rate"""
    imitation_updates: int = Field(1, ge=0)
    """optimiser steps of the policy each time"""
    imitation_batch: int = Field(1_280, ge=1)
    """recalled steps of one of them, at most"""
    learning_rate: float = Field(1e-4, gt=0)
    """of Adam, which is none of the algorithm's own"""
    max_divergence: float | None = Field(None, gt=0)
    """how far the policy may move where it was recalled (nats of KL; for TD3 and DQN half the
    mean squared change): a natural step goes no further, and after Adam's that did no other
    follows; None for no limit"""
    adaptive: bool = False
    """natural steps are the shorter the less the last ones turned out to have gained, by the
    advantages of the rollouts that followed them, see `delegate.recall.adaptive`; for A2C, PPO
    and TRPO"""
    weighting: Literal["uniform", "gain", "advantage", "shuffled"] = "uniform"
    """gain: only steps from which the trace promises more than the critic expects, in proportion;
    a trace of k steps promises the mean reward of what is remembered on its way, and what the
    critic expects of entering its end; advantage: every step, by its generalised advantage over
    the rest of its trace, rewards by a linear model, and over what followed where it ends,
    standardised: also away from what was worse; shuffled: the same numbers, but in an order of
    chance, a control: as far a step, in no direction in particular"""
    gae_lambda: float = Field(0.95, ge=0, le=1)
    """of weighting by advantage, or shuffled"""
    mean_actions: bool = False
    """recall the mean of the action distribution instead of a sample"""
    mean_changes: bool = False
    """recall the mean change of the state instead of a sample"""
    diagnostics: bool = False
    """log how well the traces explain success, as bounds on log p(R > L) (nats); costs a second
    model, and needs a policy with a density: A2C, PPO, TRPO or SAC"""

    @model_validator(mode="after")
    def _together(self) -> RecallConfig:
        if self.diagnostics and (self.mean_actions or self.mean_changes):
            raise ValueError(
                "diagnostics need sampled actions and changes; drop mean_actions and mean_changes, "
                "or diagnostics"
            )
        if "gae_lambda" in self.model_fields_set and self.weighting not in CREDITED:
            raise ValueError(
                f"gae_lambda is of weighting by advantage, and weighting is {self.weighting}; give "
                'weighting="advantage", or drop gae_lambda'
            )
        if self.adaptive and self.optimiser != "natural":
            raise ValueError(
                f"adaptive shortens natural steps, and optimiser is {self.optimiser}; give "
                'optimiser="natural" and a max_divergence, or drop adaptive'
            )
        if self.optimiser == "adam" and self.max_divergence and self.imitation_updates <= 1:
            raise ValueError(
                f"max_divergence {self.max_divergence} is of more than one of Adam's steps; give "
                'more imitation_updates, or optimiser="natural"'
            )
        if self.optimiser == "natural":
            if self.max_divergence is None:
                raise ValueError("a natural step needs its length; give max_divergence, as 0.002")
            if "learning_rate" in self.model_fields_set:
                raise ValueError(
                    "learning_rate is Adam's, and optimiser is natural; give max_divergence alone, "
                    'or optimiser="adam"'
                )
            if self.imitation_updates > 1:
                raise ValueError(
                    f"imitation_updates is {self.imitation_updates}, and the natural optimiser "
                    'takes one step; give 1 and the max_divergence of it, or optimiser="adam"'
                )
        return self


class Imitation:
    """A policy's steps towards what was recalled, with an optimiser that is none of the
    algorithm's own.

    Raises TypeError for an algorithm without rollouts where steps are to be judged by them.
    """

    def __init__(self, learner: Learner, config: RecallConfig) -> None:
        self._adaptive: AdaptiveStep | None = None
        if config.adaptive:
            if not isinstance(learner, ActorCritic):
                raise TypeError(
                    "adaptive judges a step by the rollout after it, and "
                    f"{type(learner.model).__name__} has none; drop adaptive"
                )
            self._adaptive = AdaptiveStep(learner)
        self._learner, self._config = learner, config
        self._optimiser = torch.optim.Adam(learner.parameters(), lr=config.learning_rate)

    def follow(
        self, traces: Traces, weight: np.ndarray, rng: np.random.Generator
    ) -> dict[str, float]:
        """Lower the weighted loss of the recalled steps; what to log, by name.

        weight: float [N], of the valid steps, trace by trace; where all are 0, nothing changes
        Raises FloatingPointError where the loss is not finite; that step is not made then.
        """
        if not weight.any():
            return {}
        learner, config = self._learner, self._config
        state, action = traces.states[:, 1:][traces.valid], traces.actions[traces.valid]
        limit, divergence, losses = self._limit, 0.0, []
        moved = None if config.optimiser == "natural" else learner.moved(state)
        for _ in range(config.imitation_updates):
            chosen = rng.permutation(len(weight))[: config.imitation_batch]
            loss = learner.losses(state[chosen], action[chosen])
            scale = torch.as_tensor(weight[chosen], dtype=loss.dtype, device=loss.device)
            loss = (loss * scale).mean()
            losses.append(loss.item())
            if not np.isfinite(losses[-1]):
                raise FloatingPointError(
                    f"the loss of imitation is {losses[-1]}: {self._overflowing(state, action)}"
                )
            if moved is None:
                assert limit is not None
                divergence = self._natural_step(loss, state[chosen[:_CURVED]], limit)
                break
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self._optimiser.step()
            with torch.no_grad():
                divergence = float(moved())
            if limit is not None and divergence > limit:
                break
        self._optimiser.zero_grad(set_to_none=True)
        if not losses:
            return {}
        return {
            "imitation_loss": losses[0],
            "imitation_updates": len(losses),
            "divergence": divergence,
        }

    def _overflowing(self, state: np.ndarray, action: np.ndarray) -> str:
        """What is not finite, and what would help."""
        if not all(torch.isfinite(part).all() for part in self._learner.parameters()):
            return "the policy's parameters are not finite; lower the step size it learns with"
        for name, recalled in (("states", state), ("actions", action)):
            if not np.isfinite(recalled).all():
                return f"recalled {name} are not finite; lower the model's support"
        far = float(np.abs(state).max())
        return (
            f"what was recalled, states as large as {far:.3g}, is beyond all the policy has seen; "
            "lower the model's support, or give targets nearer by"
        )

    @property
    def _limit(self) -> float | None:
        """How far the next step may move the policy (nats)."""
        limit = self._config.max_divergence
        if limit is None or self._adaptive is None:
            return limit
        return limit * self._adaptive.share

    def _natural_step(self, loss: Tensor, state: np.ndarray, limit: float) -> float:
        learner, adaptive = self._learner, self._adaptive
        if adaptive is not None:
            adaptive.begin()
        divergence = natural_step(loss, learner.moved(state), learner.parameters(), limit)
        if adaptive is not None:
            adaptive.end(divergence)
        return divergence

    def look_back(self) -> dict[str, float]:
        """Judge the last step by the rollout that has just ended; what to log, by name."""
        if self._adaptive is None or self._adaptive.judge() is None:
            return {}
        return {"earned": self._adaptive.earned}

    def state(self) -> dict[str, Any]:
        """Of the optimiser, and what steps have earned; see `load`."""
        earned = None if self._adaptive is None else self._adaptive.state()
        return {"adam": self._optimiser.state_dict(), "adaptive": earned}

    def load(self, saved: dict[str, Any]) -> None:
        """Go on from what `state` gave; raises what `check` raises."""
        self.check(saved)
        self._optimiser.load_state_dict(saved["adam"])
        for group in self._optimiser.param_groups:
            group["lr"] = self._config.learning_rate
        if self._adaptive is not None and saved["adaptive"] is not None:
            self._adaptive.load(saved["adaptive"])

    def check(self, saved: dict[str, Any]) -> None:
        """Raise ValueError unless that state is of parameters of the same shapes."""
        if saved.keys() != {"adam", "adaptive"}:
            raise ValueError("the saved imitation is of another version; start anew")
        adam = saved["adam"]
        mine = [part for group in self._optimiser.param_groups for part in group["params"]]
        count = sum(len(group["params"]) for group in adam.get("param_groups", []))
        if len(mine) != count:
            raise ValueError(
                f"the saved policy optimiser has {count} parameters and this policy {len(mine)}; "
                "resume with the algorithm it was saved beside"
            )
        if saved["adaptive"] is not None:
            AdaptiveStep.check(saved["adaptive"])
        for place, state in adam["state"].items():
            if state["exp_avg"].shape != mine[place].shape:
                raise ValueError(
                    f"the saved policy optimiser: parameter {place} has shape "
                    f"{tuple(state['exp_avg'].shape)}, and here {tuple(mine[place].shape)}; "
                    "resume with the algorithm it was saved beside"
                )
