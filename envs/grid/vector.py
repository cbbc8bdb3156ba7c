"""The batched face of the grid worlds: a Gymnasium vector environment whose rows are arrays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from delegate.backtrack.autoreset import fresh_seed, mode_of, reset_rows, row_seeds
from delegate.backtrack.random_key import below, draw, row_keys
from delegate.backtrack.spaces import ActionCheck
from delegate.backtrack.state import Rows, StatefulVectorEnv
from delegate.envs.grid.facts import LevelFacts, level_facts
from delegate.envs.grid.level import ACTIONS, Level
from delegate.envs.grid.observation import BooleanObservation, cell_features, draw_ansi, draw_rgb
from delegate.envs.grid.rules import GridState, Rules

if TYPE_CHECKING:
    from delegate.recall.table import TransitionTable

ObservationKind = Literal["boolean", "integer"]
Assignment = Literal["random", "in_order"]


class GridVectorEnv(StatefulVectorEnv):
    """B rows of one grid world, each playing a level of one bank.

    Observations are bool [B, H, W, C] ("boolean") or int64 [B], the agent's cell ("integer").
    Actions are 0 up, 1 right, 2 down, 3 left; walls block.
    `info` of a step describes the transition, before any reset of the same step:
    proxy_reward float64 [B], intended_reached bool [B], proxy_reached bool [B], state int32 [B];
    with SAME_STEP, where an episode ended, also final_obs and its mask _final_obs. A row that
    holds still, or only begins, has reached nothing.

    autoreset_mode: NEXT_STEP resets an ended row at its next step, whose action is ignored;
    SAME_STEP at once; DISABLED lets it hold still until reset with options["reset_mask"].
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "ansi"], "render_fps": 8}  # noqa: RUF012 - Gymnasium's own declaration

    def __init__(
        self,
        rules: Rules,
        levels: Level,
        num_envs: int = 1,
        *,
        observation: ObservationKind = "boolean",
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        assign: Assignment = "random",
        copy: bool = True,
        render_mode: str | None = None,
    ) -> None:
        """`copy=False` hands out the live observation, which the next step changes."""
        self.rules = rules
        self.settings = rules.settings
        self.levels = levels
        self.num_envs = num_envs
        self.autoreset_mode = mode_of(autoreset_mode)
        self.observation_kind = observation
        self.assign = assign
        self.copy = copy
        self.render_mode = render_mode
        self.discount = rules.settings.discount
        self.max_steps = rules.settings.max_steps
        self.irreversible = rules.irreversible
        self.step_cost = rules.step_cost
        self.num_states = levels.num_cells
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}

        self.state = GridState.zeros(num_envs)
        rules.place(levels, self.state, np.arange(num_envs), np.zeros(num_envs, np.int64))
        self._picture = (
            BooleanObservation(levels, rules.channels, num_envs)
            if observation == "boolean"
            else None
        )
        self._started = False
        self._set_spaces()

    def _set_spaces(self) -> None:
        self.single_action_space = gymnasium.spaces.Discrete(len(ACTIONS))
        if self._picture is None:
            self.single_observation_space = gymnasium.spaces.Discrete(self.num_states)
        else:
            shape = self._picture.array.shape[1:]
            self.single_observation_space = gymnasium.spaces.Box(0, 1, shape, np.bool_)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._check = ActionCheck(self.single_action_space, self.num_envs, self.name)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin new episodes.

        seed: of the whole batch, from which each row has a stream of its own; or one a row in a
        list, and then each row plays as a batch of one with that seed, or goes on where it is None
        options: {"reset_mask": bool [B] rows to reset, the others stay as they are;
                  "level": int [B] the level of the bank each reset row is to play}
        Raises ValueError for a seed, mask, level or option that does not fit.
        """
        options = options or {}
        if unknown := sorted(set(options) - {"reset_mask", "level"}):
            raise ValueError(
                f"reset option {unknown[0]!r} is not known; give 'reset_mask' or 'level'"
            )
        rows = reset_rows(options, self.num_envs, begun=self._started).nonzero()[0]
        level = self._chosen_levels(rows, options.get("level"))
        seeds = row_seeds(seed, self.num_envs)
        if not self._started:
            self.state.key[:] = row_keys(fresh_seed(), np.arange(self.num_envs))
        if isinstance(seed, int | np.integer):
            self.state.key[rows] = row_keys(int(seed), rows)
        else:
            for row in rows.tolist():
                if (own := seeds[row]) is not None:
                    self.state.key[row] = row_keys(own, np.zeros(1, np.int64))[0]
        self._begin(rows, level)
        return self._observation(), {"state": self.state_index()}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One step of every row. actions: int [B] in 0..3

        Returns observation, reward float64 [B], terminated bool [B], truncated bool [B], info.
        Raises ValueError naming the row of a bad action (no row has moved then), and
        gymnasium.error.ResetNeeded before the first reset.
        """
        if not self._started:
            raise gymnasium.error.ResetNeeded("step before reset: call reset(seed=...) first")
        action = self._check(actions).astype(np.int64, copy=False)
        before = self.state
        restarting = _NO_ROWS
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            restarting = (before.terminated | before.truncated).nonzero()[0]
        after, outcome = self.rules.step(self.levels, before, action)
        before.assign(after)
        terminated, truncated = after.terminated, after.truncated
        info: dict[str, Any] = {
            "proxy_reward": outcome.proxy_reward,
            "intended_reached": outcome.intended_reached,
            "proxy_reached": outcome.proxy_reached,
            "state": after.cell,
        }
        if self._picture is not None:
            self._picture.move(self.state)
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            restarting = (terminated | truncated).nonzero()[0]
            if restarting.size:
                info["final_obs"] = self.observe()
                info["_final_obs"] = terminated | truncated
        if restarting.size:
            self._begin(restarting, None)
            if self.autoreset_mode is AutoresetMode.NEXT_STEP:
                terminated[restarting] = truncated[restarting] = False
                after.cell[restarting] = self.state.cell[restarting]
        return self._observation(), outcome.reward, terminated, truncated, info

    def step_rows(
        self, rows: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """See StatefulVectorEnv; raises as `step` does."""
        if not self._started:
            raise gymnasium.error.ResetNeeded("step before reset: call reset(seed=...) first")
        index = self.step_index(rows)
        action = self._check(actions, index).astype(np.int64, copy=False)
        before = self.state.take(index)
        after, outcome = self.rules.step(self.levels, before, action)
        self.state.put(index, before, after)
        if self._picture is not None:
            self._picture.move_rows(index, after)
        info = {
            "proxy_reward": outcome.proxy_reward,
            "intended_reached": outcome.intended_reached,
            "proxy_reached": outcome.proxy_reached,
            "state": after.cell,
        }
        seen = self.observe(index)
        return seen, outcome.reward, after.terminated, after.truncated, info

    def _chosen_levels(self, rows: np.ndarray, level: Any) -> np.ndarray | None:
        """The level that each of those rows is to play; None leaves that to `assign`. int64 [n]"""
        if level is None:
            return None
        level = np.asarray(level)
        if level.shape != (self.num_envs,) or level.dtype.kind not in "iu":
            raise ValueError(
                f"level is {level.dtype} {level.shape}; give one integer a row, ({self.num_envs},)"
            )
        chosen = level[rows]
        bad = np.flatnonzero((chosen < 0) | (chosen >= self.levels.count))
        if bad.size:
            raise ValueError(
                f"row {int(rows[bad[0]])}: level {int(chosen[bad[0]])} does not exist; "
                f"the bank holds levels 0 to {self.levels.count - 1}"
            )
        return chosen.astype(np.int64)

    def _begin(self, rows: np.ndarray, level: np.ndarray | None) -> None:
        key = self.state.key
        if level is None and self.assign == "in_order":
            level = rows % self.levels.count
        elif level is None:
            level = below(draw(key[rows, 0], key[rows, 1]), self.levels.count)
            key[rows, 1] += np.uint64(1)
        self.rules.place(self.levels, self.state, rows, level)
        if self._picture is not None:
            self._picture.rebuild(self.state, rows)
        self._started = True

    def _observation(self) -> np.ndarray:
        if self._picture is None:
            return self.state.cell.astype(np.int64)
        return self._picture.array.copy() if self.copy else self._picture.array

    def observe(self, rows: Rows = None) -> np.ndarray:
        """The current observation of those rows: bool [n, H, W, C] or int64 [n], a copy."""
        index = self.row_index(rows)
        if self._picture is None:
            return self.state.cell[index].astype(np.int64)
        return self._picture.array.take(index, axis=0)

    def state_index(self) -> np.ndarray:
        """The finite state of each row: the cell it stands on. int32 [B], a copy"""
        return self.state.cell.copy()

    @property
    def state_space(self) -> gymnasium.spaces.Discrete:
        """Cells. Left out: the damage done, and whether the proxy was paid, which move nothing."""
        return gymnasium.spaces.Discrete(self.num_states)

    def markov_state(self, rows: Rows = None) -> np.ndarray:
        return self.state.cell.copy() if rows is None else self.state.cell[self.row_index(rows)]

    @property
    def level_index(self) -> np.ndarray:
        """The level of the bank each row plays. int32 [B], live"""
        return self.state.level

    def features(self, level_index: np.ndarray, goal: np.ndarray, state: np.ndarray) -> np.ndarray:
        """What feature monitors see: float32 [N, F]; the columns are in `cell_features`.

        level_index, goal, state: int [N]
        """
        return cell_features(self.levels, level_index, goal, state, self.rules.has_traps)

    def render(self, row: int | None = None) -> Any:
        """Frames by `render_mode`: uint8 [height, width, 3] pixels, text, or None without a mode.

        row: that row's frame alone; None: a tuple of one frame a row
        """
        if self.render_mode is None:
            return None
        if row is None:
            return tuple(self.render(index) for index in range(self.num_envs))
        paint = draw_rgb if self.render_mode == "rgb_array" else draw_ansi
        return paint(self.levels, int(self.state.level[row]), int(self.state.cell[row]))

    @property
    def name(self) -> str:
        return self.rules.id

    @cached_property
    def world(self) -> str:
        """Task, settings and bank: what a snapshot must share with this world."""
        settings = self.settings.model_dump_json(exclude={"num_levels", "level_seed", "mix"})
        return (
            f"delegate/{self.rules.id}-v0 {settings} autoreset={self.autoreset_mode.value} "
            f"levels={self.levels.digest()}"
        )

    def state_arrays(self) -> dict[str, np.ndarray]:
        """The live arrays of `state`, batch first; see GridState."""
        return self.state.arrays()

    def refresh(self, rows: np.ndarray) -> None:
        """Redraw the observation of those rows after their state was restored. rows: int [n]"""
        if self._picture is not None:
            self._picture.rebuild(self.state, rows)
        self._started = self._started or len(np.unique(rows)) == self.num_envs

    def transition_table(self, endings: bool = True) -> TransitionTable:
        """P(next cell | cell, action) for every level of the bank, slips included.

        endings: False leaves out that the goal ends an episode, which a monitor may not know
        With slip, outcome k is "went in direction k", so two outcomes may share a cell.
        """
        from delegate.recall.table import TransitionTable

        return TransitionTable(**self.rules.transitions(self.levels, endings))

    def facts(self) -> LevelFacts:
        """What can be known exactly of each level of the bank; solved once, then kept."""
        return self._facts

    @cached_property
    def _facts(self) -> LevelFacts:
        return level_facts(self.rules, self.levels)


_NO_ROWS = np.empty(0, dtype=np.intp)
