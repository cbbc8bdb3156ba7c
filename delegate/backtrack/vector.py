"""The backtrack action for a whole batch of environments."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from delegate.backtrack.accounts import count, take_back
from delegate.backtrack.actions import widen
from delegate.backtrack.autoreset import final, mode_of, reset_rows
from delegate.backtrack.config import BacktrackConfig
from delegate.backtrack.decisions import Decisions, decide
from delegate.backtrack.history import RowIndex
from delegate.backtrack.info import REFUSALS, blank, quiet, scatter
from delegate.backtrack.ledger import Ledger
from delegate.backtrack.observation import copied, observation_of, put, take
from delegate.backtrack.path import Path, check_world, limit_of
from delegate.backtrack.progress import Progress
from delegate.backtrack.refund import StandingStill
from delegate.backtrack.state import RandomStateMode, Rows, Snapshot, StatefulVectorEnv
from delegate.settings import checked

OWN = "backtrack/"
"""prefix of the arrays that VectorBacktrack adds to its world's state"""


class VectorBacktrack(StatefulVectorEnv):
    """Adds going back to the actions of a world whose rows can be restored.

    env: a StatefulVectorEnv in AutoresetMode.DISABLED · config, or its settings by name
    autoreset_mode: of this environment, NEXT_STEP unless said otherwise

    Actions. Discrete(n) becomes Discrete(n + k), k = len(depths): action n + j undoes
    `depths[j]` transitions. Box(d) becomes Box(d + 1), see BoxActions.
    Clocks. The path rewinds (`path_clock`); the interaction clock (`clock`) counts decisions:
    steps, backtracks, refused ones and confirmations each cost one tick. `time_limit` is on it.
    Reward. A backtrack emits the refund of what it undid, less `cost`; see `refund`.
    Endings. When the world terminates while a backtrack is possible, the step emits its reward
    and its observation, but terminated=False and info["held"]=True. The next decision takes it
    back (a backtrack) or confirms it (anything else: reward 0, the same observation,
    terminated=True). Truncation, by the world or by `time_limit`, can never be undone.
    Refusal. A backtrack that is not possible moves nothing, costs one tick (and `refused_cost`),
    and sets info["backtrack_refused"] and info["refusal"], one of REFUSALS.
    Noise is fresh after a backtrack: the same dice are never thrown twice.
    Effects that `env.irreversible` names stay; info["effects_kept"] and the ledger count them.

    info, each [B]: clock, path_clock, budget_left int64; held, backtracked, backtrack_refused,
    do_undo_loop bool; refusal str; undone_steps int64; undone_reward (what those had earned),
    refund float64; effects_kept: name -> int64. The world's own info is given for the rows that
    stepped, with `_key` masks; a name of the world's that is also one of these is lost. Arrays of
    a tick in which no row goes back may be read-only.

    A step that raises, for a bad action or because the world blew up, leaves all rows, clocks and
    the ledger as they were.
    Its own snapshot covers the world, the history, the clocks and the ledger.
    Raises TypeError for a world it cannot take, ValueError for one with autoreset or settings
    that make no sense, and for actions outside the space (naming the row, nothing changed).
    """

    def __init__(
        self,
        env: StatefulVectorEnv,
        config: BacktrackConfig | None = None,
        *,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        **settings: Any,
    ) -> None:
        if config is not None and settings:
            raise TypeError(f"give config or {', '.join(sorted(settings))}, not both")
        if isinstance(env, VectorBacktrack):
            raise TypeError("the world already has a backtrack action; give its env")
        check_world(env)
        self.env = env
        self.config = config or checked(type(self).__name__, BacktrackConfig, settings)
        self.num_envs = env.num_envs
        self.autoreset_mode = mode_of(autoreset_mode)
        self.metadata = {**env.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = env.render_mode
        self.random_state, self.irreversible = env.random_state, env.irreversible
        self.time_limit: int | None = self.config.time_limit or limit_of(env)
        """decisions in one episode; None for no limit but the world's"""

        self.depths = np.array(self.config.depths, np.int64)
        action_space = env.single_action_space
        self._actions = widen(action_space, len(self.depths), self.config.threshold)
        self.encoding = observation_of(
            env.single_observation_space,
            action_space,
            self.config.observe,
            len(self.depths),
            self.config.budget,
        )
        self.single_action_space = self._actions.space
        self.single_observation_space = self.encoding.space
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

        self.ledger = Ledger(self.num_envs)
        self.path = Path(env, self._actions.idle, self.config.horizon)
        no_action, self._action_offset = self._actions.idle, 0
        if isinstance(action_space, Discrete):
            no_action, self._action_offset = np.zeros((), np.int64), 1 - int(action_space.start)
        shown = env.single_observation_space if "origin" in self.config.observe else None
        self.progress = Progress(self.num_envs, no_action, shown)
        step_cost = getattr(env, "step_cost", None) if self.config.budget else 0.0
        self._standing_still = StandingStill(
            self.config.cost,
            int(self.depths[-1]),
            float(step_cost) if isinstance(step_cost, Real) else None,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes, in the rows of options["reset_mask"] (bool [B]) or in all."""
        super().reset(seed=seed)
        begun = reset_rows(options, self.num_envs)
        base, world_info = self.env.reset(seed=seed, options=dict(options) if options else None)
        self._begin(np.flatnonzero(begun))
        info: dict[str, Any] = {}
        scatter(info, world_info, begun)
        return self._show(base), info | self._clocks()

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One decision in every row. actions: [B] or [B, d + 1]"""
        progress = self.progress
        if np.count_nonzero(unready := progress.clock < 0):
            row = int(np.flatnonzero(unready)[0])
            raise ResetNeeded(f"row {row}: step before its first reset; call reset")
        world_actions, choice = self._actions.split(actions, self.num_envs)
        do = decide(choice, self.depths, progress, self.path.history)
        # A refund may overflow, so it is known before anything moves.
        refund = None if do.calm else self.path.refund(do, progress.clock, self.config.gamma or 1.0)
        base, reward, terminated, truncated, world_info = self.path.step(
            do, world_actions, progress.clock
        )
        going_on = None if self._standing_still.judged else do.step & ~(terminated | truncated)
        progress.forget(do.step)
        if refund is None:
            events = quiet(self.num_envs, self.env.irreversible)
        else:
            events = self._go_back(do, base, reward, *refund)
        count(do, progress, self.ledger)
        self._settle(do, terminated, truncated)
        ended = progress.terminated.copy(), progress.truncated.copy()

        if self.autoreset_mode == AutoresetMode.NEXT_STEP and not (do.everyone or do.live.all()):
            base = self._reset_world(~do.live, world_info)
            ended = ended[0] & do.live, ended[1] & do.live
        elif not do.calm and (rows := do.back.nonzero()[0]).size:
            base = copied(base)
            put(base, rows, self.env.observe(rows))
        observation = self._show(base)
        info = world_info | events | self._clocks()
        if self.autoreset_mode == AutoresetMode.SAME_STEP and np.count_nonzero(progress.ended):
            observation, info = self._reset_at_once(observation, info, world_info, events)
        if going_on is not None:  # last of all, for a warning may be an error
            self._standing_still.see(reward[going_on])
        return observation, reward, *ended, info

    def action_masks(self) -> np.ndarray:
        """Which actions would not be refused, for sb3-contrib. bool [B, n + k]

        The world's own actions are all allowed, or as its own `action_masks` says.
        Raises TypeError for continuous actions, which have no mask; see `can_backtrack`.
        """
        if not isinstance(self.env.single_action_space, Discrete):
            raise TypeError("continuous actions have no masks; use can_backtrack")
        own = getattr(self.env, "action_masks", None)
        n = int(self.env.single_action_space.n)
        world = own() if own is not None else np.ones((self.num_envs, n), bool)
        return np.concatenate([world, self.can_backtrack()], axis=1)

    def can_backtrack(self) -> np.ndarray:
        """Which depths each row could undo now. bool [B, k]"""
        possible = ~self.progress.ended & (self.progress.budget_left > 0)
        return possible[:, None] & (self.depths <= self.path.history.kept[:, None])

    @property
    def do_undo_share(self) -> float:
        """Share of all decisions so far spent in do-undo loops: backtracks that undid all that
        was done since the one before (or the start), with the steps they undid."""
        return float(self.progress.loop_ticks.sum() / max(self.ledger.interactions.sum(), 1))

    def encode(self, parts: dict[str, Any]) -> Any:
        """A batch of observations from their parts; see `decode`."""
        return self.encoding.encode(parts)

    def decode(self, observation: Any) -> dict[str, Any]:
        """What a batch of observations shows: "observation" and the parts of `observe`.

        depth and a discrete action are 0 for none and count from 1.
        """
        return self.encoding.decode(observation)

    def observe(self, rows: Rows = None) -> Any:
        index = self.row_index(rows)
        return self._show(self.env.observe(index), index)

    @cached_property
    def world(self) -> str:
        limit = f", time_limit={self.time_limit}" if self.config.time_limit is None else ""
        settings = f"{self.config.model_dump_json()}, autoreset={self.autoreset_mode.value}"
        return f"VectorBacktrack({self.env.world}, {settings}{limit})"

    def state_arrays(self) -> dict[str, np.ndarray]:
        return {**self.env.state_arrays(), **self._own_arrays()}

    def snapshot(self, rows: Rows = None) -> Snapshot:
        index = self.row_index(rows)
        own = {name: array[index] for name, array in self._own_arrays().items()}
        return Snapshot(self.world, {**self.env.snapshot(index).arrays, **own})

    def restore(
        self,
        snapshot: Snapshot,
        rows: Rows = None,
        rng: RandomStateMode = "rewind",
        keep: Collection[str] = (),
    ) -> None:
        index = self.row_index(rows)
        self.check_fits(snapshot, len(index))
        self.env.restore(self._of_world(snapshot), index, rng, keep)
        for name, array in self._own_arrays().items():
            if name not in keep:
                array[index] = snapshot.arrays[name]

    def check_fits(self, snapshot: Snapshot, count: int) -> None:
        self.check_world(snapshot)
        own = {name for name in snapshot.arrays if name.startswith(OWN)}
        self.check_names(own, set(self._own_arrays()))
        self.env.check_fits(self._of_world(snapshot), count)

    def render(self) -> tuple[Any, ...] | None:
        return self.env.render()

    def close_extras(self, **kwargs: Any) -> None:
        self.env.close(**kwargs)

    # One tick, in order: the world moves, rows go back, the tick is counted, endings settle.

    def _go_back(
        self,
        do: Decisions,
        base: Any,
        reward: np.ndarray,
        given_back: np.ndarray,
        undone_reward: np.ndarray,
    ) -> dict[str, Any]:
        """Restore the rows that go back and pay them; returns what info says of it.

        base: the world's observation of every row, before any goes back
        """
        progress = self.progress
        effects = {name: np.zeros(self.num_envs, np.int64) for name in self.env.irreversible}
        if (rows := do.back.nonzero()[0]).size:
            if progress.origin is not None:
                put(progress.origin, rows, take(base, rows))
            action, stayed = self.path.back(rows, do.depth[rows])
            progress.depth[rows] = do.choice[rows] + 1
            progress.action[rows] = action + self._action_offset
            for name, effect in stayed.items():
                effects[name][rows] = effect
                self.ledger.effect(rows, effect)
            reward[rows] = given_back[rows] - self.config.cost
        reward[do.refused] -= self.config.refused_cost
        return {
            "backtracked": do.back,
            "undone_steps": do.depth,
            "undone_reward": undone_reward,
            "refund": given_back,
            "backtrack_refused": do.refused,
            "refusal": REFUSALS[do.refusal],
            "do_undo_loop": take_back(do, progress, self.ledger),
            "effects_kept": effects,
        }

    def _settle(self, do: Decisions, terminated: np.ndarray, truncated: np.ndarray) -> None:
        """Hold, confirm or take back endings. terminated, truncated: bool [B], by the world"""
        progress = self.progress
        if self.time_limit is not None:
            truncated = truncated | (do.live & (progress.clock >= self.time_limit))
        progress.truncated |= truncated
        progress.held[:] = False
        if np.count_nonzero(terminated):
            progress.held |= terminated & self.can_backtrack().any(axis=1)
            progress.terminated |= terminated & ~progress.held
        if not do.everyone:
            progress.terminated |= do.confirm

    def _reset_world(self, rows: np.ndarray, info: dict[str, Any]) -> Any:
        """Begin new episodes in those rows, adding to the world's info. rows: bool [B]

        Returns the world's observation of every row.
        """
        base, world_info = self.env.reset(options={"reset_mask": rows})
        scatter(info, world_info, rows)
        self._begin(np.flatnonzero(rows))
        return base

    def _reset_at_once(
        self,
        observation: Any,
        info: dict[str, Any],
        world_info: dict[str, Any],
        events: dict[str, Any],
    ) -> tuple[Any, dict[str, Any]]:
        """Autoreset in the same step: what ended goes to final_obs and final_info."""
        ended = self.progress.ended
        last = final(observation, info, ended)
        reset_info: dict[str, Any] = {}
        scatter(reset_info, world_info, ~ended)
        self._reset_world(ended, reset_info)
        observation = copied(observation)
        put(observation, np.flatnonzero(ended), self.observe(ended))
        return observation, reset_info | blank(events, ended) | self._clocks() | last

    def _begin(self, rows: np.ndarray) -> None:
        self.path.history.clear(rows)
        self.progress.begin(rows, self.config.budget)

    def _clocks(self) -> dict[str, np.ndarray]:
        progress = self.progress
        return {
            "clock": progress.clock.copy(),
            "path_clock": self.path.history.position.copy(),
            "budget_left": progress.budget_left.copy(),
            "held": progress.held.copy(),
        }

    def _show(self, base: Any, rows: RowIndex = slice(None)) -> Any:
        """The observation of those rows, given the world's."""
        progress = self.progress
        depth, held = progress.depth[rows], progress.held[rows]
        parts = {
            "observation": base,
            "flag": None,
            "depth": None,
            "action": progress.action[rows],
            "budget": progress.budget_left[rows],
            "held": held.astype(np.int64) if np.count_nonzero(held) else None,
            "origin": base,
        }
        if np.count_nonzero(depth):
            undone = depth > 0
            parts |= {"flag": undone.astype(np.int64), "depth": depth}
            if progress.origin is not None:
                shown = undone.nonzero()[0]
                parts["origin"] = copied(base)
                come_from = shown if isinstance(rows, slice) else rows[shown]
                put(parts["origin"], shown, take(progress.origin, come_from))
        return self.encoding.encode(parts)

    def _own_arrays(self) -> dict[str, np.ndarray]:
        groups = {
            "": self.progress.state_arrays(),
            "history/": self.path.history.state_arrays(),
            "ledger/": self.ledger.state_arrays(),
        }
        return {
            f"{OWN}{group}{name}": array
            for group, arrays in groups.items()
            for name, array in arrays.items()
        }

    def _of_world(self, snapshot: Snapshot) -> Snapshot:
        arrays = {n: array for n, array in snapshot.arrays.items() if not n.startswith(OWN)}
        return Snapshot(self.env.world, arrays)
