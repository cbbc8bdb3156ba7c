"""The Arcade Learning Environment: the machine, its random state, and the action that sticks.

`cloneState(include_rng=True)` holds the emulated machine and the random generator, but not the
action that a game with `repeat_action_probability` goes on repeating: replayed from a clone,
such games diverge. That action is followed here by drawing the same random numbers, and is put
back by letting the machine take it once just before the state is restored.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

import ale_py
import numpy as np

from delegate.backtrack.state import RandomStateMode
from delegate.envs.adapted.engine import Engine
from delegate.envs.adapted.refusal import NotRestorable

_HEAD, _LENGTH, _TAIL = 24, 4, 8
"""bytes of a serialised state: before the machine's, of their count, and after them"""
_WITH_RNG, _WITHOUT_RNG = b"\xb2\xfa\xb1\xfa", b"\xd2\xba\xd1\xba"
"""how a state says whether the generator follows"""
Action = tuple[int, float]
"""which button, how strongly"""
_NOTHING: Action = (0, 1.0)


class WatchedALE:
    """An ALEInterface that remembers which actions it was given since they were last asked for."""

    def __init__(self, ale: Any) -> None:
        self.ale = ale
        self.actions: list[Action] = []
        self.on_load: Callable[[], None] = self.actions.clear
        self.on_reset: Callable[[], None] = self.actions.clear

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ale, name)

    def act(self, action: Any, strength: float = 1.0) -> Any:
        self.actions.append((ale_py.Action(action).value, float(strength)))
        return self.ale.act(action, strength)

    def reset_game(self) -> None:
        self.ale.reset_game()
        self.on_reset()

    def loadROM(self, path: Any) -> None:  # noqa: N802 - the interface's own name
        self.ale.loadROM(path)
        self.on_load()


class AtariEngine(Engine):
    """One ALEInterface.

    machine: uint8 [n] · sticking: float64 [2], the action that is repeated and its strength
    ale_random: bytes, the generator's state as text · screen: uint8 [h, w, 3] with keep_frames
    """

    codec = "ale"
    random = frozenset({"ale_random"})

    def __init__(self, ale: Any) -> None:
        self.ale = ale
        self.stand_in = self.watched = WatchedALE(ale)
        without = ale.cloneState(include_rng=False).serialize()
        self._split = len(without) - _TAIL - len(_WITHOUT_RNG)
        machine, generator = self._read()
        if self._joined(machine, b"") != without or self._joined(machine, generator) != (
            ale.cloneState(include_rng=True).serialize()
        ):
            raise NotRestorable(
                f"ale-py {ale_py.__version__} writes its states in a way that is not known here; "
                "use ale-py 0.12.1"
            )
        self._probability = float(ale.getFloat("repeat_action_probability"))
        self._frames = int(ale.getInt("frame_skip"))
        self._start = machine
        self._accepting = _accepting(self._probability)
        self._screen: np.ndarray | None = None
        # what sticks now cannot be read, so it is made known: no button
        self._put(machine, generator, _NOTHING)
        self.watched.on_load, self.watched.on_reset = self._begun, self._begun

    def save(self) -> dict[str, Any]:
        machine, generator = self._read()
        self._follow(generator)
        saved = {
            "machine": np.frombuffer(machine, np.uint8),
            "sticking": np.array(self._sticking),
            "ale_random": generator,
        }
        if self.keep_frames:
            shown = self.frame()
            saved["screen"] = self.ale.getScreenRGB() if shown is None else shown
        return saved

    def load(self, values: Mapping[str, Any], rng: RandomStateMode) -> None:
        generator = values["ale_random"] if rng == "rewind" else self._read()[1]
        button, strength = values["sticking"]
        self._put(values["machine"].tobytes(), generator, (int(button), float(strength)))
        self._screen = values.get("screen")

    def frame(self) -> Any:
        """A restored machine draws its screen only when it goes on."""
        return None if self.watched.actions else self._screen

    @property
    def world(self) -> str:
        return f"ale-py {ale_py.__version__} {self._probability} {self._frames}"

    def _read(self) -> tuple[bytes, bytes]:
        """The machine and the generator, apart."""
        state = self.ale.cloneState(include_rng=True).serialize()
        inner = state[_HEAD + _LENGTH : -_TAIL]
        split = self._split - _HEAD - _LENGTH
        machine = state[:_HEAD] + inner[:split] + state[-_TAIL:]
        return machine, inner[split + len(_WITH_RNG) :]

    def _joined(self, machine: bytes, generator: bytes) -> bytes:
        """The serialised state of both; without a generator, one that leaves it alone."""
        inner = machine[_HEAD:-_TAIL] + (_WITH_RNG if generator else _WITHOUT_RNG) + generator
        length = struct.pack("<i", len(inner))
        return machine[:_HEAD] + length + inner + machine[-_TAIL:]

    def _put(self, machine: bytes, generator: bytes, sticking: Action) -> None:
        if 0 < self._probability < 1:
            self.ale.restoreState(ale_py.ALEState(self._joined(self._start, self._accepting)))
            self.ale.act(ale_py.Action(sticking[0]), sticking[1])
        self.ale.restoreState(ale_py.ALEState(self._joined(machine, generator)))
        self.watched.actions.clear()
        self._known, self._sticking = generator, sticking

    def _begun(self) -> None:
        """A game that begins repeats nothing; the generator goes on."""
        self._known, self._sticking, self._screen = self._read()[1], _NOTHING, None
        self.watched.actions.clear()

    def _follow(self, generator: bytes) -> None:
        """Which action sticks now, given the generator's state.

        Each frame draws once for each of two players; a draw below the probability repeats.
        """
        actions = self.watched.actions
        if not actions:
            return
        self._screen = None
        if 0 < self._probability < 1:
            stream = _stream(_words(self._known))
            draws = stream.random_raw(2 * self._frames * len(actions))
            if not np.array_equal(_state(stream), _words(generator)):
                raise NotRestorable(
                    f"ale-py {ale_py.__version__} draws other random numbers for sticky actions "
                    "than known here; make the game with repeat_action_probability=0"
                )
            taken = np.flatnonzero(draws[::2] / 2.0**32 >= self._probability)
            if taken.size:
                self._sticking = actions[int(taken[-1]) // self._frames]
        self._known = generator
        actions.clear()


def _words(generator: bytes) -> np.ndarray:
    """The numbers of a generator's state, written as text: 624 words and a position. int64 [625]"""
    return np.fromstring(generator[4:].decode(), np.int64, sep=" ")


def _stream(words: np.ndarray) -> np.random.MT19937:
    stream = np.random.MT19937(0)
    stream.state = {
        "bit_generator": "MT19937",
        "state": {"key": words[:-1].astype(np.uint32), "pos": int(words[-1])},
    }
    return stream


def _state(stream: np.random.MT19937) -> np.ndarray:
    state: Any = stream.state["state"]
    return np.append(state["key"].astype(np.int64), state["pos"])


def _accepting(probability: float) -> bytes:
    """A generator's state whose next draw lets a new action through; empty if none does."""
    if probability >= 1:
        return b""
    seed = 0
    while np.random.MT19937(seed).random_raw() / 2.0**32 < probability:
        seed += 1
    text = " ".join(map(str, _state(np.random.MT19937(seed)).tolist())).encode()
    return struct.pack("<i", len(text)) + text
