"""Files in which RecallTraces keeps what it remembered and learned. Nothing in them is a pickle."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from delegate.recall.learning import TransitionModel
from delegate.recall.saving import write_tensors

_PARTS = ("buffer", "imitation", "rng", "due", "observed", "kind", "model", "diagnostics")


def write(path: Path, parts: dict[str, Any]) -> None:
    """Whole or not at all. parts: by name"""
    write_tensors(path, {name: parts[name] for name in _PARTS})


def read(path: str | Path) -> dict[str, Any]:
    """What `write` was given.

    Raises OSError where it cannot be read, ValueError for a file that is no such thing.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        return {name: saved[name] for name in _PARTS}
    except OSError:
        raise
    except Exception as error:  # whatever a damaged file makes of the reader
        raise ValueError(
            f"{path}: not what RecallTraces.save writes, or damaged; give the file it wrote"
        ) from error


def packed(model: TransitionModel) -> torch.Tensor:
    """What its `save` writes. uint8 [bytes]"""
    with tempfile.TemporaryDirectory() as folder:
        model.save(path := Path(folder) / "model.pt")
        return torch.from_numpy(np.fromfile(path, np.uint8))


def unpack(model: TransitionModel, saved: torch.Tensor) -> None:
    """`load` it. Raises ValueError for a model of other settings, spaces or shapes."""
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder) / "model.pt").write_bytes(saved.numpy().tobytes())
        try:
            model.load(path)
        except ValueError as error:
            raise ValueError(str(error).replace(str(path), "the saved model")) from None


def check(model: TransitionModel, saved: torch.Tensor) -> None:
    """Raise what `unpack` would raise, changing nothing."""
    unpack(copy.deepcopy(model), saved)
