"""Random generators: their state as a value, set back into a generator that goes on living."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

Stream = np.random.Generator | np.random.BitGenerator | np.random.RandomState | random.Random


def read(stream: Stream) -> Any:
    """The whole state of a generator: a value that later draws do not change."""
    if isinstance(stream, np.random.Generator):
        return stream.bit_generator.state
    if isinstance(stream, np.random.BitGenerator):
        return stream.state
    if isinstance(stream, np.random.RandomState):
        return stream.get_state(legacy=False)
    return stream.getstate()


def write(stream: Stream, state: Any) -> None:
    """Put a generator back to where `read` found one of its type."""
    if isinstance(stream, np.random.Generator):
        stream.bit_generator.state = state
    elif isinstance(stream, np.random.BitGenerator):
        stream.state = state
    elif isinstance(stream, np.random.RandomState):
        stream.set_state(state)
    else:
        stream.setstate(state)


def fits(stream: Any, state: Any) -> bool:
    """Whether that generator can be put into that state."""
    if not isinstance(stream, Stream):
        return False
    own = read(stream)
    if isinstance(own, dict) and isinstance(state, dict):
        return bool(own["bit_generator"] == state["bit_generator"])
    return type(own) is type(state)


def like(original: Stream, state: Any) -> Stream:
    """A new generator of the type of `original`, in that state."""
    new: Stream
    if isinstance(original, np.random.Generator):
        new = np.random.Generator(type(original.bit_generator)(0))
    elif isinstance(original, np.random.RandomState):
        new = np.random.RandomState(type(original._bit_generator)(0))
    else:
        new = type(original)(0)
    write(new, state)
    return new
