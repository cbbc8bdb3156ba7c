"""Any single Gymnasium environment as rows that can be saved and restored exactly.

env = envs.adapt("CartPole-v1", num_envs=4)
saved = env.snapshot()
...
env.restore(saved)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace
from typing import Any, Literal
from weakref import WeakKeyDictionary

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from delegate.backtrack.autoreset import mode_of
from delegate.backtrack.state import StatefulVectorEnv
from delegate.envs.adapted.graph import Graph, difference
from delegate.envs.adapted.kinds import NotRestorable
from delegate.envs.adapted.proof import LEAST, Proof
from delegate.envs.adapted.row import Row
from delegate.envs.adapted.vector import AdaptedVectorEnv


@dataclass(frozen=True)
class Certificate:
    """Whether an environment can be restored exactly, as far as a replay of `steps` steps shows.

    env: its id, or its class · verdict: "exact" or "refused"
    codec: how it is saved: "copy", "mujoco", "ale" or "rows"; None if nothing could save it
    steps, resets, rows: how many steps of how many rows were compared, through how many resets
    field: the best known name of what a restore loses; None if exact
    step: the first replayed step that differs, counted from the saved moment; None if exact, or
    if it was refused before a replay
    reason: why it was refused, and the remedy, in one line; None if exact
    versions: package -> version of what computes it
    """

    env: str
    verdict: Literal["exact", "refused"]
    codec: str | None
    steps: int
    resets: int
    rows: int
    field: str | None
    step: int | None
    reason: str | None
    versions: Mapping[str, str]

    @property
    def exact(self) -> bool:
        """Whether the verdict is "exact"."""
        return self.verdict == "exact"


Factory = Callable[[], gymnasium.Env[Any, Any]]

MAX_ROWS = 65_536


def adapt(
    env: gymnasium.Env[Any, Any] | str | EnvSpec | Factory,
    num_envs: int = 1,
    *,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    constant: Collection[str] = (),
    **settings: Any,
) -> AdaptedVectorEnv:
    """A batch of `num_envs` rows of an environment that knows nothing of rows or of restoring.

    env: an id or spec (with `settings` as for `gymnasium.make`), a function that makes the
    environment, or, for one row, an environment itself, which is then used in place
    autoreset_mode: also by its value ("NextStep", "SameStep", "Disabled")
    constant: attributes vouched never to change, to save the time of copying them

    How a row is saved, the surest way that its parts allow:
    1. A simulator is read by its own means, because a copy of it is slow or wrong. MuJoCo: the
       integration state with warm start, what the last step left behind with its contacts, and
       the whole model. ALE: machine, random generator, and the action that sticks. A
       StatefulVectorEnv: its snapshot.
    2. Everything else that can change in Python (what the environment, all wrappers, their spaces
       and closures lead to) is read object by object and written back into the same objects,
       without asking hooks for copying and pickling: Gymnasium's EzPickle makes `copy.deepcopy`
       build a new environment instead of a copy. What is of C is copied by its own hooks.
    3. Random generators (numpy, Python, torch) are read apart, so that rng="fresh" can leave them
       alone. Windows, surfaces and renderers are neither saved nor undone.

    On the first use of an id or function an environment is proved (see `certify`), for at most
    300 steps, fewer if they take long; what does not replay to the bit is refused, and so is what
    changes global state or an object that all environments of a factory share. An environment
    that is given itself is proved in place and left as it was. `certificate` of the batch says
    what was compared. Wall-clock readings of RecordEpisodeStatistics are left out.

    A snapshot fits where `world` is the same: id, settings of `gymnasium.make`, arguments of
    wrappers and of EzPickle environments, spaces, models and versions. Functions whose
    environments differ in an attribute alone share a world, as nothing tells a setting from
    state: what is restored brings its attributes with it, settings too. Register such an
    environment and give its settings here, and they are told apart.

    Raises NotRestorable naming the reason and the remedy, also for an environment that raises
    during its proof, and ValueError for a wrong number of rows or autoreset_mode.
    """
    if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer):
        raise ValueError(f"num_envs is {num_envs!r}; give an integer, 1 to {MAX_ROWS}")
    if not 1 <= num_envs <= MAX_ROWS:
        raise ValueError(f"num_envs is {num_envs}; give 1 to {MAX_ROWS}")
    mode = mode_of(autoreset_mode)
    if isinstance(env, gymnasium.Env):
        if num_envs > 1 or settings:
            given = f"{num_envs} rows" if num_envs > 1 else f"settings ({', '.join(settings)})"
            raise TypeError(f"an environment is one row as it is; give its id to have {given}")
        row = Row(env, constant)
        return AdaptedVectorEnv([row], mode, _proved([row]))
    make = _factory(env, settings)
    rows = [Row(_made(make, gymnasium.Env), constant) for _ in range(int(num_envs))]
    recipe = repr(rows[0].env.spec), rows[0].world, frozenset(constant)
    proved = _proved_of(make if callable(env) else None)
    if recipe not in proved:
        proved[recipe] = _proved_anew(make, constant)
    return AdaptedVectorEnv(rows, mode, proved[recipe])


def certify(
    env: gymnasium.Env[Any, Any]
    | StatefulVectorEnv
    | str
    | EnvSpec
    | Callable[[], gymnasium.Env[Any, Any] | StatefulVectorEnv],
    steps: int = 300,
    seed: int = 0,
    **settings: Any,
) -> Certificate:
    """Whether an environment can be restored exactly: play, restore, play again, compare.

    env: as for `adapt`, or a StatefulVectorEnv, or a function that makes one
    steps: how many are played, through endings and resets · seed: of resets and actions
    settings: with an id, as for `gymnasium.make`

    Some saved moments are replayed to the end, two environments of the factory playing by turns,
    each from what the other saved. A StatefulVectorEnv is proved by what it saves itself; where
    that forgets something, `field` names it. An environment that is given itself is left as it
    was, a StatefulVectorEnv anywhere.
    Raises what making the environment raises, TypeError for what is no environment, and
    ValueError for fewer than 60 steps.
    """
    if steps < LEAST:
        raise ValueError(f"steps is {steps}; give {LEAST} or more, so that episodes begin and end")
    kinds: Any = gymnasium.Env | StatefulVectorEnv
    given = isinstance(env, kinds)
    make: Any = (lambda: env) if given else _factory(env, settings)
    both = [_made(make, kinds) for _ in range(1 if given else 2)]
    try:
        faces: list[Any] = [Row(e) if isinstance(e, gymnasium.Env) else _Batch(e) for e in both]
    except NotRestorable as error:
        spec = both[0].unwrapped.spec
        name = spec.id if spec is not None else type(both[0].unwrapped).__name__
        return _certificate(name, None, 0, 0, len(both), [both[0]], error)
    else:
        return _proved(faces, Proof(faces, steps, seed, math.inf), False)
    finally:
        if not given:
            for each in both:
                each.close()


class _Batch:
    """A StatefulVectorEnv that is to be proved, with the face of a Row."""

    codec = "rows"

    def __init__(self, env: StatefulVectorEnv) -> None:
        self.env, self.reset, self.step, self.rows = env, env.reset, env.step, env.num_envs
        self.name = env.name
        self._holds = env.metadata.get("autoreset_mode") == AutoresetMode.DISABLED

    def due(self, given: Any) -> Any:
        ended = given.terminated | given.truncated
        return {"reset_mask": ended} if self._holds and ended.any() else None

    def save(self) -> Any:
        return self.env.snapshot(), self.graph()

    def load(self, saved: Any) -> None:
        self.env.restore(saved[0])

    def graph(self) -> Graph:
        return Graph(SimpleNamespace(**vars(self.env)), lenient=True)

    def differs(self, saved: Any) -> str | None:
        return difference(dict(saved[0].arrays), dict(self.env.snapshot().arrays))

    def lost(self, saved: Any) -> str | None:
        return difference(saved[1], self.graph())


def _proved(faces: list[Any], proof: Proof | None = None, strict: bool = True) -> Certificate:
    """What the proof says; an environment alone is left as it was. strict: raise NotRestorable"""
    proof = proof or Proof(faces)
    before = faces[0].save() if len(faces) == 1 else None
    refused = None
    try:
        proof.run()
    except NotRestorable as error:
        if strict:
            raise
        refused = error
    finally:
        if before is not None:
            faces[0].load(before)
    counted = proof.played, proof.resets, sum(face.rows for face in faces)
    try:
        computes = [value for value, _, _ in faces[0].graph().nodes]
    except NotRestorable:  # it has come to hold what stands in the way
        computes = [faces[0].env]
    return _certificate(faces[0].name, faces[0].codec, *counted, computes, refused)


def _certificate(
    name: str,
    codec: str | None,
    steps: int,
    resets: int,
    rows: int,
    computes: Collection[Any],
    refused: NotRestorable | None,
) -> Certificate:
    """computes: objects whose packages it rests on"""
    names = {type(each).__module__.partition(".")[0] for each in computes}
    versions = {}
    for package in sorted({"gymnasium", "numpy", *names}):
        try:
            versions[package.replace("_", "-")] = version(package)
        except (PackageNotFoundError, ValueError):
            continue
    verdict: Any = "exact" if refused is None else "refused"
    field, step = (refused.field, refused.step) if refused else (None, None)
    reason = str(refused) if refused else None
    return Certificate(name, verdict, codec, steps, resets, rows, field, step, reason, versions)


Proved = dict[tuple[str, str, frozenset[str]], Certificate]
"""spec, world, attributes vouched for -> what was proved in this process"""
_proved_ids: Proved = {}
_proved_factories: WeakKeyDictionary[Any, Proved] = WeakKeyDictionary()


def _proved_of(factory: Factory | None) -> Proved:
    """What was proved of what that function makes, or of ids."""
    if factory is None:
        return _proved_ids
    try:
        return _proved_factories.setdefault(factory, {})
    except TypeError:  # it cannot be remembered
        return {}


def _factory(env: Any, settings: dict[str, Any]) -> Factory:
    if isinstance(env, str | EnvSpec):
        return lambda: gymnasium.make(env, **settings)
    if settings:
        raise TypeError(f"settings ({', '.join(settings)}) go with an id; put them in the factory")
    if not callable(env):
        raise TypeError(
            f"{type(env).__name__} is no environment; give an id, a spec, a function that makes "
            "one, or a gymnasium.Env"
        )
    return env


def _made(make: Factory, kind: Any) -> Any:
    env = make()
    if not isinstance(env, kind):
        raise TypeError(f"the factory made a {type(env).__name__}; it must make a gymnasium.Env")
    return env


def _proved_anew(make: Factory, constant: Collection[str]) -> Certificate:
    """Prove two environments that are closed again: what a proof leaves behind goes with them."""
    both: list[gymnasium.Env[Any, Any]] = []
    try:
        both += [make() for _ in range(2)]
        if both[0] is both[1]:
            raise TypeError("the factory hands out one environment twice; it must make new ones")
        return _proved([Row(env, constant) for env in both])
    finally:
        for env in both:
            env.close()
