"""StableVecEnv when an action is refused, and when a step or a reset breaks off half-way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain_world import ChainWorld
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from spot_world import Spot, adapted
from stable_baselines3.common.vec_env import DummyVecEnv

from delegate import StableVecEnv, VectorBacktrack, envs

pytestmark = pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning")

ROWS = 4
SETTINGS: dict[str, Any] = {"depths": (1, 3), "cost": 0.25, "budget": 4}


def face(rows: int = ROWS, **settings: Any) -> StableVecEnv:
    """A StableVecEnv over backtracking chains."""
    return StableVecEnv(VectorBacktrack(ChainWorld(rows), **SETTINGS), **settings)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(TypeError, match="DummyVecEnv is no StatefulVectorEnv"):
        StableVecEnv(DummyVecEnv([Spot]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="make it with autoreset_mode="):
        StableVecEnv(ChainWorld(1, autoreset_mode=AutoresetMode.SAME_STEP))
    stable = face()
    stable.seed(0)
    stable.set_options([{"a": row} for row in range(ROWS)])
    with pytest.raises(ValueError, match="options differ between rows"):
        stable.reset()
    stable.set_options()
    stable.reset()
    with pytest.raises(ValueError, match="row 2: action is 9; give 0 to 4"):
        stable.step(np.array([0, 0, 9, 0]))


def goes_on(venv: StableVecEnv, actions: np.ndarray) -> list[float]:
    """Returns of the episodes that end in the first row within forty steps."""
    found = []
    for _ in range(40):
        *_, infos = venv.step(actions)
        found += [infos[0]["episode"]["r"]] if "episode" in infos[0] else []
    return found


def test_after_a_refused_action_nothing_has_moved() -> None:
    venv = StableVecEnv(adapted(2))
    venv.reset()
    venv.step(np.ones(2, int))
    before = venv.snapshot()
    with pytest.raises(ValueError, match="row 1"):
        venv.step(np.array([1, 9]))
    for name in ("stable_baselines/emitted", "observation"):
        np.testing.assert_array_equal(venv.snapshot().arrays[name], before.arrays[name])
    assert goes_on(venv, np.ones(2, int)) == [10.0] * 4


def test_a_step_that_broke_needs_a_reset_or_a_restore() -> None:
    venv = StableVecEnv(adapted(2))
    venv.reset()
    one = np.ones(2, int)
    venv.step(one)
    saved = venv.snapshot()
    venv.set_attr("fails_at", 2, indices=[1])
    with pytest.raises(RuntimeError, match="it broke"):
        venv.step(one)
    with pytest.raises(ResetNeeded, match="call reset, or restore"):
        venv.step(one)
    venv.restore(saved.take(np.array([0])), np.array([0]))
    with pytest.raises(ResetNeeded):  # the other row is still half-way
        venv.step(one)
    venv.restore(saved)
    assert goes_on(venv, one) == [10.0] * 4, "no step is counted twice or left out"
    venv.set_attr("fails_at", 2, indices=[1])
    venv.reset()
    venv.step(one)
    with pytest.raises(RuntimeError, match="it broke"):
        venv.step(one)
    venv.set_attr("fails_at", 99)
    venv.reset()
    assert goes_on(venv, one) == [10.0] * 4


@pytest.mark.parametrize("backtracks", [False, True])
def test_a_reset_that_broke_at_the_end_of_an_episode_needs_another(backtracks: bool) -> None:
    world = adapted(2)
    venv = StableVecEnv(VectorBacktrack(world, budget=0, cost=1.0) if backtracks else world)
    venv.reset()
    one = np.ones(2, int)
    venv.set_attr("resets_left", 0, indices=[1])
    for _ in range(9):
        venv.step(one)
    with pytest.raises(RuntimeError, match="no more episodes"):
        venv.step(one)
    with pytest.raises(ResetNeeded, match="call reset, or restore"):
        venv.step(one)
    with pytest.raises(RuntimeError, match="no more episodes"):
        venv.reset()
    with pytest.raises(ResetNeeded):
        venv.step(one)
    venv.set_attr("resets_left", 99)
    venv.reset()
    assert goes_on(venv, one) == [10.0] * 4


def test_a_blow_up_is_over_once_a_moment_before_it_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where MuJoCo logs its warnings
    given = StableVecEnv(envs.make("Hopper-v5", 3, autoreset_mode=AutoresetMode.DISABLED))
    given.seed(0)
    given.reset()
    still = np.zeros((3, 3), np.float32)
    given.step(still)
    whole = given.snapshot()
    expected = given.step(still)[:2]
    given.restore(whole)
    broken = given.snapshot()
    broken.arrays["physics"][2, 1:] = 1e9
    given.restore(broken)
    with pytest.raises(RuntimeError, match="row 2: mjWARN_BAD"):
        given.step(still)
    with pytest.raises(ResetNeeded):
        given.step(still)
    given.restore(whole)
    for again, once in zip(given.step(still)[:2], expected, strict=True):
        np.testing.assert_array_equal(again, once)
