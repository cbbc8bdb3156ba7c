"""Hand work to child agents, watch them, take the work back.

The engine for users of Gymnasium: `Backtrack` and `VectorBacktrack` add going back to the
actions of a world; `StatefulVectorEnv` is such a world, `Snapshot` a moment of it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from delegate.backtrack import (
        Backtrack,
        BacktrackConfig,
        FreeRefundWarning,
        Ledger,
        Snapshot,
        SnapshotExpired,
        SnapshotMismatch,
        StatefulVectorEnv,
        VectorBacktrack,
    )

__all__ = [
    "Backtrack",
    "BacktrackConfig",
    "FreeRefundWarning",
    "Ledger",
    "Snapshot",
    "SnapshotExpired",
    "SnapshotMismatch",
    "StatefulVectorEnv",
    "VectorBacktrack",
]


def __getattr__(name: str) -> Any:
    # Looked up when asked for, so that the command line starts without numpy and Gymnasium.
    if name in __all__:
        from delegate import backtrack

        return getattr(backtrack, name)
    raise AttributeError(f"module 'delegate' has no attribute {name!r}")
