"""Scenario to run folder: what a scenario may name, and every trial of it played."""

from delegate.run.execution import execute
from delegate.run.source import Source, load_scenario, make_world, plain_grid, registries
from delegate.store import RunError

__all__ = [
    "RunError",
    "Source",
    "execute",
    "load_scenario",
    "make_world",
    "plain_grid",
    "registries",
]
