"""Look back: backtracking models, the traces they recall and what those say about a goal."""

from delegate.recall.backward import Backward, moving_weights
from delegate.recall.exact import ExactBacktrackingModel
from delegate.recall.model import BacktrackingModel, reachability
from delegate.recall.table import TransitionTable
from delegate.recall.traces import Traces

__all__ = [
    "BacktrackingModel",
    "Backward",
    "ExactBacktrackingModel",
    "Traces",
    "TransitionTable",
    "moving_weights",
    "reachability",
]
