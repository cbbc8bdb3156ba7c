"""Settings of the backtrack action."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator

Part = Literal["flag", "depth", "action", "origin", "budget", "held"]
"""what a backtracking agent may be shown beside the observation; see `BacktrackConfig.observe`"""

Depths = Annotated[
    tuple[Annotated[int, Field(ge=1, le=100_000)], ...],
    Strict(False),
    Field(min_length=1, max_length=64),
]
Parts = Annotated[tuple[Part, ...], Strict(False)]


class BacktrackConfig(BaseModel):
    """How far back an agent may go, how often, and at what price.

    backtrack:
      depths: [1, 4]
      budget: 8
      horizon: 64
      cost: 0.05
      refused_cost: 0.0
      refund: discounted
      gamma: 0.99
      observe: [flag, action, origin]
      time_limit: 200
      threshold: 0.5
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    depths: Depths = (1,)
    """how many transitions each backtrack action undoes, ascending (steps)"""
    budget: Annotated[int, Field(ge=0, le=1_000_000)] = 8
    """backtracks allowed in one episode (count); 0 takes the ability away and keeps the spaces"""
    horizon: Annotated[int, Field(ge=1, le=100_000)] = 64
    """how many past steps of a row are kept; memory is proportional to it (steps)"""
    cost: Annotated[float, Field(ge=0)] = 0.05
    """price of one backtrack (reward); keep it above what a do-undo loop saves:
    (deepest depth + 1) x the cost of a step"""
    refused_cost: Annotated[float, Field(ge=0)] = 0.0
    """price of a refused backtrack (reward); for learners that ignore action masks in worlds
    with a step cost, where refusals are a free way of standing still"""
    refund: Literal["sum", "discounted"] = "sum"
    """sum: rewards add up to the surviving path's, less costs; discounted: discounted returns do"""
    gamma: Annotated[float, Field(gt=0, le=1)] | None = None
    """the learner's discount, needed by refund: discounted (per interaction)"""
    observe: Parts = ("flag", "depth", "action", "origin", "budget", "held")
    """what is shown of a backtrack until the next step: flag (one has just happened), depth
    (which of `depths`), action (the first one undone), origin (the observation come back from);
    and always: budget (backtracks left), held (an ending awaits this decision)"""
    time_limit: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    """decisions in one episode, undone ones included; None: the world's own `max_steps` or
    `max_episode_steps`, if any"""
    threshold: Annotated[float, Field(ge=-1, lt=1)] = 0.5
    """continuous actions go back when their last coordinate, in [-1, 1], is above this"""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if list(self.depths) != sorted(set(self.depths)):
            raise ValueError(f"depths {list(self.depths)} must ascend without repetition")
        if self.depths[-1] > self.horizon:
            raise ValueError(
                f"depth {self.depths[-1]} is beyond horizon {self.horizon}; raise horizon"
            )
        if len(set(self.observe)) != len(self.observe):
            raise ValueError(f"observe names a part twice: {', '.join(self.observe)}")
        if self.refund == "discounted" and self.gamma is None:
            raise ValueError("refund: discounted needs gamma, the learner's discount")
        if self.refund == "sum" and self.gamma is not None:
            raise ValueError("gamma is used by refund: discounted only; set that or drop gamma")
        return self
