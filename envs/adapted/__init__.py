"""Any single Gymnasium environment as rows: how its state is read, restored and proved."""

from delegate.envs.adapted.kinds import NotRestorable
from delegate.envs.adapted.vector import AdaptedVectorEnv, RowFailed

__all__ = ["AdaptedVectorEnv", "NotRestorable", "RowFailed"]
