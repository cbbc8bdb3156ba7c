"""Fidelity of the shipped grid worlds and of the backtrack action, and worlds that must fail it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest
from chain_world import ChainWorld
from gymnasium.vector import AutoresetMode

from delegate import envs
from delegate.backtrack import Snapshot, StatefulVectorEnv, VectorBacktrack
from delegate.backtrack.conformance import (
    FidelityConformance,
    check_fidelity,
    check_fidelity_detects_omission,
)
from delegate.backtrack.recording import FidelityError
from delegate.backtrack.state import RandomStateMode, Rows

pytestmark = pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning")


class TestChainDisabled(FidelityConformance):
    matters = ("cell", "wind", "clock", "terminated", "truncated", "key")

    def make(self, rows: int) -> StatefulVectorEnv:
        return ChainWorld(rows, max_steps=9)


class TestChainNextStep(FidelityConformance):
    matters = ("cell", "wind", "clock", "terminated", "truncated", "key")

    def make(self, rows: int) -> StatefulVectorEnv:
        return ChainWorld(rows, max_steps=9, autoreset_mode=AutoresetMode.NEXT_STEP)


class TestChainSameStep(FidelityConformance):
    matters = ("cell", "wind", "clock", "key")

    def make(self, rows: int) -> StatefulVectorEnv:
        return ChainWorld(rows, max_steps=9, autoreset_mode=AutoresetMode.SAME_STEP)


class TestBacktrack(FidelityConformance):
    """The wrapper's own state is part of its snapshot: history, clocks, what was shown."""

    rows = 4
    matters = (
        "cell",
        "wind",
        "backtrack/clock",
        "backtrack/budget_left",
        "backtrack/held",
        "backtrack/history/position",
        "backtrack/history/kept",
        "backtrack/history/reward",
        "backtrack/history/tick",
        "backtrack/history/world/cell",
        "backtrack/history/world/wind",
    )

    def make(self, rows: int) -> StatefulVectorEnv:
        return VectorBacktrack(
            ChainWorld(rows), depths=(1, 3), horizon=4, refund="discounted", gamma=0.5
        )


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize(
    "settings",
    [
        {"observation": "picture"},
        {"observation": "vector", "actions": "box"},
        {"observation": "dict", "noise": False},
    ],
)
def test_backtrack_in_every_mode(mode: AutoresetMode, settings: dict[str, Any]) -> None:
    def make(rows: int) -> StatefulVectorEnv:
        world = ChainWorld(rows, **settings)
        return VectorBacktrack(
            world, depths=(1, 2), budget=3, time_limit=12, autoreset_mode=mode, threshold=0.2
        )

    report = check_fidelity(make, rows=3, save_points=5)
    assert report.endings > 0
    assert report.random_state == ("key",)


@pytest.mark.parametrize("observation", ["boolean", "integer"])
@pytest.mark.parametrize("name", envs.ids())
def test_grid_worlds(name: str, observation: Any) -> None:
    for mode in AutoresetMode:

        def make(rows: int, mode: AutoresetMode = mode) -> StatefulVectorEnv:
            return envs.make(
                name,
                rows,
                observation=observation,
                max_steps=12,
                autoreset_mode=mode,
                assign="in_order" if mode == AutoresetMode.NEXT_STEP else "random",
            )

        assert check_fidelity(make, rows=3, save_points=5).endings > 0


@pytest.mark.parametrize("name", envs.ids())
def test_backtrack_around_grid_worlds(name: str) -> None:
    def make(rows: int) -> StatefulVectorEnv:
        world = envs.make(name, rows, max_steps=12, autoreset_mode=AutoresetMode.DISABLED)
        return VectorBacktrack(world, depths=(1, 4))

    assert check_fidelity(make, rows=3, save_points=5).endings > 0


# Worlds with one fault each; the check must find every one of them.


class ForgetsTheWind(ChainWorld):
    """A hidden array is missing from the snapshot."""

    def state_arrays(self) -> dict[str, np.ndarray]:
        return {name: array for name, array in self.state.items() if name != "wind"}


class SharesItsArrays(ChainWorld):
    """The snapshot is a view of the live state."""

    def snapshot(self, rows: Rows = None) -> Snapshot:
        every = self.row_index(rows)
        if len(every) < self.num_envs:
            return super().snapshot(rows)
        return Snapshot(self.world, {name: array[:] for name, array in self.state.items()})


class LetsRowsMeet(ChainWorld):
    """The outcome of a row depends on how many there are."""

    def step(self, actions: np.ndarray) -> Any:
        observation, reward, *rest = super().step(actions)
        return observation, reward + 0.5 * (self.num_envs > 5), *rest


class RepeatsItsDice(ChainWorld):
    """Fresh noise is not fresh."""

    def restore(
        self,
        snapshot: Snapshot,
        rows: Rows = None,
        rng: RandomStateMode = "rewind",
        keep: Collection[str] = (),
    ) -> None:
        super().restore(snapshot, rows, "rewind", keep)


class UndoesEverything(ChainWorld):
    """Irreversible effects are restored."""

    def restore(
        self,
        snapshot: Snapshot,
        rows: Rows = None,
        rng: RandomStateMode = "rewind",
        keep: Collection[str] = (),
    ) -> None:
        super().restore(snapshot, rows, rng)


class TakesAnySnapshot(ChainWorld):
    """A snapshot of another world is restored."""

    def check_fits(self, snapshot: Snapshot, count: int) -> None:
        pass


class ShowsAnOldPicture(ChainWorld):
    """An observation is kept beside the state and not rebuilt by a restore."""

    picture: np.ndarray | None = None

    def observe(self, rows: Rows = None) -> Any:
        if self.picture is None:
            self.picture = super().observe()
        return self.picture[self.row_index(rows)]

    def step(self, actions: np.ndarray) -> Any:
        self.picture = None
        return super().step(actions)


class ReturnsAnOldPicture(ChainWorld):
    """A step returns what was seen before it."""

    def step(self, actions: np.ndarray) -> Any:
        before = self.observe()
        return before, *super().step(actions)[1:]


class RestoresAllRows(ChainWorld):
    """Restoring some rows moves the others' clocks too."""

    def restore(
        self,
        snapshot: Snapshot,
        rows: Rows = None,
        rng: RandomStateMode = "rewind",
        keep: Collection[str] = (),
    ) -> None:
        super().restore(snapshot, rows, rng, keep)
        if rows is not None and len(rows) < self.num_envs:
            self.state["wind"][:] = snapshot.arrays["wind"][0]


class StepsThemAll(ChainWorld):
    """Rows that should stay move."""

    def step_rows(self, rows: np.ndarray, actions: np.ndarray) -> Any:
        every = np.zeros((self.num_envs, *actions.shape[1:]), actions.dtype)
        every[rows] = actions
        observation, *result, info = self.step(every)
        return (
            observation[rows],
            *(values[rows] for values in result),
            {name: values[rows] for name, values in info.items()},
        )


class MixesThemUp(ChainWorld):
    """What came of the rows is given in the order in which they lie, not in that asked for."""

    def step_rows(self, rows: np.ndarray, actions: np.ndarray) -> Any:
        order = np.argsort(rows)
        return super().step_rows(rows[order], actions[order])


class MovesAnotherWay(ChainWorld):
    """Rows stepped alone do something else."""

    def step_rows(self, rows: np.ndarray, actions: np.ndarray) -> Any:
        return super().step_rows(rows, np.zeros_like(actions))


class TiresLate(ChainWorld):
    """What is missing from the snapshot shows only after 120 steps, through many resets."""

    steps: np.ndarray | None = None

    def step(self, actions: np.ndarray) -> Any:
        observation, reward, *rest = super().step(actions)
        self.steps = (np.zeros(self.num_envs, int) if self.steps is None else self.steps) + 1
        return observation, reward - 0.5 * (self.steps % 1_000 == 170), *rest


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_replays_of_300_steps_go_through_many_resets(mode: AutoresetMode) -> None:
    def make(rows: int) -> StatefulVectorEnv:
        return ChainWorld(rows, max_steps=30, autoreset_mode=mode)

    report = check_fidelity(make, steps=300, rows=3, save_points=3, replayed=300)
    assert report.endings > 30
    assert report.compared > 3 * 300


def test_a_fault_that_shows_late_needs_a_long_replay() -> None:
    """Negative control of the length: 16 steps after each restore do not see it."""
    check_fidelity(TiresLate, steps=300, rows=1, save_points=2)
    with pytest.raises(FidelityError, match=r"step 169, 170 after the restore: reward"):
        check_fidelity(TiresLate, steps=300, rows=1, save_points=2, replayed=300)


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (StepsThemAll, "step_rows at .*row 1 stays, but its .* has changed"),
        (MixesThemUp, "step_rows at .*row [024], which steps: "),
        (MovesAnotherWay, "step_rows at .*row [024], which steps: "),
        (ForgetsTheWind, "restore to .*does snapshot hold all that can change"),
        (SharesItsArrays, "restore to |what was handed out: .*snapshot/"),
        (LetsRowsMeet, "rows instead of 5.*must not depend on the others"),
        (RepeatsItsDice, "rng='fresh': key should be left as it was"),
        (UndoesEverything, "rng='fresh': holes should be left as it was"),
        (TakesAnySnapshot, "does not fit was restored"),
        (ShowsAnOldPicture, r"just restored: observe\(\).*does refresh rebuild"),
        (ReturnsAnOldPicture, "step returned another observation"),
        (RestoresAllRows, r"restore of rows \[0, 2, 4\] .*row [13]"),
    ],
)
def test_faulty_worlds_are_found(world: type[ChainWorld], why: str) -> None:
    with pytest.raises(FidelityError, match=why):
        check_fidelity(world)


def test_the_negative_control_reports_what_it_saw() -> None:
    report = check_fidelity_detects_omission(ChainWorld)
    assert {"cell", "wind", "terminated", "key"} <= set(report.noticed)
    assert "holes" in report.unnoticed, "nothing depends on holes but holes"
    assert "truncated" in report.constant, "the limit was not reached"
    with pytest.raises(FidelityError, match=r"leaving holes, truncated out .* goes unnoticed"):
        check_fidelity_detects_omission(ChainWorld, matters=("holes", "truncated"))


def test_a_check_that_could_not_fail_is_refused() -> None:
    class Frozen(ChainWorld):
        """Nothing moves."""

        def step(self, actions: np.ndarray) -> Any:
            nothing = np.zeros(self.num_envs)
            return self.observe(), nothing, nothing > 0, nothing > 0, {}

    with pytest.raises(FidelityError, match="no omission is noticed"):
        check_fidelity_detects_omission(Frozen)
