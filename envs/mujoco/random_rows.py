"""A NumPy generator a row, its state in an array, so that random state is rows too.

Each row's stream is the one `gymnasium.make(id).reset(seed=seed)` draws from: PCG64.
"""

from __future__ import annotations

import numpy as np

WORD = 2**64
WORDS = 6
"""a row: state high, low; increment high, low; whether half a word is left over, and it"""


class RandomRows:
    """B generators.

    words: uint64 [B, 6], their state; call `save` before reading it, and `written` after writing
    """

    def __init__(self, rows: int) -> None:
        self.words = np.zeros((rows, WORDS), np.uint64)
        self._generators = [np.random.Generator(np.random.PCG64(0)) for _ in range(rows)]
        self._stale = np.zeros(rows, bool)
        self._drawn = set(range(rows))
        self.save()

    def seed(self, row: int, seed: int) -> None:
        """Start that row's stream as Gymnasium does."""
        sequence = np.random.SeedSequence(seed)
        self._generators[row] = np.random.Generator(np.random.PCG64(sequence))
        self._stale[row] = False
        self._drawn.add(row)

    def written(self, rows: np.ndarray | slice) -> None:
        """Those rows of `words` were written from outside."""
        self._stale[rows] = True

    def generator(self, row: int) -> np.random.Generator:
        """That row's generator, to be drawn from."""
        generator = self._generators[row]
        if self._stale[row]:
            high, low, step_high, step_low, left_over, half = self.words[row].tolist()
            generator.bit_generator.state = {
                "bit_generator": "PCG64",
                "state": {"state": high * WORD + low, "inc": step_high * WORD + step_low},
                "has_uint32": left_over,
                "uinteger": half,
            }
            self._stale[row] = False
        self._drawn.add(row)
        return generator

    def save(self) -> None:
        """Bring `words` up to date with what was drawn."""
        while self._drawn:
            row = self._drawn.pop()
            state = self._generators[row].bit_generator.state
            inner: dict[str, int] = state["state"]
            self.words[row] = (
                *divmod(inner["state"], WORD),
                *divmod(inner["inc"], WORD),
                state["has_uint32"],
                state["uinteger"],
            )
