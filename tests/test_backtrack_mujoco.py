"""Going back in MuJoCo: in lockstep with a plain loop over Gymnasium's own environments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from plain_backtrack import PlainBoxBacktrack
from plain_mujoco import PlainMujoco
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from delegate import (
    Backtrack,
    BacktrackConfig,
    SnapshotMismatch,
    StableVecEnv,
    StatefulVectorEnv,
    VectorBacktrack,
    envs,
)
from delegate.backtrack.conformance import check_fidelity, check_fidelity_detects_omission

pytestmark = [
    pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning"),
    pytest.mark.filterwarnings("ignore:.*overridden.*"),
]

ROWS = 3
FALLING = ("Hopper-v5", "Walker2d-v5", "Humanoid-v5")
TASKS = (*FALLING, "Ant-v5", "HalfCheetah-v5", "Reacher-v5")
CONFIGS = {
    "sum": {"depths": (1, 3), "budget": 6, "horizon": 5, "cost": 0.3, "time_limit": 40},
    "discounted": {
        "depths": (1, 2, 9),
        "budget": 4,
        "cost": 0.1,
        "refused_cost": 0.01,
        "refund": "discounted",
        "gamma": 0.9,
        "threshold": -0.2,
        "observe": ("held", "origin", "action"),
    },
}


@pytest.fixture(autouse=True)
def log_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo writes its log where it stands, also of models that are merely out of date."""
    monkeypatch.chdir(tmp_path)


def world(task: str, rows: int = ROWS, steps: int = 30, **options: Any) -> Any:
    options = {"num_threads": 2, "autoreset_mode": AutoresetMode.DISABLED} | options
    return envs.make(task, rows, max_episode_steps=steps, **options)


def play(env: VectorBacktrack, steps: int, seed: int, back: float = 0.25) -> np.ndarray:
    """Random actions of which that share goes back. float32 [T, B, d + 1]"""
    rng = np.random.default_rng(seed)
    low, high = env.single_action_space.low, env.single_action_space.high  # type: ignore[attr-defined]
    actions = rng.uniform(low, high, (steps, env.num_envs, len(low)))
    threshold = env.config.threshold
    goes = rng.random((steps, env.num_envs)) < back
    above = rng.uniform(threshold, 1, goes.shape)
    actions[..., -1] = np.where(goes, above, rng.uniform(-1, threshold, goes.shape))
    return actions.astype(np.float32)


@pytest.mark.parametrize("settings", CONFIGS)
@pytest.mark.parametrize("task", TASKS)
def test_equals_a_plain_loop_over_gymnasium(task: str, settings: str) -> None:
    config = BacktrackConfig(**CONFIGS[settings])
    env = VectorBacktrack(world(task), config)
    plains = []
    observation, _ = env.reset(seed=5)
    for row in range(ROWS):
        limit = config.time_limit or 30
        plain = PlainBoxBacktrack(PlainMujoco(task, 30, 5 + row), config, limit)
        plain.reset()
        np.testing.assert_array_equal(observation[row], plain.observation())
        plains.append(plain)
    undone, ended, held = 0, 0, 0
    for actions in play(env, 90, 1):
        observation, reward, terminated, truncated, info = env.step(actions)
        for row, plain in enumerate(plains):
            had_ended = plain.ended
            expected = plain.step(actions[row])
            if had_ended:
                plain.reset()
            np.testing.assert_array_equal(observation[row], plain.observation())
            assert (terminated[row], truncated[row]) == (plain.terminated, plain.truncated)
            for name in ("backtracked", "undone_steps", "refusal", "do_undo_loop"):
                assert info[name][row] == expected[name], name
            for name in ("refund", "undone_reward"):
                assert info[name][row] == pytest.approx(expected[name], rel=1e-12, abs=1e-12)
            if expected["backtracked"]:
                assert reward[row] == pytest.approx(expected["reward"], rel=1e-12, abs=1e-12)
            else:
                assert reward[row] == expected["reward"]
            clocks = (info["clock"][row], info["path_clock"][row], info["budget_left"][row])
            assert clocks == (plain.clock, len(plain.path), plain.budget_left)
            assert info["held"][row] == plain.held
            assert env.can_backtrack()[row].tolist() == plain.possible()
            undone += expected["undone_steps"]
            ended += plain.ended
            held += plain.held
        for name, array in env.ledger.state_arrays().items():
            assert array.tolist() == [plain.ledger[name] for plain in plains], name
    assert undone > 10
    assert ended >= ROWS
    assert held > 0 or task not in FALLING


@pytest.mark.parametrize("task", ["Hopper-v5", "Ant-v5"])
def test_rows_and_threads_do_not_matter(task: str) -> None:
    """One row alone on one thread, and the same row among five on two."""
    crowd = VectorBacktrack(world(task, 5), depths=(1, 4), cost=0.2)
    alone = VectorBacktrack(world(task, 1, num_threads=1), depths=(1, 4), cost=0.2)
    crowd.reset(seed=0)
    alone.reset(seed=0)
    for actions in play(crowd, 80, 2):
        many, one = crowd.step(actions), alone.step(actions[:1])
        for given, expected in zip(many[:4], one[:4], strict=True):
            np.testing.assert_array_equal(given[0], expected[0])
    assert crowd.ledger.restores[0] > 3


@pytest.mark.parametrize("task", envs.mujoco_ids())
def test_fidelity_of_rows_stepped_alone_and_under_backtracking(task: str) -> None:
    def bare(rows: int) -> StatefulVectorEnv:
        return world(task, rows, steps=9)

    def backtracking(rows: int) -> StatefulVectorEnv:
        return VectorBacktrack(bare(rows), depths=(1, 3), horizon=4, budget=3, threshold=0.3)

    for make in (bare, backtracking):
        report = check_fidelity(make, steps=20, rows=3, save_points=4)
        assert report.endings > 0
        assert report.random_state == ("random",)


def test_fidelity_under_backtracking_can_fail() -> None:
    matters = ("physics", "backtrack/clock", "backtrack/held", "backtrack/history/world/physics")

    def make(rows: int) -> StatefulVectorEnv:
        hopper = world("Hopper-v5", rows, healthy_angle_range=(-0.02, 0.02))
        return VectorBacktrack(hopper, depths=(1, 3), threshold=0.3, budget=40, horizon=4)

    check_fidelity_detects_omission(make, steps=60, rows=3, save_points=6, matters=matters)


def test_never_backtracking_gives_the_bare_task() -> None:
    """But for the tick that confirms a fall; with budget 0 not even that."""
    bare = world("Hopper-v5", autoreset_mode=AutoresetMode.NEXT_STEP)
    env = VectorBacktrack(world("Hopper-v5"), observe=(), budget=0)
    np.testing.assert_array_equal(bare.reset(seed=1)[0], env.reset(seed=1)[0])
    falls = 0
    for actions in play(env, 120, 3, back=0.0):
        expected, given = bare.step(actions[:, :-1]), env.step(actions)
        for one, other in zip(expected[:4], given[:4], strict=True):
            np.testing.assert_array_equal(one, other)
        for key in ("x_position", "x_velocity", "z_distance_from_origin"):
            np.testing.assert_array_equal(expected[4][key], given[4][key])
        falls += expected[2].sum()
    assert falls > 5


def test_a_saved_batch_is_resumed_exactly() -> None:
    """World, history, clocks and ledger: also into a batch newly made."""
    env = VectorBacktrack(world("Humanoid-v5"), depths=(1, 4), cost=0.2)
    env.reset(seed=0)
    actions = play(env, 60, 4)
    for action in actions[:20]:
        env.step(action)
    saved = env.snapshot()
    first = [env.step(action) for action in actions[20:]]
    other = VectorBacktrack(world("Humanoid-v5"), depths=(1, 4), cost=0.2)
    for again in (env, other):
        again.restore(saved)
        for expected, action in zip(first, actions[20:], strict=True):
            for one, two in zip(expected[:4], again.step(action)[:4], strict=True):
                np.testing.assert_array_equal(one, two)
    assert env.ledger.to_dict() == other.ledger.to_dict()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("task", envs.mujoco_ids())
def test_passes_gymnasiums_check(task: str) -> None:
    check_env(Backtrack(world(task, 1, steps=1000), depths=(1, 4, 16)), skip_render_check=True)


def test_the_worlds_limit_is_taken_over() -> None:
    assert VectorBacktrack(world("Hopper-v5", steps=77)).time_limit == 77


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({(1, 0): np.nan}, r"Hopper-v5: row 1: action\[0\] is nan"),
        ({(2, 3): np.inf}, r"row 2: action\[3\] is inf"),
        ({(0, 1): 1.5}, r"row 0: action\[1\] is 1.5; give -1.0 to 1.0"),
    ],
)
def test_bad_actions_name_the_row_and_change_nothing(
    change: dict[tuple[int, int], float], why: str
) -> None:
    env = VectorBacktrack(world("Hopper-v5"))
    env.reset(seed=0)
    actions = play(env, 6, 0)
    for action in actions[:4]:
        env.step(action)
    before = env.snapshot()
    bad = actions[4].astype(np.float64)
    for place, value in change.items():
        bad[place] = value
    for refused, message in ((bad, why), (bad[:2], r"shape \(2, 4\); give \(3, 4\)")):
        with pytest.raises(ValueError, match=message):
            env.step(refused)
    unchanged(env, before)


def unchanged(env: VectorBacktrack, before: Any) -> None:
    for name, array in env.snapshot().arrays.items():
        np.testing.assert_array_equal(array, before.arrays[name], err_msg=name)


def test_a_model_that_blows_up_changes_nothing_and_harms_no_other_row() -> None:
    """The step is taken back in all rows; once that row is reset, the others do as ever."""
    env = VectorBacktrack(world("Hopper-v5"), budget=5, depths=(1, 2))
    other = VectorBacktrack(world("Hopper-v5"), budget=5, depths=(1, 2))
    env.reset(seed=0)
    other.reset(seed=0)
    actions = play(env, 40, 7)
    for action in actions[:6]:
        env.step(action)
        other.step(action)
    torn = env.env.snapshot(np.array([1]))
    torn.arrays["physics"][:, 1:] = 1e12
    env.env.restore(torn, np.array([1]))
    before = env.snapshot()
    quiet = actions[6].copy()
    quiet[:, -1] = -1
    with pytest.raises(RuntimeError, match=r"row 1: mjWARN_BADQ"):
        env.step(quiet)
    unchanged(env, before)
    env.reset(options={"reset_mask": np.array([False, True, False])})
    others = np.array([0, 2])
    for action in (quiet, *actions[7:]):
        given, expected = env.step(action), other.step(action)
        for one, two in zip(given[:4], expected[:4], strict=True):
            np.testing.assert_array_equal(one[others], two[others])


def test_snapshots_that_do_not_fit_are_refused_and_change_nothing() -> None:
    env = VectorBacktrack(world("Hopper-v5"), depths=(1, 2))
    env.reset(seed=0)
    for action in play(env, 5, 0):
        env.step(action)
    before = env.snapshot()
    for other, why in (
        (VectorBacktrack(world("Walker2d-v5"), depths=(1, 2)), "Walker2d-v5 .* cannot be restored"),
        (VectorBacktrack(world("Hopper-v5"), depths=(1, 3)), "cannot be restored into"),
        (VectorBacktrack(world("Hopper-v5", 2), depths=(1, 2)), "holds 2 rows and 3 were named"),
    ):
        other.reset(seed=0)
        with pytest.raises(SnapshotMismatch, match=why):
            env.restore(other.snapshot())
    version = type(before)(before.world.replace("mujoco=", "mujoco=9."), before.arrays)
    with pytest.raises(SnapshotMismatch, match=r"mujoco=9\..* cannot be restored"):
        env.restore(version)
    unchanged(env, before)


def test_past_the_horizon_is_refused_in_its_row_alone() -> None:
    env = VectorBacktrack(world("HalfCheetah-v5"), depths=(1, 4), horizon=4, budget=9)
    env.reset(seed=0)
    step, deep = np.zeros((ROWS, 7), np.float32), np.zeros((ROWS, 7), np.float32)
    step[:, -1], deep[:, -1] = -1, [1, -1, -1]
    back = np.where(np.arange(7) == 6, [[0.6], [-1], [-1]], 0).astype(np.float32)
    for action in (*[step] * 5, back, deep):
        *_, info = env.step(action)
    assert info["refusal"].tolist() == ["horizon", "", ""]
    assert info["path_clock"].tolist() == [4, 7, 7]


def test_memory_of_64_humanoids_stays_below_64_mib_and_does_not_grow() -> None:
    env = VectorBacktrack(world("Humanoid-v5", 64, steps=1000), horizon=64)
    env.reset(seed=0)
    before = env.progress.history.nbytes
    assert before < 64 * 2**20
    buffers = {
        name: array.ctypes.data for name, array in env.progress.history.state_arrays().items()
    }
    for action in play(env, 80, 0, back=0.02):
        env.step(action)
    assert env.progress.history.nbytes == before
    after = {name: array.ctypes.data for name, array in env.progress.history.state_arrays().items()}
    assert after == buffers, "the same memory, written over"


@pytest.mark.parametrize("float32", [False, True])
def test_stable_baselines_sees_what_it_sees_of_gymnasium(float32: bool) -> None:
    """StableVecEnv over a batch against DummyVecEnv over gymnasium.make, without backtracking."""
    import gymnasium

    def make() -> Any:
        return gymnasium.make("Hopper-v5", max_episode_steps=25)

    batch = StableVecEnv(world("Hopper-v5", steps=25), float32=float32)
    singles = VecMonitor(DummyVecEnv([make] * ROWS))
    batch.seed(3)
    singles.seed(3)
    dtype = np.float32 if float32 else np.float64
    np.testing.assert_array_equal(batch.reset(), singles.reset().astype(dtype))
    rng, ends = np.random.default_rng(0), {True: 0, False: 0}
    for _ in range(120):
        actions = rng.uniform(-1, 1, (ROWS, 3)).astype(np.float32)
        observation, reward, done, infos = batch.step(actions)
        expected, plain_reward, plain_done, plain_infos = singles.step(actions)
        np.testing.assert_array_equal(observation, expected.astype(dtype))
        assert observation.dtype == dtype
        np.testing.assert_array_equal(reward, plain_reward)
        np.testing.assert_array_equal(done, plain_done)
        for row in np.flatnonzero(done):
            info, plain = infos[row], plain_infos[row]
            last = plain["terminal_observation"].astype(dtype)
            np.testing.assert_array_equal(info["terminal_observation"], last)
            assert info["TimeLimit.truncated"] == plain["TimeLimit.truncated"]
            assert info["episode"]["r"] == pytest.approx(plain["episode"]["r"], rel=1e-5)
            assert info["episode"]["l"] == plain["episode"]["l"]
            ends[bool(info["TimeLimit.truncated"])] += 1
    assert min(ends.values()) > 0
