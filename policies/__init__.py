"""Who acts: children of known kind and parents that follow a rule."""

from policies.parents import InTurn, Relay
from policies.registry import ids, make, policy_class, settings_type

__all__ = ["InTurn", "Relay", "ids", "make", "policy_class", "settings_type"]
