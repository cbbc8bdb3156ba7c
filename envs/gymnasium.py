"""Any single Gymnasium environment as rows that can be saved and restored exactly.

env = envs.adapt("CartPole-v1", num_envs=4)
saved = env.snapshot()
...
env.restore(saved)
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any
from weakref import WeakKeyDictionary

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from delegate.backtrack.state import StatefulVectorEnv
from delegate.envs.adapted.certificate import Certificate, versions
from delegate.envs.adapted.equality import difference
from delegate.envs.adapted.proof import prove
from delegate.envs.adapted.refusal import NotRestorable
from delegate.envs.adapted.row import Row
from delegate.envs.adapted.vector import AdaptedVectorEnv

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
       integration state with warm start, everything the last step derived from it, the model's
       numbers and options. ALE: machine, random generator, and the action that sticks. A
       StatefulVectorEnv: its snapshot.
    2. Everything else that can change in Python (attributes of the environment, of all wrappers,
       and of what they lead to, closures too) is copied deep, without asking pickling hooks:
       Gymnasium's EzPickle makes `copy.deepcopy` build a new environment instead of a copy.
    3. Random generators (numpy, Python) are read apart, so that rng="fresh" can leave them
       alone. Windows, surfaces and renderers are neither saved nor undone.

    On the first use of an id or function, an environment is played, restored and played again,
    also from one instance to another and through a reset; all must be equal to the bit. What
    cannot be saved or does not replay is refused, and so is what changes global state. An
    environment that is given itself is proved in place and left as it was. The proof is as good
    as a replay: state that comes into play later than in some thirty steps is beyond it.
    Wall-clock readings of RecordEpisodeStatistics are left out.

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
    mode = _mode(autoreset_mode)
    if isinstance(env, gymnasium.Env):
        if num_envs > 1 or settings:
            given = f"{num_envs} rows" if num_envs > 1 else f"settings ({', '.join(settings)})"
            raise TypeError(f"an environment is one row as it is; give its id to have {given}")
        row = Row(env, constant)
        _prove_instance(row)
        return AdaptedVectorEnv([row], mode)
    make = _factory(env, settings)
    rows = [_made(make, constant) for _ in range(int(num_envs))]
    proved, proof = _proved_of(env), (rows[0].world, frozenset(constant))
    if proof not in proved:
        _prove_factory(make, constant)
        proved.add(proof)
    return AdaptedVectorEnv(rows, mode)


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
    steps: how many steps are replayed, through endings and resets · seed: of resets and actions
    settings: with an id, as for `gymnasium.make`
    Raises only what making the environment raises, and TypeError for what is no environment.
    """
    made: Any = env if _is_made(env) else _factory(env, settings)()
    if isinstance(made, StatefulVectorEnv):
        return _certify_rows(made, steps, seed)
    name = made.spec.id if made.spec is not None else type(made.unwrapped).__name__
    codec, reason = None, None
    try:
        row = Row(made)
        codec = row.codec
        if _is_made(env):
            _prove_instance(row)
        else:
            _prove_factory(_factory(env, settings), ())
    except NotRestorable as error:
        reason = str(error)
    finally:
        if not _is_made(env):
            made.close()
    verdict: Any = "refused" if reason else "exact"
    return Certificate(name, verdict, codec, steps, 0, 1, None, None, reason, versions())


def _is_made(env: Any) -> bool:
    return isinstance(env, gymnasium.Env | StatefulVectorEnv)


def _certify_rows(env: StatefulVectorEnv, steps: int, seed: int) -> Certificate:
    env.reset(seed=seed)
    env.action_space.seed(seed)
    actions = [env.action_space.sample() for _ in range(steps)]
    saved = env.snapshot()
    first = [env.step(action) for action in actions]
    env.restore(saved)
    for step, action in enumerate(actions):
        if (where := difference(first[step], env.step(action))) is not None:
            reason = f"played again from a saved moment, {where.lstrip('.')} (step {step})"
            return Certificate(
                env.world, "refused", "rows", step, 1, env.num_envs, where, step, reason, versions()
            )
    return Certificate(
        env.world, "exact", "rows", steps, 1, env.num_envs, None, None, None, versions()
    )


Proved = set[tuple[str, frozenset[str]]]
"""worlds that were proved in this process, with the attributes vouched for"""
_proved_ids: dict[str, Proved] = {}
_proved_factories: WeakKeyDictionary[Any, Proved] = WeakKeyDictionary()


def _proved_of(env: Any) -> Proved:
    """What was proved of what that id or function makes: each is proved on its first use."""
    if isinstance(env, str):
        return _proved_ids.setdefault(env, set())
    try:
        return _proved_factories.setdefault(env, set())
    except TypeError:  # it cannot be remembered
        return set()


def _mode(given: AutoresetMode | str) -> AutoresetMode:
    try:
        return AutoresetMode(given)
    except ValueError:
        names = ", ".join(repr(mode.value) for mode in AutoresetMode)
        raise ValueError(f"autoreset_mode is {given!r}; give one of {names}") from None


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


def _made(make: Factory, constant: Collection[str]) -> Row:
    env = make()
    if not isinstance(env, gymnasium.Env):
        raise TypeError(f"the factory made a {type(env).__name__}; it must make a gymnasium.Env")
    return Row(env, constant)


def _prove_factory(make: Factory, constant: Collection[str]) -> None:
    """Prove two environments that are closed again: what a proof leaves behind goes with them."""
    trial: list[Row] = []
    try:
        trial.append(_made(make, constant))
        trial.append(_made(make, constant))
        if trial[0].env is trial[1].env:
            raise TypeError("the factory hands out one environment twice; it must make new ones")
        prove(*trial)
    finally:
        for row in trial:
            row.env.close()


def _prove_instance(row: Row) -> None:
    """Prove an environment and leave it as it was."""
    before = row.save()
    try:
        prove(row)
    finally:
        row.load(before)
