"""Who acts: children of known kind, parents that follow a rule, and learners."""

from policies.parents import InTurn, Relay
from policies.registry import ids, make, policy_class, settings_type
from policies.tabular import QLearning, QLearningSettings, train

__all__ = [
    "InTurn",
    "QLearning",
    "QLearningSettings",
    "Relay",
    "ids",
    "make",
    "policy_class",
    "settings_type",
    "train",
]
