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
"""bytes of a serialised state: before the machine's, of their count, and after them"""
_WITH_RNG, _WITHOUT_RNG = b"\xb2\xfa\xb1\xfa", b"\xd2\xba\xd1\xba"
"""how a state says whether the generator follows"""
_NOTHING = (0, 1.0)
"""which button sticks, how strongly"""
_UNKNOWN = f"an ale-py {ale_py.__version__} whose states are not known here; use ale-py 0.12.1"


class WatchedALE:
    """Stands in for an ALEInterface, and knows which actions it was given since it was last read.

    A restored machine draws its screen only when it goes on: `keep_frames` saves it too.
    """

    def __init__(self, ale: Any, keep_frames: bool = False) -> None:
        self.ale, self.keep_frames = ale, keep_frames
        self.actions: list[tuple[int, float]] = []
        without = ale.cloneState(include_rng=False).serialize()
        self._split = len(without) - _TAIL - len(_WITHOUT_RNG)
        machine, generator = self._read()
        if self._joined(machine, b"") != without:
            raise NotRestorable(_UNKNOWN)
        self._probability = float(ale.getFloat("repeat_action_probability"))
        self._frames = int(ale.getInt("frame_skip"))
        self._sticky = 0 < self._probability < 1
        self._known = generator
        while self._sticky and _stream(self._known).random_raw() / 2.0**32 < self._probability:
            ale.act(ale_py.Action(0))
            self._known = self._read()[1]
        self._accepting = ale.cloneState(include_rng=True)
        self._put(machine, generator, _NOTHING, None)  # what sticks cannot be read: make it known

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
        machine, generator = self._read()
        self._follow(generator)
        return [machine, *self._sticking, self.getScreenRGB().copy() if self.keep_frames else None]

    def load(self, saved: list[Any]) -> None:
        """Be as when that was saved; the generator is left as it is."""
        machine, button, strength, screen = saved
        self._put(machine, self._read()[1], (button, strength), screen)

    def __getstate__(self) -> bytes:
        """The generator's state."""
        return self._read()[1]

    def __setstate__(self, generator: bytes) -> None:
        """Put back the generator's state alone."""
        self.ale.restoreState(ale_py.ALEState(self._joined(self._read()[0], generator)))
        self._known = generator

    def world(self) -> str:
        """What a snapshot must share with it."""
        game = Path(self.ale.getString("rom_file")).stem
        return f"ale-py {ale_py.__version__} {game} {self._probability} {self._frames}"

    def _read(self) -> tuple[bytes, bytes]:
        """The machine and the generator, apart."""
        state = self.ale.cloneState(include_rng=True).serialize()
        rest = self._split + len(_WITH_RNG)
        machine = state[:_HEAD] + state[_HEAD + _LENGTH : self._split] + state[-_TAIL:]
        return machine, state[rest:-_TAIL]

    def _joined(self, machine: bytes, generator: bytes) -> bytes:
        """The serialised state of both; without a generator, one that leaves it alone."""
        inner = machine[_HEAD:-_TAIL] + (_WITH_RNG if generator else _WITHOUT_RNG) + generator
        length = struct.pack("<i", len(inner))
        return machine[:_HEAD] + length + inner + machine[-_TAIL:]

    def _put(self, machine: bytes, generator: bytes, sticking: Any, screen: Any) -> None:
        if self._sticky:
            self.ale.restoreState(self._accepting)
            self.ale.act(ale_py.Action(sticking[0]), sticking[1])
        self.ale.restoreState(ale_py.ALEState(self._joined(machine, generator)))
        self.actions.clear()
        self._known, self._sticking, self._screen = generator, sticking, screen

    def _begun(self) -> None:
        """A game that begins repeats nothing; the generator goes on."""
        self._known, self._sticking, self._screen = self._read()[1], _NOTHING, None
        self.actions.clear()

    def _follow(self, generator: bytes) -> None:
        """Find which action sticks now, given the generator's state.

        Each frame draws once for each of two players; a draw below the probability repeats.
        """
        if not self.actions:
            return
        self._screen = None
        if self._sticky:
            stream = _stream(self._known)
            draws = stream.random_raw(2 * self._frames * len(self.actions))
            if not np.array_equal(stream.random_raw(8), _stream(generator).random_raw(8)):
                raise NotRestorable(_UNKNOWN)
            taken = np.flatnonzero(draws[::2] / 2.0**32 >= self._probability)
            if taken.size:
                self._sticking = self.actions[int(taken[-1]) // self._frames]
        self._known = generator
        self.actions.clear()


def _stream(generator: bytes) -> Any:
    """The generator whose state that is: its count of bytes, then 624 words and a position."""
    words = np.fromstring(generator[4:].decode(), np.int64, sep=" ")
    stream: Any = np.random.MT19937(0)
    state = {"key": words[:-1].astype(np.uint32), "pos": int(words[-1])}
    stream.state = {"bit_generator": "MT19937", "state": state}
    return stream
