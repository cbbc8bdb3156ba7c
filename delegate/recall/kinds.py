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
    has_changes = model in ("learned", "random", "forward") or isinstance(model, TransitionModel)
    drawn = model == "random" or isinstance(model, RandomBacktrackingModel)
    has_actions = model == "learned" or (isinstance(model, LearnedBacktrackingModel) and not drawn)
    for name, asked, known in (
        ("mean_actions", actions, has_actions),
        ("mean_changes", changes, has_changes),
    ):
        if asked and not known:
            called = model if isinstance(model, str) else type(model).__name__
            raise ValueError(f"model is {called}, which has no {name}; drop them")


def new_model(kind: Kind, learner: Learner, settings: dict[str, Any], seed: int) -> Model | None:
    """Of the learner's spaces and on its device; settings: see RecallModelConfig."""
    space, given = learner.original.space, {"device": learner.model.device, "seed": seed}
    if kind == "remembered":
        return None
    if kind == "random":  # drawn between the bounds of the environment
        return RandomBacktrackingModel(space, learner.model.action_space, **given, **settings)
    if kind == "forward":
        return ForwardModel(space, learner.action_space, **given, **settings)
    return LearnedBacktrackingModel(space, learner.action_space, **given, **settings)
