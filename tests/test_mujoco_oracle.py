"""The MuJoCo tasks against Gymnasium's own, in lockstep and to the last bit."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium_oracle import Row, compare, play_gymnasium, random_actions

from delegate import envs
from delegate.backtrack import Snapshot
from delegate.envs.mujoco import make
from delegate.envs.mujoco.task import ASSETS

TASKS = ("Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "Reacher-v5", "Walker2d-v5")
MAZES = ("AntMaze_UMaze-v5", "PointMaze_UMaze-v3")
CORRIDOR = [[1, 1, 1, 1], [1, "c", "c", 1], [1, 1, 1, 1]]
SEED = 11

OTHER_SETTINGS: dict[str, list[dict[str, Any]]] = {
    "HalfCheetah-v5": [
        {
            "frame_skip": 2,
            "forward_reward_weight": 0.7,
            "ctrl_cost_weight": 0.3,
            "reset_noise_scale": 0.5,
            "exclude_current_positions_from_observation": False,
        }
    ],
    "Hopper-v5": [
        {
            "frame_skip": 3,
            "forward_reward_weight": 2.5,
            "ctrl_cost_weight": 0.1,
            "healthy_reward": 0.3,
            "healthy_state_range": (-3.0, 4.0),
            "healthy_z_range": (0.9, 1.3),
            "healthy_angle_range": (-0.1, 0.15),
            "reset_noise_scale": 0.02,
            "exclude_current_positions_from_observation": False,
            "max_episode_steps": 7,
        },
        {"terminate_when_unhealthy": False, "max_episode_steps": 90},
    ],
    "Walker2d-v5": [
        {
            "frame_skip": 5,
            "forward_reward_weight": 0.1,
            "ctrl_cost_weight": 0.2,
            "healthy_reward": 3.0,
            "healthy_z_range": (1.0, 1.6),
            "healthy_angle_range": (-0.5, 0.4),
            "reset_noise_scale": 0.05,
            "exclude_current_positions_from_observation": False,
        },
        {"terminate_when_unhealthy": False, "xml_file": "walker2d.xml"},
    ],
    "Ant-v5": [
        {
            "frame_skip": 3,
            "forward_reward_weight": 0.3,
            "ctrl_cost_weight": 0.9,
            "contact_cost_weight": 0.01,
            "healthy_reward": 0.2,
            "main_body": "front_left_leg",
            "healthy_z_range": (0.3, 0.9),
            "contact_force_range": (-0.1, 2.0),
            "reset_noise_scale": 0.2,
            "exclude_current_positions_from_observation": False,
        },
        {"include_cfrc_ext_in_observation": False, "terminate_when_unhealthy": False},
        {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.0},
    ],
    "Humanoid-v5": [
        {
            "frame_skip": 2,
            "forward_reward_weight": 2.0,
            "ctrl_cost_weight": 0.5,
            "contact_cost_weight": 1e-3,
            "contact_cost_range": (0.1, 0.5),
            "healthy_reward": 1.0,
            "healthy_z_range": (1.2, 1.5),
            "reset_noise_scale": 0.1,
            "exclude_current_positions_from_observation": False,
            "include_cinert_in_observation": False,
            "include_qfrc_actuator_in_observation": False,
        },
        {
            "terminate_when_unhealthy": False,
            "include_cvel_in_observation": False,
            "include_cfrc_ext_in_observation": False,
        },
    ],
    "Reacher-v5": [
        {
            "frame_skip": 5,
            "reward_dist_weight": 0.3,
            "reward_control_weight": 2.0,
            "max_episode_steps": 9,
        }
    ],
}


@pytest.fixture(scope="module", params=TASKS)
def played(request: pytest.FixtureRequest) -> tuple[str, np.ndarray, list[Row]]:
    """1,005 steps of five environments of a task: its time limit of 1,000 is met where it can."""
    actions = random_actions(make(request.param, 5), 1_005)
    return request.param, actions, play_gymnasium(request.param, SEED, actions)


@pytest.mark.parametrize(("rows", "threads"), [(1, 1), (3, 2), (5, 1), (5, 3)])
def test_equal_to_gymnasium(
    played: tuple[str, np.ndarray, list[Row]], rows: int, threads: int
) -> None:
    id, actions, oracle = played
    env = envs.make(id, rows, num_threads=threads)
    endings = compare(env, oracle, SEED, actions)
    assert endings >= rows, "no episode ended; play more steps"
    assert env.single_observation_space.contains(env.observe()[0])
    env.close()


@pytest.mark.parametrize(
    ("id", "settings"), [(id, settings) for id, many in OTHER_SETTINGS.items() for settings in many]
)
def test_equal_to_gymnasium_under_other_settings(id: str, settings: dict[str, Any]) -> None:
    env = make(id, 3, num_threads=2, **settings)
    actions = random_actions(env, 120)
    compare(env, play_gymnasium(id, SEED, actions, settings), SEED, actions)
    env.close()


@pytest.mark.parametrize("id", TASKS)
def test_equal_to_gymnasium_in_double_precision(id: str) -> None:
    env = make(id, 2, num_threads=2)
    actions = random_actions(env, 60, np.float64)
    compare(env, play_gymnasium(id, SEED, actions), SEED, actions)
    env.close()


@pytest.mark.parametrize("id", TASKS)
def test_every_setting_of_gymnasium_is_a_setting_here(id: str) -> None:
    env = gymnasium.make(id).unwrapped
    given = set(env._ezpickle_kwargs) | set(type(env).__init__.__annotations__)
    named = given - {"self", "kwargs", "return"}
    assert named
    assert named <= set(make(id, 1).settings.__class__.model_fields)
    assert set(make(id, 1).settings.__class__.model_fields) - named <= {
        "max_episode_steps",
        *("width", "height", "camera_id", "camera_name", "max_geom", "visual_options"),
    }


def test_equal_to_gymnasium_with_a_model_of_ones_own(tmp_path: Path) -> None:
    tree = ET.parse(ASSETS[0] / "hopper.xml")
    geom = next(geom for geom in tree.iter("geom") if geom.get("name") == "foot_geom")
    _, length = geom.attrib["size"].split()
    geom.set("size", f"0.08 {length}")
    tree.write(tmp_path / "own.xml")
    settings = {"xml_file": str(tmp_path / "own.xml")}
    env = make("Hopper-v5", 2, **settings)
    actions = random_actions(env, 80)
    oracle = play_gymnasium("Hopper-v5", SEED, actions, settings)
    compare(env, oracle, SEED, actions)
    assert env.world != make("Hopper-v5", 2).world
    with pytest.raises(AssertionError):  # negative control: the foot matters
        compare(make("Hopper-v5", 2), oracle, SEED, actions)


def test_the_comparison_notices_a_lost_warm_start() -> None:
    """Negative control: what a snapshot of qpos and qvel alone forgets is seen by the oracle."""
    env = make("Ant-v5", 1, num_threads=1)
    actions = random_actions(env, 60)
    oracle = play_gymnasium("Ant-v5", SEED, actions)

    class Forgetful(type(env)):  # type: ignore[misc]
        def step(self, actions: np.ndarray) -> Any:
            saved = self.snapshot()
            kept = self.model.nq + self.model.nv + 1
            physics = np.zeros_like(saved.arrays["physics"])
            physics[:, :kept] = saved.arrays["physics"][:, :kept]
            self.restore(Snapshot(saved.world, {**saved.arrays, "physics": physics}))
            return super().step(actions)

    compare(env, oracle, SEED, actions)
    env.__class__ = Forgetful
    with pytest.raises(AssertionError, match="observation"):
        compare(env, oracle, SEED, actions)


@pytest.mark.parametrize("id", MAZES)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"reward_type": "dense", "reset_target": True, "maze_map": CORRIDOR},
        {"continuing_task": False, "maze_map": CORRIDOR, "max_episode_steps": 60},
    ],
)
def test_mazes_equal_to_gymnasium_robotics(id: str, settings: dict[str, Any]) -> None:
    robotics = pytest.importorskip("gymnasium_robotics", reason="needs the `dev` extra")
    gymnasium.register_envs(robotics)
    steps = 710 if id.startswith("Point") else 150
    env = make(id, 3, num_threads=2, **settings)
    actions = random_actions(env, steps)
    oracle = play_gymnasium(id, SEED, actions, settings)
    endings = compare(env, oracle, SEED, actions)
    if id.startswith("Point"):
        assert endings > 0
        goals = {tuple(step[0]["desired_goal"]) for row in oracle for step in row.steps}
        assert len(goals) > 3, "no goal moved"
    env.close()
