"""Models as files: tensors and JSON, written whole or not at all, loaded without running code."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from delegate.files import write_whole

_FORMAT = 1


def write(
    path: Path, description: dict[str, Any], stream: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    """One file: what the model is and where its random stream stands, as JSON; named tensors."""
    content = {
        "format": _FORMAT,
        "description": json.dumps(description),
        "stream": json.dumps(stream),
        "tensors": {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()},
    }
    write_tensors(path, content)


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """What torch can read without running code, whole or not at all."""
    file = io.BytesIO()  # torch hides what a disk says
    torch.save(content, file)
    write_whole(path, file.getvalue())


def read(
    path: Path, description: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The stream and the tensors of a file, which must fit the model described.

    Raises FileNotFoundError, or ValueError where the file is damaged or of another model.
    """
    with open(path, "rb") as file:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
            found, saved = json.loads(content["description"]), content["tensors"]
            stream, form = json.loads(content["stream"]), content["format"]
        except Exception as error:
            raise ValueError(f"{path} is not a model as `save` writes it, or damaged") from error
    if form != _FORMAT:
        raise ValueError(f"{path} has format {form} and this version reads {_FORMAT}; train anew")
    for key in sorted(description.keys() | found.keys()):
        if found.get(key) != (wanted := json.loads(json.dumps(description.get(key)))):
            raise ValueError(
                f"{path} holds a model whose {key} is {found.get(key)}, and here it is {wanted}; "
                "make this one with the same"
            )
    for name in sorted(tensors.keys() | saved.keys()):
        shapes = [tuple(side[name].shape) if name in side else None for side in (saved, tensors)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{path}: {name} has shape {shapes[0]}, and here {shapes[1]}; train anew"
            )
        if saved[name].dtype != tensors[name].dtype or not torch.isfinite(saved[name]).all():
            raise ValueError(f"{path}: {name} is {saved[name].dtype} or not finite; train anew")
    return stream, saved


def stream_from(path: str | Path, state: dict[str, Any]) -> np.random.Generator:
    """A random stream that stands where the one in the file stood."""
    rng = np.random.default_rng()
    try:
        rng.bit_generator.state = state
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has no state of a random stream; train anew") from error
    return rng
