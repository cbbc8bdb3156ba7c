"""Settings of recall so small that a training takes a second, and what is logged then."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.logger import Logger

SMALL_RECALL: dict[str, Any] = {
    "length": 4,
    "count": 8,
    "start": 128,
    "every": 64,
    "model_updates": 3,
}


def logged(model: Any) -> dict[str, Any]:
    """The last value of everything it will log."""
    told: dict[str, Any] = {}

    class Kept(Logger):
        def record(self, key: str, value: Any, exclude: Any = None) -> None:
            told[key] = value

    model.set_logger(Kept(None, []))
    return told
