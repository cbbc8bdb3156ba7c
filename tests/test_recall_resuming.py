"""RecallTraces that goes on: from a file, with a loaded algorithm, in a second training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
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

from delegate import RecallTraces
from delegate.recall import LearnedBacktrackingModel
from delegate.recall.algorithms import learner_of

ADAM = FEW | {"imitation_updates": 3}


def trained(name: str, folder: Path, **settings: Any) -> tuple[Any, RecallTraces]:
    """An algorithm and what it recalled, both saved."""
    model, recall = made(name, CONTINUOUS), RecallTraces(**(ADAM | settings))
    model.learn(STEPS, callback=recall)
    model.save(folder / "model.zip")
    recall.save(folder / "recall.pt")
    return model, recall


def loaded(name: str, folder: Path, **settings: Any) -> tuple[Any, RecallTraces]:
    """Both from their files, as far as the beginning of a training."""
    first = made(name, CONTINUOUS)
    model = type(first).load(folder / "model.zip", env=first.get_env(), device="cpu")
    logged(model)
    recall = RecallTraces(**(ADAM | settings)).load(folder / "recall.pt")
    recall.init_callback(model)
    return model, recall


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_saved_beside_the_algorithm_it_recalls_the_same(name: str, tmp_path: Path) -> None:
    model, recall = trained(name, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.zip", "recall.pt"]
    later, again = loaded(name, tmp_path)
    assert recall.buffer is not None
    assert again.buffer is not None
    for key, array in recall.buffer.state_arrays().items():
        np.testing.assert_array_equal(again.buffer.state_arrays()[key], array)
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


@pytest.mark.parametrize("part", ["buffer", "imitation", "rng", "model", "observed"])
def test_whatever_was_not_kept_would_be_missed(part: str, tmp_path: Path) -> None:
    """Each part of the file in turn is that of another training."""
    ends = []
    for seed in (None, 1):
        model, recall = trained("PPO", tmp_path)
        if seed is not None:
            other = RecallTraces(**ADAM, seed=seed)
            made("PPO", CONTINUOUS, seed=3).learn(2 * STEPS, callback=other)
            other.save(tmp_path / "other.pt")
            parts = [
                torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("recall", "other")
            ]
            torch.save(parts[0] | {part: parts[1][part]}, tmp_path / "recall.pt")
        model, recall = loaded("PPO", tmp_path)
        if part == "observed":
            ends.append({"observed": np.array(recall._observed)})
            continue
        recall.recall()
        ends.append(weights(model))
    assert not same(*ends)


def test_settings_of_today_hold_for_what_was_saved(tmp_path: Path) -> None:
    trained("PPO", tmp_path)
    _, slower = loaded("PPO", tmp_path, learning_rate=1e-6)
    optimiser = slower._imitation._optimiser
    assert [group["lr"] for group in optimiser.param_groups] == [1e-6]
    assert optimiser.state, "its moments are those of before"


def test_what_was_damaged_or_is_of_another_version_changes_nothing(tmp_path: Path) -> None:
    trained("PPO", tmp_path, diagnostics=True)
    whole = torch.load(tmp_path / "recall.pt", weights_only=True)
    imitation = whole["imitation"]
    damages: list[tuple[str, Any, str]] = [
        ("imitation", {"adam": imitation["adam"]}, "imitation is of another version"),
        ("imitation", imitation | {"adaptive": {"earned": 0.1}}, "recall has earned is damaged"),
        ("rng", {}, "no state of a random stream"),
        ("model", whole["model"][:100], "the saved model is not a model"),
        ("diagnostics", {"forward": whole["model"]}, "diagnostics are of another version"),
        ("buffer", {}, "saved buffer differs in"),
    ]
    for part, damaged, message in damages:
        torch.save(whole | {part: damaged}, tmp_path / "recall.pt")
        model, recall = made("PPO", CONTINUOUS), RecallTraces(**ADAM, diagnostics=True)
        recall.init_callback(model)
        learned = recall.backtracking_model
        assert isinstance(learned, LearnedBacktrackingModel)
        before = {name: tensor.clone() for name, tensor in learned._tensors().items()}
        with pytest.raises(ValueError, match=message):
            recall.load(tmp_path / "recall.pt").init_callback(model)
        for name, tensor in learned._tensors().items():
            assert torch.equal(tensor, before[name])
        assert recall.buffer is not None
        assert recall.buffer.steps == 0


def test_what_was_saved_on_another_device_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    trained("PPO", tmp_path)
    asked = []
    read = torch.load

    def watched(*given: Any, **how: Any) -> Any:
        asked.append(how.get("map_location"))
        return read(*given, **how)

    monkeypatch.setattr(torch, "load", watched)
    RecallTraces(**ADAM).load(tmp_path / "recall.pt")
    assert asked == ["cpu"]


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
    trajectory = recall.buffer.state_arrays()["trajectory"]
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


@pytest.mark.parametrize("anew", [True, False])
def test_episodes_that_begin_where_others_stopped_are_told_apart(anew: bool) -> None:
    model = PPO("MlpPolicy", Ring(), n_steps=8, batch_size=8, device="cpu", seed=0)
    recall = RecallTraces(**(FEW | {"start": 10_000}))
    model.learn(24, callback=recall)  # 4 steps into the second episode, so in state 0 again
    model.learn(48, callback=recall, reset_num_timesteps=anew)
    assert recall.buffer is not None
    trajectory = recall.buffer.state_arrays()["trajectory"]
    lengths = np.unique(trajectory, return_counts=True)[1].tolist()
    assert lengths == ([20, 4, 20, 20, 8] if anew else [20, 20, 20, 12])
    assert recall.buffer.best_return == 20


@pytest.mark.parametrize(
    ("rows", "task", "gamma", "message"),
    [
        (1, CONTINUOUS, 0.99, "environments: 2 in what is remembered, and 1 now"),
        (2, DISCRETE, 0.99, r"shape of states: \(3,\) in what is remembered, and \(4,\) now"),
        (2, CONTINUOUS, 0.9, "discount: 0.99 in what is remembered, and 0.9 now"),
    ],
)
def test_another_source_of_steps_is_refused(
    rows: int, task: str, gamma: float, message: str
) -> None:
    model, recall = made("PPO", CONTINUOUS), RecallTraces(**FEW)
    model.learn(STEPS, callback=recall)
    assert recall.buffer is not None
    before = recall.buffer.state_arrays()
    kept = {name: array.copy() for name, array in before.items()}
    other = made("PPO", task)
    other.n_envs, other.gamma = rows, gamma
    recall.backtracking_model = None  # so that the buffer alone objects
    with pytest.raises(ValueError, match=message):
        recall.init_callback(other)
    for name, array in recall.buffer.state_arrays().items():
        np.testing.assert_array_equal(array, kept[name])


def test_what_was_saved_with_another_model_is_refused(tmp_path: Path) -> None:
    kept = RecallTraces(**FEW)
    made("PPO", CONTINUOUS).learn(STEPS, callback=kept)
    kept.save(tmp_path / "learned.pt")
    model = made("PPO", CONTINUOUS)
    other = RecallTraces(**SMALL_RECALL, model="remembered").load(tmp_path / "learned.pt")
    with pytest.raises(ValueError, match=r'model LearnedBacktracking.*, and this is "remembered"'):
        other.init_callback(model)
    of = model.observation_space, learner_of(model).action_space
    learned = LearnedBacktrackingModel(*of, **FEW["model_settings"])
    learned.save(tmp_path / "before.pt")
    small = RecallTraces(**LEARNING, model=learned, buffer_size=64).load(tmp_path / "learned.pt")
    with pytest.raises(ValueError, match=r"saved buffer: .* does not fit"):
        small.init_callback(model)
    learned.save(tmp_path / "after.pt")
    before, after = ((tmp_path / f"{name}.pt").read_bytes() for name in ("before", "after"))
    assert before == after, "it was unpacked"
