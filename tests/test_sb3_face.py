"""StableVecEnv against Stable-Baselines3's own DummyVecEnv, row by row, and what learns from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain_world import ChainWorld
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from delegate import Backtrack, StableVecEnv, VectorBacktrack
from delegate.backtrack import SnapshotMismatch

pytestmark = pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning")

ROWS = 4
SETTINGS: dict[str, Any] = {"depths": (1, 3), "cost": 0.25, "budget": 4}


def face(rows: int = ROWS, world: dict[str, Any] | None = None, **settings: Any) -> StableVecEnv:
    """A StableVecEnv over backtracking chains."""
    env = VectorBacktrack(ChainWorld(rows, **(world or {})), **SETTINGS)
    return StableVecEnv(env, **settings)


def one_by_one(world: dict[str, Any]) -> VecMonitor:
    """The same rows as Stable-Baselines3 would do it: a list of single environments."""

    def single(row: int) -> Backtrack:
        chain = ChainWorld(1, **world)
        chain.state["key"][0] = row, 0
        chain.ready = True
        return Backtrack(chain, **SETTINGS)

    return VecMonitor(DummyVecEnv([lambda row=row: single(row) for row in range(ROWS)]))


@pytest.mark.parametrize("observation", ["integer", "vector", "picture"])
@pytest.mark.parametrize("actions", ["discrete", "box"])
def test_equals_a_list_of_single_environments(observation: Any, actions: Any) -> None:
    world = {"observation": observation, "actions": actions, "max_steps": 12, "size": 6}
    batch, singles = face(world=world), one_by_one(world)
    assert batch.observation_space == singles.observation_space
    assert batch.action_space == singles.action_space
    batch.seed(0)
    same(batch.reset(), singles.reset())
    rng, ends, timeouts, undone = np.random.default_rng(0), 0, 0, 0
    space = batch.action_space
    for step in range(150):
        if isinstance(space, spaces.Box):
            action = rng.uniform(-1, 1, (ROWS, 3)).astype(np.float32)
        else:
            action = rng.integers(0, 5, ROWS)
        given, reward, done, infos = batch.step(action)
        expected, plain_reward, plain_done, plain_infos = singles.step(action)
        same(given, expected)
        assert reward.dtype == plain_reward.dtype
        np.testing.assert_array_equal(reward, plain_reward)
        np.testing.assert_array_equal(done, plain_done)
        for row in np.flatnonzero(done):
            info, plain = infos[row], plain_infos[row]
            same(info["terminal_observation"], plain["terminal_observation"])
            assert info["TimeLimit.truncated"] == plain["TimeLimit.truncated"]
            assert info["episode"]["r"] == plain["episode"]["r"], step
            assert info["episode"]["l"] == plain["episode"]["l"]
            assert info["clock"] == plain["clock"]
            assert info["episode"]["path_length"] == plain["path_clock"]
            same(batch.reset_infos[row]["start"], singles.venv.reset_infos[row]["start"])
            ends += 1
            timeouts += info["TimeLimit.truncated"]
            undone += info["episode"]["undone"]
    assert ends > 20
    assert 0 < timeouts < ends
    assert undone > 5


def same(first: Any, second: Any) -> None:
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for name in first:
            same(first[name], second[name])
    else:
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
@pytest.mark.parametrize("refund", [{}, {"refund": "discounted", "gamma": 0.5}])
def test_the_return_of_the_path(mode: AutoresetMode, refund: dict[str, Any]) -> None:
    chain = ChainWorld(ROWS, size=6, max_steps=15)
    env = VectorBacktrack(chain, depths=(1, 2), cost=0.25, autoreset_mode=mode, **refund)
    stable = StableVecEnv(env, path_return=True)
    stable.seed(3)
    stable.reset()
    paths: list[list[float]] = [[] for _ in range(ROWS)]
    ticks, rng, seen = np.zeros(ROWS, int), np.random.default_rng(1), 0
    for _ in range(200):
        _, reward, done, infos = stable.step(rng.choice(5, ROWS, p=[0.1, 0.4, 0.1, 0.2, 0.2]))
        info = stable.batch_info
        ticks += 1
        for row in range(ROWS):
            if info["backtracked"][row]:
                del paths[row][-info["undone_steps"][row] :]
            elif info["path_clock"][row] > len(paths[row]):
                paths[row].append(float(reward[row]))
            if done[row]:
                episode = infos[row]["episode"]
                assert episode["r"] == episode["path_return"] == sum(paths[row])
                assert episode["l"] == ticks[row]
                assert episode["path_length"] == len(paths[row])
                seen += episode["backtracks"]
                paths[row], ticks[row] = [], 0
    assert seen > 20


def test_a_world_without_backtracking_is_taken_too() -> None:
    stable = StableVecEnv(ChainWorld(2, max_steps=5, noise=False))
    stable.seed(0)
    stable.reset()
    for _ in range(5):
        _, _, done, infos = stable.step(np.array([2, 2]))
    assert done.all()
    assert infos[0]["TimeLimit.truncated"]
    assert set(infos[0]["episode"]) == {"r", "l", "t"}
    assert infos[1]["episode"]["r"] == -5 / 8


def test_info_keys_are_told_at_every_step() -> None:
    stable = face(world={"noise": False, "size": 9}, info_keys=("backtracked", "moved", "absent"))
    stable.seed(0)
    stable.reset()
    stable.step(np.array([2, 2, 2, 2]))
    *_, infos = stable.step(np.array([2, 3, 2, 2]))
    assert infos[0] == {"backtracked": False, "moved": 0}
    assert infos[1] == {"backtracked": True}, "the world did not step in this row"
    infos[2]["mine"] = 1
    assert "mine" not in infos[3], "rows do not share their infos"


def test_observations_handed_out_do_not_change_later() -> None:
    stable = face(world={"observation": "picture"})
    stable.seed(0)
    first = stable.reset()
    kept = {name: value.copy() for name, value in first.items()}
    for _ in range(10):
        stable.step(np.array([1, 2, 3, 1]))
    same(first, kept)


class Wide(ChainWorld):
    """Observations of 64 bits, as MuJoCo's."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs, observation="vector")
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def observe(self, rows: Any = None) -> Any:
        return super().observe(rows).astype(np.float64) + 1e-9


def test_64_bit_observations_are_given_in_32_or_left() -> None:
    narrow, wide = StableVecEnv(Wide(2)), StableVecEnv(Wide(2), float32=False)
    assert narrow.observation_space == spaces.Box(-np.inf, np.inf, (2,), np.float32)
    assert wide.observation_space == spaces.Box(-np.inf, np.inf, (2,), np.float64)
    narrow.seed(0)
    wide.seed(0)
    assert narrow.reset().dtype == np.float32
    np.testing.assert_array_equal(narrow.observe(), wide.reset().astype(np.float32))
    assert wide.observe().dtype == np.float64


@pytest.mark.parametrize("algorithm", [A2C, PPO, DQN, MaskablePPO])
def test_discrete_learners(algorithm: Any) -> None:
    stable = face(world={"observation": "vector"})
    settings: dict[str, Any] = {} if algorithm is DQN else {"n_steps": 16}
    if algorithm is DQN:
        settings = {"learning_starts": 32, "train_freq": 4, "buffer_size": 500}
    model = algorithm("MlpPolicy", stable, seed=0, device="cpu", **settings)
    model.learn(256)
    assert model.num_timesteps >= 256
    assert len(model.ep_info_buffer) > 3, "episodes are told of without a Monitor"
    paid = stable.env.ledger.interactions.sum()
    assert paid == model.num_timesteps, "every interaction is charged"


@pytest.mark.parametrize("algorithm", [A2C, PPO, SAC])
def test_continuous_learners(algorithm: Any) -> None:
    stable = face(world={"observation": "vector", "actions": "box"})
    settings: dict[str, Any] = {"learning_starts": 32} if algorithm is SAC else {"n_steps": 16}
    model = algorithm("MlpPolicy", stable, seed=0, device="cpu", **settings)
    model.learn(160)
    assert stable.env.ledger.restores.sum() > 0
    assert not is_masking_supported(stable)


def test_learners_of_dicts_and_normalised_observations() -> None:
    dicts = face(world={"observation": "picture"})
    PPO("MultiInputPolicy", dicts, n_steps=16, seed=0, device="cpu").learn(64)
    vectors = VecNormalize(face(world={"observation": "vector"}))
    PPO("MlpPolicy", vectors, n_steps=16, seed=0, device="cpu").learn(64)


def test_learning_twice_gives_the_same_network() -> None:
    weights = []
    for _ in range(2):
        model = PPO("MlpPolicy", face(), n_steps=16, seed=5, device="cpu")
        weights.append(model.learn(128).policy.state_dict()["action_net.weight"].numpy())
    np.testing.assert_array_equal(*weights)


def test_masked_learners_are_never_refused() -> None:
    stable = face()
    assert is_masking_supported(stable)
    stable.seed(0)
    stable.reset()
    np.testing.assert_array_equal(get_action_masks(stable), stable.env.action_masks())
    np.testing.assert_array_equal(stable.env_method("action_masks", indices=[2])[0][:3], True)
    refused = 0

    def count(values: dict[str, Any], _: Any) -> bool:
        nonlocal refused
        refused += stable.batch_info["backtrack_refused"].sum()
        return True

    MaskablePPO("MlpPolicy", stable, n_steps=16, seed=0, device="cpu").learn(256, callback=count)
    assert stable.env.ledger.restores.sum() > 5
    assert refused == 0


@pytest.mark.filterwarnings("error:Evaluation environment is not wrapped")
def test_policies_are_evaluated_without_a_monitor() -> None:
    model = PPO("MlpPolicy", face(), n_steps=16, seed=0, device="cpu")
    emitted, lengths = evaluate_policy(
        model, face(), 12, deterministic=False, return_episode_rewards=True
    )
    assert len(emitted) == len(lengths) == 12
    assert face().env_is_wrapped(Monitor) == [True] * ROWS


def test_a_saved_moment_comes_back_with_its_statistics() -> None:
    stable = face(world={"size": 8})
    stable.seed(0)
    stable.reset()
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 5, (90, ROWS))
    for action in actions[:7]:
        stable.step(action)
    saved, shown = stable.snapshot(), stable.observe()
    first = [stable.step(action) for action in actions[7:]]
    stable.restore(saved)
    same(stable.observe(), shown)
    second = [stable.step(action) for action in actions[7:]]
    episodes = 0
    for one, other in zip(first, second, strict=True):
        for given, again in zip(one[:3], other[:3], strict=True):
            np.testing.assert_array_equal(given, again)
        for info, again in zip(one[3], other[3], strict=True):
            assert ("episode" in info) == ("episode" in again)
            if "episode" in info:
                assert info["episode"] | {"t": 0} == again["episode"] | {"t": 0}
                episodes += 1
    assert episodes > 5
    with pytest.raises(SnapshotMismatch, match=r"differ in stable_baselines/"):
        stable.restore(stable.env.snapshot())


def test_without_stable_baselines_the_remedy_is_named(tmp_path: Path) -> None:
    (tmp_path / "stable_baselines3.py").write_text("raise ImportError('absent')")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(Path(__file__).parents[1])!r}]\n"
        "from delegate import *\nimport delegate\n"
        "try:\n    delegate.StableVecEnv\nexcept ImportError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'delegate[sb3]'" in done.stdout


def test_batches_of_another_autoreset_mode_do_not_share_snapshots() -> None:
    one = VectorBacktrack(ChainWorld(ROWS), **SETTINGS)
    other = VectorBacktrack(ChainWorld(ROWS), autoreset_mode=AutoresetMode.SAME_STEP, **SETTINGS)
    one.reset(seed=0)
    with pytest.raises(SnapshotMismatch, match="autoreset"):
        other.restore(one.snapshot())
