"""Look back: backtracking models, the traces they recall and what those say about a goal."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from delegate.recall.config import CriticConfig, GoalGanConfig, RecallModelConfig
from delegate.recall.exact import ExactBacktrackingModel, moving_weights
from delegate.recall.goals import GoalTable, Landmarks
from delegate.recall.model import BacktrackingModel, FiniteBacktrackingModel, Traces, Transitions
from delegate.recall.reachability import (
    ExactReachability,
    Reachability,
    RecalledReachability,
    grid_neighbours,
)
from delegate.recall.table import TransitionTable

if TYPE_CHECKING:
    from delegate.recall.critic import LearnedReachability
    from delegate.recall.goal_gan import GoalGan
    from delegate.recall.learned import (
        ForwardModel,
        LearnedBacktrackingModel,
        RandomBacktrackingModel,
        TransitionModel,
    )
    from delegate.recall.pairs import Pairs, RecalledPairs, RememberedPairs

__all__ = [
    "BacktrackingModel",
    "CriticConfig",
    "ExactBacktrackingModel",
    "ExactReachability",
    "FiniteBacktrackingModel",
    "ForwardModel",
    "GoalGan",
    "GoalGanConfig",
    "GoalTable",
    "Landmarks",
    "LearnedBacktrackingModel",
    "LearnedReachability",
    "Pairs",
    "RandomBacktrackingModel",
    "Reachability",
    "RecallConfig",
    "RecallModelConfig",
    "RecalledPairs",
    "RecalledReachability",
    "RememberedPairs",
    "Traces",
    "TransitionModel",
    "TransitionTable",
    "Transitions",
    "grid_neighbours",
    "moving_weights",
]

_WITH_TORCH = {
    "ForwardModel": "learned",
    "GoalGan": "goal_gan",
    "LearnedBacktrackingModel": "learned",
    "LearnedReachability": "critic",
    "Pairs": "pairs",
    "RecalledPairs": "pairs",
    "RememberedPairs": "pairs",
    "RandomBacktrackingModel": "learned",
    "RecallConfig": "stable_baselines.config",
    "TransitionModel": "learned",
}


def __getattr__(name: str) -> Any:
    # Looked up when asked for, so that finite worlds do without torch.
    if name in _WITH_TORCH:
        return getattr(import_module(f"delegate.recall.{_WITH_TORCH[name]}"), name)
    raise AttributeError(f"module 'delegate.recall' has no attribute {name!r}")
