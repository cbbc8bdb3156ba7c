"""Was going back exact? Replay rolled-back sub-episodes from their snapshots and compare."""

from __future__ import annotations

import numpy as np

from delegate.backtrack.state import StatefulVectorEnv
from delegate.delegation import events
from delegate.delegation.runtime import Delegation
from delegate.delegation.saves import Beginning


def check_restores(played: Delegation) -> int:
    """Replay the rolled-back sub-episodes that a finished trial kept, and log what is found.

    A restore is exact if the same actions from the snapshot give the same states, rewards and
    endings again, and if the row truly went on from the snapshot's state afterwards.
    The world's rows are overwritten. Returns how many were replayed.
    Only sub-episodes that delegated nothing themselves are kept: their steps are one line.
    """
    steps, env = played.steps_table(), played.bank.env
    order = np.lexsort((steps["clock"], steps["row"]))
    first = np.searchsorted(steps["row"][order], np.arange(env.num_envs + 1))
    for kept in played.episodes.beginnings:
        row = np.array([kept.row])
        own = order[first[kept.row] : first[kept.row + 1]]
        mine = {name: column[own] for name, column in steps.items()}
        env.restore(kept.world, row, rng="rewind")
        start = env.markov_state(row)[0]
        taken = mine["sub_episode"] == kept.sub_episode
        exact = _went_on_from(start, kept, mine) and _replays(
            env, row, start, {name: column[taken] for name, column in mine.items()}
        )
        played.episodes.event(events.RestoreChecked, row, sub_episode=kept.sub_episode, equal=exact)
    return len(played.episodes.beginnings)


def _went_on_from(start: np.ndarray, kept: Beginning, steps: dict[str, np.ndarray]) -> bool:
    """Did the next step of that row, if there is one, begin in that state?

    After two rollbacks at once only the outermost is where the row went on: the path clock tells.
    """
    following = (steps["clock"] == kept.clock) & (steps["path_clock"] == kept.restored_clock)
    return bool((steps["state"][following] == start).all())


def _replays(
    env: StatefulVectorEnv, row: np.ndarray, start: np.ndarray, steps: dict[str, np.ndarray]
) -> bool:
    """Do those actions from there give the same states, rewards and endings again?"""
    if (steps["state"][:1] != start).any():
        return False
    for i in range(len(steps["action"])):
        _, reward, terminated, _, _ = env.step_rows(row, steps["action"][i : i + 1])
        same = (env.markov_state(row)[0] == steps["next_state"][i]).all()
        found = (np.float32(reward[0]), bool(terminated[0]))
        if not same or found != (steps["reward"][i], bool(steps["terminated"][i])):
            return False
    return True
