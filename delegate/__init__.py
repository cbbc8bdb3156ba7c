"""Hand work to child agents, watch them, take the work back.

The engine for users of Gymnasium: `Backtrack` and `VectorBacktrack` add going back to the
actions of a world; `StatefulVectorEnv` is such a world, `Snapshot` a moment of it.
"""

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
