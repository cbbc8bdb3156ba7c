"""The models that can be asked for by name."""

from __future__ import annotations

from typing import Any, Literal, get_args

from delegate.recall.algorithms import Learner
from delegate.recall.forward import ForwardModel
from delegate.recall.learned import LearnedBacktrackingModel, RandomBacktrackingModel
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


def takes_means(model: Kind | Model) -> bool:
    """Whether it can recall means instead of samples."""
    return model in ("learned", "random") or isinstance(model, LearnedBacktrackingModel)


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
