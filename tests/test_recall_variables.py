"""What networks see of states and actions: scales against numpy, cells of a grid by hand."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from delegate.recall.variables import Cell, Normaliser

batches = st.lists(
    st.integers(0, 6).flatmap(
        lambda rows: arrays(np.float64, (rows, 2), elements=st.floats(-1e4, 1e4, width=32))
    ),
    max_size=6,
)


@given(batches)
@settings(max_examples=100, deadline=None)
def test_batches_merge_to_the_whole(batches: list[np.ndarray]) -> None:
    normaliser = Normaliser(2)
    for batch in batches:
        normaliser.observe(batch)
    whole = np.concatenate([np.zeros((0, 2)), *batches])
    assert normaliser.count == len(whole)
    if len(whole):
        np.testing.assert_allclose(normaliser.mean, whole.mean(0), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(normaliser.var, whole.var(0), rtol=1e-9, atol=1e-7)


def test_leaving_a_batch_out_is_seen() -> None:
    """The control of the test above."""
    whole = np.random.default_rng(0).normal(size=(9, 2))
    normaliser = Normaliser(2)
    normaliser.observe(whole[:5])
    assert np.abs(normaliser.mean.numpy() - whole.mean(0)).max() > 1e-3


def test_there_and_back() -> None:
    values = np.random.default_rng(1).normal([3.0, -200.0], [0.1, 50.0], (500, 2))
    normaliser = Normaliser(2)
    normaliser.observe(values)
    normal = normaliser.normalise(values)
    assert normal.dtype == np.float32
    np.testing.assert_allclose(normal.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(normal.std(0), 1, atol=1e-6)
    np.testing.assert_allclose(normaliser.restore(normal), values, rtol=1e-5)


def test_nothing_observed_changes_nothing() -> None:
    values = np.array([[3.0, -2.0]])
    np.testing.assert_array_equal(Normaliser(2).normalise(values), values)
    np.testing.assert_array_equal(Normaliser(2).restore(values), values)


def test_what_does_not_vary_keeps_its_scale() -> None:
    """0.1 + 0.2 and its like are no variation either."""
    normaliser = Normaliser(2)
    normaliser.observe(np.array([[1000.0, 0.0]] * 3 + [[1000.0 + 1e-9, 0.0]]))
    np.testing.assert_array_equal(normaliser.scale, [1.0, 1.0])
    restored = normaliser.restore(np.array([[0.5, -2.0]]))
    np.testing.assert_allclose(restored, [[1000.0, 0.0]], rtol=1e-9)
    normaliser.observe(np.array([[1001.0, 0.5]]))
    assert (normaliser.scale < 1).all()


def test_a_small_spread_far_from_zero_is_not_lost() -> None:
    """Where sums of squares would cancel."""
    values = 1e8 + np.random.default_rng(2).normal(size=(1000, 1)) * 100
    normaliser = Normaliser(1)
    for part in np.split(values, 10):
        normaliser.observe(part)
    np.testing.assert_allclose(normaliser.scale, values.std(0), rtol=1e-9)


def test_scales_stay_on_the_host_in_double_precision() -> None:
    """Devices such as MPS have none."""
    normaliser = Normaliser(2).to("meta").half()
    assert normaliser.mean.dtype == torch.float64
    assert normaliser.mean.device.type == "cpu"


def test_a_cell_sees_what_is_around_it_and_moves_within_the_grid() -> None:
    cell = Cell(2, 3, planes=1)
    anchor, every = np.array([0, 4]), np.arange(6)
    leads = {int(a): cell.leads(np.full(6, a), every).tolist() for a in anchor}
    assert leads == {
        0: [True, True, False, True, False, False],
        4: [False, True, False, True, True, True],
    }
    rng, logits = np.random.default_rng(0), torch.zeros(1, 600, 5)
    for a, reached in leads.items():
        drawn = cell.draw(logits, np.full(600, a), np.zeros(600, int), rng)
        assert set(drawn) == {int(b) for b in every[reached]}
        log_prob = cell.log_prob(
            logits[:, : sum(reached)], np.full(sum(reached), a), every[reached]
        )
        np.testing.assert_allclose(log_prob.exp(), 1 / sum(reached), rtol=1e-6)
    layout = np.array([[1.0, 2, 3, 4, 5, 6]] * 2)
    seen = cell.features(anchor, layout)
    assert seen.shape == (2, cell.width)
    np.testing.assert_array_equal(seen[1, 6:15].reshape(3, 3), [[0, 0, 0], [0, 0, 0], [1, 1, 1]])
    np.testing.assert_array_equal(seen[1, 15:].reshape(3, 3), [[1, 2, 3], [4, 5, 6], [0, 0, 0]])
    np.testing.assert_array_equal(seen[0, 15:].reshape(3, 3), [[0, 0, 0], [0, 1, 2], [0, 4, 5]])


def test_a_narrow_grid_has_one_way_for_one_difference() -> None:
    """In a column of cells up and left are one number less, and only up lies inside."""
    column = Cell(4, 1, planes=0)
    logits = torch.full((1, 1, 5), -9.0)
    logits[0, 0, 1] = 9.0
    assert column.draw(logits, np.array([2]), np.zeros(1, int), np.random.default_rng(0)) == 1
    assert column.log_prob(logits, np.array([2]), np.array([1])) > -1e-3
