"""Effects that nothing undoes: each is counted once, through any number of rollbacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from chain_world import ChainWorld
from hypothesis import given, settings
from hypothesis import strategies as st

from delegate.backtrack import VectorBacktrack
from delegate.backtrack.progress import Progress, Tick

RIGHT, DIG, BACK = 1, 2, 3

pytestmark = pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning")


def in_the_middle(depths: tuple[int, ...], **settings: Any) -> VectorBacktrack:
    """One row of a still corridor, far from both ends; digging makes a hole for good."""
    world = ChainWorld(1, size=99, noise=False, max_steps=None)
    env = VectorBacktrack(world, depths=depths, cost=0.5, **settings)
    env.reset(seed=0)
    world.state["cell"][:] = 50
    return env


def kept(env: VectorBacktrack, *actions: int) -> list[int]:
    """How many effects each of those decisions said to have kept."""
    return [int(env.step(np.array([action]))[4]["effects_kept"]["holes"][0]) for action in actions]


def holes(env: VectorBacktrack) -> int:
    return int(env.env.state_arrays()["holes"][0])


def test_effects_that_cannot_be_undone_stay_and_are_counted() -> None:
    env = in_the_middle((1, 3))
    assert kept(env, DIG, DIG, RIGHT, BACK + 1) == [0, 0, 0, 2]
    assert holes(env) == 2
    assert kept(env, DIG, BACK) == [0, 1], "only what the undone steps did"
    assert holes(env) == env.ledger.effects[0] == 3


OVERLAPPING = (RIGHT, DIG, BACK, RIGHT, BACK + 1)
"""one hole; back over it, a step, and back over the same stretch of the path again"""


def test_overlapping_backtracks_count_an_effect_once() -> None:
    env = in_the_middle((1, 2))
    assert kept(env, *OVERLAPPING) == [0, 0, 1, 0, 0]
    assert holes(env) == env.ledger.effects[0] == 1


def test_totals_of_the_world_would_count_it_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: what there is now, less what there was then."""
    env = in_the_middle((1, 2))

    def by_totals(progress: Progress, tick: Tick) -> dict[str, np.ndarray]:
        count = np.zeros(1, np.int64)
        if tick.back[0]:
            then = progress.history.at(np.array([0]), tick.depth)["world/holes"]
            count[:] = holes(env) - then
        progress.ledger.effects += count
        return {"holes": count}

    monkeypatch.setattr(Progress, "effects_kept", by_totals)
    assert kept(env, *OVERLAPPING) == [0, 0, 1, 0, 1]


@settings(max_examples=60, deadline=None)
@given(actions=st.lists(st.sampled_from([1, 2, 2, 2, 3, 4, 5]), max_size=60))
def test_what_happened_is_on_the_path_or_was_counted(actions: list[int]) -> None:
    env, path = in_the_middle((1, 2, 4), budget=50), list[int]()
    for action in actions:
        info = env.step(np.array([action]))[4]
        if action < BACK:
            path.append(int(action == DIG))
        elif undone := int(info["undone_steps"][0]):
            assert info["effects_kept"]["holes"][0] == sum(path[-undone:])
            del path[-undone:]
        assert holes(env) == sum(path) + env.ledger.effects[0]


def test_effects_that_somebody_else_rolled_back_are_not_counted_again() -> None:
    """A batch restored around the backtracking agent, its effects kept and counted outside."""
    env = in_the_middle((1, 2))
    kept(env, RIGHT)
    saved = env.snapshot()
    kept(env, DIG, DIG)
    env.restore(saved, rng="fresh", keep=env.irreversible)
    assert holes(env) == 2
    assert kept(env, DIG, BACK + 1) == [0, 1], "only the hole of the path that was left"


def test_a_new_episode_begins_without_them() -> None:
    env = in_the_middle((1, 2))
    kept(env, DIG, BACK)
    env.reset(seed=1)
    env.env.state_arrays()["cell"][:] = 50
    assert kept(env, RIGHT, DIG, BACK + 1) == [0, 0, 1]
    assert env.ledger.effects[0] == 2, "the ledger goes on"
