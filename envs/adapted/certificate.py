"""What a proof found, in a form that can be printed, compared and kept."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

_COMPUTES = ("gymnasium", "numpy", "mujoco", "ale-py", "gymnasium-robotics", "minigrid", "torch")
"""distributions that may compute a world; those imported are named in its certificate"""


@dataclass(frozen=True)
class Certificate:
    """Whether an environment can be restored exactly, as far as a replay of `steps` steps shows.

    env: its id, or its class · verdict: "exact" or "refused"
    codec: how it is saved: "copy", "mujoco", "ale" or "rows"; None if nothing could save it
    steps, resets, rows: how many steps of how many rows were compared, through how many resets
    field: the best known name of what a restore loses; None if exact
    step: the first replayed step (count from the saved moment) that differs; None if exact, or
    if it was refused before a replay
    reason: why it was refused, and the remedy, in one line; None if exact
    versions: package -> version of what computes it
    """

    env: str
    verdict: Literal["exact", "refused"]
    codec: str | None
    steps: int
    resets: int
    rows: int
    field: str | None
    step: int | None
    reason: str | None
    versions: Mapping[str, str]

    @property
    def exact(self) -> bool:
        """Whether the verdict is "exact"."""
        return self.verdict == "exact"


def versions() -> dict[str, str]:
    """Package -> version of those that may compute a world and are imported."""
    found = {}
    for name in _COMPUTES:
        if name.replace("-", "_") in sys.modules:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
    return found
