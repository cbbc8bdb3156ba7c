"""How fast the engine is, beside its peers and in the same process; see `measure`."""

from delegate.bench.measure import PARTS, TASKS, Settings, measure
from delegate.bench.report import tables

__all__ = ["PARTS", "TASKS", "Settings", "measure", "tables"]
