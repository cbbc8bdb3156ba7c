"""Any single Gymnasium environment as rows: how its state is read, restored and proved."""

from delegate.envs.adapted.refusal import NotRestorable, RowFailed
from delegate.envs.adapted.vector import AdaptedVectorEnv

__all__ = ["AdaptedVectorEnv", "NotRestorable", "RowFailed"]
