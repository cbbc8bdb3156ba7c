"""Hand work to child agents, watch them, take the work back.

The engine for users of Gymnasium: `Backtrack` and `VectorBacktrack` add going back to the
actions of a world; `StatefulVectorEnv` is such a world, `Snapshot` a moment of it.
`StableVecEnv` shows either to Stable-Baselines3, and `RecallTraces` is a callback for its
algorithms; the extra `sb3` installs what they need.
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
    from delegate.backtrack.stable_baselines import StableVecEnv as StableVecEnv
    from delegate.recall.stable_baselines.callback import RecallTraces as RecallTraces

# These two are not among them: a star import must work without Stable-Baselines3.
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
    if name == "StableVecEnv":
        from delegate.backtrack.stable_baselines import StableVecEnv

        return StableVecEnv
    if name == "RecallTraces":
        from delegate.recall.stable_baselines.callback import RecallTraces

        return RecallTraces
    raise AttributeError(f"module 'delegate' has no attribute {name!r}")
