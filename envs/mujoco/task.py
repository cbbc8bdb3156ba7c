"""What a MuJoCo task is: its settings, how episodes begin, what is observed and rewarded.

A task is written once for the whole batch. Its arithmetic follows Gymnasium's operation by
operation and type by type, so that results are equal bit for bit.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import gymnasium
import mujoco
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from delegate.envs.mujoco.physics import Layout, Place, make_physics
from delegate.envs.mujoco.random_rows import RandomRows

ASSETS = (
    Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets",
    Path(__file__).parent / "assets",
)

Range = Annotated[tuple[float, float], Field(strict=False)]
"""lower and upper bound; YAML gives a list"""

NO_ISLANDS = int(getattr(mujoco.mjtDisableBit, "mjDSBL_ISLAND", 0))
"""0 in versions of MuJoCo that do not look for islands unless asked to"""

Info = dict[str, Any]

RENDERING = frozenset(
    {
        "default_camera_config",
        "width",
        "height",
        "camera_id",
        "camera_name",
        "max_geom",
        "visual_options",
    }
)
"""settings that pictures depend on, and nothing else"""


class TaskSettings(BaseModel):
    """What every MuJoCo task can be told; the names are Gymnasium's."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, ser_json_inf_nan="constants"
    )

    xml_file: str
    """model: a file of Gymnasium's, or a path that begins with '/', '.' or '~'"""
    frame_skip: int = Field(ge=1, le=10_000)
    """physics steps in one environment step (count)"""
    max_episode_steps: int = Field(1000, ge=1, le=2**31 - 1)
    """an episode is truncated after this many steps (steps)"""
    default_camera_config: dict[str, Any] | None = None
    """attributes of the free camera: distance, azimuth, elevation, lookat, trackbodyid"""
    width: int = Field(480, ge=1, le=10_000)
    height: int = Field(480, ge=1, le=10_000)
    """size of a rendered picture (pixels)"""
    camera_id: int | None = None
    camera_name: str | None = None
    """which of the model's cameras looks; neither: the free camera"""
    max_geom: int = Field(1000, ge=1)
    """most geoms drawn (count)"""
    visual_options: dict[int, bool] | None = None
    """flags of mujoco.mjtVisFlag to switch"""


class LocomotionSettings(TaskSettings):
    """What every walking task can be told."""

    forward_reward_weight: float = 1.0
    """reward for moving forward by one metre a second (1)"""
    ctrl_cost_weight: float
    """cost of a squared unit of control (1)"""
    reset_noise_scale: float
    """spread of the position and velocity an episode begins with (m, rad, and per second)"""
    exclude_current_positions_from_observation: bool = True
    """whether the horizontal position is left out, which the task does not depend on"""


class Task(ABC):
    """B rows of one task on one physics engine.

    saved: what observations and rewards need beyond the physics, [B, ...] by name; part of the
    state of a row, because a step leaves it one substep behind the physics.
    """

    id: ClassVar[str]
    settings_type: ClassVar[type[TaskSettings]]
    camera: ClassVar[dict[str, Any]]
    """the free camera, as Gymnasium sets it, but that it follows whoever walks away"""
    events: ClassVar[frozenset[str]] = frozenset()
    """keys of info that tell what a step led to, False in rows that hold still"""

    def __init__(self, settings: Any, rows: int, threads: int) -> None:
        self.settings = settings
        self.rows = rows
        self.model = self.load()
        if self.model.ntree == 1:
            # A single tree is a single island: to look for others takes 8% of a step of Hopper
            self.model.opt.disableflags |= NO_ISLANDS
        layout = Layout(self.model)
        self.physics = make_physics(self.model, rows, threads, self.fields, self.contact_forces)
        state = self.physics.state
        self.qpos = state[:, layout.qpos]
        self.qvel = state[:, layout.qvel]
        self.ctrl = state[:, layout.ctrl]
        self.init_qpos = self.model.qpos0.copy()
        self.init_qvel = np.zeros(self.model.nv)
        self.dt = float(self.model.opt.timestep * settings.frame_skip)
        self.saved: dict[str, np.ndarray] = {}

    @property
    def fields(self) -> tuple[str, ...]:
        """The MjData fields that are read after each step."""
        return ()

    @property
    def contact_forces(self) -> bool:
        """Whether the forces of contacts are needed after each step."""
        return False

    def load(self) -> mujoco.MjModel:
        """The model of the task."""
        return mujoco.MjModel.from_xml_path(str(self.model_path()))

    def model_path(self) -> Path:
        """Where the model lies. Raises ValueError if it does not."""
        return model_path(self.settings.xml_file)

    @abstractmethod
    def observation_space(self) -> gymnasium.Space:
        """The observations of one row."""

    @abstractmethod
    def observe(self, rows: np.ndarray | slice) -> Any:
        """The observation of those rows, a copy."""

    def markov_state(self, rows: np.ndarray | slice) -> np.ndarray:
        """Positions and velocities, qpos and qvel, of those rows: float32 [n, nq + nv].

        Left out: the solver's warm start and contact forces, below rounding in a step or two, and
        the goals of mazes, which are told apart from states.
        """
        parts = self.qpos[rows], self.qvel[rows]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    @abstractmethod
    def draw(
        self, generator: np.random.Generator, row: int, placement: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where that row's episode begins: qpos [nq], qvel [nv]."""

    def placement(self, options: dict[str, Any]) -> Any:
        """What `draw` is told of the options of a reset. Raises ValueError for unknown ones."""
        if options:
            raise ValueError(f"reset option {min(options)!r} is not known; give 'reset_mask'")
        return None

    def position(self) -> np.ndarray:
        """What velocities are differences of; a copy. float64 [B] or [B, 2]"""
        return self.qpos[:, 0].copy()

    def advance(self, rows: np.ndarray | None, action: np.ndarray) -> dict[int, str]:
        """Step the physics; returns the rows that failed and why."""
        return self.physics.step(rows, action, self.settings.frame_skip)

    def keep(self, rows: np.ndarray | slice) -> None:  # noqa: B027 - most tasks keep nothing
        """Copy to `saved`, for those rows, what the last call of the physics derived."""

    @abstractmethod
    def outcome(
        self, before: np.ndarray, action: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, Info]:
        """Reward float64 [B], terminated bool [B] and info [B] of the step just taken.

        before: `position` before it
        """

    def follow(self, moved: np.ndarray, random: RandomRows) -> None:  # noqa: B027 - most do not
        """What happens after the step has been observed, in the rows that moved. moved: bool [B]"""

    @abstractmethod
    def begin_info(self) -> Info:
        """The info of every row that a reset gives, [B] by name."""

    def begin(self, rows: np.ndarray, drawn: Sequence[Place]) -> None:
        """Put those rows at the beginning of an episode."""
        self.physics.begin(rows, drawn)
        self.keep(rows)

    def sites(self, saved: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Where sites are drawn that only pictures show. saved: one row of the state"""
        return {}

    def digest(self) -> str:
        """Names the compiled model: snapshots of another one do not fit."""
        buffer = np.empty(mujoco.mj_sizeModel(self.model), np.uint8)
        mujoco.mj_saveModel(self.model, None, buffer)
        return hashlib.sha256(buffer.tobytes()).hexdigest()[:16]


def squares(values: np.ndarray) -> np.ndarray:
    """The sum of squares of each row, in its own type. [B, n] -> [B]"""
    return np.add.reduce(np.square(values), axis=1)


def uniform_noise(
    task: Task, generator: np.random.Generator, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """The model's own beginning with uniform noise on positions and velocities."""
    # One call draws the same numbers as Gymnasium's two
    count = task.model.nq
    noise = generator.uniform(low=-scale, high=scale, size=count + task.model.nv)
    return task.init_qpos + noise[:count], task.init_qvel + noise[count:]


def normal_velocity_noise(
    task: Task, generator: np.random.Generator, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """The model's own beginning with uniform noise on positions, normal on velocities."""
    qpos = task.init_qpos + generator.uniform(low=-scale, high=scale, size=task.model.nq)
    qvel = task.init_qvel + scale * generator.standard_normal(task.model.nv)
    return qpos, qvel


def lengths(vectors: np.ndarray) -> np.ndarray:
    """The Euclidean norm of each row, by the dot product that np.linalg.norm takes of a vector.

    [B, n] -> [B]
    """
    return np.sqrt(np.vecdot(vectors, vectors))


def box(size: int) -> gymnasium.spaces.Box:
    """Unbounded float64 observations, as Gymnasium's tasks have them."""
    return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float64)


def model_path(xml_file: str) -> Path:
    """Where that model lies. Raises ValueError if it does not."""
    if xml_file.startswith((".", "/", "~")):
        places = [Path(xml_file).expanduser()]
    else:
        places = [folder / xml_file for folder in ASSETS]
    if found := [place for place in places if place.is_file()]:
        return found[0]
    known = sorted(path.name for folder in ASSETS for path in folder.glob("*.xml"))
    raise ValueError(
        f"xml_file {xml_file!r} does not exist; give a path that begins with '/', '.' or '~', "
        f"or one of {', '.join(known)}"
    )
