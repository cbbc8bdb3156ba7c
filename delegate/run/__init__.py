"""Scenario to run folder: what a scenario may name, and every trial of it played."""

from typing import TYPE_CHECKING

from delegate.lazy import handed_on

if TYPE_CHECKING:
    from delegate.run.certificate import CannotBeMade, certify, in_words
    from delegate.run.execution import execute
    from delegate.run.names import listed, registries
    from delegate.run.source import Source, load_scenario, make_world, plain_grid
    from delegate.store import BadPlace, RunError, check_place

__all__ = [
    "BadPlace",
    "CannotBeMade",
    "RunError",
    "Source",
    "certify",
    "check_place",
    "execute",
    "in_words",
    "listed",
    "load_scenario",
    "make_world",
    "plain_grid",
    "registries",
]

__getattr__ = handed_on(
    __name__,
    {
        "delegate.run.certificate": ("CannotBeMade", "certify", "in_words"),
        "delegate.run.execution": ("execute",),
        "delegate.run.names": ("listed", "registries"),
        "delegate.run.source": ("Source", "load_scenario", "make_world", "plain_grid"),
        "delegate.store": ("BadPlace", "RunError", "check_place"),
    },
)
