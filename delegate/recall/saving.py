"""Learners as files: torch's convention of `state_dict`, kept as safetensors."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from delegate.files import write_whole


class Saveable(ABC):
    """What learns, and goes on from a file as if it had never stopped."""

    _rng: np.random.Generator

    @abstractmethod
    def _live(self) -> dict[str, Tensor]:
        """The tensors that learning changes, by name: to write into one changes the learner."""

    @abstractmethod
    def _description(self) -> dict[str, Any]:
        """What another one must have in common to take them over."""

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of all that learning changes, by name; `rng` is where its random stream is."""
        live = {name: tensor.detach().cpu().clone() for name, tensor in self._live().items()}
        stream = json.dumps(self._rng.bit_generator.state).encode()
        return {**live, "rng": torch.tensor(list(stream), dtype=torch.uint8)}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Tensor]) -> None:
        """Go on from what `state_dict` gave. Raises ValueError for other names, shapes or types,
        and for what is not finite; this one is then as it was."""
        mine, given, rng = self._live(), dict(state_dict), np.random.default_rng()
        try:
            rng.bit_generator.state = json.loads(bytes(given.pop("rng").tolist()))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("rng is no state of a random stream; train anew") from error
        for name in sorted(mine.keys() | given.keys()):
            shapes = [tuple(s[name].shape) if name in s else None for s in (given, mine)]
            if shapes[0] != shapes[1]:
                raise ValueError(f"{name} has shape {shapes[0]}, and here {shapes[1]}; train anew")
            if given[name].dtype != mine[name].dtype or not torch.isfinite(given[name]).all():
                raise ValueError(f"{name} is {given[name].dtype} or not finite; train anew")
        self._rng = rng
        for name, tensor in mine.items():
            tensor.copy_(given[name])

    def content(self) -> bytes:
        """`state_dict` as safetensors, and what this is, as JSON in their header."""
        metadata = {"delegate": json.dumps(self._description())}
        return safetensors.torch.save(self.state_dict(), metadata)

    def save(self, path: str | Path) -> None:
        """Write `content` to a file. Raises OSError where it cannot be written; what was there
        stays then."""
        write_whole(Path(path), self.content())

    def load(self, path: str | Path) -> None:
        """Become what was saved there.

        Raises OSError where it cannot be read, ValueError where it is damaged or foreign, or of
        one with other settings, spaces or shapes; this one is then as it was.
        """
        content, mine = Path(path).read_bytes(), json.loads(json.dumps(self._description()))
        try:
            state_dict = safetensors.torch.load(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            found = dict(json.loads(header["__metadata__"]["delegate"]))
        except Exception as error:  # whatever a damaged file makes of the reader
            raise ValueError(f"{path} is not a file as `save` writes it, or damaged") from error
        for key in sorted(mine.keys() | found.keys()):
            if found.get(key) != mine.get(key):
                raise ValueError(
                    f"{path} holds a model whose {key} is {found.get(key)}, and here it is "
                    f"{mine.get(key)}; make this one with the same"
                )
        try:
            self.load_state_dict(state_dict)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def adam(network: nn.Module, rate: float, beta: float = 0.9) -> torch.optim.Adam:
    """An optimizer whose moments are there from the beginning, to be saved and loaded."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    fused = trained[0].device.type != "mps"
    optimizer = torch.optim.Adam(trained, rate, betas=(beta, 0.999), fused=fused)
    for parameter in trained:
        optimizer.state[parameter] = {
            "step": torch.zeros((), device=parameter.device if fused else "cpu"),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


def training_state(
    name: str, network: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """The network's state_dict and the moments of its optimizer, themselves."""
    found = {f"{name}.{part}": value for part, value in network.state_dict().items()}
    for part, parameter in network.named_parameters():
        moments = optimizer.state.get(parameter, {})
        found |= {f"optimizer.{name}.{part}.{key}": value for key, value in moments.items()}
    return found
