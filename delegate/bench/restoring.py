"""Restoring an environment and a batch of them, beside what MuJoCo and Python offer for it.

MuJoCo's own are the fair baseline: `mj_copyData` copies all of an MjData, `mj_setState` sets what
the next step depends on, and leaves what the last one derived from it. `copy.deepcopy` of a
Gymnasium environment mostly builds the model anew. Ours writes rows of arrays, and the next step
loads them, as every step does; they hold the derived numbers that are observed, clocks and random
states too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium
import mujoco
import numpy as np

from delegate.backtrack import StatefulVectorEnv
from delegate.bench.peers import OURS, uniform
from delegate.bench.timing import Figure, ratios, timed

DEEPCOPY, COPY_DATA, SET_STATE = "copy.deepcopy", "mj_copyData", "mj_setState"
STATE = mujoco.mjtState.mjSTATE_INTEGRATION

PLAYED, REPLAYED = 10, 50
"""steps before the saved moment, and of the replays that show whether it is the same again"""

Load = Callable[[], object]
Play = list[tuple[Any, Any]]


def restoring_figures(
    make: Callable[..., StatefulVectorEnv], task: str, rows: int, rounds: int
) -> dict[str, Any]:
    """In time and in truth.

    microseconds: of an environment, restored by a call of its own (one_row) or with all others
    (batch): ours in one call, MuJoCo's in a loop over one MjData a row
    times_as_fast_as: ours, each by name; below 1 it is slower
    differs: the largest difference, in an observation or a reward, between what followed the saved
    moment and what the same actions brought after it was restored
    """
    env, original = make(task, rows), gymnasium.make(task).unwrapped
    actions = uniform(env.single_action_space, rows, seed=2)
    env.reset(seed=0)
    original.reset(seed=0)
    for action in actions[:PLAYED]:
        env.step(action)
        original.step(action[0])
    ours, theirs, copied = _ours(env, rows), _theirs(original, rows), copy.deepcopy(original)
    first = _play(original.step, actions[:, 0])
    differs = {DEEPCOPY: _difference(first, _play(copied.step, actions[:, 0]))}
    for name, load in theirs["one_row"].items():
        differs[name] = _difference(first, _play(original.step, actions[:, 0], load))
    first = _play(env.step, actions)
    differs[OURS] = _difference(first, _play(env.step, actions, ours["batch"][OURS]))
    alone = {DEEPCOPY: lambda: copy.deepcopy(original), **theirs["one_row"], **ours["one_row"]}
    together = {**theirs["batch"], **ours["batch"]}
    found: dict[str, dict[str, list[float]]] = {
        "one_row": {name: [] for name in alone},
        "batch": {name: [] for name in together},
    }
    for _ in range(max(rounds, 3) * 3):
        for name, load in alone.items():
            calls = 1 if name == DEEPCOPY else 200
            found["one_row"][name].append(_a_call(load, calls) * 1e6)
        for name, load in together.items():
            found["batch"][name].append(_a_call(load, max(1, 200 // rows)) * 1e6 / rows)
    copied.close()
    env.close()
    original.close()
    return {
        "microseconds": {
            how: {name: Figure.of(values) for name, values in each.items()}
            for how, each in found.items()
        },
        "times_as_fast_as": {
            how: {name: ratios(values, each[OURS]) for name, values in each.items() if name != OURS}
            for how, each in found.items()
        },
        "differs": differs,
    }


def _ours(env: StatefulVectorEnv, rows: int) -> dict[str, dict[str, Load]]:
    middle = np.array([rows // 2])
    everyone, one = env.snapshot(), env.snapshot(middle)
    return {
        "one_row": {OURS: lambda: env.restore(one, middle)},
        "batch": {OURS: lambda: env.restore(everyone)},
    }


def _theirs(env: Any, rows: int) -> dict[str, dict[str, Load]]:
    """MuJoCo's own means, for the data of that environment and for as many as there are rows."""
    model, data = env.model, env.data
    each, copies = ([mujoco.MjData(model) for _ in range(rows)] for _ in range(2))
    for other in (*each, *copies):
        mujoco.mj_copyData(other, model, data)
    state = np.zeros(mujoco.mj_stateSize(model, STATE))
    mujoco.mj_getState(model, data, state, STATE)
    states, saved = np.tile(state, (rows, 1)), copies[0]

    def copy_all() -> None:
        for other, kept in zip(each, copies, strict=True):
            mujoco.mj_copyData(other, model, kept)

    def set_all() -> None:
        for other, row in zip(each, states, strict=True):
            mujoco.mj_setState(model, other, row, STATE)

    return {
        "one_row": {
            COPY_DATA: lambda: mujoco.mj_copyData(data, model, saved),
            SET_STATE: lambda: mujoco.mj_setState(model, data, state, STATE),
        },
        "batch": {COPY_DATA: copy_all, SET_STATE: set_all},
    }


def _a_call(act: Load, calls: int) -> float:
    """Seconds a call, of the best of a few tries: the call is too short to be timed alone."""

    def several() -> None:
        for _ in range(calls):
            act()

    return min(timed(several) for _ in range(3)) / calls


def _play(step: Callable[[Any], Any], actions: np.ndarray, load: Load | None = None) -> Play:
    """Observation and reward of each step, from now, or from the moment that is loaded."""
    if load is not None:
        load()
    return [step(action)[:2] for action in actions[:REPLAYED]]


def _difference(first: Play, again: Play) -> float:
    """The largest, in any number of any step."""
    steps = zip(first, again, strict=True)
    pairs = [pair for one, other in steps for pair in zip(one, other, strict=True)]
    return max(float(np.abs(a - b).max()) for a, b in pairs)
