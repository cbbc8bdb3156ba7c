"""Drawings as columns and as maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from delegate import envs
from delegate.drawing import LEAST, MOST, Map, packed, unpacked


@pytest.mark.parametrize("world", envs.world_ids())
def test_a_drawing_is_the_same_out_of_its_columns(world: str) -> None:
    bank = envs.make_bank(world, envs.levels(world, "shifted", seeds=range(3)))
    columns = packed([bank.drawing(level) for level in range(3)])
    assert len({len(column) for column in columns.values()}) == 1
    for level in range(3):
        drawn, again = bank.drawing(level), unpacked(columns, level)
        np.testing.assert_allclose(again["size"], drawn["size"])
        assert len(again["shapes"]) == len(drawn["shapes"])
        for one, other in zip(again["shapes"], drawn["shapes"], strict=True):
            assert (one["shape"], one["role"]) == (other["shape"], other["role"])
            np.testing.assert_allclose(one["at"], other["at"], rtol=1e-6)
            np.testing.assert_allclose(one["size"], other["size"], rtol=1e-6)
    with pytest.raises(LookupError, match="no drawing of level 3"):
        unpacked(columns, 3)


@pytest.mark.parametrize("world", envs.world_ids())
def test_where_episodes_begin_lies_on_the_map_and_in_no_wall(world: str) -> None:
    bank = envs.make_bank(world, envs.levels(world, "shifted", seeds=range(5)))
    bank.env.reset(seed=0)
    places = bank.places(bank.env.markov_state(np.arange(5)))
    for level in range(5):
        chart = Map(bank.drawing(level))
        assert max(chart.shape) >= LEAST
        cell = chart.cells(places[[level]])[0]
        assert chart.roles.ravel()[cell] != "wall"
        assert {"goal", "proxy"} <= set(chart.roles.ravel())


def test_small_drawings_are_made_of_more_cells() -> None:
    def shape(kind: str, at: list[float], size: list[float]) -> dict[str, Any]:
        return {"shape": kind, "role": kind, "at": at, "size": size}

    shapes = [shape("rect", [1, 0.5], [2, 1]), shape("circle", [3, 1], [0.01, 0.01])]
    chart = Map({"size": [4, 2], "shapes": shapes})
    assert chart.shape == (MOST // 2, MOST)
    half = chart.roles[: MOST // 4, : MOST // 2]
    assert (half == "rect").all()
    assert (chart.roles == "rect").sum() == half.size
    assert (chart.roles == "circle").sum() == 1, "what is smaller than a cell is one"
    corners = np.array([[0.0, 0.0], [4.0, 2.0], [-1.0, 9.0]])
    assert chart.cells(corners).tolist() == [0, chart.roles.size - 1, chart.roles.size - MOST]
