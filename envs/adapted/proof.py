"""The proof that an environment can be restored: save, act, restore, act again, all is equal."""

from __future__ import annotations

import copy
import random
import sys
import time
from collections.abc import Iterator
from itertools import zip_longest
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from gymnasium import Env, Space

from delegate.backtrack.spaces import copied, empty
from delegate.envs.adapted.graph import Graph, difference, differences
from delegate.envs.adapted.kinds import CHANGING, RANDOM, NotRestorable
from delegate.envs.adapted.row import Row, write

STEPS, LEAST, SECONDS = 300, 60, 0.5
"""steps that a proof plays; the fewest, where more take longer than that; all is played thrice"""
SHORT = 6
"""steps replayed from most saved moments; from two, all that follow"""
RESETS, WARM_UP = 6, 10
"""resets and steps before anything is compared: what happens only once has happened then"""
_LIBRARIES = {"numpy", "mujoco", "pygame", "torch", "jax", "scipy", "ale_py"}
_LIBRARIES |= sys.stdlib_module_names


class Proof:
    """Plays an environment, restores it, and plays it again, also in another, made as it was.

    Some moments are replayed to the end with both playing by turns, each from another moment.
    Both are left anywhere: an environment still wanted is saved before and restored after.

    both: one or two, each a Row or what has its face · seconds: how long the first play may take
    played, resets: how many steps were compared, through how many resets
    """

    def __init__(
        self, both: list[Any], steps: int = STEPS, seed: int = 0, seconds: float = SECONDS
    ) -> None:
        self.first, self.both = both[0], both
        self.steps, self.seed, self.seconds = steps, seed, seconds
        self.played = self.resets = 0
        self._due: dict[int, Any] = {}
        self._saved: dict[int, Any] = {}

    def run(self) -> None:
        """Raises NotRestorable unless everything comes again, to the bit."""
        try:
            self._run()
        except NotRestorable as error:
            message = f"{self.first.name} cannot be restored: {error}"
            raise NotRestorable(message, error.field, error.step) from error.__cause__
        except Exception as error:
            raise NotRestorable(
                f"{self.first.name} cannot be proved: it raised {type(error).__name__} ({error}) "
                "while it was played with random actions of its action_space; mend it, or narrow "
                "that space"
            ) from error

    def _run(self) -> None:
        space = copy.deepcopy(self.first.env.action_space)  # its own must not be drawn from
        space.seed(self.seed)
        self._actions = [space.sample() for _ in range(self.steps)]
        for each in self.both:
            for number in range(RESETS):
                self._play(each, self.seed + number, 2 if number else WARM_UP)
        self._graphs = [each.graph() for each in self.both]
        self._outside = outside(self._graphs)
        self._given = self._play(self.first, self.seed, self.steps, record=True)
        self._last, starts = self.first.save(), sorted(self._saved)
        self._check_outside()
        for start in reversed(starts):
            for each in self.both:
                list(self._replay(each, start, min(start + SHORT, self.played)))
        to_the_end = zip(self.both[::-1], starts[:: len(starts) // 2], strict=False)
        list(zip_longest(*(self._replay(*each, self.played) for each in to_the_end)))
        self._check_outside()

    def _play(self, each: Any, seed: int, steps: int, record: bool = False) -> list[Any]:
        """What the steps after a reset gave. record: remember moments, and when resets were due"""
        resets = {steps // 15, steps // 6, steps // 3} if record else {}
        saves = {0, 3, steps // 15 - 1, steps // 6 + 5, steps // 3 + 20, 2 * steps // 3}
        played, due = list[Any](), None  # type: list[Any], Any
        self._taken(each, each.reset(seed=seed))
        until = time.perf_counter() + self.seconds
        for step in range(steps):
            due = {} if step in resets else due
            if record:
                self.played, self.resets = step + 1, self.resets + (due is not None)
                self._due[step] = due
                if step in saves or (due is not None and len(self._saved) < 8):
                    self._saved[step] = each.save()
            played.append(self._step(each, step, due))
            due = each.due(played[-1])
            if record and step + 1 >= LEAST and time.perf_counter() > until:
                break
        return played

    def _step(self, each: Any, step: int, due: Any) -> SimpleNamespace:
        """What a step gave, and a reset before it where one was due."""
        begun = None if due is None else self._taken(each, each.reset(options=copied(due) or None))
        return self._taken(each, each.step(copied(self._actions[step])), begun=begun)

    def _taken(self, each: Any, given: Any, **more: Any) -> SimpleNamespace:
        """A copy of what a reset or step gave."""
        if isinstance(each, Row):
            try:
                write(empty(each.env.observation_space, 1), 0, given[0], each.name)
            except (IndexError, KeyError, TypeError, ValueError) as error:
                raise NotRestorable(
                    f"what it shows is not in its observation space ({error}); correct the space",
                    "observation",
                ) from error
        observation, *outcome, info = copied(given)
        named = dict(zip(("reward", "terminated", "truncated"), outcome, strict=False))
        return SimpleNamespace(observation=observation, **named, info=info, **more)

    def _replay(self, each: Any, start: int, stop: int) -> Iterator[None]:
        """Play on from a saved moment, comparing each step with what it gave first."""
        each.load(self._saved[start])
        if where := each.differs(self._saved[start]):
            why = "right after a restore; a property or a copy hook changes it"
            raise NotRestorable(f"its {where.lstrip('.')} {why}", _name(where))
        for step in range(start, stop):
            given = self._step(each, step, self._due[step])
            self._check(each, difference(self._given[step], given), start, step)
            yield
        if stop == self.played:
            self._check(each, each.differs(self._last), start, stop - 1)

    def _check(self, each: Any, where: str | None, start: int, step: int) -> None:
        """Refuse a replay that came out differently, with the reason as far as it can be found."""
        if where is None:
            return
        each.load(self._saved[start])
        lost = None if isinstance(each, Row) else each.lost(self._saved[start])
        raise NotRestorable(
            f"{_name(lost) + ' is lost: ' if lost else ''}played again from a saved moment, "
            f"{where.lstrip('.')} (step {step - start}); "
            "it depends on state where no snapshot reaches (an object that environments share, the "
            "clock, the operating system, a library's memory, a copy hook that loses some); keep "
            "it in attributes of the environment and draw from self.np_random, or give the object "
            "that holds it a __deepcopy__",
            _name(lost or where),
            step - start,
        )

    def _check_outside(self) -> None:
        """Refuse what changes what others share."""
        now = outside(self._graphs)
        if touched := [_name(where) for where in differences(self._outside, now, grown=True)]:
            raise NotRestorable(
                f"it changes {', '.join(touched[:3])}, which all environments share; "
                "draw from self.np_random, and let each have what it changes as its own",
                touched[0],
            )


def _name(where: str) -> str:
    return where.lstrip(".").partition(" was ")[0]


def outside(graphs: list[Graph]) -> Graph:
    """What environments might share with others, by name: objects that two of them lead to; the
    random generators that everybody shares; attributes of their classes and modules, but not those
    of libraries; closures and defaults of methods.
    """
    graph, *others = graphs
    seen: dict[str, Any] = {
        "numpy's global random generator": np.random.mtrand._rand,
        "Python's global random generator": random._inst,
    }
    if (torch := sys.modules.get("torch")) is not None:
        seen["torch's global random generator"] = torch.default_generator
    homes: dict[Any, None] = {}
    for place, (value, _, _) in enumerate(graph.nodes):
        if others and id(value) in others[0].places and graph.held[place][0] in CHANGING | RANDOM:
            seen[f"env{graph.name(place)}"] = value
        module = sys.modules.get(str(getattr(value, "__module__", None)))
        homes[value if isinstance(value, ModuleType) else module] = None
        homes |= dict.fromkeys((value if isinstance(value, type) else type(value)).__mro__)
    homes.pop(None, None)
    for each in homes:
        is_class = isinstance(each, type)
        home = f"{each.__module__}.{each.__qualname__}" if is_class else each.__name__
        package = home.partition(".")[0]
        if package in _LIBRARIES or (package == "gymnasium" and not is_class):
            continue
        for key, value in list(vars(each).items()):
            value = getattr(value, "fget", None) or getattr(value, "__func__", value)
            if isinstance(value, FunctionType):
                cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
                value = {**dict(cells), "defaults": value.__defaults__, "attributes": vars(value)}
            elif isinstance(value, type | ModuleType) or key.endswith("__"):
                continue
            # sampling from a space is no change of it
            seen[f"{home}.{key}"] = repr(value) if isinstance(value, Space) else value
    return Graph(SimpleNamespace(**seen), lenient=True, apart=Env)
