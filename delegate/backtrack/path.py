"""A world and the path that led to where it is: step along it, or go back."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from delegate.backtrack.decisions import Decisions
from delegate.backtrack.history import History
from delegate.backtrack.info import with_masks
from delegate.backtrack.refund import refund
from delegate.backtrack.state import Snapshot, StatefulVectorEnv

WORLD = "world/"
"""prefix of the world's arrays among the columns of the history"""


class Path:
    """The last `horizon` steps of each row of a world, and how to undo them.

    Each step leaves the state it started from, its reward, its action and the interaction
    clock it was paid at. idle: a valid action of the world, given to rows that do not step
    """

    def __init__(self, env: StatefulVectorEnv, idle: np.ndarray, horizon: int) -> None:
        self.env, self.idle = env, idle
        everyone = np.zeros(env.num_envs)
        actions = np.repeat(idle[None], env.num_envs, axis=0)
        columns = {WORLD + name: array for name, array in env.snapshot().arrays.items()}
        columns |= {"reward": everyone, "tick": everyone.astype(np.int64), "action": actions}
        self.history = History(columns, horizon)
        step = self.history.next
        self._world = {n.removeprefix(WORLD): step[n] for n in step if n.startswith(WORLD)}

    def step(
        self, do: Decisions, actions: np.ndarray, tick: np.ndarray
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step the world in the rows that do; all others end up exactly as they were.

        actions: [B, ...], changed in place · tick: int64 [B] interaction clock
        returns what `env.step` does, zero and False where the row did not step; the observation
        is the world's own, of every row
        When the world raises, it is put back to where it was, in all rows.
        """
        self.env.save_into(self._world)
        if not do.everyone:
            actions[~do.step] = self.idle
        try:
            if do.everyone:
                stepped = self.env.step(actions)
            elif np.count_nonzero(do.step):
                stepped = self.env.step_rows(actions, do.step)
            else:
                never = np.zeros_like(do.step)
                stepped = self.env.observe(), np.zeros(len(never)), never, never.copy(), {}
        except BaseException:
            self.env.restore(Snapshot(self.env.world, self._world))
            raise
        base, world_reward, terminated, truncated, world_info = stepped
        reward = world_reward.astype(np.float64)
        step = self.history.next
        step["reward"][...], step["tick"][...], step["action"][...] = reward, tick, actions
        self.history.push(do.step)
        info = with_masks(world_info, do.step) if np.count_nonzero(do.step) else {}
        return base, reward, terminated, truncated, info

    def refund(
        self, do: Decisions, clock: np.ndarray, gamma: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """What each row gets back, and what the steps it undoes had earned. float64 [B] both

        clock: int64 [B], the interaction clocks now
        Raises OverflowError naming the row whose refund is not a finite number.
        """
        given_back, earned = np.zeros(len(clock)), np.zeros(len(clock))
        rows = do.back.nonzero()[0]
        if not rows.size:
            return given_back, earned
        depth, now = do.depth[rows], clock[rows]
        reward, undone = self.history.last("reward", rows, depth)
        earned[rows] = np.where(undone, reward, 0.0).sum(axis=1)
        if gamma == 1:
            given_back[rows] = 0.0 - earned[rows]
        else:
            tick, _ = self.history.last("tick", rows, depth)
            given_back[rows] = refund(reward, tick, undone, now, gamma)
        if not np.isfinite(given_back).all():
            row = int(np.flatnonzero(~np.isfinite(given_back))[0])
            first = self.history.at(np.array([row]), do.depth[[row]])["tick"][0]
            raise OverflowError(
                f"row {row}: the refund of rewards up to {clock[row] - first} interactions old is "
                f"{given_back[row]} at gamma {gamma:g}; use refund: sum, or look for NaN rewards"
            )
        return given_back, earned

    def back(self, rows: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Be `depth` steps back, with fresh noise; irreversible effects stay.

        returns the first action undone [n, ...], and how many effects stayed, name -> int64 [n]
        """
        past = self.history.at(rows, depth)
        world = {name.removeprefix(WORLD): past[name] for name in past if name.startswith(WORLD)}
        stayed = {}
        if self.env.irreversible:
            now = self.env.snapshot(rows).arrays
            for name in sorted(self.env.irreversible):
                count = now[name].astype(np.int64) - world[name].astype(np.int64)
                stayed[name] = np.maximum(count.reshape(len(rows), -1).sum(axis=1), 0)
        self.env.restore(
            Snapshot(self.env.world, world), rows, rng="fresh", keep=self.env.irreversible
        )
        self.history.rewind(rows, depth)
        return past["action"], stayed


def check_world(env: Any) -> None:
    """Raise TypeError or ValueError unless steps of `env` can be taken back."""
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


def limit_of(env: StatefulVectorEnv) -> int | None:
    """The world's own limit on the steps of an episode, under either of its usual names."""
    for name in ("max_steps", "max_episode_steps"):
        if (limit := getattr(env, name, None)) is not None:
            return int(limit)
    return None
