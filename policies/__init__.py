"""Who acts: children of known kind, parents that follow a rule, and learners."""

from delegate.policies.parents import InTurn, Relay
from delegate.policies.registry import ids, make, policy_class, register, settings_type
from delegate.policies.tabular import QLearning, QLearningSettings, train

__all__ = [
    "InTurn",
    "QLearning",
    "QLearningSettings",
    "Relay",
    "ids",
    "make",
    "policy_class",
    "register",
    "settings_type",
    "train",
]
