"""Hand over and take back: sub-episodes as nodes of a tree, committed or rolled back whole."""

from delegate.delegation.episodes import Bounds, Facts
from delegate.delegation.events import EventLog
from delegate.delegation.protocols import PROTOCOLS, Judgement, Protocol, Watched
from delegate.delegation.runtime import Runtime
from delegate.delegation.tree import DelegationTree
from delegate.delegation.watch import Watcher

__all__ = [
    "PROTOCOLS",
    "Bounds",
    "DelegationTree",
    "EventLog",
    "Facts",
    "Judgement",
    "Protocol",
    "Runtime",
    "Watched",
    "Watcher",
]
