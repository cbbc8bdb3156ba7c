"""The running mean and deviation against numpy on everything at once."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from delegate.recall.normaliser import Normaliser

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
        variance = normaliser.m2 / normaliser.count
        np.testing.assert_allclose(variance, whole.var(0), rtol=1e-9, atol=1e-7)


def test_leaving_a_batch_out_is_seen() -> None:
    """The control of the test above."""
    whole = np.random.default_rng(0).normal(size=(9, 2))
    normaliser = Normaliser(2)
    normaliser.observe(whole[:5])
    assert np.abs(normaliser.mean - whole.mean(0)).max() > 1e-3


def test_there_and_back() -> None:
    values = np.random.default_rng(1).normal([3.0, -200.0], [0.1, 50.0], (500, 2))
    normaliser = Normaliser(2)
    normaliser.observe(values)
    normal = normaliser.normalise(torch.from_numpy(values))
    assert normal.dtype == torch.float32
    np.testing.assert_allclose(normal.numpy().mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(normal.numpy().std(0), 1, atol=1e-6)
    np.testing.assert_allclose(normaliser.restore(normal).numpy(), values, rtol=1e-5)
    np.testing.assert_allclose(normaliser.log_volume, np.log(values.std(0)).sum())


def test_nothing_observed_changes_nothing() -> None:
    values = torch.tensor([[3.0, -2.0]])
    assert torch.equal(Normaliser(2).normalise(values), values)
    assert torch.equal(Normaliser(2).settle(values), values)
    assert Normaliser(2).log_volume == 0.0


def test_what_does_not_vary_keeps_its_scale() -> None:
    """0.1 + 0.2 and its like are no variation either."""
    normaliser = Normaliser(2)
    normaliser.observe(np.array([[1000.0, 0.0]] * 3 + [[1000.0 + 1e-9, 0.0]]))
    np.testing.assert_array_equal(normaliser.std, [1.0, 1.0])
    settled = normaliser.restore(normaliser.settle(torch.tensor([[0.5, -2.0]])))
    np.testing.assert_allclose(settled.numpy(), [[1000.0, 0.0]], rtol=1e-9)
    normaliser.observe(np.array([[1001.0, 0.5]]))
    assert (normaliser.std < 1).all()


def test_a_small_spread_far_from_zero_is_not_lost() -> None:
    """Where sums of squares would cancel."""
    values = 1e8 + np.random.default_rng(2).normal(size=(1000, 1)) * 100
    normaliser = Normaliser(1)
    for part in np.split(values, 10):
        normaliser.observe(part)
    np.testing.assert_allclose(normaliser.std, values.std(0), rtol=1e-9)
