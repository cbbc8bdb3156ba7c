"""Settings of the learned models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt


class RecallModelConfig(BaseModel):
    """How a model of transitions is built and trained.

    recall_model: {hidden: [128, 128], components: 1, members: 1, support: 5.0}

    The defaults are the paper's, where it gives them (arXiv 1804.00379, appendix).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: tuple[PositiveInt, ...] = (128, 128)
    """width of each hidden layer of both networks (units)"""
    components: PositiveInt = 1
    """Gaussians in the mixture over the change of a Box state (count)"""
    members: PositiveInt = 1
    """networks in the ensemble (count): their densities are averaged, and a trace is recalled
    by one of them throughout"""
    learn_action_variance: bool = False
    """learn a variance for each dimension of a Box action; otherwise it is 1, in units of the
    standard deviation of the actions observed. On HalfCheetah-v5 with uniform actions traces
    drawn with variance 1 leave the `support` after 3 steps of 20, with learned variance after
    13, and with mean actions hardly ever"""
    state_variance_from_input: bool = False
    """let the network say the variance of the change of a Box state; otherwise each dimension
    has one, learned"""
    learning_rate: PositiveFloat = 1e-3
    """step size of Adam (nats, normalised units)"""
    goal_size: int = Field(0, ge=0)
    """length of the goal vector to condition on (count); 0 for none"""
    layout_size: int = Field(0, ge=0)
    """length of the flat layout vector to condition on (count); 0 for none. With `grid`, a
    whole number of planes of H * W cells"""
    grid: tuple[PositiveInt, PositiveInt] | None = None
    """(height, width) where states are the cells of a grid, row by row: only the cell itself
    and its four neighbours can come before it, and the surroundings of the cell in the layout
    are shown to the networks, so that what is learned holds for other layouts"""
    support: PositiveFloat | None = 5.0
    """a trace ends where a coordinate of a Box state would be further than this from the mean
    (standard deviations observed); null recalls on, data or not"""
