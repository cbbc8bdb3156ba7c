"""One environment whose moments can be saved and restored: its codecs, chosen and joined."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

from delegate.backtrack.state import RandomStateMode
from delegate.envs.adapted.codecs import engine_of
from delegate.envs.adapted.engine import Engine
from delegate.envs.adapted.graph import Path
from delegate.envs.adapted.objects import Restorer, SavedObjects, SavedStreams, Saver, find
from delegate.envs.adapted.refusal import NotRestorable

Saved = dict[str, Any]
"""a moment of one row: name -> array, or an object that nothing changes afterwards"""

OBJECTS, STREAMS = "objects", "random"
"""names under which the Python side is saved: all attributes, all random generators"""
MADE_WITH = ("_saved_kwargs", "_ezpickle_args", "_ezpickle_kwargs")
"""attributes in which wrappers and EzPickle environments keep what their constructor was given"""


class Row:
    """One Gymnasium environment with its wrappers, whose state can be read and written.

    env: the environment, used in place · constant: attributes vouched never to change
    codec: "mujoco", "ale", "rows" or "copy", of what was found
    Raises NotRestorable for what no codec can read.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], constant: Collection[str] = ()) -> None:
        self.env, self.constant = env, frozenset(constant)
        self.engines: list[Engine] = []
        self._simulators: list[Any] = []
        self._names: list[dict[str, str]] = []
        self._looking = True
        self._spaces: list[gymnasium.Space[Any]] = []
        self.classes: set[type] = set()
        try:
            self.template = self.save()
        except NotRestorable as error:
            raise NotRestorable(f"{name_of(env)} cannot be restored: {error}") from error.__cause__
        self._looking = False
        self._timed = any(isinstance(part, RecordEpisodeStatistics) for part in self.chain())

    @property
    def codec(self) -> str:
        return self.engines[0].codec if self.engines else "copy"

    @property
    def random(self) -> frozenset[str]:
        """The names of what is saved that is random state."""
        own = (
            names[name]
            for engine, names in zip(self.engines, self._names, strict=True)
            for name in engine.random
        )
        return frozenset({STREAMS, *own})

    def save(self) -> Saved:
        """All that can change."""
        saver = Saver(self._index, self.constant)
        objects, states = saver.save(self.env)
        if self._looking:
            self._spaces = list(saver.spaces)
        self.classes |= saver.classes
        saved: Saved = {OBJECTS: objects, STREAMS: states}
        for engine, names in zip(self.engines, self._names, strict=True):
            for name, value in engine.save().items():
                saved[names[name]] = value
        return saved

    def load(self, saved: Mapping[str, Any], rng: RandomStateMode = "rewind") -> None:
        """Be as when that was saved; "fresh" leaves the random generators as they are."""
        states: SavedStreams = saved[STREAMS]
        objects: SavedObjects = saved[OBJECTS]
        Restorer(self.env, self._simulators, states, rng, self.constant).restore(objects)
        for engine, names in zip(self.engines, self._names, strict=True):
            engine.load({name: saved[full] for name, full in names.items()}, rng)

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; a seed is also given to the spaces that draw random numbers."""
        if seed is not None:
            for number, space in enumerate(self._spaces):
                if getattr(space, "_np_random", None) is not None:
                    # before the environment, which may seed them otherwise
                    space._np_random = np.random.default_rng([seed, number])
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step. Raises FloatingPointError when the simulation blew up in it."""
        before = [engine.warnings() for engine in self.engines]
        observation, reward, terminated, truncated, info = self.env.step(action)
        if [engine.warnings() for engine in self.engines] != before:
            raise FloatingPointError(
                "MuJoCo's numbers blew up (see MUJOCO_LOG.TXT) and it reset itself; "
                "give smaller actions or a smaller timestep"
            )
        if self._timed and "t" in info.get("episode", ()):
            # seconds on the wall clock, which no restore can repeat
            episode = {name: value for name, value in info["episode"].items() if name != "t"}
            info = {**info, "episode": episode}
        return observation, float(reward), bool(terminated), bool(truncated), info

    def render(self) -> Any:
        """The frame of the environment's `render_mode`, also of a moment just restored."""
        for engine in self.engines:
            if (frame := engine.frame()) is not None:
                return frame
        return self.env.render()

    def chain(self) -> Iterator[gymnasium.Env[Any, Any]]:
        """The wrappers from the outermost, then the environment."""
        part = self.env
        while isinstance(part, gymnasium.Wrapper):
            yield part
            part = part.env
        yield part

    @property
    def max_steps(self) -> int | None:
        """The time limit in steps, None without one."""
        for part in self.chain():
            if isinstance(part, TimeLimit):
                return int(part._max_episode_steps)
        return None

    @property
    def world(self) -> str:
        """What a snapshot must share with this row: environment, wrappers, models, versions."""
        parts = [
            f"{type(part).__module__}.{type(part).__qualname__} "
            f"{[vars(part).get(name) for name in MADE_WITH]}"
            for part in self.chain()
        ]
        spec = self.env.unwrapped.spec
        settings = f"{spec.id} {sorted(spec.kwargs.items())}" if spec else ""
        spaces = f"{self.env.observation_space} {self.env.action_space}"
        text = re.sub(r" at 0x[0-9a-fA-F]+", "", "\n".join([*parts, settings, spaces]))
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        versions = [f"gymnasium {gymnasium.__version__}", *(e.world for e in self.engines)]
        return f"adapted {name_of(self.env)} {digest} ({self.codec}; {', '.join(versions)})"

    def _index(self, simulator: Any, path: Path) -> int:
        """The number of a simulator, known by identity; new ones only while looking."""
        for number, known in enumerate(self._simulators):
            if known is simulator:
                return number
        if not self._looking:
            raise KeyError(simulator)
        engine = engine_of(simulator)
        engine.keep_frames = self.env.render_mode is not None
        if engine.stand_in is not None:
            owner, (_, name) = find(self.env, path[:-1]), path[-1]
            vars(owner)[name] = simulator = engine.stand_in
        number = len(self.engines)
        self._simulators.append(simulator)
        self.engines.append(engine)
        taken = {full for names in self._names for full in names.values()}
        self._names.append({n: f"{n}/{number}" if n in taken else n for n in engine.save()})
        for other in engine.also:
            self._index(other, ())
        return number


def name_of(env: gymnasium.Env[Any, Any]) -> str:
    """The id of an environment, or its class."""
    spec = env.unwrapped.spec
    return spec.id if spec is not None else type(env.unwrapped).__name__
