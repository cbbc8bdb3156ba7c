"""Worlds by name: make a batch of rows, build a bank of levels, list what there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from pydantic import BaseModel

from delegate.backtrack.autoreset import mode_of
from delegate.bank import NOMINAL, SHIFTED, Bank
from delegate.envs.banks import first_levels
from delegate.envs.grid.corner import Corner
from delegate.envs.grid.four_rooms import FourRooms
from delegate.envs.grid.level import Level
from delegate.envs.grid.rules import GridSettings, Rules
from delegate.envs.grid.trap_grid import TrapGrid
from delegate.envs.grid.vector import GridVectorEnv
from delegate.envs.levels import WorldType
from delegate.settings import checked, known, nearest

if TYPE_CHECKING:
    from delegate.envs.mujoco.vector import MujocoVectorEnv

MujocoId = Literal[
    "Ant-v5",
    "AntMaze_UMaze-v5",
    "HalfCheetah-v5",
    "Hopper-v5",
    "Humanoid-v5",
    "PointMaze_UMaze-v3",
    "Reacher-v5",
    "Walker2d-v5",
]
MUJOCO_IDS: tuple[MujocoId, ...] = get_args(MujocoId)
"""named here so that MuJoCo is only imported when one of its tasks is made"""

WORLDS: dict[str, type[Rules]] = {world.id: world for world in (Corner, FourRooms, TrapGrid)}
MUJOCO_WORLDS = {
    "point-maze": ("delegate.envs.mujoco.point_maze_bank", "PointMazeWorld", "PointMazeBank"),
    "reacher-pair": (
        "delegate.envs.mujoco.reacher_pair_bank",
        "ReacherPairWorld",
        "ReacherPairBank",
    ),
}
"""worlds with levels on MuJoCo, which is imported with them: module, its WorldType, its Bank"""
OPTIONS = tuple(list(signature(GridVectorEnv.__init__).parameters)[4:])
"""settings of the batch rather than of the world: observation, autoreset_mode, assign, ..."""

MAX_ROWS = 1_000_000
ALIKE = 0.8
"""how much an unknown id must look like one of Gymnasium's for that to be suggested (0 to 1)"""
MAX_CELLS = 2**30
"""most cells, channels counted, that a bank or a batch of observations may hold (1 GiB)"""


def ids() -> list[str]:
    """The grid worlds that `make` knows."""
    return sorted(WORLDS)


def world_ids() -> list[str]:
    """The worlds that have levels, of which `levels` and `make_bank` make what a trial plays."""
    return sorted([*WORLDS, *MUJOCO_WORLDS])


def world_type(id: str) -> type[WorldType]:
    """A world that has levels. Raises ValueError for another id, naming what may be meant."""
    if id in MUJOCO_WORLDS:
        module, name, _ = MUJOCO_WORLDS[id]
        return getattr(import_module(module), name)
    return _world(id)


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
    Raises ValueError for an unknown id or setting, naming the nearest, and for bad values; for an
    environment of Gymnasium's it names `adapt`.
    """
    if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer):
        raise ValueError(f"num_envs is {num_envs!r}; give an integer, 1 to {MAX_ROWS}")
    if not 1 <= num_envs <= MAX_ROWS:
        raise ValueError(f"num_envs is {num_envs}; give 1 to {MAX_ROWS}")
    if id in MUJOCO_IDS:
        from delegate.envs import mujoco

        if levels is not None:
            raise ValueError(f"{id} has no levels; leave them out")
        return mujoco.make(id, int(num_envs), **settings)
    _world(id)
    options = {name: settings.pop(name) for name in OPTIONS if name in settings}
    _check_options(id, options)
    options["autoreset_mode"] = mode_of(options.get("autoreset_mode", AutoresetMode.NEXT_STEP))
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


def levels(
    id: str,
    kind: Literal["nominal", "shifted", "mixed"] = "nominal",
    *,
    seeds: Sequence[int] | np.ndarray,
    count: int | None = None,
    distinguishing_only: bool = False,
    seen: set[bytes] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Any:
    """The levels of those seeds, each from its seed and the settings alone; see make_bank.

    kind: the distribution that these settings describe, and how its levels are labelled.
    "shifted" has the goal anywhere unless a setting says where (`mix`, Corner's `corner_size`);
    "mixed" labels each level by whether `mix` put its goal anywhere
    count: take only the first that many; None takes all
    distinguishing_only: skip, in order, the seeds whose level does not tell the goals apart;
    the levels' `seed` says which were used
    seen: likewise skip levels with these fingerprints, and those met before; those taken are
    added, so that no level is in two draws that are given one set
    Raises ValueError if the seeds are bad, and TooFewLevels, a ValueError, if they do not yield
    `count` levels.
    """
    settings = dict(settings or {})
    world = make_world(id, settings)
    if kind not in ("nominal", "shifted", "mixed"):
        raise ValueError(f"kind {kind!r} is not known; give 'nominal', 'shifted' or 'mixed'")
    if kind == "shifted" and not world.goal_settings & settings.keys():
        world = make_world(id, {**settings, "mix": 1.0})
    most = MAX_CELLS // _scene(world) if isinstance(world, Rules) else MAX_ROWS
    wanted = _check_seeds(id, seeds, count, most)
    at_least = 1 if count is None and distinguishing_only else None
    found = first_levels(world, seeds, wanted, distinguishing_only, seen, at_least)
    if kind == "mixed":
        return found
    return replace(found, kind=np.full(found.count, SHIFTED if kind == "shifted" else NOMINAL))


def make_bank(id: str, levels: Any, **settings: Any) -> Bank:
    """What a trial plays: those levels, one a row, with their goals and the truth about them.

        levels = envs.levels("Corner", "shifted", seeds=range(100), distinguishing_only=True)
        bank = envs.make_bank("Corner", levels)

    levels: as `levels` draws them, several draws joined by `concatenate`
    settings: of the world, as for `levels`, and of the batch: for grids observation, copy and
    render_mode; for MuJoCo num_threads and render_mode
    Raises ValueError as `levels` and `make` do.
    """
    kind = world_type(id)
    options = {name: settings.pop(name) for name in kind.options if name in settings}
    if issubclass(kind, Rules):
        _check_options(id, options)
        settings.setdefault("size", levels.height)
    world = make_world(id, settings, kind.options)
    module, _, name = MUJOCO_WORLDS.get(id, ("delegate.envs.grid.bank", "", "GridBank"))
    return getattr(import_module(module), name)(world, levels, **options)


def make_rules(id: str, settings: Mapping[str, Any]) -> Rules:
    """The rules of a grid world under those settings; raises ValueError as `make` does."""
    _world(id)
    return make_world(id, settings, (*OPTIONS, "levels"))


def make_world(id: str, settings: Mapping[str, Any], others: Sequence[str] = ()) -> Any:
    """A world that has levels, under settings: a WorldType, for grids their Rules.

    others: names that belong elsewhere, for messages
    Raises ValueError for an unknown id or setting, naming the nearest, and for bad values.
    """
    world = world_type(id)
    return world(checked(id, world.settings_type, settings, others or (*OPTIONS, "levels")))


def settings_type(id: str) -> type[BaseModel]:
    """The pydantic model of a world's settings. Raises ValueError for an unknown id."""
    if id in MUJOCO_IDS:
        from delegate.envs import mujoco

        return mujoco.settings_type(id)
    return world_type(id).settings_type


def make_vector(world: str, num_envs: int = 1, **settings: Any) -> GridVectorEnv:
    """What `gymnasium.make_vec` calls."""
    return make(world, num_envs, **settings)


def register() -> None:
    """Register every world with Gymnasium as delegate/<id>-v0."""
    for name in WORLDS:
        if f"delegate/{name}-v0" not in gymnasium.registry:
            gymnasium.register(
                id=f"delegate/{name}-v0",
                entry_point="delegate.envs.grid.single:GridEnv",
                vector_entry_point="delegate.envs.registry:make_vector",
                kwargs={"world": name},
            )


def _world(id: str) -> type[Rules]:
    """A grid world. Raises ValueError for another id, naming what may have been meant."""
    if id in WORLDS:
        return WORLDS[id]
    if id in MUJOCO_IDS:
        raise ValueError(f"{id} is a MuJoCo task and has no levels; {', '.join(world_ids())} have")
    if id in MUJOCO_WORLDS:
        raise ValueError(f"{id} is played in levels; give envs.make_bank those of envs.levels")
    ours = [*world_ids(), *mujoco_ids()]
    theirs = [name for name, spec in gymnasium.registry.items() if "world" not in spec.kwargs]
    if id in theirs:
        raise ValueError(f'{id} is Gymnasium\'s; envs.adapt("{id}", num_envs) makes rows of it')
    if (near := nearest(id, [*ours, *theirs], ALIKE)) is not None and near not in ours:
        raise ValueError(
            f'world "{id}" is not known; did you mean "{near}"? That is Gymnasium\'s: give it to '
            f"envs.adapt. There are: {', '.join(ours)}"
        )
    known("world", id, ours)
    raise AssertionError(id)


_CHOICES: dict[str, tuple[Any, ...]] = {
    "observation": ("boolean", "integer"),
    "assign": ("random", "in_order"),
    "copy": (True, False),
    "render_mode": (None, "rgb_array", "ansi"),
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
    for name, choices in _CHOICES.items():
        value = options.get(name, choices[0])
        if not any(value is choice or value == choice for choice in choices):
            raise ValueError(
                f"{id}: {name} is {value!r}; give one of {', '.join(map(str, choices))}"
            )


def _check_seeds(id: str, seeds: Sequence[int] | np.ndarray, count: int | None, most: int) -> int:
    """How many levels are wanted of those seeds."""
    wanted = len(seeds) if count is None else count
    if wanted > most:
        raise ValueError(f"{wanted} levels are too many at this size; give at most {most}")
    # A range may be longer than memory: its ends say all there is to know of it.
    given = np.asarray([seeds[0], seeds[-1]] if isinstance(seeds, range) and seeds else seeds)
    if given.ndim != 1 or given.dtype.kind not in "iu" or not len(given) or given.min() < 0:
        raise ValueError("seeds must be one or more integers from 0 to 2^63 - 1")
    if not 1 <= wanted <= len(seeds):
        raise ValueError(
            f"{id}: {wanted} levels wanted from {len(seeds)} seeds; give as many seeds as levels"
        )
    return wanted


@lru_cache(maxsize=16)
def _own_bank(id: str, settings: GridSettings) -> Level:
    first = settings.level_seed
    seeds = np.arange(first, first + settings.num_levels, dtype=np.int64)
    return WORLDS[id](settings).generate(seeds)
