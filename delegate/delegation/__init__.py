"""Hand over and take back: sub-episodes as nodes of a tree, committed or rolled back whole."""

from typing import TYPE_CHECKING

from delegate.lazy import handed_on

if TYPE_CHECKING:
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

__getattr__ = handed_on(
    __name__,
    {
        "delegate.delegation.episodes": ("Bounds", "Facts"),
        "delegate.delegation.events": ("EventLog",),
        "delegate.delegation.protocols": ("PROTOCOLS", "Judgement", "Protocol", "Watched"),
        "delegate.delegation.runtime": ("Runtime",),
        "delegate.delegation.tree": ("DelegationTree",),
        "delegate.delegation.watch": ("Watcher",),
    },
)
