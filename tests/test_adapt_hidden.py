"""State that copies lose: identity, order, caches, views, random streams. It comes back, or is
refused; and a codec that forgets it is refused by the proof: the negative control of each."""

from __future__ import annotations

import collections
import contextlib
import functools
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from nasty_worlds import Walk

from delegate import envs
from delegate.envs import NotRestorable
from delegate.envs.adapted import kinds

LATE = 40
"""steps from which on hidden state comes into play"""


class Hides(Walk):
    """A walk that shows what `tell` says from its 40th step on."""

    def begin(self) -> None:
        """What a reset does besides."""

    def tell(self) -> float:
        return 0.0

    def reset(self, **given: Any) -> Any:
        super().reset(**given)
        self.begin()
        return self.look(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        told = float(self.tell())
        return np.array([self.steps, told if self.steps >= LATE else 0]), 0.0, False, False, {}


class FreeCells(Hides):
    """Food falls on one of the free cells, in the order in which a set has them."""

    def begin(self) -> None:
        self.free = {(row, column) for row in range(8) for column in range(8)}

    def tell(self) -> float:
        turn = self.free.discard if self.steps % 100 < 60 else self.free.add
        turn((self.steps % 8, self.steps // 8 % 8))
        row, column = list(self.free)[int(self.np_random.integers(len(self.free)))]
        return 10 * row + column


class Pops(Hides):
    """Takes any name out of a set, and puts another in."""

    def begin(self) -> None:
        self.names = {f"name {number}" for number in range(30)}

    def tell(self) -> float:
        name = self.names.pop()
        self.names.add(f"{name[:40]} again")
        return float(len(name) + hash(name) % 97)


@dataclass(frozen=True)
class Place:
    row: int
    column: int


class FreePlaces(Hides):
    """A set of objects that are equal where their fields are."""

    def begin(self) -> None:
        self.free = {Place(row, column) for row in range(5) for column in range(5)}

    def tell(self) -> float:
        place = list(self.free)[int(self.np_random.integers(len(self.free)))]
        self.free.discard(place)
        self.free.add(Place(self.steps % 6, place.column))
        return 10 * place.row + place.column


class HoldsAClass(Hides):
    """Which of two classes it holds is drawn at every step, and what it calls."""

    def tell(self) -> float:
        self.kind = (int, float)[int(self.np_random.integers(2))]
        self.call = (self.one, self.two)[int(self.np_random.integers(2))]
        return 10 * self.call() + (self.kind is int)

    def one(self) -> float:
        return 1.0

    def two(self) -> float:
        return 2.0


class MovesItsWindow(Hides):
    """A view that looks elsewhere at every step."""

    def begin(self) -> None:
        self.map = np.zeros((6, 6))

    def tell(self) -> float:
        corner = int(self.np_random.integers(4))
        self.window = self.map[corner : corner + 3, corner:]
        self.window += 1
        return float(self.window[0, 0] + self.map.sum())


class CachedMethod(Hides):
    """A cache that is emptied at every reset, of a method."""

    def __init__(self) -> None:
        super().__init__()
        self.height = functools.lru_cache(self._height)

    def _height(self, place: int) -> float:
        return float(self.walls[place])

    def begin(self) -> None:
        self.walls = self.np_random.random(4)
        self.height.cache_clear()

    def tell(self) -> float:
        return self.height(0)


class CachedInItsClass(Hides):
    """The same with the decorator, so that all environments share the cache."""

    @functools.lru_cache(maxsize=64)  # noqa: B019 - that is the point
    def height(self, place: int) -> float:
        return float(self.walls[place])

    def begin(self) -> None:
        self.walls = self.np_random.random(4)
        type(self).height.cache_clear()

    def tell(self) -> float:
        return float(self.height(0))


class ReadOnlyView(Hides):
    def __init__(self) -> None:
        super().__init__()
        self._inner = {"x": 0}
        self.view = types.MappingProxyType(self._inner)

    def begin(self) -> None:
        self._inner["x"] = 0

    def tell(self) -> float:
        self._inner["x"] += 1
        return float(self.view["x"])


class LockedArray(Hides):
    """A table that only its owner may change, and a view of it."""

    def begin(self) -> None:
        self.table = np.zeros(3)
        self.shown = self.table[1:]
        self.table.flags.writeable = False

    def tell(self) -> float:
        self.table.flags.writeable = True
        self.table += 1
        self.table.flags.writeable = False
        return float(self.shown[0])


class ChangesItsSpace(Hides):
    def __init__(self) -> None:
        super().__init__()
        self.action_space = gymnasium.spaces.Discrete(5)

    def begin(self) -> None:
        self.action_space.n = np.int64(5)

    def tell(self) -> float:
        if self.steps == LATE:
            self.action_space.n = np.int64(2)
        return float(self.action_space.n)


@dataclass(slots=True)
class Slotted:
    count: int


class HoldsSlots(Hides):
    def begin(self) -> None:
        self.parts = collections.deque([Slotted(0)], maxlen=2)

    def tell(self) -> float:
        self.parts[-1].count += 1
        return float(self.parts[-1].count)


class Closure(Hides):
    def __init__(self) -> None:
        super().__init__()
        count = 0

        def counted(reset: bool = False) -> int:
            nonlocal count
            count = 0 if reset else count + 1
            return count

        self.counted = counted

    def begin(self) -> None:
        self.counted(reset=True)

    def tell(self) -> float:
        return float(self.counted())


class Tensor(Hides):
    """Weights that are not numbers yet, changed in place."""

    def begin(self) -> None:
        self.best = torch.full((3,), float("nan"))
        self.layer = torch.nn.utils.skip_init(torch.nn.Linear, 2, 1, bias=False)
        self.layer.requires_grad_(False).weight[:] = 0

    def tell(self) -> float:
        self.best[self.steps % 3] = self.steps
        self.layer.weight += 1
        return float(torch.nan_to_num(self.best).sum() + self.layer(torch.ones(2)))


class Splits(Hides):
    """Two generators that are one object until the fifth step, and from every reset on."""

    def begin(self) -> None:
        self.noise = self.np_random

    def tell(self) -> float:
        if self.steps == 5:
            self.noise = np.random.default_rng(int(self.np_random.integers(2**31)))
        return float(self.np_random.random() + 10 * self.noise.integers(100))


class Spawns(Hides):
    """Children of a generator, which counts how many it had."""

    def tell(self) -> float:
        (child,) = self.np_random.spawn(1)
        return float(child.random())


class Dice(Hides):
    def tell(self) -> float:
        return float(self.np_random.random())


class TorchDice(Hides):
    def __init__(self) -> None:
        super().__init__()
        self.dice = torch.Generator().manual_seed(3)

    def tell(self) -> float:
        return float(torch.rand(1, generator=self.dice))


HIDDEN: list[tuple[type[Hides], str]] = [
    (FreeCells, "set"),
    (Pops, "set"),
    (CachedMethod, "cache"),
    (ReadOnlyView, "dict"),
    (LockedArray, "array"),
    (ChangesItsSpace, "object"),
    (HoldsSlots, "object"),
    (Closure, "cell"),
    (Splits, "random"),
    (Spawns, "random"),
    (TorchDice, "random"),
]
WORLDS = [world for world, _ in HIDDEN]
WORLDS += [CachedInItsClass, Tensor, FreePlaces, HoldsAClass, MovesItsWindow]


def replays(make: Callable[[], Any], before: int = 35, after: int = 20) -> list[list[Any]]:
    """What two rows show after a moment: first, restored, and restored into each other's place."""
    env, still = envs.adapt(make, 2, autoreset_mode="Disabled"), np.ones(2, int)
    env.reset(seed=0)
    for _ in range(before):
        env.step(still)
    saved = env.snapshot()
    played = [[env.step(still)[0].tolist() for _ in range(after)]]
    for order in ([0, 1], [1, 0]):
        env.reset(seed=9)
        for _ in range(LATE + 5):
            env.step(still)
        env.restore(saved.take(np.array(order)))
        played.append(
            [
                [shown[row] for row in order]
                for shown in (env.step(still)[0].tolist() for _ in range(after))
            ]
        )
    return played


@pytest.mark.parametrize("world", WORLDS)
def test_it_comes_back_in_its_own_row_and_in_another(world: type[Hides]) -> None:
    first, again, moved = replays(world)
    assert any(shown[0][1] != 0 for shown in first), "it came into play"
    assert again == first
    assert moved == first


@contextlib.contextmanager
def forgetting(kind: str) -> Iterator[None]:
    """A codec that does not put back what is of that kind."""
    with pytest.MonkeyPatch.context() as patch:
        if kind == "random":
            patch.setattr(kinds, "put_random_state", lambda *given: None)
        else:
            write = kinds.write

            def all_but(of: str, *given: Any) -> None:
                if of != kind:
                    write(of, *given)

            patch.setattr(kinds, "write", all_but)
        yield


@pytest.mark.parametrize(("world", "kind"), HIDDEN)
def test_a_codec_that_forgets_it_is_refused(world: type[Hides], kind: str) -> None:
    with forgetting(kind), pytest.raises(NotRestorable, match=f"{world.__name__} cannot be"):
        envs.adapt(lambda: world())


def test_a_set_rebuilt_from_its_members_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trap: equal sets, in another order."""

    def rebuilt(self: Any, value: set[Any], members: list[Any]) -> None:
        value.clear()
        value.update(members)

    monkeypatch.setattr(kinds.Layout, "write", rebuilt)
    with pytest.raises(NotRestorable):
        envs.adapt(lambda: FreeCells())


@pytest.mark.parametrize("world", [Splits, Spawns, TorchDice, Dice])
def test_fresh_dice_are_never_thrown_twice(world: type[Walk]) -> None:
    env, still = envs.adapt(world, 1, autoreset_mode="Disabled"), np.ones(1, int)
    env.reset(seed=0)
    for _ in range(LATE):
        env.step(still)
    saved, throws = env.snapshot(), []
    for _ in range(6):
        throws.append(tuple(np.ravel([env.step(still)[0] for _ in range(6)])))
        env.restore(saved, rng="fresh")
    assert len(set(throws)) == 6
    env.restore(saved)
    again = tuple(np.ravel([env.step(still)[0] for _ in range(6)]))
    assert again == throws[0], "and rewound, the same again"
