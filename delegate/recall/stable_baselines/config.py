"""Settings of RecallTraces, those that go by a name, and what does not go together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
from gymnasium.spaces import Box, Discrete
from pydantic import BaseModel, ConfigDict, Field

from delegate.recall.config import RecallModelConfig
from delegate.recall.learned import LearnedBacktrackingModel, RandomBacktrackingModel
from delegate.recall.model import BacktrackingModel, FiniteBacktrackingModel
from delegate.settings import checked, known

MODELS = {"learned": LearnedBacktrackingModel, "random": RandomBacktrackingModel}
Priority = Literal["critic", "reward", "return"]
Targets = Priority | np.ndarray | Callable[[int, np.random.Generator], np.ndarray]
"""where traces end, see `RecallTraces`"""
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"model_updates": 20, "model_settings": {"learn_action_variance": False}},
    "known_goal": {"model_updates": 50, "imitation_updates": 20, "learning_rate": 1e-3},
}
"""paper: what Goyal et al. give for continuous control (arXiv 1804.00379, appendix): some 100
updates of the model for every 5 of the policy, actions of variance 1; traces of 20 steps (10 of
Hopper, 50 of Ant and Humanoid) and two layers of 128 are the defaults. They end traces by the
critic off-policy, and on-policy by the reward: give targets_from="reward" there. known_goal: what,
with the defaults, helped in Four Rooms (experiments/README.md), where targets_from was the goal; to
other targets so strong an imitation can spoil a policy, as that of TRPO on Hopper"""


class RecallConfig(BaseModel):
    """What is recalled, from what, and how strongly the policy follows.

    {length: 20, count: 64, trajectories: 0.2, states: 0.5, every: 1024, imitation_updates: 1}
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    length: int = Field(20, ge=1)
    """steps of a trace"""
    count: int = Field(64, ge=0)
    """traces recalled each time; 0 does nothing at all and leaves training as it would be"""
    every: int = Field(1_024, ge=1)
    """least environment steps between two recalls, which come at the beginning of a rollout"""
    start: int = Field(1_024, ge=1)
    """environment steps before the first recall; off-policy also the algorithm's learning_starts"""
    buffer_size: int = Field(50_000, ge=1)
    """transitions remembered, of late: what the policy did long ago pulls it back"""
    trajectories: float = Field(0.2, gt=0, le=1)
    """share of the finished trajectories, by return, that the model learns from"""
    states: float = Field(0.5, gt=0, le=1)
    """share of their steps, by the priority of the next state, that the model learns from"""
    targets: float = Field(0.1, gt=0, le=1)
    """share of their steps, by the same priority, in whose next states traces may end; below 1 in
    none of the lowest priority, as without a reward where rewards are rare"""
    model_updates: int = Field(20, ge=0)
    """optimiser steps of the model each time"""
    model_batch: int = Field(256, ge=1)
    """transitions of one of them"""
    imitation_updates: int = Field(1, ge=0)
    """optimiser steps of the policy each time"""
    imitation_batch: int = Field(1_280, ge=1)
    """recalled steps of one of them, at most"""
    learning_rate: float = Field(1e-4, gt=0)
    """of imitation's Adam, which is none of the algorithm's own"""


def configured(
    preset: str | None,
    settings: dict[str, Any],
    targets: object,
    model: object,
    model_settings: dict[str, Any],
) -> tuple[RecallConfig, dict[str, Any]]:
    """The settings, and those of a new model: of the preset where none are given.

    Raises ValueError for a name, targets, a model or settings that are not known or would not be
    heeded, TypeError for what is no model or no Targets.
    """
    if isinstance(targets, str):
        known("RecallTraces: targets_from", targets, get_args(Priority))
    elif not isinstance(targets, np.ndarray) and not callable(targets):
        raise TypeError(
            f"targets_from is a {type(targets).__name__}; give {', '.join(get_args(Priority))}, "
            "an array of states or a function (count, rng) -> states"
        )
    elif isinstance(targets, np.ndarray) and targets.size == 0:
        raise ValueError(f"targets_from has no state, shape {targets.shape}; give some")
    called, conditions = type(model).__name__, model_settings
    if isinstance(model, str):
        called = f'"{known("RecallTraces: model", model, MODELS)}"'
    elif not isinstance(model, BacktrackingModel):
        raise TypeError(f"model is {model!r}; give {', '.join(MODELS)} or a BacktrackingModel")
    elif model_settings:
        raise ValueError("model_settings are of a new model, and none is made here; drop them")
    elif isinstance(model, LearnedBacktrackingModel):
        conditions = model.config.model_dump()
    elif unheeded := sorted(settings.keys() & {"states", "model_updates", "model_batch"}):
        raise ValueError(f"model is {called}, which does not learn; drop {', '.join(unheeded)}")
    if isinstance(model, FiniteBacktrackingModel) and model.num_levels > 1:
        raise ValueError(
            f"model is {called} of {model.num_levels} levels, and observations do not tell which; "
            "give that of one"
        )
    for name in ("goal_size", "layout_size"):
        if size := conditions.get(name, 0):
            raise ValueError(
                f"model is {called} of {name} {size}, and observations hold all that is seen; "
                "give 0"
            )
    if preset is not None:
        named = PRESETS[known("RecallTraces: preset", preset, PRESETS)]
        settings = {n: v for n, v in named.items() if n != "model_settings"} | settings
        model_settings = named.get("model_settings", {}) | model_settings
    own = {n: v for n, v in model_settings.items() if n not in ("device", "seed")}
    checked("RecallTraces: model_settings", RecallModelConfig, own)
    return checked("RecallTraces", RecallConfig, settings), model_settings


def check_spaces(model: BacktrackingModel, states: Any, actions: Any) -> None:
    """Raise ValueError for a model of other spaces than the algorithm's, or one that would clip
    actions where the algorithm has them as the policy drew them."""
    if isinstance(model, FiniteBacktrackingModel):
        mine: tuple[Any, Any] = Discrete(model.num_states), Discrete(model.num_actions)
    elif isinstance(model, LearnedBacktrackingModel):
        mine = model.state_space, model.action_space
    else:
        return
    for what, space, other in zip(("states", "actions"), mine, (states, actions), strict=True):
        size, wanted = ((type(s), s.shape, getattr(s, "n", 0)) for s in (space, other))
        if size != wanted:
            raise ValueError(
                f"model is of {what} {space}, and the algorithm's are {other}; give a model made "
                "for them"
            )
    drawn = isinstance(actions, Box) and not actions.is_bounded()
    clipped = not isinstance(model, RandomBacktrackingModel)
    if drawn and clipped and np.isfinite([mine[1].low, mine[1].high]).any():
        raise ValueError(
            f"model is of actions {mine[1]}, and the algorithm's policy draws them without bounds, "
            "clipped only for the environment: imitated, they would pull it there; give a model "
            "made for Box(-inf, inf)"
        )
