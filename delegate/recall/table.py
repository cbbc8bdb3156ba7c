"""A bank of finite worlds as one transition table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TransitionTable:
    """L finite worlds of one size: P(s' | s, a) as K weighted outcomes for each (s, a).

    next_state:   int32   [L, S, A, K]  where outcome k leads; any state where its probability is 0
    probability:  float64 [L, S, A, K]  sums to one over K from every valid state that is not
                                        terminal; all 0 from terminal and from invalid states
    terminal:     bool    [L, S]        the episode ends on entering; nothing leads out of it
    valid:        bool    [L, S]        the state exists (not a wall)

    L levels, S states, A actions, K outcomes. A deterministic world has K = 1.
    Raises ValueError where a shape, an index or a probability is wrong, and names the place.
    """

    next_state: np.ndarray
    probability: np.ndarray
    terminal: np.ndarray
    valid: np.ndarray

    def __post_init__(self) -> None:
        dtypes = {
            "next_state": np.int32,
            "probability": np.float64,
            "terminal": bool,
            "valid": bool,
        }
        for name, dtype in dtypes.items():
            given = np.asarray(getattr(self, name))
            if given.dtype.kind != np.dtype(dtype).kind:
                raise ValueError(
                    f"transition table: {name} is {given.dtype}; give {np.dtype(dtype)}"
                )
            object.__setattr__(self, name, np.ascontiguousarray(given, dtype))
        self._check_shapes()
        self._check_outcomes()

    @property
    def num_levels(self) -> int:
        """L, the worlds in the bank."""
        return int(self.next_state.shape[0])

    @property
    def num_states(self) -> int:
        """S, the states of each world, walls included."""
        return int(self.next_state.shape[1])

    @property
    def num_actions(self) -> int:
        """A, the actions offered in every state."""
        return int(self.next_state.shape[2])

    @property
    def num_outcomes(self) -> int:
        """K, the most outcomes that one (s, a) can have."""
        return int(self.next_state.shape[3])

    def _check_shapes(self) -> None:
        shape = self.next_state.shape
        if len(shape) != 4 or 0 in shape:
            raise ValueError(
                f"transition table: next_state has shape {shape}; give [levels, states, actions, "
                "outcomes], none of them 0"
            )
        expected = {"probability": shape, "terminal": shape[:2], "valid": shape[:2]}
        for name, wanted in expected.items():
            found = getattr(self, name).shape
            if found != wanted:
                raise ValueError(
                    f"transition table: {name} has shape {found} beside next_state {shape}; "
                    f"give {wanted}"
                )

    def _check_outcomes(self) -> None:
        leads_to, chance, last = self.next_state, self.probability, self.num_states - 1
        outside = (leads_to < 0) | (leads_to > last)
        _refuse(outside, leads_to, f"leads to state {{}}; states are 0 to {last}")
        beyond = ~((chance >= 0) & (chance <= 1))
        _refuse(beyond, chance, "has probability {}; give a number from 0 to 1")
        live, total = (self.valid & ~self.terminal)[:, :, None], chance.sum(3)
        _refuse(
            ~live & (total > 0),
            total,
            "leads out of a terminal or invalid state; give probability 0 there",
        )
        _refuse(
            live & ~np.isclose(total, 1.0, rtol=0, atol=1e-9),
            total,
            "has probabilities that sum to {:.9g}; make them sum to one",
        )
        level = np.arange(self.num_levels)[:, None, None, None]
        _refuse(
            (chance > 0) & ~self.valid[level, leads_to],
            leads_to,
            "leads to state {}, which is not valid; mark it valid or let the move stay where it is",
        )


_AXES = ("level", "state", "action", "outcome")


def _refuse(wrong: np.ndarray, values: np.ndarray, message: str) -> None:
    """Raise ValueError for the first place that is wrong, with its value in the message."""
    if wrong.any():
        first = tuple(np.argwhere(wrong)[0].tolist())
        place = ", ".join(f"{axis} {index}" for axis, index in zip(_AXES, first, strict=False))
        raise ValueError(f"transition table: {place} {message.format(values[first])}")
