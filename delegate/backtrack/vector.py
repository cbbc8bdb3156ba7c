"""The backtrack action for a whole batch of environments."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from numbers import Real
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from delegate.backtrack.autoreset import final, mode_of, reset_rows
from delegate.backtrack.config import BacktrackConfig
from delegate.backtrack.progress import REFUSALS, Progress, StandingStill, Tick
from delegate.backtrack.spaces import copied, observation_of, put, take, widen
from delegate.backtrack.state import (
    RandomStateMode,
    Rows,
    Snapshot,
    StatefulVectorEnv,
    blank,
    effects_between,
    masked,
    scatter,
    spread,
)
from delegate.settings import checked

OWN = "backtrack/"
"""prefix of the arrays that VectorBacktrack adds to its world's state"""
WORLD = "world/"
"""prefix of the world's arrays among what the history records of a step"""


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
    Effects that `env.irreversible` names stay; info["effects_kept"] and the ledger count each
    once, at the backtrack that undoes the step it came from.

    info, each [B]: clock, path_clock, budget_left int64; held, backtracked, backtrack_refused,
    do_undo_loop bool; refusal str; undone_steps int64; undone_reward (what those had earned),
    refund float64; effects_kept: name -> int64. All are new arrays at every tick, the caller's
    to write into. The world's own info is given for the rows that stepped, with `_key` masks; a
    name of the world's that is also one of these is lost.

    A step that raises, for a bad action or because the world blew up, leaves all rows, clocks and
    the ledger as they were; if it is an autoreset that raises, its rows wait for the next one.
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
        _check_world(env)
        self.env = env
        self.config = config or checked(type(self).__name__, BacktrackConfig, settings)
        self.num_envs = env.num_envs
        self.autoreset_mode = mode_of(autoreset_mode)
        self.metadata = {**env.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = env.render_mode
        self.random_state, self.irreversible = env.random_state, env.irreversible
        limit = getattr(env, "max_steps", None) or getattr(env, "max_episode_steps", None)
        self.time_limit: int | None = self.config.time_limit or limit
        """decisions in one episode; None for no limit but the world's"""

        self.depths = np.array(self.config.depths, np.int64)
        action_space = env.single_action_space
        threshold, depths = self.config.threshold, len(self.depths)
        self._actions = widen(action_space, depths, threshold, self.num_envs, env.name)
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

        no_action, self._action_offset = self._actions.idle, 0
        if isinstance(action_space, Discrete):
            no_action, self._action_offset = np.zeros((), np.int64), 1 - int(action_space.start)
        columns = {WORLD + name: array for name, array in env.snapshot().arrays.items()}
        columns["action"] = np.repeat(self._actions.idle[None], self.num_envs, axis=0)
        origin = env.single_observation_space if "origin" in self.config.observe else None
        self.progress = Progress(self.config, columns, no_action, self.irreversible, origin)
        self.ledger = self.progress.ledger
        self._before = _world_of(self.progress.history.next)
        step_cost = getattr(env, "step_cost", None) if self.config.budget else 0.0
        self._standing_still = StandingStill(
            self.config.cost,
            int(self.depths[-1]),
            float(step_cost) if isinstance(step_cost, Real) else None,
        )

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Begin new episodes, in the rows of options["reset_mask"] (bool [B]) or in all.

        seed: as the world takes it, one or one a row
        """
        begun = reset_rows(options, self.num_envs)
        info: dict[str, Any] = {}
        base = self._begin(begun, info, seed=seed, options=dict(options) if options else None)
        return self._show(base), info | self._clocks()

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One decision in every row. actions: [B] or [B, d + 1]"""
        progress = self.progress
        world_actions, choice = self._actions.split(actions)
        tick = progress.decide(choice)
        if not tick.everyone and (unready := progress.clock < 0).any():
            row = int(unready.argmax())
            raise ResetNeeded(f"row {row}: step before its first reset; call reset")
        refund, undone_reward = progress.refund(tick)  # may overflow, so before anything moves
        base, reward, terminated, truncated, world_info = self._move(world_actions, tick)
        effects = progress.effects_kept(tick)
        if np.count_nonzero(tick.back):
            self._go_back(tick, base)
            base = self.env.observe()
            reward[tick.back] = refund[tick.back] - self.config.cost
        if not tick.everyone:
            reward[tick.refused] -= self.config.refused_cost
        events = {
            "backtracked": tick.back,
            "undone_steps": tick.depth,
            "undone_reward": undone_reward,
            "refund": refund,
            "backtrack_refused": tick.refused,
            "refusal": REFUSALS[tick.refusal],
            "do_undo_loop": progress.count(tick),
            "effects_kept": effects,
        }
        progress.settle(tick, terminated, truncated, self.time_limit)

        terminated, truncated = progress.terminated.copy(), progress.truncated.copy()
        waiting = not tick.everyone and not tick.live.all()
        if waiting and self.autoreset_mode == AutoresetMode.NEXT_STEP:
            base = self._begin(~tick.live, world_info)
            terminated, truncated = terminated & tick.live, truncated & tick.live
        observation, info = self._show(base), world_info | events | self._clocks()
        if self.autoreset_mode == AutoresetMode.SAME_STEP and np.count_nonzero(progress.ended):
            ended, begun = progress.ended, dict[str, Any]()
            last = final(observation, info, ended)
            scatter(begun, world_info, ~ended)
            observation = self._show(self._begin(ended, begun))
            info = begun | blank(events, ended) | self._clocks() | last
        if not self._standing_still.judged:  # last of all, for a warning may be an error
            goes_on = tick.step & ~(terminated | truncated | progress.held)
            self._standing_still.see(reward[goes_on])
        return observation, reward, terminated, truncated, info

    def _move(
        self, actions: np.ndarray, tick: Tick
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step the world in those rows; all others end up exactly as they were.

        actions: [B, ...], changed in place
        returns what `env.step` does, zero and False where the row did not step; the observation
        is the world's own, of every row
        When the world raises, it is put back to where it was, in all rows.
        """
        self.env.save_into(self._before)
        step = tick.step
        if not tick.everyone:
            actions[~step] = self._actions.idle  # what the history records of them
        try:
            if tick.everyone:
                moved = self.env.step(actions)
            elif np.count_nonzero(step):
                moved = self._step_some(actions, step.nonzero()[0])
            else:
                moved = self.env.observe(), np.zeros(self.num_envs), step, step, {}
        except BaseException:
            self.env.restore(Snapshot(self.env.world, self._before))
            raise
        base, world_reward, terminated, truncated, info = moved
        reward = world_reward.astype(np.float64)
        now = self.env.state_arrays() if self.irreversible else {}
        effects = effects_between(self._before, now, self.irreversible)
        self.progress.record(step, reward, actions, effects)
        return base, reward, terminated, truncated, masked(info, step)

    def _step_some(
        self, actions: np.ndarray, rows: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step the world in those rows alone; what it says, laid out for all. rows: int [n]"""
        world_reward, *world_ends = np.zeros(self.num_envs), *np.zeros((2, self.num_envs), bool)
        _, world_reward[rows], *ends, info = self.env.step_rows(rows, actions[rows])
        for every, some in zip(world_ends, ends, strict=True):
            every[rows] = some
        return self.env.observe(), world_reward, *world_ends, spread(info, rows, self.num_envs)

    def _go_back(self, tick: Tick, base: Any) -> None:
        """Restore the rows that go back, with fresh noise; irreversible effects stay.

        base: the world's observation of every row, before any goes back
        """
        progress, rows = self.progress, tick.back.nonzero()[0]
        depth = tick.depth[rows]
        past = progress.history.at(rows, depth)
        if progress.origin is not None:
            put(progress.origin, rows, take(base, rows))
        then = Snapshot(self.env.world, _world_of(past))
        self.env.restore(then, rows, rng="fresh", keep=self.irreversible)
        progress.history.rewind(rows, depth)
        progress.depth[rows] = tick.choice[rows] + 1
        progress.action[rows] = past["action"] + self._action_offset

    def _begin(self, rows: np.ndarray, info: dict[str, Any], **how: Any) -> Any:
        """Begin new episodes in those rows, adding to the world's info. rows: bool [B]

        how: arguments of the world's reset; none to reset just those rows
        Returns the world's observation of every row.
        """
        base, begun = self.env.reset(**(how or {"options": {"reset_mask": rows}}))
        scatter(info, begun, rows)
        self.progress.begin(rows)
        return base

    def _clocks(self) -> dict[str, np.ndarray]:
        progress = self.progress
        return {
            "clock": progress.clock.copy(),
            "path_clock": progress.history.position.copy(),
            "budget_left": progress.budget_left.copy(),
            "held": progress.held.copy(),
        }

    def _show(self, base: Any, rows: np.ndarray | None = None) -> Any:
        """The observation of those rows, given the world's. rows: int [n]"""
        progress, index = self.progress, slice(None) if rows is None else rows
        parts = {
            "observation": base,
            "flag": (progress.depth[index] > 0).astype(np.int64),
            "depth": progress.depth[index].copy(),
            "action": progress.action[index].copy(),
            "budget": progress.budget_left[index].copy(),
            "held": progress.held[index].astype(np.int64),
        }
        if progress.origin is not None:
            parts["origin"] = copied(base)
            if np.count_nonzero(parts["flag"]):
                undone = parts["flag"].nonzero()[0]
                come_from = undone if rows is None else rows[undone]
                put(parts["origin"], undone, take(progress.origin, come_from))
        return self.encoding.encode(parts)

    def action_masks(self) -> np.ndarray:
        """Which actions would not be refused, for sb3-contrib. bool [B, n + k]

        The world's own actions are all allowed, or as its `action_masks` says. Where the world
        has terminated and allows none, all are: any of them confirms that, or is ignored.
        Raises TypeError for continuous actions, which have no mask; see `can_backtrack`.
        """
        if not isinstance(self.env.single_action_space, Discrete):
            raise TypeError("continuous actions have no masks; use can_backtrack")
        shape = (self.num_envs, int(self.env.single_action_space.n))
        own = getattr(self.env, "action_masks", None)
        world = np.ones(shape, bool) if own is None else np.array(own(), bool)
        if world.shape != shape:
            raise ValueError(
                f"{type(self.env).__name__}.action_masks gives {world.shape}; give {shape}, one "
                "bool for every action of every row"
            )
        idle = self.progress.held | self.progress.ended
        world[idle & ~world.any(axis=1)] = True
        return np.concatenate([world, self.can_backtrack()], axis=1)

    def can_backtrack(self) -> np.ndarray:
        """Which depths each row could undo now. bool [B, k]"""
        return self.progress.can_backtrack()

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

    @property
    def state_space(self) -> gymnasium.Space[Any]:
        """That of its world: clocks, budget and what can be undone are left out."""
        return self.env.state_space

    def markov_state(self, rows: Rows = None) -> np.ndarray:
        return self.env.markov_state(rows)

    def render(self) -> tuple[Any, ...] | None:
        return self.env.render()

    def close_extras(self, **kwargs: Any) -> None:
        self.env.close(**kwargs)

    def _own_arrays(self) -> dict[str, np.ndarray]:
        return {OWN + name: array for name, array in self.progress.state_arrays().items()}

    def _of_world(self, snapshot: Snapshot) -> Snapshot:
        arrays = {n: array for n, array in snapshot.arrays.items() if not n.startswith(OWN)}
        return Snapshot(self.env.world, arrays)


def _world_of(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the history records of the world, under the world's own names."""
    return {n.removeprefix(WORLD): columns[n] for n in columns if n.startswith(WORLD)}


def _check_world(env: Any) -> None:
    """Raise TypeError or ValueError unless steps of `env` can be taken back."""
    if isinstance(env, VectorBacktrack):
        raise TypeError("the world already has a backtrack action; give its env")
    if not isinstance(env, StatefulVectorEnv):
        raise TypeError(
            f"{type(env).__name__} cannot be restored; give a StatefulVectorEnv, "
            "as envs.make(id, num_envs, autoreset_mode=AutoresetMode.DISABLED) does"
        )
    mode = env.metadata.get("autoreset_mode")
    if mode != AutoresetMode.DISABLED:
        raise ValueError(
            f"{type(env).__name__} resets itself ({mode}), which could not be taken back; "
            "make it with autoreset_mode=AutoresetMode.DISABLED"
        )
