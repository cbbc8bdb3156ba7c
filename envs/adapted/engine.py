"""What the codec of a simulator does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from delegate.backtrack.state import RandomStateMode


class Engine(ABC):
    """Reads and writes all that can change in one simulator, exactly.

    codec: its name · random: the names of what it saves that is random state
    """

    codec: ClassVar[str]
    random: frozenset[str] = frozenset()
    also: tuple[Any, ...] = ()
    """further simulators that this one depends on"""
    keep_frames: bool = False
    """whether `frame` will be asked for"""
    stand_in: Any = None
    """what the environment must use instead of the simulator, so that its codec sees all"""

    @abstractmethod
    def save(self) -> dict[str, Any]:
        """Name -> array, or an object that nothing changes afterwards."""

    @abstractmethod
    def load(self, values: Mapping[str, Any], rng: RandomStateMode) -> None:
        """Be as when those values were saved."""

    @property
    @abstractmethod
    def world(self) -> str:
        """What a snapshot must share with this simulator: model and version."""

    def warnings(self) -> int:
        """How often the simulation has blown up so far; a count that only grows."""
        return 0

    def frame(self) -> Any:
        """What the screen showed when it was saved, where drawing would not show that; or None."""
        return None
