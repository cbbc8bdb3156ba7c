"""The models that can be asked for by name."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from gymnasium.spaces import Box, Discrete

from delegate.recall.algorithms import Learner
from delegate.recall.config import RecallModelConfig
from delegate.recall.forward import ForwardModel
from delegate.recall.imitation import RecallConfig
from delegate.recall.learned import LearnedBacktrackingModel, RandomBacktrackingModel
from delegate.recall.learning import TransitionModel
from delegate.recall.model import BacktrackingModel, FiniteBacktrackingModel
from delegate.recall.targets import BY_WORTH
from delegate.recall.variational import computable
from delegate.settings import checked

Kind = Literal["learned", "random", "forward", "remembered"]
"""learned: a LearnedBacktrackingModel · random: one whose actions are · forward: a ForwardModel,
which imagines traces forwards, as Dyna does · remembered: none, but what truly led there"""
Model = BacktrackingModel | ForwardModel
_CLASSES: dict[str, type[LearnedBacktrackingModel | ForwardModel]] = {
    "learned": LearnedBacktrackingModel,
    "random": RandomBacktrackingModel,
    "forward": ForwardModel,
}


def check_model(model: object) -> None:
    """Raise ValueError for another name, TypeError for what is no model."""
    names = f"{', '.join(get_args(Kind))}, a BacktrackingModel or a ForwardModel"
    if isinstance(model, str):
        if model not in get_args(Kind):
            raise ValueError(f'model is "{model}"; give one of {names}')
    elif not isinstance(model, Model):
        raise TypeError(f"model is {model!r}; give one of {names}")


def check_settings(
    model: Kind | Model, config: RecallConfig, targets: object, settings: dict[str, Any]
) -> None:
    """Raise ValueError where something is asked that a model of that kind would not heed.

    targets: where traces end · settings: of a new model
    """
    called, kind = _called(model)
    learns = issubclass(kind, TransitionModel)
    other = config.diagnostics and not computable(model)  # their forward model
    if not learns:
        for name in ("states",) if other else ("states", "model_updates", "model_batch"):
            if name in config.model_fields_set:
                raise ValueError(f"model is {called}, which does not learn; drop {name}")
    if settings and not (isinstance(model, str) if learns else other):
        raise ValueError(
            "model_settings are of a new model, and none is made here; drop model_settings"
        )
    more = ("device", "seed")
    own = {name: value for name, value in settings.items() if name not in more}
    checked("RecallTraces: model_settings", RecallModelConfig, own)
    if issubclass(kind, ForwardModel) and not (isinstance(targets, str) and targets == "critic"):
        raise ValueError(
            f"model is {called}, whose traces end where the critic expects most; drop targets_from"
        )
    if model == "remembered" and not isinstance(targets, str):
        raise ValueError(
            'model is "remembered", which knows what led to remembered states alone; give '
            f"targets_from as one of {', '.join(BY_WORTH)}"
        )
    _check_means(called, kind, config.mean_actions, config.mean_changes)
    _check_conditions(called, model, settings)


def check_spaces(model: Model, learner: Learner) -> None:
    """Raise ValueError for a model of other spaces than the learner's, or one that would clip
    actions where the algorithm has them as the policy drew them."""
    if isinstance(model, FiniteBacktrackingModel):
        mine: tuple[Any, Any] = Discrete(model.num_states), Discrete(model.num_actions)
    elif isinstance(model, TransitionModel):
        mine = model.state_space, model.action_space
    else:
        return
    others = learner.original.space, learner.action_space
    for what, space, other in zip(("states", "actions"), mine, others, strict=True):
        same = type(space) is type(other) and space.shape == other.shape
        if not same or (isinstance(space, Discrete) and space.n != other.n):
            raise ValueError(
                f"model is of {what} {space}, and the algorithm's are {other}; give a model made "
                "for them"
            )
    drawn, own = mine[1], learner.action_space
    if not isinstance(own, Box) or own.is_bounded() or isinstance(model, RandomBacktrackingModel):
        return
    if np.isfinite([drawn.low, drawn.high]).any():
        raise ValueError(
            f"model is of actions {drawn}, and {type(learner.model).__name__}'s policy draws them "
            "without bounds, clipped only for the environment: imitated, they would pull it "
            "there; give a model made for Box(-inf, inf)"
        )


def _called(model: Kind | Model) -> tuple[str, type]:
    """How to name it, and its class."""
    if isinstance(model, str):
        return f'"{model}"', _CLASSES.get(model, object)
    return type(model).__name__, type(model)


def _check_conditions(called: str, model: Kind | Model, settings: dict[str, Any]) -> None:
    """Of goals, layouts and levels only what observations hold is known."""
    of_model = model.config.model_dump() if isinstance(model, TransitionModel) else settings
    for name in ("goal_size", "layout_size"):
        if size := of_model.get(name, 0):
            raise ValueError(
                f"model is {called} of {name} {size}, and observations hold all that is seen; "
                "give 0"
            )
    if isinstance(model, FiniteBacktrackingModel) and model.num_levels > 1:
        raise ValueError(
            f"model is {called} of {model.num_levels} levels, and observations do not tell which; "
            "give that of one"
        )


def _check_means(called: str, kind: type, actions: bool, changes: bool) -> None:
    if changes and not issubclass(kind, TransitionModel):
        raise ValueError(f"model is {called}, which has no mean changes; drop mean_changes")
    learns_actions = issubclass(kind, LearnedBacktrackingModel)
    if actions and (not learns_actions or issubclass(kind, RandomBacktrackingModel)):
        raise ValueError(f"model is {called}, which has no mean actions; drop mean_actions")


def new_model(kind: Kind, learner: Learner, settings: dict[str, Any], seed: int) -> Model | None:
    """Of the learner's spaces and on its device; settings: see RecallModelConfig."""
    if kind == "remembered":
        return None
    # Random actions are drawn between the bounds of the environment.
    actions = learner.model.action_space if kind == "random" else learner.action_space
    given = {"device": learner.model.device, "seed": seed, **settings}
    return _CLASSES[kind](learner.original.space, actions, **given)
