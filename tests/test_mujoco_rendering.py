"""Pictures of rows: of live ones, and of any that was saved."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from gymnasium_oracle import random_actions

from delegate.backtrack import Snapshot, SnapshotMismatch
from delegate.envs.mujoco import TASKS, MujocoVectorEnv, RenderingUnavailable, make

SMALL = {"render_mode": "rgb_array", "width": 96, "height": 72, "num_threads": 1}


@cache
def lacking() -> str | None:
    """Why nothing can be drawn here; None where it can."""
    env = make("Reacher-v5", 1, **SMALL)
    env.reset(seed=0)
    try:
        env.render(0)
    except RenderingUnavailable as error:
        return str(error)
    finally:
        env.close()
    return None


@pytest.fixture(autouse=True)
def _needs_opengl(request: pytest.FixtureRequest) -> None:
    if "without_opengl" not in request.node.name and (reason := lacking()):
        pytest.skip(f"{reason}")


def playing(id: str, rows: int = 3, **settings: Any) -> tuple[MujocoVectorEnv, np.ndarray]:
    env = make(id, rows, **{**SMALL, **settings})
    env.reset(seed=1)
    return env, random_actions(env, 30)


@pytest.mark.parametrize("id", sorted(TASKS))
def test_a_saved_row_looks_as_it_did(id: str) -> None:
    env, actions = playing(id)
    for action in actions[:10]:
        env.step(action)
    saved, shown = env.snapshot(), env.render()
    assert isinstance(shown, tuple)
    assert all(picture.shape == (72, 96, 3) and picture.dtype == np.uint8 for picture in shown)
    assert all(picture.std() > 1 for picture in shown), "nothing was drawn"
    for action in actions[10:]:
        env.step(action)
    arrays = {name: array.copy() for name, array in env.state_arrays().items()}
    for row in range(3):
        np.testing.assert_array_equal(env.render_snapshot(saved, row), shown[row])
    for name, array in env.state_arrays().items():
        np.testing.assert_array_equal(array, arrays[name], err_msg="drawing changed the state")
    assert (env.render(0) != shown[0]).any(), "the picture does not show the state"
    assert (shown[0] != shown[1]).any()
    env.close()


def test_a_video_of_a_branch_that_was_taken_back(tmp_path: Path) -> None:
    """A replay needs no play: snapshots in a file are enough, in an environment newly made."""
    env, actions = playing("Hopper-v5", 1)
    start = env.snapshot()
    branch = []
    for action in actions[:5]:
        env.step(action)
        branch.append(env.snapshot())
    seen = [env.render_snapshot(moment, 0) for moment in branch]
    env.restore(start)
    for time, moment in enumerate(branch):
        moment.save(tmp_path / f"{time}.npz")
    other = make("Hopper-v5", 1, **SMALL)
    for time in range(5):
        loaded = Snapshot.load(tmp_path / f"{time}.npz")
        np.testing.assert_array_equal(other.render_snapshot(loaded, 0), seen[time])
    assert len({picture.tobytes() for picture in seen}) == 5
    env.close()
    other.close()


def test_the_goal_of_a_row_is_drawn_where_it_is() -> None:
    env, _ = playing("PointMaze_UMaze-v3", 2)
    cells = {"goal_cell": [(1, 1), (3, 3)], "reset_cell": (3, 1)}
    env.reset(seed=1, options=cells)
    one, other = env.render()
    red = [np.argwhere((p[..., 0] > 150) & (p[..., 1] < 60)).mean(axis=0) for p in (one, other)]
    assert red[0][0] < red[1][0], "the first goal lies further up"
    assert red[0][1] < red[1][1], "and further left"
    env.close()


def test_settings_of_the_camera_matter() -> None:
    env, _ = playing("Ant-v5", 1)
    saved, usual = env.snapshot(), env.render(0)
    env.close()
    for settings in (
        {"default_camera_config": {"distance": 9.0, "elevation": -80.0, "lookat": [0, 0, 0]}},
        {"camera_name": "track"},
        {"camera_id": 0},
        {"visual_options": {int(mujoco.mjtVisFlag.mjVIS_TRANSPARENT): True}},
    ):
        other = make("Ant-v5", 1, **{**SMALL, **settings})
        assert other.world == env.world, "a camera is no part of the world"
        assert (other.render_snapshot(saved, 0) != usual).any()
        other.close()
    both = make("Ant-v5", 1, camera_name="track", camera_id=0, **SMALL)
    with pytest.raises(ValueError, match="both given"):
        both.render_snapshot(saved, 0)


def test_the_camera_follows_a_walker() -> None:
    env, _ = playing("Walker2d-v5", 1)
    saved = env.snapshot()
    near = env.render_snapshot(saved, 0)
    saved.arrays["physics"][0, 1] += 8.0
    far = env.render_snapshot(saved, 0)
    figure = [np.abs(p.astype(int) - p[:, :1].astype(int)).sum() for p in (near, far)]
    assert figure[1] > 0.5 * figure[0], "the walker has left the picture"
    env.close()


def test_larger_than_the_model_allows() -> None:
    env, _ = playing("Reacher-v5", 1, width=1_000, height=700)
    assert env.render(0).shape == (700, 1_000, 3)
    env.close()


def test_what_cannot_be_drawn_is_refused() -> None:
    env, _ = playing("Hopper-v5", 2)
    saved = env.snapshot()
    with pytest.raises(IndexError, match="row 2"):
        env.render_snapshot(saved, 2)
    with pytest.raises(IndexError, match="row 5"):
        env.render(5)
    with pytest.raises(SnapshotMismatch):
        make("Walker2d-v5", 2, **SMALL).render_snapshot(saved, 0)
    assert make("Hopper-v5", 2).render() is None
    env.close()


def test_without_opengl_the_error_names_the_remedy() -> None:
    code = """
import sys
from delegate.envs.mujoco import RenderingUnavailable, make
sys.modules["mujoco.egl"] = sys.modules["mujoco.osmesa"] = None
env = make("Hopper-v5", 1, render_mode="rgb_array")
env.reset(seed=0)
try:
    env.render(0)
except RenderingUnavailable as error:
    assert "libegl1" in str(error) and "libosmesa6" in str(error), error
else:
    raise SystemExit("a picture was drawn without OpenGL")
"""
    clean = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=clean)
