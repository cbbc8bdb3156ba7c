"""MuJoCo rows go back exactly: conformance, its negative control, what rows do not depend on."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium_oracle import random_actions

from delegate import envs
from delegate.backtrack import Snapshot, VectorBacktrack
from delegate.backtrack.conformance import check_fidelity, check_fidelity_detects_omission
from delegate.backtrack.recording import FidelityError
from delegate.envs.mujoco import TASKS, MujocoVectorEnv, make

MATTERS = {
    "Ant-v5": ("main_body_position", "cfrc_ext"),
    "AntMaze_UMaze-v5": ("main_body_position", "cfrc_ext", "goal"),
    "Humanoid-v5": ("mass_center", "cinert", "cvel", "qfrc_actuator", "cfrc_ext"),
    "PointMaze_UMaze-v3": ("goal",),
    "Reacher-v5": ("target_offset",),
}
"""beside the physics, the clock and the random state, which matter everywhere"""


def make_disabled(id: str, rows: int) -> MujocoVectorEnv:
    return make(id, rows, num_threads=2, max_episode_steps=9, autoreset_mode=AutoresetMode.DISABLED)


@pytest.mark.parametrize("id", sorted(TASKS))
def test_fidelity(id: str) -> None:
    report = check_fidelity(lambda rows: make_disabled(id, rows), steps=24, rows=3, save_points=4)
    assert report.endings > 0
    assert report.random_state == ("random",)


@pytest.mark.parametrize("id", sorted(TASKS))
def test_fidelity_detects_omission(id: str) -> None:
    """The negative control: leaving out any array that matters is noticed."""
    matters = ("physics", "clock", "truncated", "random", *MATTERS.get(id, ()))
    check_fidelity_detects_omission(
        lambda rows: make_disabled(id, rows), steps=24, rows=3, matters=matters
    )


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("id", ["Hopper-v5", "Ant-v5"])
def test_fidelity_in_other_modes(id: str, mode: AutoresetMode) -> None:
    report = check_fidelity(
        lambda rows: make(id, rows, num_threads=2, max_episode_steps=9, autoreset_mode=mode),
        steps=24,
        rows=3,
        save_points=4,
    )
    assert report.endings > 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("id", sorted(TASKS))
def test_fidelity_at_length(id: str, mode: AutoresetMode) -> None:
    def world(rows: int) -> MujocoVectorEnv:
        return make(id, rows, num_threads=2, max_episode_steps=90, autoreset_mode=mode)

    assert check_fidelity(world, steps=150, rows=5).endings > 0
    check_fidelity_detects_omission(world, steps=150, rows=5, matters=("physics",))


def test_fidelity_where_goals_move() -> None:
    """A goal that was reached is still shown while the next one is already drawn."""

    def world(rows: int) -> MujocoVectorEnv:
        corridor = [[1, 1, 1, 1], [1, "c", "c", 1], [1, 1, 1, 1]]
        return make(
            "PointMaze_UMaze-v3", rows, maze_map=corridor, reset_target=True, max_episode_steps=60
        )

    check_fidelity(world, steps=90, rows=4)
    report = check_fidelity_detects_omission(
        world, steps=90, rows=4, matters=("goal", "next_goal", "random")
    )
    assert "physics" in report.noticed


def test_positions_and_velocities_alone_are_not_the_state() -> None:
    """Negative control: without the warm start and the rest, the conformance check fails."""

    class Forgetful(MujocoVectorEnv):
        def snapshot(self, rows: np.ndarray | None = None) -> Snapshot:
            saved = super().snapshot(rows)
            saved.arrays["physics"][:, 1 + self.model.nq + self.model.nv :] = 0
            return saved

    def world(rows: int) -> MujocoVectorEnv:
        env = make("Ant-v5", rows, num_threads=1)
        env.__class__ = Forgetful
        return env

    with pytest.raises(FidelityError):
        check_fidelity(world, steps=40, rows=2)


def test_backtrack_around_mujoco() -> None:
    def world(rows: int) -> VectorBacktrack:
        env = make_disabled("Hopper-v5", rows)
        return VectorBacktrack(env, depths=(1, 4), threshold=0.5, cost=0.1)

    assert check_fidelity(world, steps=24, rows=3, save_points=4).endings > 0


def test_a_snapshot_survives_its_file(tmp_path: Path) -> None:
    env = make("Humanoid-v5", 2, num_threads=1)
    actions = random_actions(env, 10)
    env.reset(seed=0)
    for action in actions[:5]:
        env.step(action)
    env.snapshot().save(tmp_path / "saved.npz")
    first = [env.step(action) for action in actions[5:]]
    other = make("Humanoid-v5", 2, num_threads=2)
    other.restore(Snapshot.load(tmp_path / "saved.npz"))
    for action, expected in zip(actions[5:], first, strict=True):
        again = other.step(action)
        for place in range(4):
            np.testing.assert_array_equal(again[place], expected[place], strict=True)


@pytest.mark.parametrize("id", sorted(TASKS))
def test_threads_and_other_rows_do_not_matter(id: str) -> None:
    crowd = make(id, 7, num_threads=1, max_episode_steps=12)
    actions = random_actions(crowd, 30)
    expected = _play(crowd, actions)
    for rows, threads in ((1, 1), (4, 2), (7, 2), (7, 7)):
        alone = make(id, rows, num_threads=threads, max_episode_steps=12)
        for given, known in zip(_play(alone, actions[:, :rows]), expected, strict=True):
            for name, array in known.items():
                np.testing.assert_array_equal(given[name], array[:rows], strict=True)
        alone.close()


def test_rows_saved_and_restored_between_steps_do_not_change_a_play() -> None:
    plain, restored = (make("Ant-v5", 4, num_threads=2) for _ in range(2))
    actions = random_actions(plain, 40)
    plain.reset(seed=2)
    restored.reset(seed=2)
    for action in actions:
        saved = restored.snapshot(np.array([0, 3]))
        restored.step(action[::-1])
        restored.restore(saved, np.array([0, 3]))
        middle = plain.snapshot(np.array([1, 2]))
        restored.restore(middle, np.array([1, 2]))
        expected, given = plain.step(action), restored.step(action)
        np.testing.assert_array_equal(given[0], expected[0])
        np.testing.assert_array_equal(given[1], expected[1])


@pytest.mark.parametrize("id", ["Hopper-v5", "Ant-v5"])
def test_memory_does_not_grow(id: str) -> None:
    """Neither with the length of episodes nor with how often rows are restored."""
    env = make(id, 4, num_threads=2)
    actions = random_actions(env, 50)

    def play() -> None:
        for action in actions:
            saved = env.snapshot()
            env.step(action)
            env.restore(saved)
            env.step(action)

    env.reset(seed=0)
    play()
    tracemalloc.start()
    play()
    gc.collect()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(4):
        play()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 20_000


def test_64_humanoids_64_steps_back_fit_in_64_mebibytes() -> None:
    env = make("Humanoid-v5", 64, num_threads=1)
    env.reset(seed=0)
    assert env.snapshot().nbytes * 64 < 64 * 2**20


def test_every_mujoco_id_is_a_task() -> None:
    assert envs.mujoco_ids() == sorted(TASKS)


def _play(env: MujocoVectorEnv, actions: np.ndarray) -> list[dict[str, np.ndarray]]:
    env.reset(seed=5)
    moments = []
    for action in actions:
        _, reward, terminated, truncated, info = env.step(action)
        moments.append(
            {
                "reward": reward,
                "terminated": terminated,
                "truncated": truncated,
                **info,
                **env.snapshot().arrays,
            }
        )
    return moments
