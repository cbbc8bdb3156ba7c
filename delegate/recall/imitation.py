"""Settings of recalling and imitating traces while a policy learns."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


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
    """environment steps to remember before the first recall"""
    buffer_size: int = Field(50_000, ge=1)
    """transitions remembered; older ones are forgotten, since what the policy did long ago pulls
    it back"""
    trajectories: float = Field(0.2, gt=0, le=1)
    """share of the finished trajectories, by return, that the model learns from"""
    states: float = Field(0.5, gt=0, le=1)
    """share of their steps, by the worth of the state entered, that the model learns from"""
    targets: float = Field(0.1, gt=0, le=1)
    """share of their steps, by the same worth, in whose states traces may end"""
    model_updates: int = Field(50, ge=0)
    """optimiser steps of the model each time"""
    model_batch: int = Field(256, ge=1)
    """transitions of one of them"""
    imitation_updates: int = Field(1, ge=0)
    """optimiser steps of the policy each time"""
    imitation_batch: int = Field(1_280, ge=1)
    """recalled steps of one of them, at most"""
    learning_rate: float = Field(1e-4, gt=0)
    """of the policy's optimiser for imitation, which is none of the algorithm's own"""
    max_divergence: float | None = Field(None, gt=0)
    """imitation stops when the policy has moved so far (nats of KL; for TD3 and DQN half the
    mean squared change); None for no limit"""
    weighting: Literal["uniform", "gain", "advantage"] = "uniform"
    """gain: only steps from which the trace promises more than the critic expects, in proportion;
    a trace of k steps promises the mean reward of what is remembered on its way, and the
    critic's value of its end"""
    smoothing: float = Field(0.95, ge=0, le=1)
    """lambda of weighting by advantage"""
    mean_actions: bool = False
    """recall the mean of the action distribution instead of a sample"""
    diagnostics: bool = False
    """log how well the traces explain success, as bounds on log p(R > L) (nats); costs a second
    model, and needs a policy with a density: A2C, PPO, TRPO or SAC"""

    @model_validator(mode="after")
    def _sampled(self) -> RecallConfig:
        if self.diagnostics and self.mean_actions:
            raise ValueError("diagnostics need sampled actions; drop mean_actions or diagnostics")
        return self
