"""Was going back exact? Replay rolled-back sub-episodes from their snapshots and compare."""

from __future__ import annotations

import numpy as np

from delegate.backtrack.state import Snapshot, StatefulVectorEnv
from delegate.delegation.events import RestoreChecked, Verdict
from delegate.delegation.runtime import Runtime


def check_restores(
    runtime: Runtime, env: StatefulVectorEnv, count: int, rng: np.random.Generator
) -> list[RestoreChecked]:
    """Replay up to `count` rolled-back sub-episodes, chosen at random, from a finished trial.

    env: the world they happened in; its rows are overwritten
    Only sub-episodes that delegated nothing themselves are replayed: their steps are one line.
    """
    episodes = runtime.episodes
    parents = set(zip(*np.nonzero(episodes.nodes.parent >= 0), strict=True))
    asked = {(int(row), int(episodes.nodes.parent[row, node])) for row, node in parents}
    candidates = [
        (event.row, event.sub_episode)
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
    for row, node in sorted(candidates[i] for i in chosen):
        taken = np.flatnonzero((steps["row"] == row) & (steps["sub_episode"] == node))
        save, place = episodes.saves[row, node]
        found.append(
            RestoreChecked(
                row=row,
                clock=int(episodes.clock[row]),
                sub_episode=node,
                equal=_replays(
                    env, row, save.world_of(place), {k: v[taken] for k, v in steps.items()}
                ),
            )
        )
    return found


def _replays(
    env: StatefulVectorEnv, row: int, start: Snapshot, steps: dict[str, np.ndarray]
) -> bool:
    """Do those actions give the same states, rewards and endings again?"""
    env.restore(start, np.array([row]), rng="rewind")
    actions = np.zeros(env.num_envs, np.int64)
    for i, action in enumerate(steps["action"]):
        actions[row] = action
        _, reward, terminated, _, info = env.step(actions)
        again = (info["state"][row], np.float32(reward[row]), terminated[row])
        if again != (steps["next_state"][i], steps["reward"][i], steps["terminated"][i]):
            return False
    return True
