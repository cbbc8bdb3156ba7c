"""RecallTraces that goes on: from a file, with a loaded algorithm, in a second training."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import safetensors.torch
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from small_recall import (
    CONTINUOUS,
    DISCRETE,
    FEW,
    LEARNING,
    SMALL_RECALL,
    STEPS,
    logged,
    made,
    same,
    weights,
)
from stable_baselines3 import PPO

from delegate import RecallTraces, StableVecEnv, envs
from delegate.recall import BacktrackingModel, LearnedBacktrackingModel, Traces
from delegate.recall.stable_baselines.losses import learner_of

ADAM = FEW | {"imitation_updates": 3}


def trained(name: str, folder: Path, **settings: Any) -> tuple[Any, RecallTraces]:
    """An algorithm and what it recalled, both saved."""
    model, recall = made(name, CONTINUOUS), RecallTraces(**(ADAM | settings))
    model.learn(STEPS, callback=recall)
    model.save(folder / "model.zip")
    recall.save(folder / "recall.safetensors")
    return model, recall


def loaded(name: str, folder: Path, **settings: Any) -> tuple[Any, RecallTraces]:
    """Both from their files, as far as the beginning of a training."""
    first = made(name, CONTINUOUS)
    model = type(first).load(folder / "model.zip", env=first.get_env(), device="cpu")
    logged(model)
    recall = RecallTraces(**(ADAM | settings)).load(folder / "recall.safetensors")
    recall.init_callback(model)
    return model, recall


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_saved_beside_the_algorithm_it_recalls_the_same(name: str, tmp_path: Path) -> None:
    model, recall = trained(name, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.zip", "recall.safetensors"]
    later, again = loaded(name, tmp_path)
    assert recall.buffer is not None
    assert again.buffer is not None
    for key, array in recall.buffer.state_dict().items():
        np.testing.assert_array_equal(again.buffer.state_dict()[key], array)
    assert again._due == recall._due > 0
    assert again._observed == recall._observed > 0
    before = weights(later)
    assert same(before, weights(model))
    for _ in range(2):
        for one in (recall, again):
            one.recall()
    assert same(weights(later), weights(model))
    assert not same(weights(later), before)
    later.learn(STEPS, callback=again, reset_num_timesteps=False)
    assert again.buffer.steps > recall.buffer.steps


@pytest.mark.parametrize("part", ["buffer", "adam", "counts", "model"])
def test_whatever_was_not_kept_would_be_missed(part: str, tmp_path: Path) -> None:
    """Each part of the file in turn is that of another training."""
    ends = []
    for seed in (None, 1):
        model, recall = trained("PPO", tmp_path)
        if seed is not None:
            other = RecallTraces(**ADAM, seed=seed)
            made("PPO", CONTINUOUS, seed=3).learn(2 * STEPS, callback=other)
            ours, theirs = recall.state_dict(), other.state_dict()
            kept = {name: value for name, value in ours.items() if name.split(".")[0] != part}
            kept |= {name: value for name, value in theirs.items() if name.split(".")[0] == part}
            assert kept.keys() == ours.keys()
            safetensors.torch.save_file(kept, tmp_path / "recall.safetensors")
        model, recall = loaded("PPO", tmp_path)
        recall.recall()
        ends.append(weights(model))
    assert not same(*ends)


def hopper() -> StableVecEnv:
    return StableVecEnv(envs.make("Hopper-v5", 2, autoreset_mode=AutoresetMode.DISABLED))


def test_a_resumed_training_is_the_one_that_was_never_stopped(tmp_path: Path) -> None:
    face = hopper()
    small: dict[str, Any] = {"n_steps": 64, "batch_size": 64, "n_epochs": 2}
    model: Any = PPO("MlpPolicy", face, seed=0, device="cpu", **small)
    recall = RecallTraces(**ADAM)
    model.learn(512, callback=recall)
    model.save(tmp_path / "model.zip")
    recall.save(tmp_path / "recall.safetensors")
    assert recall.buffer is not None
    assert not recall.buffer.state_dict()["done"][-2:].all()
    moment, noise, order = face.snapshot(), torch.get_rng_state(), np.random.get_state()
    model.learn(512, callback=recall, reset_num_timesteps=False)
    ends = {}
    for kept in (True, False):
        again = hopper()
        again.reset()
        resumed = PPO.load(tmp_path / "model.zip", env=again, device="cpu", force_reset=False)
        other = RecallTraces(**ADAM)
        if kept:
            other.load(tmp_path / "recall.safetensors")
        again.restore(moment)
        torch.set_rng_state(noise)
        np.random.set_state(order)
        resumed.learn(512, callback=other, reset_num_timesteps=False)
        ends[kept] = weights(resumed), other.state_dict()
    assert same(ends[True][0], weights(model))
    assert not same(ends[False][0], weights(model)), "the control: recall begins anew"
    mine = recall.state_dict()
    assert mine.keys() == ends[True][1].keys()
    for name, value in mine.items():
        assert torch.equal(value, ends[True][1][name]), name


def test_what_was_loaded_stays_as_it_was(tmp_path: Path) -> None:
    """So that two callbacks can go on from it."""
    _, recall = trained("PPO", tmp_path)
    saved = recall.state_dict()
    before = {name: value.clone() for name, value in saved.items()}
    model, again = made("PPO", CONTINUOUS), RecallTraces(**ADAM)
    again.load_state_dict(saved)
    model.learn(STEPS, callback=again)
    recall.recall()
    assert all(torch.equal(saved[name], before[name]) for name in before)
    later = again.state_dict()
    assert not torch.equal(later["adam.1.exp_avg"], before["adam.1.exp_avg"])


def test_settings_of_today_hold_for_what_was_saved(tmp_path: Path) -> None:
    trained("PPO", tmp_path)
    _, slower = loaded("PPO", tmp_path, learning_rate=1e-6)
    optimiser = slower._optimiser
    assert [group["lr"] for group in optimiser.param_groups] == [1e-6]
    assert optimiser.state, "its moments are those of before"


def test_what_was_damaged_or_is_of_another_version_changes_nothing(tmp_path: Path) -> None:
    _, recall = trained("PPO", tmp_path)
    whole = recall.state_dict()
    learned = sorted(name for name in whole if name.startswith("model."))
    model, recall = made("PPO", CONTINUOUS), RecallTraces(**ADAM)
    recall.init_callback(model)
    before = sampled(recall)
    for name, damaged, message in (
        ("counts", torch.zeros(3), "not what RecallTraces.save writes"),
        ("state", None, "not what RecallTraces.save writes"),
        (learned[0], torch.zeros(7), rf"the saved model does not fit: {learned[0][6:]} has shape"),
        (learned[1], None, "the saved model does not fit"),
        (learned, None, "and the saved one did not learn"),
        ("adam.1.exp_avg", torch.zeros(2, 2), r"exp_avg of parameter 1 has shape \(2, 2\)"),
        ("buffer.reward", None, "remembered differs in reward"),
        ("buffer.reward", whole["buffer.reward"].float(), "reward is float32"),
    ):
        out = name if isinstance(name, list) else [name]
        parts = {key: value for key, value in whole.items() if key not in out}
        parts |= {} if damaged is None else {name: damaged}
        safetensors.torch.save_file(parts, tmp_path / "recall.safetensors")
        with pytest.raises(ValueError, match=message):
            recall.load(tmp_path / "recall.safetensors").init_callback(model)
        assert np.array_equal(sampled(recall), before), "the model was touched"
        assert recall.buffer is not None
        assert recall.buffer.steps == 0
    for content in (b"", (8).to_bytes(8, "little") + b"{}      ", b"no such thing"):
        (tmp_path / "recall.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=r"recall.safetensors: not what RecallTraces.save"):
            recall.load(tmp_path / "recall.safetensors")
    with pytest.raises(FileNotFoundError):
        recall.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        recall.load(tmp_path)


def sampled(recall: RecallTraces) -> np.ndarray:
    """What its model recalls from one state."""
    assert recall.backtracking_model is not None
    states: np.ndarray = recall.backtracking_model.sample_traces(
        np.ones((1, 3), np.float32), 4, 8, rng=0
    ).states
    return states


def test_a_disk_that_is_full_leaves_the_file_of_before(tmp_path: Path, monkeypatch: Any) -> None:
    _, recall = trained("PPO", tmp_path)
    before = (tmp_path / "recall.safetensors").read_bytes()
    recall.recall()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left .*recall.safetensors"):
        recall.save(tmp_path / "recall.safetensors")
    assert (tmp_path / "recall.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.zip", "recall.safetensors"]


def test_the_same_callback_goes_on_with_a_loaded_algorithm(tmp_path: Path) -> None:
    model, recall = trained("PPO", tmp_path)
    later, _ = loaded("PPO", tmp_path)
    recall.init_callback(later)
    before = weights(model)
    recall.recall()
    assert same(before, weights(model)), "the old one was moved"
    assert not same(before, weights(later))


def test_a_second_training_does_not_lengthen_an_episode_of_the_first() -> None:
    model, recall = made("PPO", CONTINUOUS), RecallTraces(**FEW)
    model.learn(192, callback=recall)  # 96 steps a row: two episodes of 40, and 16 more
    model.learn(192, callback=recall)
    assert recall.buffer is not None
    trajectory = recall.buffer.state_dict()["trajectory"]
    lengths = np.unique(trajectory, return_counts=True)[1]
    assert sorted(lengths.tolist()) == [16] * 4 + [40] * 8


class Ring(gymnasium.Env[Any, Any]):
    """Episodes of 20 steps round a ring of 4, from the same place."""

    observation_space, action_space = spaces.Discrete(4), spaces.Discrete(2)

    def reset(self, **_: Any) -> tuple[int, dict[str, Any]]:
        self._step = 0
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self._step += 1
        return self._step % 4, 1.0, False, self._step == 20, {}


@pytest.mark.parametrize("anew", ["all", "the environments", ""])
def test_episodes_that_begin_where_others_stopped_are_told_apart(anew: str) -> None:
    model = PPO("MlpPolicy", Ring(), n_steps=8, batch_size=8, device="cpu", seed=0)
    recall = RecallTraces(**(FEW | {"start": 10_000}))
    model.learn(24, callback=recall)  # 4 steps into the second episode, so in state 0 again
    if anew == "the environments":
        model.set_env(model.get_env())  # reset by the next training, which goes on counting
    model.learn(48, callback=recall, reset_num_timesteps=anew == "all")
    assert recall.buffer is not None
    trajectory = recall.buffer.state_dict()["trajectory"]
    lengths = np.unique(trajectory, return_counts=True)[1].tolist()
    assert lengths == ([20, 4, 20, 20, 8] if anew else [20, 20, 20, 12])
    assert recall.buffer.best_return == 20


@pytest.mark.parametrize(
    ("rows", "task", "message"),
    [
        (
            1,
            CONTINUOUS,
            r"open_trajectory is int64 \(2,\) in what .* \(1,\) here",
        ),
        (2, DISCRETE, r"state is float32 \(640, 3\) in what was remembered, and .* 4\) here"),
    ],
)
def test_another_source_of_steps_is_refused(rows: int, task: str, message: str) -> None:
    model, recall = made("PPO", CONTINUOUS), RecallTraces(**FEW)
    model.learn(STEPS, callback=recall)
    assert recall.buffer is not None
    before = recall.buffer.state_dict()
    kept = {name: array.copy() for name, array in before.items()}
    other = made("PPO", task)
    other.n_envs = rows
    recall.backtracking_model = None  # so that the buffer alone objects
    with pytest.raises(ValueError, match=message):
        recall.init_callback(other)
    for name, array in recall.buffer.state_dict().items():
        np.testing.assert_array_equal(array, kept[name])


def test_what_was_saved_with_another_model_is_refused(tmp_path: Path) -> None:
    _, kept = trained("PPO", tmp_path)
    model = made("PPO", CONTINUOUS)
    other = RecallTraces(**SMALL_RECALL, model=Still()).load(tmp_path / "recall.safetensors")
    with pytest.raises(ValueError, match=r"model is Still, and the saved one learned; resume"):
        other.init_callback(model)
    bare = RecallTraces(**FEW, model="random").load(tmp_path / "recall.safetensors")
    with pytest.raises(ValueError, match="the saved model does not fit: "):
        bare.init_callback(model)
    of = model.observation_space, learner_of(model).action_space
    learned = LearnedBacktrackingModel(*of, **FEW["model_settings"])
    small = RecallTraces(**LEARNING, model=learned, buffer_size=64)
    before = sampled(small)
    small.load(tmp_path / "recall.safetensors")
    with pytest.raises(ValueError, match="the buffer_size of then"):
        small.init_callback(model)
    assert np.array_equal(sampled(small), before), "it was unpacked"
    assert not np.array_equal(sampled(kept), before)


class Still(BacktrackingModel):
    """Says that nothing moved."""

    def log_prob(self, state: Any, action: Any, next_state: Any) -> np.ndarray:
        return np.zeros(len(state))

    def sample_traces(self, end_state: Any, length: int, count: int, *, rng: Any = None) -> Traces:
        states = np.repeat(end_state, count, axis=0)
        actions = np.zeros((len(states), length, 1), np.float32)
        valid = np.ones(actions.shape[:2], bool)
        return Traces(np.repeat(states[:, None], length + 1, axis=1), actions, valid * 0.0, valid)


def test_a_model_of_ones_own_goes_on_too(tmp_path: Path) -> None:
    model, recall = made("PPO", CONTINUOUS), RecallTraces(**SMALL_RECALL, model=Still())
    told = logged(model)
    model.learn(STEPS, callback=recall)
    assert told["recall/steps"] == 8 * 4
    recall.save(tmp_path / "recall.safetensors")
    again = RecallTraces(**SMALL_RECALL, model=Still()).load(tmp_path / "recall.safetensors")
    again.init_callback(made("PPO", CONTINUOUS))
    assert again.state_dict().keys() == recall.state_dict().keys()
