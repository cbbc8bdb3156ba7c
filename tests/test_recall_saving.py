"""Learned models as files: what goes on from one, and what is refused."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from gymnasium.spaces import Discrete
from recall_cases import ACTIONS, EVERY_CASE, SMALL, STATES, fingerprint, made, tamper

from delegate.recall import LearnedBacktrackingModel, RandomBacktrackingModel


@EVERY_CASE
def test_training_goes_on_from_a_file_bit_by_bit(case: str, tmp_path: Path) -> None:
    model, seen = made(case)
    model.fit(seen, 5)
    model.save(tmp_path / "model.safetensors")
    onward = model.fit(seen, 5)
    other, _ = made(case, seed=9)
    other.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(other.fit(seen, 5), onward)
    given = [None if x is None else x[:1] for x in (seen.goal, seen.layout)]
    end = seen.state[:1]
    np.testing.assert_array_equal(
        other.sample_traces(end, 3, 4, *given).states, model.sample_traces(end, 3, 4, *given).states
    )
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_the_same_model_is_the_same_file(tmp_path: Path) -> None:
    for name in ("first", "again"):
        made("ensemble")[0].save(tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes()


def test_forgetting_the_moments_of_the_optimiser_is_seen(tmp_path: Path) -> None:
    """The control of the test above."""
    model, seen = made("vectors")
    model.fit(seen, 5)
    model.save(tmp_path / "model.safetensors")
    onward = model.fit(seen, 5)
    model.load(tmp_path / "model.safetensors")
    state = model.state_dict()
    for name in state:
        if name.endswith("exp_avg"):
            state[name].zero_()
    model.load_state_dict(state)
    assert (model.fit(seen, 5) != onward).any()


def test_state_dict_is_a_copy_and_loads_into_another() -> None:
    """torch's convention."""
    model, seen = made("ensemble")
    model.fit(seen, 5)
    state = model.state_dict()
    kept = {name: tensor.clone() for name, tensor in state.items()}
    onward = model.fit(seen, 5)
    assert all(torch.equal(kept[name], tensor) for name, tensor in state.items())
    other, _ = made("ensemble", seed=9)
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.fit(seen, 5), onward)
    assert {"networks.state.log_std", "networks.state.seen.mean", "rng"} <= state.keys()


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"hidden": (8, 9)}, "hidden is .8, 9., and here it is .8, 8."),
        ({"members": 2}, "members is 2, and here it is 1"),
        ({"goal_size": 1}, "goal_size is 1, and here it is 0"),
    ],
)
def test_a_file_of_another_model_is_refused(
    saved: dict[str, Any], message: str, tmp_path: Path
) -> None:
    LearnedBacktrackingModel(STATES, ACTIONS, **{**SMALL, **saved}).save(tmp_path / "m")
    model, _ = made("vectors")
    before = fingerprint(model)
    with pytest.raises(ValueError, match=message):
        model.load(tmp_path / "m")
    assert fingerprint(model) == before


def test_a_file_of_other_spaces_kinds_or_shapes_is_refused(tmp_path: Path) -> None:
    model, _ = made("vectors")
    before = fingerprint(model)
    for other, message in (
        (LearnedBacktrackingModel(Discrete(3), ACTIONS, **SMALL), "state_space is Discrete of 3"),
        (RandomBacktrackingModel(STATES, ACTIONS, **SMALL), "class is RandomBack"),
    ):
        other.save(tmp_path / "m")
        with pytest.raises(ValueError, match=message):
            model.load(tmp_path / "m")
    good, bias = model.state_dict(), "networks.state.members.0.0.bias"
    for name, bad, message in (
        (bias, torch.zeros(2), r"has shape \(2,\), and here \(8,\)"),
        (bias, torch.full((8,), torch.nan), "not finite"),
        ("networks.state.change.mean", torch.zeros(3), "float32"),
        ("left over", torch.zeros(1), r"left over has shape \(1,\), and here None"),
        ("rng", torch.zeros(5, dtype=torch.uint8), "no state of a random stream"),
    ):
        model.save(tmp_path / "m")
        tamper(tmp_path / "m", {name: bad})
        with pytest.raises(ValueError, match=message):
            model.load(tmp_path / "m")
    for missing in (bias, "rng"):
        with pytest.raises(ValueError, match=missing):
            model.load_state_dict({name: x for name, x in good.items() if name != missing})
    assert fingerprint(model) == before


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    model, _ = made("vectors")
    model.save(tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    foreign = safetensors.torch.save({"weight": torch.zeros(2)})
    half = whole[: len(whole) // 2]
    for content in (b"", half, b"cos\nsystem\n(S'true'\ntR.", foreign):
        (tmp_path / "m").write_bytes(content)
        with pytest.raises(ValueError, match="or damaged"):
            model.load(tmp_path / "m")
    with pytest.raises(FileNotFoundError):
        model.load(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        model.save(tmp_path)


@EVERY_CASE
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_learns_on_by_itself(case: str, copied: Any) -> None:
    model, seen = made(case)
    model.fit(seen, 5)
    other = copied(model)
    before = fingerprint(model)
    onward = other.fit(seen, 5)
    assert fingerprint(model) == before != fingerprint(other)
    np.testing.assert_array_equal(model.fit(seen, 5), onward)
    assert fingerprint(model) == fingerprint(other)
