"""Learned models as files: what goes on from one, and what is refused."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from recall_cases import ACTIONS, EVERY_CASE, SMALL, STATES, fingerprint, made

from delegate.recall import (
    LearnedBacktrackingModel,
    RandomBacktrackingModel,
)
from delegate.recall.saving import write


@EVERY_CASE
def test_training_goes_on_from_a_file_bit_by_bit(case: str, tmp_path: Path) -> None:
    model, seen = made(case)
    model.fit(seen, 5)
    model.save(tmp_path / "model.pt")
    onward = model.fit(seen, 5)
    other, _ = made(case, seed=9)
    other.load(tmp_path / "model.pt")
    np.testing.assert_array_equal(other.fit(seen, 5), onward)
    given = [None if x is None else x[:1] for x in (seen.goal, seen.layout)]
    end = seen.state[:1]
    np.testing.assert_array_equal(
        other.sample_traces(end, 3, 4, *given).states, model.sample_traces(end, 3, 4, *given).states
    )
    assert os.listdir(tmp_path) == ["model.pt"]


def test_forgetting_the_moments_of_the_optimiser_is_seen(tmp_path: Path) -> None:
    """The control of the test above."""
    model, seen = made("vectors")
    model.fit(seen, 5)
    model.save(tmp_path / "model.pt")
    onward = model.fit(seen, 5)
    model.load(tmp_path / "model.pt")
    model._parameters.moments["exp_avg"].zero_()
    assert (model.fit(seen, 5) != onward).any()


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
        (RandomBacktrackingModel(STATES, ACTIONS, **SMALL), "model is RandomBack"),
    ):
        other.save(tmp_path / "m")
        with pytest.raises(ValueError, match=message):
            model.load(tmp_path / "m")
    stream = {"observed": True, "rng": model._rng.bit_generator.state}
    good = model._tensors()
    for name, bad, message in (
        ("parameter state.0.bias", torch.zeros(2), r"has shape \(2,\), and here \(1, 1, 8\)"),
        ("parameter state.0.bias", torch.full((1, 1, 8), torch.nan), "not finite"),
        ("normaliser change mean", torch.zeros(3), "float32"),
        ("left over", torch.zeros(1), r"left over has shape \(1,\), and here None"),
    ):
        write(tmp_path / "m", model._description(), stream, {**good, name: bad})
        with pytest.raises(ValueError, match=message):
            model.load(tmp_path / "m")
    for wrong, message in (
        ({"observed": True, "rng": {}}, "no state of a random stream"),
        ({"observed": True}, "no state of a random stream"),
        ({"rng": stream["rng"]}, "does not say whether anything was observed"),
    ):
        write(tmp_path / "m", model._description(), wrong, good)
        with pytest.raises(ValueError, match=message):
            model.load(tmp_path / "m")
    assert fingerprint(model) == before


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    model, _ = made("vectors")
    model.save(tmp_path / "m")
    whole = (tmp_path / "m").read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"cos\nsystem\n(S'true'\ntR."):
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
