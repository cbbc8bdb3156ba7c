"""Look back: backtracking models, the traces they recall and what those say about a goal."""

from typing import TYPE_CHECKING, Any

from delegate.recall.backward import Backward, moving_weights
from delegate.recall.config import RecallModelConfig
from delegate.recall.exact import ExactBacktrackingModel
from delegate.recall.model import BacktrackingModel, FiniteBacktrackingModel, reachability
from delegate.recall.table import TransitionTable
from delegate.recall.traces import Traces
from delegate.recall.transitions import Transitions

if TYPE_CHECKING:
    from delegate.recall.forward import ForwardModel
    from delegate.recall.goal_gan import GoalGan, GoalGanConfig
    from delegate.recall.learned import LearnedBacktrackingModel, RandomBacktrackingModel
    from delegate.recall.stable_baselines.config import RecallConfig

__all__ = [
    "BacktrackingModel",
    "Backward",
    "ExactBacktrackingModel",
    "FiniteBacktrackingModel",
    "ForwardModel",
    "GoalGan",
    "GoalGanConfig",
    "LearnedBacktrackingModel",
    "RandomBacktrackingModel",
    "RecallConfig",
    "RecallModelConfig",
    "Traces",
    "TransitionTable",
    "Transitions",
    "moving_weights",
    "reachability",
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
        from delegate.recall.stable_baselines.config import RecallConfig

        return RecallConfig
    if name in ("LearnedBacktrackingModel", "RandomBacktrackingModel"):
        from delegate.recall import learned

        return getattr(learned, name)
    raise AttributeError(f"module 'delegate.recall' has no attribute {name!r}")
