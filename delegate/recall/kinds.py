"""The models that can be asked for by name."""

from __future__ import annotations

from typing import Any, Literal, get_args

from delegate.recall.algorithms import Learner
from delegate.recall.forward import ForwardModel
from delegate.recall.learned import LearnedBacktrackingModel, RandomBacktrackingModel
from delegate.recall.learning import TransitionModel
from delegate.recall.model import BacktrackingModel

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


def check_means(model: Kind | Model, actions: bool, changes: bool) -> None:
    """Raise ValueError where mean actions, or mean changes, are asked of a model without any."""
    if isinstance(model, str):
        called, kind = f'"{model}"', _CLASSES.get(model, object)
    else:
        called, kind = type(model).__name__, type(model)
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
