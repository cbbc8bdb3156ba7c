"""Worlds by name: make a batch of rows, build a bank of levels, list what there is."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from pydantic import ValidationError

from envs.grid.corner import Corner
from envs.grid.facts import distinguishing
from envs.grid.four_rooms import FourRooms
from envs.grid.level import Level
from envs.grid.rules import GridSettings, Rules
from envs.grid.trap_grid import TrapGrid
from envs.grid.vector import GridVectorEnv

if TYPE_CHECKING:
    from envs.mujoco.vector import MujocoVectorEnv

MujocoId = Literal[
    "Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "Reacher-v5", "Walker2d-v5"
]
MUJOCO_IDS: tuple[MujocoId, ...] = get_args(MujocoId)
"""named here so that MuJoCo is only imported when one of its tasks is made"""

WORLDS: dict[str, type[Rules]] = {world.id: world for world in (Corner, FourRooms, TrapGrid)}
OPTIONS = tuple(list(signature(GridVectorEnv.__init__).parameters)[4:])
"""settings of the batch rather than of the world: observation, autoreset_mode, assign, ..."""

MAX_ROWS = 1_000_000
MAX_CELLS = 2**30
"""most cells, channels counted, that a bank or a batch of observations may hold (1 GiB)"""


def ids() -> list[str]:
    """The grid worlds that `make` knows."""
    return sorted(WORLDS)


def mujoco_ids() -> list[str]:
    """The MuJoCo tasks that `make` knows."""
    return sorted(MUJOCO_IDS)


@overload
def make(id: MujocoId, num_envs: int = 1, **settings: Any) -> MujocoVectorEnv: ...


@overload
def make(
    id: str, num_envs: int = 1, *, levels: Level | None = None, **settings: Any
) -> GridVectorEnv: ...


def make(
    id: str, num_envs: int = 1, *, levels: Level | None = None, **settings: Any
) -> GridVectorEnv | MujocoVectorEnv:
    """A batch of `num_envs` rows of one world; for MuJoCo tasks see `envs.mujoco.make`.

    levels: the bank to play; None builds one of `num_levels` levels from `level_seed`
    settings: those of the world (see `settings_type(id)`) and of the batch: observation,
    autoreset_mode, assign, copy, render_mode
    autoreset_mode may also be its value ("NextStep", "SameStep", "Disabled"), as in YAML.
    Raises ValueError for an unknown id or setting, naming the nearest, and for bad values.
    """
    if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer):
        raise ValueError(f"num_envs is {num_envs!r}; give an integer, 1 to {MAX_ROWS}")
    if not 1 <= num_envs <= MAX_ROWS:
        raise ValueError(f"num_envs is {num_envs}; give 1 to {MAX_ROWS}")
    if id in MUJOCO_IDS:
        from envs import mujoco

        return mujoco.make(id, int(num_envs), **settings)
    options = {name: settings.pop(name) for name in OPTIONS if name in settings}
    _check_options(id, options)
    options["autoreset_mode"] = AutoresetMode(
        options.get("autoreset_mode", AutoresetMode.NEXT_STEP)
    )
    if levels is not None:
        settings.setdefault("size", levels.height)
    rules = make_rules(id, settings)
    _check_size(rules, levels, num_envs)
    if levels is None:
        levels = _own_bank(id, rules.settings)
    elif levels.walls.shape[1:] != (rules.settings.size,) * 2:
        raise ValueError(
            f"{id}: the bank's levels are {levels.height}x{levels.width} but size is "
            f"{rules.settings.size}; leave size out or build the bank with it"
        )
    return GridVectorEnv(rules, levels, int(num_envs), **options)


def bank(
    id: str,
    kind: Literal["nominal", "shifted", "mixed"] = "nominal",
    *,
    seeds: Sequence[int] | np.ndarray,
    count: int | None = None,
    distinguishing_only: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Level:
    """The levels of those seeds, each from its seed and the settings alone.

    kind: which distribution; "mixed" lets each seed decide by the setting `mix`
    count: take only the first that many; None takes all
    distinguishing_only: skip, in order, the seeds whose level does not tell the goals apart;
    the bank's `seed` says which were used
    Raises ValueError if the seeds are bad or do not yield `count` levels.
    """
    rules = make_rules(id, dict(settings or {}))
    if kind not in ("nominal", "shifted", "mixed"):
        raise ValueError(f"kind {kind!r} is not known; give 'nominal', 'shifted' or 'mixed'")
    pool = _seed_array(seeds, MAX_CELLS // _scene(rules))
    wanted = len(pool) if count is None else count
    if wanted < 1 or (not distinguishing_only and wanted > len(pool)):
        raise ValueError(
            f"{id}: {wanted} levels wanted from {len(pool)} seeds; give as many seeds as levels"
        )
    if not distinguishing_only:
        return _generate(rules, pool[:wanted], kind)
    return _only_distinguishing(rules, pool, kind, count)


def make_rules(id: str, settings: Mapping[str, Any]) -> Rules:
    """The rules of a world under those settings; raises ValueError as `make` does."""
    world = _world(id)
    known = world.settings_type.model_fields
    for name in settings:
        if name not in known:
            near = _nearest(name, [*known, *OPTIONS, "levels"])
            raise ValueError(f"{id} has no setting {name!r}; {near}")
    try:
        return world(world.settings_type(**settings))
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}: " for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        given = f", not {first['input']!r}" if first["loc"] else ""
        raise ValueError(f"{id}: {place}{message}{given}") from None


def settings_type(id: str) -> type[GridSettings]:
    """The pydantic model of a world's settings."""
    return _world(id).settings_type


def make_vector(world: str, num_envs: int = 1, **settings: Any) -> GridVectorEnv:
    """What `gymnasium.make_vec` calls."""
    return make(world, num_envs, **settings)


def register() -> None:
    """Register every world with Gymnasium as delegate/<id>-v0."""
    for name in WORLDS:
        if f"delegate/{name}-v0" not in gymnasium.registry:
            gymnasium.register(
                id=f"delegate/{name}-v0",
                entry_point="envs.grid.single:GridEnv",
                vector_entry_point="envs.registry:make_vector",
                kwargs={"world": name},
            )


def _world(id: str) -> type[Rules]:
    if id not in WORLDS:
        raise ValueError(f"no world is called {id!r}; {_nearest(str(id), [*ids(), *mujoco_ids()])}")
    return WORLDS[id]


def _nearest(name: str, known: list[str]) -> str:
    lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), list(lower), n=1, cutoff=0.5)
    if close:
        return f"did you mean {lower[close[0]]!r}?"
    return f"known are {', '.join(known)}"


_CHOICES: dict[str, tuple[Any, ...]] = {
    "observation": ("boolean", "integer"),
    "assign": ("random", "in_order"),
    "copy": (True, False),
    "render_mode": (None, "rgb_array", "ansi"),
    "autoreset_mode": (*AutoresetMode, *(mode.value for mode in AutoresetMode)),
}


def _check_size(rules: Rules, levels: Level | None, num_envs: int) -> None:
    scene = _scene(rules)
    count = rules.settings.num_levels if levels is None else levels.count
    for name, number in (("num_levels", count), ("num_envs", num_envs)):
        if number * scene > MAX_CELLS:
            raise ValueError(
                f"{rules.id}: {name} {number} at size {rules.settings.size} would need "
                f"{number * scene / 2**30:.1f} GiB; give at most {MAX_CELLS // scene}"
            )


def _scene(rules: Rules) -> int:
    return rules.settings.size**2 * len(rules.channels)


def _check_options(id: str, options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if not any(value is choice or value == choice for choice in _CHOICES[name]):
            accepted = ", ".join(str(choice) for choice in _CHOICES[name])
            raise ValueError(f"{id}: {name} is {value!r}; give one of {accepted}")


def _seed_array(seeds: Sequence[int] | np.ndarray, limit: int) -> np.ndarray:
    if len(seeds) > limit:
        raise ValueError(f"{len(seeds)} seeds are too many at this size; give at most {limit}")
    pool = np.asarray(seeds)
    if pool.ndim != 1 or pool.dtype.kind not in "iu" or not len(pool) or pool.min() < 0:
        raise ValueError("seeds must be one or more integers from 0 to 2^63 - 1")
    return pool.astype(np.int64)


def _generate(rules: Rules, seeds: np.ndarray, kind: str) -> Level:
    shifted = None if kind == "mixed" else np.full(len(seeds), kind == "shifted")
    return rules.generate(seeds, shifted)


def _only_distinguishing(rules: Rules, pool: np.ndarray, kind: str, count: int | None) -> Level:
    levels = _generate(rules, pool, kind)
    chosen = np.flatnonzero(distinguishing(rules, levels))[:count]
    if not len(chosen) or (count is not None and len(chosen) < count):
        raise ValueError(
            f"{rules.id}: {len(chosen)} of the {len(pool)} {kind} seeds give a distinguishing "
            f"level and {count or 'some'} are wanted; give a wider range of seeds"
        )
    return levels.take(chosen)


@lru_cache(maxsize=16)
def _own_bank(id: str, settings: GridSettings) -> Level:
    first = settings.level_seed
    seeds = np.arange(first, first + settings.num_levels, dtype=np.int64)
    return WORLDS[id](settings).generate(seeds)
