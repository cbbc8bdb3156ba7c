"""The batched face of the MuJoCo tasks: a Gymnasium vector environment whose rows are arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from delegate.backtrack.autoreset import fresh_seed, mode_of, reset_rows, row_seeds
from delegate.backtrack.spaces import ActionCheck
from delegate.backtrack.state import RandomStateMode, Rows, Snapshot, StatefulVectorEnv, of_rows
from delegate.envs.mujoco.physics import Failures
from delegate.envs.mujoco.random_rows import RandomRows
from delegate.envs.mujoco.rendering import Painter
from delegate.envs.mujoco.task import RENDERING, Info, Task, TaskSettings

StepResult = tuple[Any, np.ndarray, np.ndarray, np.ndarray, Info]


class Diverged(RuntimeError):
    """A simulation blew up: MuJoCo raised a warning after which it starts over.

    rows: the rows it happened in, which are as they were before the step
    reasons: row -> what MuJoCo said
    outcome: what `step` would have returned; the other rows have taken the step
    """

    def __init__(self, task: str, reasons: Failures, outcome: StepResult) -> None:
        self.reasons = reasons
        self.rows = np.array(sorted(reasons))
        self.outcome = outcome
        shown = "; ".join(f"row {row}: {reasons[row]}" for row in self.rows[:5])
        super().__init__(
            f"{task}: {shown}; such a row was put back to before the step: reset it with "
            "options={'reset_mask': ...}, or lower the forces or the model's timestep"
        )


class MujocoVectorEnv(StatefulVectorEnv):
    """B rows of one MuJoCo task, equal bit for bit to `gymnasium.make(id)` each.

    Actions are float [B, nu] within the bounds of `single_action_space`; float32 gives what
    Gymnasium gives for float32, float64 likewise. Row i of reset(seed=s) begins as
    gymnasium.make(id).reset(seed=s + i).
    `info` has Gymnasium's keys, each an array [B]. It describes the transition, before any reset
    of the same step; with SAME_STEP, where an episode ended, also final_obs and its mask
    _final_obs. A row that only began in this step, or holds still, has the keys of a reset, the
    others are zero; a row that holds still has no success.

    autoreset_mode: NEXT_STEP resets an ended row at its next step, whose action is ignored;
    SAME_STEP at once; DISABLED lets it hold still until reset with options["reset_mask"].
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - Gymnasium's own declaration
    random_state = frozenset({"random"})

    def __init__(
        self,
        task_type: Callable[[Any, int, int], Task],
        settings: TaskSettings,
        num_envs: int = 1,
        *,
        num_threads: int = 1,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        """task_type: makes the task of settings, rows and threads
        num_threads: how many the physics may use; results do not depend on it."""
        self.task = task_type(settings, num_envs, num_threads)
        self.settings = settings
        self.num_envs = num_envs
        self.num_threads = num_threads
        self.autoreset_mode = mode_of(autoreset_mode)
        self.render_mode = render_mode
        self.max_episode_steps = settings.max_episode_steps
        self.metadata = {
            **type(self).metadata,
            "render_fps": round(1 / self.task.dt),
            "autoreset_mode": self.autoreset_mode,
        }
        low, high = self.model.actuator_ctrlrange.astype(np.float32).T
        self.single_action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)
        self.single_observation_space = self.task.observation_space()
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._check = ActionCheck(self.single_action_space, num_envs, self.name)

        self._random = RandomRows(num_envs)
        self._clock = np.zeros(num_envs, np.int32)
        self._terminated = np.zeros(num_envs, bool)
        self._truncated = np.zeros(num_envs, bool)
        self._arrays = {
            "physics": self.task.physics.state,
            **self.task.saved,
            "clock": self._clock,
            "terminated": self._terminated,
            "truncated": self._truncated,
            "random": self._random.words,
        }
        self._started = False
        self._painter: Painter | None = None

    @property
    def model(self) -> mujoco.MjModel:
        """The compiled model, one for all rows."""
        return self.task.model

    @property
    def name(self) -> str:
        return self.task.id

    @cached_property
    def world(self) -> str:
        """Task, settings, MuJoCo's version and the model: what a snapshot must share."""
        settings = self.settings.model_dump_json(exclude={*RENDERING, "xml_file"})
        return (
            f"{self.task.id} {settings} autoreset={self.autoreset_mode.value} "
            f"mujoco={mujoco.__version__} model={self.task.digest()}"
        )

    def state_arrays(self) -> dict[str, np.ndarray]:
        """The live arrays, batch first.

        physics: float64 [B, nstate], mjSTATE_INTEGRATION · clock: int32 [B], steps since reset
        terminated, truncated: bool [B] · random: uint64 [B, 6], see RandomRows
        and what the task keeps beside the physics
        """
        self._random.save()
        return dict(self._arrays)

    def snapshot(self, rows: Rows = None) -> Snapshot:
        """See StatefulVectorEnv."""
        self._random.save()
        chosen, _ = self._chosen(rows)
        copies = {name: array[chosen].copy() for name, array in self._arrays.items()}
        return Snapshot(self.world, copies)

    def restore(
        self,
        snapshot: Snapshot,
        rows: Rows = None,
        rng: RandomStateMode = "rewind",
        keep: Collection[str] = (),
    ) -> None:
        """See StatefulVectorEnv; here it costs a few microseconds, so every detour counts."""
        chosen, count = self._chosen(rows)
        saved = snapshot.arrays
        fits = snapshot.world == self.world and saved.keys() == self._arrays.keys()
        if not fits or len(saved["physics"]) != count:
            self.check_fits(snapshot, count)
        self._random.save()
        for name, array in self._arrays.items():
            if name not in keep and not (rng == "fresh" and name in self.random_state):
                array[chosen] = saved[name]
        self._random.written(chosen)
        if not self._started:
            self._started = len(np.unique(np.arange(self.num_envs)[chosen])) == self.num_envs

    def _chosen(self, rows: Rows) -> tuple[np.ndarray | slice, int]:
        """Those rows as the quickest kind of index, and how many they are."""
        if rows is None:
            return slice(None), self.num_envs
        if isinstance(rows, np.ndarray) and rows.size == 1 and rows.dtype.kind in "iu":
            row = rows.item()
            if 0 <= row < self.num_envs:
                return slice(row, row + 1), 1
        index = self.row_index(rows)
        return index, len(index)

    def observe(self, rows: Rows = None) -> Any:
        """The current observation of those rows, a copy."""
        return self.task.observe(slice(None) if rows is None else self.row_index(rows))

    @property
    def state_space(self) -> gymnasium.spaces.Box:
        """See Task.markov_state."""
        size = self.task.markov_state(np.zeros(0, np.intp)).shape[1]
        return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def markov_state(self, rows: Rows = None) -> np.ndarray:
        """See Task.markov_state."""
        return self.task.markov_state(slice(None) if rows is None else self.row_index(rows))

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, Info]:
        """Begin new episodes.

        seed: row i is seeded with seed + i, or with its own of a list, where None lets its stream
        go on
        options: {"reset_mask": bool [B] rows to reset, the others stay as they are}, and what
        the task knows
        Raises ValueError for a mask, seed or option that does not fit.
        """
        rows = reset_rows(options, self.num_envs, begun=self._started).nonzero()[0]
        others = {name: value for name, value in (options or {}).items() if name != "reset_mask"}
        placement = self.task.placement(others)
        seeds = row_seeds(seed, self.num_envs)
        unseeded = None if self._started else row_seeds(fresh_seed(), self.num_envs)
        for row in rows.tolist():
            own = seeds[row]
            if own is None and unseeded is not None:
                own = unseeded[row]
            if own is not None:
                self._random.seed(row, own)
        self._begin(rows, placement)
        self._started = True
        return self.observe(), self.task.begin_info()

    def step(self, actions: np.ndarray) -> StepResult:
        """One step of every row. actions: float [B, nu]

        Returns observation, reward float64 [B], terminated bool [B], truncated bool [B], info.
        Raises ValueError naming the row of a bad action (no row has moved then), Diverged naming
        the rows that blew up (the others have moved), and gymnasium.error.ResetNeeded before the
        first reset.
        """
        return self._step(self._check(actions), self._terminated | self._truncated)

    def step_rows(self, rows: np.ndarray, actions: np.ndarray) -> StepResult:
        """See StatefulVectorEnv: the physics of the other rows is not computed.

        Raises as `step` does; what Diverged holds is of these rows, in their order.
        """
        index = self.step_index(rows)
        given = self._check(actions, index)
        every = np.zeros((self.num_envs, *given.shape[1:]), given.dtype)
        every[index] = given
        resting = np.ones(self.num_envs, bool)
        resting[index] = self._terminated[index] | self._truncated[index]
        return self._step(every, resting, index)

    def _step(
        self, action: np.ndarray, resting: np.ndarray, rows: np.ndarray | None = None
    ) -> StepResult:
        """Step all but the rows that rest; returns what came of `rows`, or of all.

        resting: bool [B] · rows: int [n]
        """
        if not self._started:
            raise gymnasium.error.ResetNeeded("step before reset: call reset(seed=...) first")
        task = self.task
        before = task.position()
        moved, failed = self._advance(~resting, action)
        with np.errstate(all="ignore" if failed else None):
            reward, terminated, info = task.outcome(before, action)
        np.add(self._clock, 1, out=self._clock, where=moved)
        np.copyto(self._terminated, terminated, where=moved)
        np.greater_equal(self._clock, self.max_episode_steps, out=self._truncated, where=moved)
        task.follow(moved, self._random)
        begun = _NO_ROWS
        if np.count_nonzero(resting) and self.autoreset_mode is AutoresetMode.NEXT_STEP:
            begun = resting.nonzero()[0]
            self._begin(begun)
        if np.count_nonzero(moved) < len(moved):
            self._clear(reward, info, (~moved).nonzero()[0], begun)
        terminated, truncated = self._terminated.copy(), self._truncated.copy()
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            over = terminated | truncated
            if np.count_nonzero(over):
                info["final_obs"] = self.observe()
                info["_final_obs"] = over
                self._begin(over.nonzero()[0])
        seen = task.observe(slice(None) if rows is None else rows)
        result = (seen, reward, terminated, truncated, info)
        if rows is not None:
            own = (values[rows] for values in result[1:4])
            result = (result[0], *own, of_rows(info, rows, self.num_envs))
        if failed:
            raise Diverged(task.id, failed, result)
        return result

    def render(self, row: int | None = None) -> Any:
        """uint8 [height, width, 3] of that row, or a tuple of one a row; None without a mode.

        Raises RenderingUnavailable where there is no OpenGL.
        """
        if self.render_mode is None:
            return None
        if row is None:
            return tuple(self.render(index) for index in range(self.num_envs))
        index = self.row_index(np.array([row]))
        return self._paint({name: array[index[0]] for name, array in self.state_arrays().items()})

    def render_snapshot(self, snapshot: Snapshot, row: int) -> np.ndarray:
        """The picture of a saved row, whatever the live ones do. uint8 [height, width, 3]

        Raises SnapshotMismatch for a snapshot of another world, IndexError for a row it lacks,
        and RenderingUnavailable where there is no OpenGL.
        """
        self.check_world(snapshot)
        self.check_names(set(snapshot.arrays), set(self.state_arrays()))
        if not 0 <= row < snapshot.rows:
            raise IndexError(f"row {row}: the snapshot has rows 0 to {snapshot.rows - 1}")
        return self._paint({name: array[row] for name, array in snapshot.arrays.items()})

    def _paint(self, saved: dict[str, np.ndarray]) -> np.ndarray:
        if self._painter is None:
            self._painter = Painter(self.model, self.settings, self.task.camera)
        return self._painter.paint(saved["physics"], self.task.sites(saved))

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads, and give back what drawing holds."""
        self.task.physics.close()
        if self._painter is not None:
            self._painter.close()
            self._painter = None

    def _begin(self, rows: np.ndarray, placement: Any = None) -> None:
        random, draw = self._random, self.task.draw
        drawn = [draw(random.generator(row), row, placement) for row in rows.tolist()]
        self.task.begin(rows, drawn)
        self._clock[rows] = 0
        self._terminated[rows] = False
        self._truncated[rows] = False

    def _advance(self, moving: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, Failures]:
        """Step the physics of those rows; returns which of them moved, and which failed and why.

        moving, returned: bool [B]
        """
        state = self.task.physics.state
        count = np.count_nonzero(moving)  # a tenth of what `all` and `any` take
        everyone = count == len(moving)
        if not count:
            return moving, {}
        chosen = np.arange(self.num_envs) if everyone else moving.nonzero()[0]
        before = state.copy() if everyone else state[chosen]
        failed = self.task.advance(None if everyone else chosen, action)
        if failed:
            rows = np.array(sorted(failed))
            state[rows] = before[np.searchsorted(chosen, rows)]
            moving[rows] = False
        self.task.keep(slice(None) if everyone and not failed else moving.nonzero()[0])
        return moving, failed

    def _clear(self, reward: np.ndarray, info: Info, still: np.ndarray, begun: np.ndarray) -> None:
        """Rows that did not move earn nothing and have the info of a reset. still, begun: int [n]

        begun: those of them in which an episode began
        """
        reward[still] = 0.0
        first = self.task.begin_info()
        for name, values in info.items():
            values[still] = 0
            if name in first:
                rows = begun if name in self.task.events else still
                values[rows] = first[name][rows]


_NO_ROWS = np.empty(0, np.intp)
