"""One environment whose moments can be saved and restored."""

from __future__ import annotations

import copy
import functools
import hashlib
import math
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import MaxAndSkipObservation, RecordEpisodeStatistics, TimeLimit

from delegate.envs.adapted.graph import Graph, difference
from delegate.envs.adapted.kinds import MUJOCO, NotRestorable


@dataclass(eq=False)
class Held:
    """What an environment held, in a snapshot; equal to another of the same.

    what: a Graph, or the states of its random generators
    """

    what: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and difference(self.what, other.what) is None

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes, roughly."""
        held = [e for _, e in self.what.held] if isinstance(self.what, Graph) else self.what
        return sum(int(getattr(data, "nbytes", 200)) for data in held)

    def __deepcopy__(self, memo: Any) -> Held:
        return self  # nothing changes it

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("snapshots of adapted environments hold Python objects and live in memory")


class Row:
    """One Gymnasium environment with its wrappers, whose state can be read and written.

    env: the environment, used in place · constant: attributes vouched never to change
    codec: "mujoco", "ale", "rows" or "copy", of what was found
    world: what a snapshot must share with it: environment, wrappers, models, versions
    Raises NotRestorable for what cannot be read.
    """

    rows = 1

    def __init__(self, env: gymnasium.Env[Any, Any], constant: Collection[str] = ()) -> None:
        self.env, self.constant, spec = env, constant, env.unwrapped.spec
        self.name = spec.id if spec is not None else type(env.unwrapped).__name__
        self.chain = [env]  # the wrappers from the outermost, then the environment
        while isinstance(self.chain[-1], gymnasium.Wrapper):
            self.chain.append(self.chain[-1].env)
        try:
            self._watch_games()
            graph = self.graph()
        except NotRestorable as error:
            message = f"{self.name} cannot be restored: {error}"
            raise NotRestorable(message, error.field) from error.__cause__
        found: dict[str, list[Any]] = {}
        for (value, _, _), (kind, _) in zip(graph.nodes, graph.held, strict=True):
            found.setdefault(kind, []).append(value)
        self._spaces = [v for v in found.get("object", ()) if isinstance(v, gymnasium.Space)]
        classes = {base for value, _, _ in graph.nodes for base in type(value).__mro__}
        own = (each for base in classes for each in vars(base).values())
        self._caches = [each for each in own if isinstance(each, functools._lru_cache_wrapper)]
        self._timed = [p._stats_key for p in self.chain if isinstance(p, RecordEpisodeStatistics)]
        self._datas = found.get("data", [])
        simulators = [data["world"] for kind, data in graph.held if kind == "model"]
        simulators += [e.world for kind in ("game", "rows") for e in found.get(kind, ())]
        codecs = {"model": "mujoco", "game": "ale", "rows": "rows"}
        self.codec = next((codec for kind, codec in codecs.items() if kind in found), "copy")
        self.world = self._world(simulators)

    def _watch_games(self) -> None:
        """Put what follows their actions in the place of Atari's machines."""
        if (ale := sys.modules.get("ale_py")) is not None:
            from delegate.envs.adapted.ale_state import WatchedALE

            for value, parent, key in (graph := Graph(self.env, lenient=True)).nodes:
                if isinstance(value, ale.ALEInterface):
                    watched = WatchedALE(value, self.env.render_mode is not None)
                    setattr(graph.nodes[parent][0], key, watched)

    def graph(self) -> Graph:
        """All that can change."""
        return Graph(self.env, self.constant)

    def save(self) -> dict[str, Held]:
        graph = self.graph()
        return {"objects": Held(graph), "random": Held(graph.states)}

    def load(self, saved: Mapping[str, Held], fresh: bool = False) -> None:
        """Be as when that was saved; fresh: but random generators go on from where they are."""
        saved["objects"].what.restore(self.env, () if fresh else saved["random"].what)
        for cache in self._caches:  # of methods: what they hold is of another moment
            cache.cache_clear()

    def differs(self, saved: Mapping[str, Held]) -> str | None:
        """Where it is not as it was saved, in words."""
        now, states = self.graph(), saved["random"].what
        return difference(saved["objects"].what, now) or difference(states, now.states, "random")

    def due(self, given: Any) -> Any:
        """The options of the reset that is due after a step, None if none is."""
        return {} if given.terminated or given.truncated else None

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
        before = self._blown_up()
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._blown_up() != before:
            raise FloatingPointError(
                "MuJoCo's numbers blew up (see MUJOCO_LOG.TXT) and it reset itself; "
                "give smaller actions or a smaller timestep"
            )
        if np.ndim(given := np.asarray(reward)):
            raise TypeError(f"the reward has shape {given.shape}; give one number")
        for key in self._timed:
            if isinstance(told := info.get(key), dict):
                # but its seconds on the wall clock, which no restore can repeat
                info = {**info, key: {n: v for n, v in told.items() if n != "t"}}
        return observation, float(reward), bool(terminated), bool(truncated), info

    def _blown_up(self) -> list[Any]:
        """How often MuJoCo's numbers have blown up so far, by simulation and how they did."""
        return [data.warning.number[import_module(MUJOCO).BAD].tolist() for data in self._datas]

    @property
    def max_steps(self) -> int | None:
        """The nearest time limit in steps, None without one."""
        limit = math.inf
        for part in reversed(self.chain):
            if isinstance(part, TimeLimit):
                limit = min(limit, part._max_episode_steps)
            elif isinstance(part, MaxAndSkipObservation):
                limit /= part._skip
        return None if limit == math.inf else math.ceil(limit)

    def _world(self, simulators: list[str]) -> str:
        made_with = ("_saved_kwargs", "_ezpickle_args", "_ezpickle_kwargs")
        parts = [
            f"{type(part)} {[vars(part).get(name) for name in made_with]}" for part in self.chain
        ]
        spec = self.env.unwrapped.spec
        settings = f"{spec.id} {sorted(spec.kwargs.items())}" if spec else ""
        spaces = f"{self.env.observation_space} {self.env.action_space}"
        text = re.sub(r" at 0x[0-9a-fA-F]+", "", "\n".join([*parts, settings, spaces]))
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        versions = ", ".join([f"gymnasium {gymnasium.__version__}", *simulators])
        return f"adapted {self.name} {digest} ({self.codec}; {versions})"


def write(batch: Any, row: int, value: Any, name: str) -> None:
    """Put a copy of one observation into its row. name: of the environment

    Raises ValueError for one of another shape, or whose numbers its space cannot hold.
    """
    if isinstance(batch, dict | tuple):
        for key in batch if isinstance(batch, dict) else range(max(len(batch), len(value))):
            write(batch[key], row, value[key], name)
    elif batch.dtype == object:
        batch[row] = copy.deepcopy(value)
    else:
        given, floats = np.asarray(value), batch.dtype.kind == "f"
        if given.shape != batch.shape[1:]:
            raise ValueError(
                f"{name}: the observation has shape {given.shape}; its space says {batch.shape[1:]}"
            )
        fits = given.dtype == batch.dtype
        if not fits and given.dtype.kind in ("fiub" if floats else "iub"):
            with np.errstate(over="ignore", invalid="ignore"):
                cast = given.astype(batch.dtype)
            same = np.isfinite(cast) == np.isfinite(given) if floats else cast == given
            fits = bool(np.all(same))
        if not fits:
            raise ValueError(
                f"{name}: the observation is {given.dtype} {given.reshape(-1)[:4].tolist()}, which "
                f"would change as {batch.dtype}, as its space says"
            )
        batch[row] = given
