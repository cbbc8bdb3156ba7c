"""Infos: whose they are, and one row's alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from chain_world import ChainWorld
from gymnasium.vector import AutoresetMode

from delegate.backtrack import VectorBacktrack
from delegate.backtrack.single import one_row
from delegate.backtrack.state import blank, scatter


def test_scatter_keeps_what_other_rows_had() -> None:
    info: dict[str, Any] = {}
    scatter(info, {"x": np.array([1, 2, 3])}, np.array([True, False, True]))
    assert info["x"].tolist() == [1, 0, 3]
    assert info["_x"].tolist() == [True, False, True]
    scatter(info, {"x": np.array([7.5, 8.5, 9.5])}, np.array([False, True, False]))
    assert info["x"].tolist() == [1, 8.5, 3]
    assert info["_x"].tolist() == [True, True, True]


def test_scatter_heeds_masks_nests_and_passes_on_what_has_no_rows() -> None:
    info: dict[str, Any] = {}
    given = {
        "x": np.array([1, 2]),
        "_x": np.array([False, True]),
        "final": {"y": np.array([[1, 2], [3, 4]]), "object": np.array(["a", None], object)},
        "_final": np.array([True, False]),
        "shared": "all rows",
    }
    scatter(info, given, np.array([True, True]))
    assert info["x"].tolist() == [0, 2]
    assert info["_x"].tolist() == [False, True]
    assert info["final"]["y"].tolist() == [[1, 2], [0, 0]]
    assert info["final"]["object"].tolist() == ["a", None]
    assert info["_final"].tolist() == [True, False]
    first = one_row(info, 0)
    assert first["final"].pop("y").tolist() == [1, 2]
    assert first == {"final": {"object": "a"}, "shared": "all rows"}
    assert one_row(info, 1) == {"x": 2, "shared": "all rows"}
    info["x"][1] = 9
    assert given["x"].tolist() == [1, 2], "what was given is left alone"


def test_blank_leaves_the_other_rows() -> None:
    info = {"x": np.array([1.5, 2.5]), "why": np.array(["a", "b"]), "n": {"y": np.ones((2, 2))}}
    blanked = blank(info, np.array([True, False]))
    assert blanked["x"].tolist() == [0, 2.5]
    assert blanked["why"].tolist() == ["", "b"]
    assert blanked["n"]["y"].tolist() == [[0, 0], [1, 1]]
    assert info["x"].tolist() == [1.5, 2.5]


def test_the_worlds_info_is_given_to_the_rows_that_stepped() -> None:
    env = VectorBacktrack(ChainWorld(3, noise=False), cost=0.5)
    _, info = env.reset(seed=0)
    assert info["_start"].all()
    env.step(np.array([2, 2, 2]))
    *_, info = env.step(np.array([2, 3, 1]))
    assert info["moved"].tolist() == [0, 0, 1]
    assert info["_moved"].tolist() == [True, False, True]
    *_, info = env.step(np.array([3, 3, 3]))
    assert "moved" not in info, "no row stepped"


def test_a_reset_row_has_the_info_of_its_reset() -> None:
    world = ChainWorld(2, noise=False, size=9, max_steps=3)
    env = VectorBacktrack(world, cost=0.5)
    env.reset(seed=0)
    for action in (2, 2, 2):
        env.step(np.array([action, action]))
    *_, info = env.step(np.array([2, 2]))
    assert info["_start"].all()
    np.testing.assert_array_equal(info["start"], world.state["cell"])


class HandsOutReadOnly(ChainWorld):
    """Its observations belong to it."""

    def step(self, actions: np.ndarray) -> Any:
        observation, *rest = super().step(actions)
        observation.setflags(write=False)
        return observation, *rest


def test_the_worlds_observation_is_never_written_to() -> None:
    for mode in AutoresetMode:
        world = HandsOutReadOnly(3, observation="picture")
        env = VectorBacktrack(world, observe=(), cost=0.5, autoreset_mode=mode)
        env.reset(seed=0)
        rng = np.random.default_rng(0)
        for _ in range(60):
            env.step(rng.integers(0, 4, 3))
        assert env.ledger.restores.sum() > 5
