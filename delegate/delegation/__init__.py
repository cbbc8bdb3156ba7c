"""Hand over and take back: sub-episodes as nodes of a tree, committed or rolled back whole."""

from typing import TYPE_CHECKING

from delegate.lazy import handed_on

if TYPE_CHECKING:
    from delegate.delegation.episodes import Bounds
    from delegate.delegation.events import EventLog
    from delegate.delegation.protocols import PROTOCOLS, Judgement, Protocol, Watched
    from delegate.delegation.runtime import Asked, Delegation
    from delegate.delegation.tree import DelegationTree
    from delegate.delegation.watch import Watcher

__all__ = [
    "PROTOCOLS",
    "Asked",
    "Bounds",
    "Delegation",
    "DelegationTree",
    "EventLog",
    "Judgement",
    "Protocol",
    "Watched",
    "Watcher",
]

__getattr__ = handed_on(
    __name__,
    {
        "delegate.delegation.episodes": ("Bounds",),
        "delegate.delegation.events": ("EventLog",),
        "delegate.delegation.protocols": ("PROTOCOLS", "Judgement", "Protocol", "Watched"),
        "delegate.delegation.runtime": ("Asked", "Delegation"),
        "delegate.delegation.tree": ("DelegationTree",),
        "delegate.delegation.watch": ("Watcher",),
    },
)
