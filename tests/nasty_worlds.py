"""Environments that cannot be restored, each for one reason, and the honest one they come from."""

from __future__ import annotations

import copy
import hashlib
import os
import random
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

SHARED = np.random.default_rng(0)
TURNS = 0
MACHINES: dict[int, list[int]] = {}
"""a library whose simulators are known to their owners by number alone"""


class Walk(gymnasium.Env[Any, Any]):
    """A noisy walk on a line of 9 places; it ends at either end. Honest: it can be restored."""

    def __init__(self) -> None:
        self.observation_space = Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = Discrete(3)
        self.position, self.steps = 4, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.position, self.steps = 4, 0
        return self.look(), {"at": self.position}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.position += int(action) - 1 + int(self.np_random.integers(-1, 2))
        self.steps += 1
        over = not 0 < self.position < 8
        return self.look(), self.reward(), over, False, {"at": self.position}

    def look(self) -> np.ndarray:
        return np.array([self.position, self.steps], np.float64)

    def reward(self) -> float:
        return float(self.position == 8)


class HoldsAGenerator(Walk):
    def __init__(self) -> None:
        super().__init__()
        self.plan: Iterator[int] = (place for place in range(1000))

    def reward(self) -> float:
        return float(next(self.plan))


class HoldsALock(Walk):
    def __init__(self) -> None:
        super().__init__()
        self.parts = {"guards": [threading.Lock()]}


class HoldsAFile(Walk):
    def __init__(self) -> None:
        super().__init__()
        self.log = open(os.devnull, "w")  # noqa: SIM115 - it is held, that is the point

    def close(self) -> None:
        self.log.close()


class HoldsMemoryOfC(Walk):
    """A C object that can be neither copied nor pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = hashlib.sha256()

    def reward(self) -> float:
        self.digest.update(b"step")
        return float(self.digest.digest()[0])


class Digest:
    """The same C object behind a hook that says how to copy it."""

    def __init__(self) -> None:
        self.inner = hashlib.sha256()

    def __deepcopy__(self, memo: dict[int, Any]) -> Digest:
        new = Digest()
        new.inner = self.inner.copy()
        return new


class HoldsMemoryOfCWell(Walk):
    """The remedy: the holder has a `__deepcopy__`."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = Digest()

    def reward(self) -> float:
        self.digest.inner.update(b"step")
        return float(self.digest.inner.digest()[0])


class Forgetful:
    """A copy hook that loses what it should copy."""

    def __init__(self) -> None:
        self.count = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Forgetful:
        return Forgetful()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Forgetful)

    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (Forgetful, ())


class CopiesBadly(Walk):
    def __init__(self) -> None:
        super().__init__()
        self.part = Forgetful()

    def reward(self) -> float:
        self.part.count += 1
        return float(self.part.count)


class Finaliser:
    def __del__(self) -> None:
        MACHINES.pop(0, None)


class HoldsAFinaliser(Walk):
    def __init__(self) -> None:
        super().__init__()
        self.part = Finaliser()


class CountsInAGlobal(Walk):
    def reward(self) -> float:
        global TURNS
        TURNS += 1
        return float(TURNS % 7)


class CountsInItsClass(Walk):
    """The count shows only after ten thousand steps: no replay would find it."""

    total: ClassVar[int] = 0

    def reward(self) -> float:
        type(self).total += 1
        return float(type(self).total > 10_000)


class DrawsFromNumpysGlobal(Walk):
    def reward(self) -> float:
        return float(np.random.rand())


class DrawsFromPythonsGlobal(Walk):
    def reward(self) -> float:
        return random.random()


class DrawsFromItsModule(Walk):
    def reward(self) -> float:
        return float(SHARED.random())


class ReadsTheClock(Walk):
    def reward(self) -> float:
        return time.perf_counter()


class AsksTheSystem(Walk):
    def reward(self) -> float:
        return float(os.urandom(1)[0])


class Other:
    """Anything without a hash of its own."""


class HoldsASetOfObjects(Walk):
    def __init__(self) -> None:
        super().__init__()
        self.others = {Other() for _ in range(3)}


class SystemRandomHeld(Walk):
    def __init__(self) -> None:
        super().__init__()
        self.dice = random.SystemRandom()


class ReusesAMachine(Walk):
    """Its state lies in a library, behind a number."""

    def __init__(self) -> None:
        super().__init__()
        self.number = len(MACHINES)
        MACHINES[self.number] = [0]

    def reset(self, **given: Any) -> tuple[np.ndarray, dict[str, Any]]:
        MACHINES[self.number][0] = 0
        return super().reset(**given)

    def reward(self) -> float:
        MACHINES[self.number][0] += 1
        return float(MACHINES[self.number][0])


class ShowsAnotherShape(Walk):
    def look(self) -> np.ndarray:
        return np.zeros(3)


class BreaksAt(Walk):
    """Raises in its third step."""

    def reward(self) -> float:
        if self.steps == 3:
            raise ZeroDivisionError("the third step")
        return 0.0


class EzPickled(Walk, gymnasium.utils.EzPickle):
    """Restorable, though `copy.deepcopy` makes a new one of it."""

    def __init__(self) -> None:
        Walk.__init__(self)
        gymnasium.utils.EzPickle.__init__(self)


def deep_copies_lose_its_state(env: Walk) -> bool:
    """Whether `copy.deepcopy` gives back an environment at the start."""
    return bool(copy.deepcopy(env).steps != env.steps)
