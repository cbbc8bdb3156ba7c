"""Was going back exact? Replay rolled-back sub-episodes from their snapshots and compare."""

from __future__ import annotations

import numpy as np

from delegate.backtrack.state import Snapshot, StatefulVectorEnv
from delegate.delegation.events import RestoreChecked, Verdict
from delegate.delegation.runtime import Runtime, finite


def check_restores(
    runtime: Runtime, env: StatefulVectorEnv, count: int, rng: np.random.Generator
) -> list[RestoreChecked]:
    """Replay up to `count` rolled-back sub-episodes, chosen at random, from a finished trial.

    A restore is exact if the same actions from the snapshot give the same states, rewards and
    endings again, and if the row truly went on from the snapshot's state afterwards.

    env: the world they happened in; its rows are overwritten
    Only sub-episodes that delegated nothing themselves are replayed: their steps are one line.
    """
    episodes = runtime.episodes
    parents = set(zip(*np.nonzero(episodes.nodes.parent >= 0), strict=True))
    asked = {(int(row), int(episodes.nodes.parent[row, node])) for row, node in parents}
    candidates = [
        event
        for event in episodes.log
        if isinstance(event, Verdict)
        and event.verdict == "rolled_back"
        and (event.row, event.sub_episode) not in asked
    ]
    if not candidates:
        return []
    steps = runtime.steps_table()
    chosen = rng.choice(len(candidates), min(count, len(candidates)), replace=False)
    found = []
    for event in sorted((candidates[i] for i in chosen), key=lambda e: (e.row, e.sub_episode)):
        row, node = event.row, event.sub_episode
        taken = np.flatnonzero((steps["row"] == row) & (steps["sub_episode"] == node))
        save, place = episodes.saves[row, node]
        start = _restored(env, row, save.world_of(place))
        found.append(
            RestoreChecked(
                row=row,
                clock=int(episodes.clock[row]),
                sub_episode=node,
                equal=_went_on_from(start, event, steps)
                and _replays(env, row, start, {k: v[taken] for k, v in steps.items()}),
            )
        )
    return found


def _restored(env: StatefulVectorEnv, row: int, start: Snapshot) -> int:
    """Put that row back to the snapshot; the finite state it then stands in."""
    env.restore(start, np.array([row]), rng="rewind")
    return int(finite(env).state_index()[row])


def _went_on_from(start: int, verdict: Verdict, steps: dict[str, np.ndarray]) -> bool:
    """Did the next step of that row, if there is one, begin in that state?

    What went because something around it did was not restored by itself, and after two
    rollbacks at once only the outermost is where the row went on: the path clock tells.
    """
    following = (
        (steps["row"] == verdict.row)
        & (steps["clock"] == verdict.clock)
        & (steps["path_clock"] == verdict.restored_clock)
    )
    return verdict.within is not None or bool((steps["state"][following] == start).all())


def _replays(env: StatefulVectorEnv, row: int, start: int, steps: dict[str, np.ndarray]) -> bool:
    """Do those actions from there give the same states, rewards and endings again?"""
    if (steps["state"][:1] != start).any():
        return False
    actions = np.zeros(env.num_envs, np.int64)
    for i, action in enumerate(steps["action"]):
        actions[row] = action
        _, reward, terminated, _, info = env.step(actions)
        again = (info["state"][row], np.float32(reward[row]), terminated[row])
        if again != (steps["next_state"][i], steps["reward"][i], steps["terminated"][i]):
            return False
    return True
