"""Go back: state as rows, the backtrack action, the ledger, and the fidelity conformance."""

from delegate.backtrack.config import BacktrackConfig
from delegate.backtrack.ledger import Ledger
from delegate.backtrack.progress import FreeRefundWarning
from delegate.backtrack.single import Backtrack
from delegate.backtrack.state import Snapshot, SnapshotExpired, SnapshotMismatch, StatefulVectorEnv
from delegate.backtrack.vector import VectorBacktrack

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
