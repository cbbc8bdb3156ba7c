"""What is handed out is never the live object: the check of it, and worlds that must fail it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from itertools import combinations
from typing import Any

import gymnasium
import numpy as np
import pytest
from chain_world import ChainWorld
from gymnasium.vector import AutoresetMode

from delegate import envs
from delegate.backtrack import Snapshot, StatefulVectorEnv, VectorBacktrack, spaces
from delegate.backtrack.conformance import check_hands_out_copies
from delegate.backtrack.recording import FidelityError, flat
from delegate.backtrack.state import RandomStateMode, Rows

pytestmark = pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning")


class ListsItsCells(ChainWorld):
    """Observations are lists in an object array, as those of Sequence spaces are."""

    def __init__(self, num_envs: int = 1, **settings: Any) -> None:
        super().__init__(num_envs, **settings)
        self.single_observation_space = gymnasium.spaces.Sequence(gymnasium.spaces.Discrete(99))

    def observe(self, rows: Rows = None) -> np.ndarray:
        index = self.row_index(rows)
        listed = np.full(len(index), None)
        for place, row in enumerate(index):
            listed[place] = [int(self.state["cell"][row]), [int(self.state["clock"][row])]]
        return listed


def backtracking(world: type[ChainWorld], mode: AutoresetMode, **settings: Any) -> Any:
    def make(rows: int) -> VectorBacktrack:
        chain = world(rows, max_steps=15, **settings)
        return VectorBacktrack(chain, depths=(1, 3), budget=9, autoreset_mode=mode, threshold=0.2)

    return make


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_backtracking_hands_out_copies_down_to_lists(mode: AutoresetMode) -> None:
    check_hands_out_copies(backtracking(ListsItsCells, mode), rows=3)


@pytest.mark.parametrize(
    "make",
    [
        lambda rows: envs.make("TrapGrid", rows, max_steps=9, irreversible=True),
        lambda rows: envs.make("Corner", rows, max_steps=9, autoreset_mode=AutoresetMode.DISABLED),
        lambda rows: envs.make("Hopper-v5", rows, autoreset_mode=AutoresetMode.SAME_STEP),
        lambda rows: envs.adapt("CartPole-v1", rows, autoreset_mode=AutoresetMode.DISABLED),
    ],
)
def test_shipped_worlds_hand_out_copies(make: Callable[[int], StatefulVectorEnv]) -> None:
    check_hands_out_copies(make, steps=40, rows=3)


def test_the_batch_that_hands_out_its_live_picture_on_request_is_found() -> None:
    """Negative control on a shipped world: `copy=False` is for those who ask for it."""
    bank = envs.make("Corner", 3).levels
    with pytest.raises(FidelityError, match="handed out"):
        check_hands_out_copies(lambda rows: envs.make("Corner", rows, levels=bank, copy=False))


def test_shallow_copies_of_lists_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: the check can tell one level from two."""
    monkeypatch.setattr(spaces, "_copied", copy.copy)
    with pytest.raises(FidelityError, match="handed out"):
        check_hands_out_copies(backtracking(ListsItsCells, AutoresetMode.DISABLED), rows=3)


class LendsItsClock(ChainWorld):
    """A live array is handed out in info."""

    def step(self, actions: np.ndarray) -> Any:
        *result, info = super().step(actions)
        return *result, info | {"clock": self.state["clock"]}


class LendsABuffer(ChainWorld):
    """The same reward array is handed out at every step; nothing depends on it."""

    def step(self, actions: np.ndarray) -> Any:
        observation, reward, *rest = super().step(actions)
        self.buffer = getattr(self, "buffer", np.zeros(self.num_envs))
        self.buffer[:] = reward
        return observation, self.buffer, *rest


class LendsAView(ChainWorld):
    """A read-only view of a live array cannot be written to, but it changes."""

    def reset(self, **how: Any) -> Any:
        observation, info = super().reset(**how)
        view = self.state["clock"].view()
        view.flags.writeable = False
        return observation, info | {"clock": view}


class LendsItsLog(ChainWorld):
    """A list inside an array of objects is the world's own."""

    logs: list[list[int]]

    def reset(self, **how: Any) -> Any:
        if "options" not in how:
            self.logs = [[] for _ in range(self.num_envs)]
        return super().reset(**how)

    def step(self, actions: np.ndarray) -> Any:
        observation, reward, *flags, info = super().step(actions)
        logs = np.full(self.num_envs, None)
        for row, log in enumerate(self.logs):
            log.append(int(actions[row]))
            logs[row] = log
        lengths = np.array([len(log) for log in self.logs])
        return observation, reward, *flags, info | {"log": logs, "length": lengths}


class LendsItsInfo(ChainWorld):
    """The same dict is handed out at every step."""

    def step(self, actions: np.ndarray) -> Any:
        *result, info = super().step(actions)
        self.info = getattr(self, "info", {"deep": {"steps": np.zeros(self.num_envs, int)}})
        self.info["deep"].setdefault("steps", np.zeros(self.num_envs, int))
        self.info["deep"]["steps"] = self.info["deep"]["steps"] + 1
        return *result, info | self.info


class KeepsItsPicture(ChainWorld):
    """`observe` hands out what the next step starts from."""

    cells: np.ndarray | None = None

    def refresh(self, rows: np.ndarray) -> None:
        super().refresh(rows)
        self.cells = None

    def observe(self, rows: Rows = None) -> Any:
        if rows is not None:
            return super().observe(rows)
        if self.cells is None:
            self.cells = super().observe()
        return self.cells

    def step(self, actions: np.ndarray) -> Any:
        if self.cells is not None:
            self.state["cell"][:] = self.cells
        self.cells = None
        return super().step(actions)


class KeepsTheActions(ChainWorld):
    """The next reward depends on the caller's array of actions."""

    last: Any = None

    def step(self, actions: np.ndarray) -> Any:
        observation, reward, *rest = super().step(actions)
        if self.last is not None:
            reward = reward + (self.last > 2)
        self.last = actions
        return observation, reward, *rest


class WritesToItsActions(ChainWorld):
    """The caller's array of actions is changed."""

    def step(self, actions: np.ndarray) -> Any:
        actions[:] = np.minimum(actions, 1)
        return super().step(actions)


class KeepsTheSnapshot(ChainWorld):
    """A restored snapshot becomes the state itself."""

    def restore(
        self,
        snapshot: Snapshot,
        rows: Rows = None,
        rng: RandomStateMode = "rewind",
        keep: Collection[str] = (),
    ) -> None:
        super().restore(snapshot, rows, rng, keep)
        if rows is None:
            self.state.update(snapshot.arrays)


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (LendsItsClock, "after writing to what was handed out: row 0, step 0: .*hand out copies"),
        (LendsABuffer, "a later step changed what was handed out: row .: step/1 was"),
        (LendsAView, "a later step changed what was handed out: row .: reset/1/clock was"),
        (LendsItsLog, "after writing to what was handed out: row 0, step 1: info/l"),
        (LendsItsInfo, "after writing to what was handed out: row 0, step 1: info/deep/steps was"),
        (KeepsItsPicture, "after writing to what was handed out"),
        (KeepsTheActions, "after writing to what was handed out: row ., step .: reward was"),
        (WritesToItsActions, r"step \[0, 0, 0, 0, 0\]: step wrote to its actions; copy them"),
        (KeepsTheSnapshot, "after writing to what was handed out the world raised IndexError"),
    ],
)
def test_worlds_that_share_are_found(world: type[ChainWorld], why: str) -> None:
    check_hands_out_copies(ChainWorld)
    with pytest.raises(FidelityError, match=why):
        check_hands_out_copies(world)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("observation", ["integer", "vector", "picture", "dict"])
def test_every_array_of_every_tick_is_new_and_the_callers_to_write(
    mode: AutoresetMode, observation: Any
) -> None:
    """One rule, whether rows step, go back, are refused, hold still or begin."""
    env = backtracking(ChainWorld, mode, observation=observation)(3)
    given = [("reset", array) for array in arrays(env.reset(seed=0))]
    rng, seen = np.random.default_rng(0), set()
    for tick in range(60):
        some = rng.integers(0, 3, 3) if tick % 2 else rng.integers(0, 5, 3)
        result = env.step(some)
        now = [(f"tick {tick}", array) for array in arrays(result)]
        assert all(array.flags.writeable for _, array in now)
        for (_, one), (when, other) in combinations([*given, *now], 2):
            assert not np.shares_memory(one, other), when
        given, info = now, result[4]
        seen |= {name for name in ("backtracked", "backtrack_refused", "held") if info[name].any()}
        seen |= {"calm"} if not info["backtracked"].any() else set()
        ended = result[2] | result[3]
        seen |= {"ended"} if ended.any() else set()
        if mode == AutoresetMode.DISABLED and ended.any():
            env.reset(options={"reset_mask": ended})
    assert seen == {"backtracked", "backtrack_refused", "held", "calm", "ended"}


def arrays(handed_out: Any) -> list[np.ndarray]:
    """All arrays in it."""
    found = [each for each in flat("it", handed_out).values() if isinstance(each, np.ndarray)]
    inner = [each for array in found if array.dtype == object for each in array]
    return found + [each for each in inner if isinstance(each, np.ndarray)]
