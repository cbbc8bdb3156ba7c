"""The same delegation over every shipped world, and over an adapted one: spawn, nest, roll back,
replay."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from delegation_worlds import AnyBank, Coin, Flailing
from delegations import Whimsical, check_log
from gymnasium.vector import AutoresetMode

from delegate import envs, monitors
from delegate.agents import Member
from delegate.bank import Bank
from delegate.delegation import events
from delegate.delegation.episodes import Bounds
from delegate.delegation.protocols import Rollback
from delegate.delegation.restores import check_restores
from delegate.delegation.runtime import Delegation
from delegate.delegation.watch import Watcher

ROWS = 5
MINIGRID = "MiniGrid-DoorKey-5x5-v0"
pytestmark = pytest.mark.filterwarnings("ignore:.*(alternative render modes|infinity).*")


def bank_of(world: str) -> Bank:
    """That world with some levels or rows, begun."""
    if world in envs.world_ids():
        levels = envs.levels(world, "shifted", seeds=range(ROWS))
        bank = envs.make_bank(world, levels)
        bank.env.reset(seed=3)
        return bank
    if world in envs.mujoco_ids():
        env: Any = envs.make(world, ROWS, autoreset_mode="Disabled")
    else:
        minigrid = pytest.importorskip("minigrid")
        gymnasium.register_envs(minigrid)

        def make() -> Any:
            return minigrid.wrappers.ImgObsWrapper(gymnasium.make(world, max_episode_steps=30))

        env = envs.adapt(make, ROWS, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=3)
    return AnyBank(env)


def delegation(bank: Bank, checks: int = 1_000) -> Delegation:
    """Parents that decide anything, three levels deep, whose work is taken back at random."""
    space = bank.env.single_action_space
    members = [
        Member("root", Whimsical(0.01, space), crew=(1, 2)),
        Member("middle", Whimsical(0.1, space), crew=(2, 3)),
        Member("flailing", Flailing(space)),
        Member("lowest", Whimsical(0.2, space), crew=(2,)),
    ]
    seeds = np.arange(ROWS, dtype=np.uint64) + np.uint64(11)
    coin = Watcher("coin", Coin(seeds), monitors.make_statistic("last"), 0.93)
    bounds = Bounds(20, 60, max_depth=3, max_spawns=12, discount=0.97)
    return Delegation(bank, members, Rollback(), bounds, seeds, [coin], "coin", checks)


@pytest.mark.parametrize("world", [*envs.world_ids(), *envs.mujoco_ids(), MINIGRID])
def test_one_delegation_over_every_world(world: str) -> None:
    bank = bank_of(world)
    start = bank.env.markov_state(np.arange(ROWS))
    played = delegation(bank)
    log = list(played.run())
    check_log(played, lambda row: start[row])
    deep = {e.depth for e in log if isinstance(e, events.Spawned)}
    back = [e for e in log if isinstance(e, events.Verdict) and e.verdict == "rolled_back"]
    assert deep >= {1, 2}
    assert any(e.undone_steps for e in back)
    assert check_restores(played) > 0
    exact = [e.equal for e in played.log if isinstance(e, events.RestoreChecked)]
    assert all(exact)
    again = delegation(bank_of(world))
    assert list(again.run()) == log
    for first, second in zip(tables(played), tables(again), strict=True):
        assert first.keys() == second.keys()
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])


def tables(played: Delegation) -> list[dict[str, np.ndarray]]:
    return [played.steps_table(), played.watch_table(), played.sub_episodes_table()]


@pytest.mark.parametrize("world", ["TrapGrid", "HalfCheetah-v5", MINIGRID])
def test_a_world_that_goes_back_to_elsewhere_is_found_out(world: str) -> None:
    """The negative control: after every restore the world is stepped further."""
    bank = bank_of(world)
    restore, start = bank.env.restore, bank.env.markov_state(np.arange(ROWS))
    space = bank.env.single_action_space
    space.seed(0)

    def astray(snapshot: Any, rows: Any = None, **given: Any) -> None:
        restore(snapshot, rows, **given)
        for _ in range(5):
            bank.env.step_rows(rows, np.array([space.sample() for _ in rows]))

    bank.env.restore = astray  # type: ignore[method-assign]
    played = delegation(bank)
    played.run()
    bank.env.restore = restore  # type: ignore[method-assign]
    check_restores(played)
    assert not all(e.equal for e in played.log if isinstance(e, events.RestoreChecked))
    with pytest.raises(AssertionError):
        check_log(played, lambda row: start[row])


def test_actions_of_numbers_and_states_of_numbers_are_logged_as_they_were() -> None:
    bank = bank_of("Reacher-v5")
    played = delegation(bank)
    played.run()
    steps = played.steps_table()
    rows = np.unique(steps["row"])
    assert len(rows) >= 3
    assert steps["action"].shape == (len(steps["row"]), 2)
    assert steps["action"].dtype == bank.env.single_action_space.dtype
    other = bank_of("Reacher-v5")
    assert steps["state"].shape[1:] == other.env.markov_state(rows).shape[1:]
    first = [int(np.flatnonzero(steps["row"] == row)[0]) for row in rows]
    np.testing.assert_array_equal(steps["state"][first], other.env.markov_state(rows))
    other.env.step_rows(rows, steps["action"][first])
    np.testing.assert_array_equal(steps["next_state"][first], other.env.markov_state(rows))
