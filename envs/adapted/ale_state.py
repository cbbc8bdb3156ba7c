"""The Arcade Learning Environment: the machine, its random state, and the action that sticks.

`cloneState(include_rng=True)` holds the emulated machine and the random generator, but not the
action that a game with `repeat_action_probability` goes on repeating: replayed from a clone,
such games diverge. That action is followed here by drawing the same random numbers, and is put
back by letting the machine take it once just before the state is restored.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import ale_py
import numpy as np

from delegate.envs.adapted.kinds import NotRestorable

_HEAD, _LENGTH, _TAIL = 24, 4, 8
"""bytes of a serialised state: before the machine's, of their count, and after the generator's"""
_NOTHING = (0, 1.0)
"""which button sticks, how strongly"""


class WatchedALE:
    """Stands in for an ALEInterface, and knows which actions it was given since it was last read.

    A restored machine draws its screen only when it goes on: `keep_frames` saves it too.
    """

    def __init__(self, ale: Any, keep_frames: bool = False) -> None:
        self.ale, self.keep_frames = ale, keep_frames
        self._split = len(ale.cloneState(include_rng=False).serialize()) - _TAIL
        self._probability = float(ale.getFloat("repeat_action_probability"))
        self._least = self._probability * 2.0**32  # of draws that let a new action through
        self._frames = int(ale.getInt("frame_skip"))
        self._sticky = 0 < self._probability < 1
        start = ale.cloneState(include_rng=True)
        while self._sticky and _stream(self.__getstate__()).random_raw() < self._least:
            ale.act(ale_py.Action(0))
        self._accepting = ale.cloneState(include_rng=True)
        ale.restoreState(start)
        self.actions: list[tuple[int, float]] = []
        self.load([ale.cloneState(include_rng=False).serialize(), *_NOTHING, None])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ale, name)

    def act(self, action: Any, strength: float = 1.0) -> Any:
        self.actions.append((ale_py.Action(action).value, float(strength)))
        return self.ale.act(action, strength)

    def reset_game(self) -> None:
        self.ale.reset_game()
        self._begun()

    def loadROM(self, path: Any) -> None:  # noqa: N802 - the interface's own name
        if (now := self.ale.getString("rom_file")) != str(path):
            raise NotRestorable(
                f"another cartridge ({Path(path).name} after {Path(now).name}) cannot be loaded "
                "into one machine whose moments are saved; make an environment for each"
            )
        self.ale.loadROM(path)
        self._begun()

    def getScreenRGB(self) -> Any:  # noqa: N802
        return self.ale.getScreenRGB() if self._screen is None or self.actions else self._screen

    def save(self) -> list[Any]:
        """The machine, the action that sticks, its strength, and the screen with keep_frames."""
        self._follow()
        machine = self.ale.cloneState(include_rng=False).serialize()
        return [machine, *self._sticking, self.getScreenRGB().copy() if self.keep_frames else None]

    def load(self, saved: list[Any]) -> None:
        """Be as when that was saved; the generator is left as it is."""
        machine, button, strength, self._screen = saved
        generator = self.ale.cloneState(include_rng=True)
        if self._sticky:  # what sticks cannot be written: let it be taken
            self.ale.restoreState(self._accepting)
            self.ale.act(ale_py.Action(button), strength)
            self.ale.restoreState(generator)
        self.ale.restoreState(ale_py.ALEState(machine))
        self._known = generator.serialize()[self._split : -_TAIL]
        self._sticking = button, strength
        self.actions.clear()

    def __getstate__(self) -> bytes:
        """The generator's state: its count of bytes, then its numbers as text."""
        return bytes(self.ale.cloneState(include_rng=True).serialize()[self._split : -_TAIL])

    def __setstate__(self, generator: bytes) -> None:
        """Put back the generator's state alone."""
        state = self.ale.cloneState(include_rng=True).serialize()
        inner = state[_HEAD + _LENGTH : self._split] + generator
        length = struct.pack("<i", len(inner))
        self.ale.restoreState(ale_py.ALEState(state[:_HEAD] + length + inner + state[-_TAIL:]))
        self._known = generator

    @property
    def world(self) -> str:
        """What a snapshot must share with it."""
        game = Path(self.ale.getString("rom_file")).stem
        return f"ale-py {ale_py.__version__} {game} {self._probability} {self._frames}"

    def _begun(self) -> None:
        """A game that begins repeats nothing; the generator goes on."""
        self._known, self._sticking, self._screen = self.__getstate__(), _NOTHING, None
        self.actions.clear()

    def _follow(self) -> None:
        """Find which action sticks now.

        Each frame draws once for each of two players; a draw below the probability repeats.
        """
        if not self.actions:
            return
        before, self._known, self._screen = self._known, self.__getstate__(), None
        if self._sticky:
            stream = _stream(before)
            draws = stream.random_raw(2 * self._frames * len(self.actions))
            if not np.array_equal(stream.random_raw(8), _stream(self._known).random_raw(8)):
                raise NotRestorable(
                    f"an ale-py {ale_py.__version__} that draws other random numbers for sticky "
                    "actions than known here; make the game with repeat_action_probability=0"
                )
            taken = np.flatnonzero(draws[::2] >= self._least)
            if taken.size:
                self._sticking = self.actions[int(taken[-1]) // self._frames]
        self.actions.clear()


def _stream(generator: bytes) -> Any:
    """The generator whose state that is: 624 words and a position."""
    words = np.fromstring(generator[4:].decode(), np.int64, sep=" ")
    stream: Any = np.random.MT19937(0)
    state = {"key": words[:-1].astype(np.uint32), "pos": int(words[-1])}
    stream.state = {"bit_generator": "MT19937", "state": state}
    return stream
