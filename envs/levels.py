"""Levels of any world: what is fixed in each, as rows of arrays, made of seeds alone."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import fields
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel


class Levels:
    """L levels; a frozen dataclass of arrays [L, ...] with at least these two.

    seed: int64 [L] what each was made of · kind: int8 [L] NOMINAL or SHIFTED
    contents: names of the arrays by which an agent in a level can tell it from others
    """

    contents: ClassVar[tuple[str, ...]]
    seed: np.ndarray
    kind: np.ndarray

    @property
    def count(self) -> int:
        """L."""
        return len(self.seed)

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]

    def take(self, index: np.ndarray) -> Self:
        """Those levels alone. index: int [n] or bool [L]"""
        return type(self)(**{name: array[index] for name, array in self.arrays().items()})

    def fingerprints(self) -> list[bytes]:
        """16 bytes a level, equal where levels are the same to play, whatever their seeds."""
        own = {name: np.ascontiguousarray(getattr(self, name)) for name in self.contents}
        columns = [array.reshape(self.count, -1) for array in own.values()]
        packed = [np.packbits(c, axis=1) if c.dtype == bool else c.view(np.uint8) for c in columns]
        shape = repr([array.shape[1:] for array in own.values()]).encode()
        return [
            hashlib.blake2b(shape + row.tobytes(), digest_size=16).digest()
            for row in np.concatenate(packed, axis=1)
        ]

    def digest(self) -> str:
        """A short fingerprint of every array (hexadecimal)."""
        digest = hashlib.sha256()
        for name, array in self.arrays().items():
            digest.update(f"{name} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]


def concatenate(*parts: Any) -> Any:
    """The levels of all, in order. Raises ValueError if they are of several worlds or sizes."""
    every = [part.arrays() for part in parts]
    sizes = {
        f"{type(part).__name__} {[array.shape[1:] for array in arrays.values()]}"
        for part, arrays in zip(parts, every, strict=True)
    }
    if len(sizes) != 1:
        raise ValueError(
            f"levels of sizes {'; '.join(sorted(sizes))} cannot be joined; draw them with one size"
        )
    return type(parts[0])(**{name: np.concatenate([e[name] for e in every]) for name in every[0]})


class WorldType(ABC):
    """A kind of world under settings: draws its levels and makes banks of them.

    level_settings: settings that shape levels and nothing else, in which two banks may differ
    goal_settings: those of them that say where the goal lies
    options: of a batch, which `make_bank` takes too
    """

    id: ClassVar[str]
    settings_type: ClassVar[type[BaseModel]]
    level_settings: ClassVar[frozenset[str]] = frozenset({"mix"})
    goal_settings: ClassVar[frozenset[str]] = frozenset({"mix"})
    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @abstractmethod
    def generate(self, seeds: np.ndarray) -> Any:
        """The levels of those seeds, each from its seed and the settings alone.

        Of kind SHIFTED are those, a share of `settings.mix`, whose goal lies anywhere.
        seeds: int64 [L]
        """

    @abstractmethod
    def distinguishing(self, levels: Any) -> np.ndarray:
        """Levels whose proxy's best way does not satisfy the assigned goal. bool [L]"""
