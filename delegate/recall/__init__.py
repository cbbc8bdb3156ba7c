"""Look back: backtracking models, the traces they recall and what those say about a goal."""

from typing import TYPE_CHECKING, Any

from delegate.recall.backward import Backward, moving_weights
from delegate.recall.config import RecallModelConfig
from delegate.recall.exact import ExactBacktrackingModel
from delegate.recall.landmarks import Landmarks
from delegate.recall.model import BacktrackingModel, FiniteBacktrackingModel
from delegate.recall.reachability import (
    ExactReachability,
    Reachability,
    RecalledReachability,
    grid_neighbours,
)
from delegate.recall.table import TransitionTable
from delegate.recall.traces import Traces
from delegate.recall.transitions import Transitions

if TYPE_CHECKING:
    from delegate.recall.forward import ForwardModel
    from delegate.recall.goal_gan import GoalGan, GoalGanConfig
    from delegate.recall.imitation import RecallConfig
    from delegate.recall.learned import LearnedBacktrackingModel, RandomBacktrackingModel

__all__ = [
    "BacktrackingModel",
    "Backward",
    "ExactBacktrackingModel",
    "ExactReachability",
    "FiniteBacktrackingModel",
    "ForwardModel",
    "GoalGan",
    "GoalGanConfig",
    "Landmarks",
    "LearnedBacktrackingModel",
    "RandomBacktrackingModel",
    "Reachability",
    "RecallConfig",
    "RecallModelConfig",
    "RecalledReachability",
    "Traces",
    "TransitionTable",
    "Transitions",
    "grid_neighbours",
    "moving_weights",
]


def __getattr__(name: str) -> Any:
    # Looked up when asked for, so that finite worlds do without torch.
    if name == "ForwardModel":
        from delegate.recall.forward import ForwardModel

        return ForwardModel
    if name in ("GoalGan", "GoalGanConfig"):
        from delegate.recall import goal_gan

        return getattr(goal_gan, name)
    if name == "RecallConfig":
        from delegate.recall.imitation import RecallConfig

        return RecallConfig
    if name in ("LearnedBacktrackingModel", "RandomBacktrackingModel"):
        from delegate.recall import learned

        return getattr(learned, name)
    raise AttributeError(f"module 'delegate.recall' has no attribute {name!r}")
