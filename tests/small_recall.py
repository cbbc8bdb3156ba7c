"""Settings of recall so small that a training takes a second."""

from __future__ import annotations

from typing import Any

SMALL_RECALL: dict[str, Any] = {
    "length": 4,
    "count": 8,
    "start": 128,
    "every": 64,
    "model_updates": 3,
}
