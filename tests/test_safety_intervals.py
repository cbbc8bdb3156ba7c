"""Intervals: exact for rates, by whole training seeds for everything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from delegate.safety.intervals import (
    ONE_SEED,
    clustered,
    divide,
    mean,
    rate,
    rate_by_seed,
    ratio,
    resamples,
    totals,
    unmeasured,
)


@given(n=st.integers(1, 300), share=st.floats(0, 1))
def test_rates_have_the_clopper_pearson_interval(n: int, share: float) -> None:
    k = int(share * n)
    found = rate(k, n)
    low = beta.ppf(0.025, k, n - k + 1) if k else 0.0
    high = beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
    assert found["value"] == k / n
    assert found["n"] == n
    assert found["low"] == pytest.approx(low, abs=1e-9)
    assert found["high"] == pytest.approx(high, abs=1e-9)


def test_nothing_counted_is_null_with_a_reason() -> None:
    assert rate(0, 0, "no levels") == unmeasured("no levels")
    assert mean(np.zeros(0), np.zeros(0, int), 2, reason="no rows")["reason"] == "no rows"
    assert clustered(ratio(np.ones(2), np.zeros(2)), 2, 4, "never")["value"] is None


def test_a_mean_of_two_seeds_by_hand() -> None:
    """Seeds average 1 and 4; a resample of two seeds averages 1, 2.5 or 4, so the percentiles
    of 2.5 and 97.5 are 1 and 4."""
    values, seed = np.array([0.0, 2.0, 3.0, 5.0]), np.array([0, 0, 1, 1])
    found = mean(values, seed, 2, per_seed=True)
    assert found == {"value": 2.5, "low": 1.0, "high": 4.0, "n": 4, "per_seed": [1.0, 4.0]}


def test_one_seed_has_no_interval() -> None:
    found = mean(np.array([1.0, 3.0]), np.array([0, 0]), 1)
    assert found == {"value": 2.0, "low": None, "high": None, "n": 2, "reason": ONE_SEED}


def test_seeds_are_drawn_whole_and_every_draw_has_as_many() -> None:
    draws = resamples(4)
    assert (draws.weights.sum(axis=1) == 4).all()
    assert (draws.weights == draws.weights.round()).all()
    shares = draws.weights[draws.draw].mean(axis=0)
    np.testing.assert_allclose(shares, 1, atol=0.1)
    assert resamples(4) is draws


def test_the_interval_of_a_mean_is_that_of_a_plain_bootstrap_over_seeds() -> None:
    rng = np.random.default_rng(5)
    seed = np.repeat(np.arange(8), 10)
    values = rng.normal(size=80) + rng.normal(size=8)[seed]
    found = mean(values, seed, 8)
    groups = [values[seed == s] for s in range(8)]
    plain = [
        np.concatenate([groups[i] for i in rng.integers(8, size=8)]).mean() for _ in range(4_000)
    ]
    assert found["low"] == pytest.approx(np.quantile(plain, 0.025), abs=0.06)
    assert found["high"] == pytest.approx(np.quantile(plain, 0.975), abs=0.06)


def test_resampling_single_values_would_be_far_too_sure_of_itself() -> None:
    """The trap: 1,000 values that share 5 seeds are not 1,000 independent values."""
    seed = np.repeat(np.arange(5), 200)
    values = np.array([0.0, 1.0, 0.0, 1.0, 1.0])[seed]
    found = mean(values, seed, 5)
    rng = np.random.default_rng(0)
    single = [rng.choice(values, 1_000).mean() for _ in range(500)]
    too_narrow = np.quantile(single, 0.975) - np.quantile(single, 0.025)
    assert too_narrow < 0.1
    assert found["high"] - found["low"] > 0.5


def test_totals_and_divide() -> None:
    np.testing.assert_array_equal(
        totals(np.array([1, 2, 4]), np.array([2, 0, 2]), 3), [2.0, 0.0, 5.0]
    )
    np.testing.assert_array_equal(divide(np.array([1.0, 1.0]), np.array([2.0, 0.0])), [0.5, np.nan])


def coverage(interval: Any, share: float, deviation: float, seeds: int) -> float:
    """How often an interval of seeds of 200 sub-episodes holds the share they are drawn around."""
    rng = np.random.default_rng([7, seeds, int(1000 * deviation)])
    if deviation:
        spread = share * (1 - share) / deviation**2 - 1
        of_seed = rng.beta(share * spread, (1 - share) * spread, (400, seeds))
    else:
        of_seed = np.full((400, seeds), share)
    found = [interval(rng.binomial(200, each), np.full(seeds, 200)) for each in of_seed]
    return float(np.mean([each["low"] <= share <= each["high"] for each in found]))


@pytest.mark.parametrize("seeds", [5, 10, 20])
@pytest.mark.parametrize(("share", "deviation"), [(0.3, 0.0), (0.3, 0.1), (0.5, 0.2), (0.9, 0.05)])
def test_intervals_of_rates_hold_what_seeds_vary_around(
    share: float, deviation: float, seeds: int
) -> None:
    assert coverage(rate_by_seed, share, deviation, seeds) >= 0.93
    if deviation >= 0.1:
        pooled = coverage(
            lambda won, n: rate(int(won.sum()), int(n.sum())), share, deviation, seeds
        )
        assert pooled < 0.6, "sub-episodes of one seed are not independent"


def test_rates_by_seed_leave_out_seeds_without_anything() -> None:
    both = rate_by_seed(np.array([3, 0, 5]), np.array([10, 0, 10]))
    assert both == rate_by_seed(np.array([3, 5]), np.array([10, 10]))
    assert both["value"] == 0.4
    assert rate_by_seed(np.array([3]), np.array([10]))["reason"] == ONE_SEED
    assert rate_by_seed(np.array([0]), np.array([0]))["value"] is None
