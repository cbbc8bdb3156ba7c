"""Settings of the learned models, of the critic and of the Goal GAN."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

_STRICT = ConfigDict(
    extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
)


class RecallModelConfig(BaseModel):
    """How a model of transitions is built and trained.

    recall_model: {hidden: [128, 128], components: 1, members: 1, support: 5.0}

    Networks and learning rate are the paper's (arXiv 1804.00379, appendix).
    """

    model_config = _STRICT

    hidden: tuple[PositiveInt, ...] = (128, 128)
    """width of each hidden layer of both networks (units)"""
    components: PositiveInt = 1
    """Gaussians in the mixture over the change of a Box state (count)"""
    members: PositiveInt = 1
    """networks in the ensemble (count), whose densities are averaged; one recalls a whole trace"""
    learn_action_variance: bool = True
    """learn a variance for each dimension of a Box action; otherwise it is that of the actions
    observed, as in the paper: on HalfCheetah-v5 with uniform actions traces then leave the
    `support` after 3 steps of 20, with learned variance after 13"""
    learning_rate: float = Field(1e-3, gt=0, le=1)
    """step size of Adam (nats, normalised units)"""
    goal_size: int = Field(0, ge=0)
    """length of the goal vector to condition on (count); 0 for none"""
    layout_size: int = Field(0, ge=0)
    """length of the flat layout vector to condition on (count); 0 for none. With `grid`, a whole
    number of planes of H * W cells"""
    grid: tuple[PositiveInt, PositiveInt] | None = None
    """(height, width) where states are the cells of a grid, row by row: only the cell itself and
    its four neighbours can come before it, and the networks see its surroundings in the layout, so
    that what is learned holds for other layouts"""
    support: PositiveFloat | None = 5.0
    """a trace ends where a coordinate of a Box state would be further from its mean (standard
    deviations observed); null recalls on, data or not"""


class CriticConfig(BaseModel):
    """How a critic of reachability is built and trained.

    critic: {discounts: [0.9, 0.97, 0.99], hidden: [128, 128], width: 32, updates: 3000}
    """

    model_config = _STRICT

    discounts: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.9, 0.97, 0.99), min_length=1
    )
    """λ of h, one head each (per step): 1 / (1 - λ) steps are looked ahead"""
    hidden: tuple[PositiveInt, ...] = (128, 128)
    """width of each hidden layer of both towers (units)"""
    width: PositiveInt = 32
    """numbers that stand for a state, or a goal, in each head (count)"""
    updates: int = Field(3000, ge=0)
    """optimizer steps (count)"""
    batch: PositiveInt = 256
    """pairs of each λ in a step, and states to tell them from (count)"""
    learning_rate: float = Field(1e-3, gt=0, le=1)
    """step size of Adam at first; it falls to nothing along a cosine"""
    penalty: float = Field(0.01, ge=0)
    """weight of the square of the logsumexp over states, which keeps f of one size for all goals"""

    @model_validator(mode="after")
    def _once(self) -> CriticConfig:
        if len(set(self.discounts)) < len(self.discounts):
            raise ValueError(f"discounts {self.discounts} name one twice; give each once")
        return self


class GoalGanConfig(BaseModel):
    """Which goals are good, how they are tried, and how the two networks are trained.

    {r_min: 0.1, r_max: 0.9, replayed: 0.3333, uniform: 0.1, updates: 250}

    r_min and r_max are those of arXiv 1705.06366; replayed, jitter, apart, networks and updates
    those of its code for the Ant in a maze; the other defaults are ours.
    """

    model_config = _STRICT

    r_min: float = Field(0.1, ge=0, le=1)
    """least rate of success of a goal of intermediate difficulty (share of tries)"""
    r_max: float = Field(0.9, ge=0, le=1)
    """highest rate of success of such a goal (share of tries)"""
    replayed: float = Field(1 / 3, ge=0, le=1)
    """share of the goals to try that were good before, so that they are not forgotten"""
    uniform: float = Field(0.1, ge=0, le=1)
    """share of the other goals to try that are drawn uniformly, so that none is out of reach"""
    jitter: float = Field(0.05, ge=0)
    """standard deviation of the noise on generated goals (widths of the bounds)"""
    apart: float = Field(0.03, ge=0)
    """least distance between goals kept for replay (widths of the bounds, Euclidean)"""
    capacity: PositiveInt = 5_000
    """good goals kept for replay (count); then the oldest make room"""
    noise_size: PositiveInt = 4
    """length of the Gaussian noise that the generator turns into a goal (count)"""
    generator_hidden: tuple[PositiveInt, ...] = (256, 256)
    """width of each hidden layer of the generator (units)"""
    discriminator_hidden: tuple[PositiveInt, ...] = (128, 128)
    """width of each hidden layer of the discriminator (units)"""
    updates: int = Field(250, ge=0)
    """optimizer steps of both networks each time (count)"""
    batch: PositiveInt = 128
    """goals of one of them, as many tried as generated (count)"""
    generator_rate: float = Field(2e-4, gt=0, le=1)
    """step size of Adam for the generator, which comes to cover most of a ring of good goals at
    these rates, and a third of it at most at 1e-3 for both networks"""
    discriminator_rate: float = Field(2e-3, gt=0, le=1)
    """step size of Adam for the discriminator"""
    blur: float = Field(0.1, ge=0)
    """standard deviation of the noise on all the discriminator sees (widths of the bounds); at 0
    the generator comes to cover half of that ring"""

    @model_validator(mode="after")
    def _ordered(self) -> GoalGanConfig:
        if self.r_min > self.r_max:
            raise ValueError(f"r_min {self.r_min} is above r_max {self.r_max}; give it below")
        return self
