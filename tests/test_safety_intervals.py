"""Intervals: what seeds and levels each say, held by simulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from delegate.safety.intervals import (
    DRAWS,
    ONE_SEED,
    Sample,
    divide,
    estimate,
    holm,
    mean,
    rate,
    rate_by_seed,
    ratio,
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


def sample(seeds: int, levels: int) -> Sample:
    """So many levels of each seed."""
    return Sample.of(np.repeat(np.arange(seeds), levels), np.arange(seeds * levels))


def every(of: Sample) -> np.ndarray:
    """One value a level."""
    return np.arange(len(of))


def test_nothing_counted_is_null_with_a_reason() -> None:
    two = sample(2, 2)
    assert rate(0, 0, "no levels") == unmeasured("no levels")
    nothing = np.zeros(0, int)
    assert mean(np.zeros(0), nothing, two, reason="no rows")["reason"] == "no rows"
    assert estimate(ratio(np.ones(4), np.zeros(4)), two, 4, "never")["reason"] == "never"


def test_a_mean_of_two_seeds_by_hand() -> None:
    """Seeds average 1 and 4. With one degree of freedom t is 12.706: 2.5 +- 12.706 * 1.5."""
    found = mean(np.array([0.0, 2.0, 3.0, 5.0]), every(two := sample(2, 2)), two, per_seed=True)
    assert found["value"] == 2.5
    assert (found["per_seed"], found["n"]) == ([1.0, 4.0], 4)
    assert found["low"] == pytest.approx(2.5 - 12.7062 * 1.5, abs=1e-3)
    assert found["high"] == pytest.approx(2.5 + 12.7062 * 1.5, abs=1e-3)


def test_one_seed_has_no_interval() -> None:
    one = sample(1, 2)
    found = mean(np.array([1.0, 3.0]), every(one), one)
    assert found == {"value": 2.0, "low": None, "high": None, "n": 2, "reason": ONE_SEED}


def test_weights_are_all_then_each_seed_then_resamples_of_levels() -> None:
    of = sample(3, 40)
    weights = of.weights
    assert weights.shape == (1 + 3 + DRAWS, 120)
    assert (weights[0] == 1).all()
    np.testing.assert_array_equal(weights[1:4], np.repeat(np.eye(3), 40, axis=1))
    assert (weights[4:].sum(axis=1) == 120).all()
    np.testing.assert_allclose(weights[4:].mean(), 1)
    assert of.weights is weights


def test_where_seeds_agree_the_interval_is_that_of_the_levels() -> None:
    """A plain bootstrap of the levels is the oracle; alike seeds add nothing to it."""
    rng = np.random.default_rng(5)
    alike = np.tile(rng.normal(size=100), 4)
    of = sample(4, 100)
    found = mean(alike, every(of), of)
    plain = [rng.choice(alike, 400).mean() for _ in range(4_000)]
    assert found["low"] == pytest.approx(np.quantile(plain, 0.025), abs=0.02)
    assert found["high"] == pytest.approx(np.quantile(plain, 0.975), abs=0.02)


def test_resampling_levels_alone_would_be_far_too_sure_of_itself() -> None:
    """The trap: 1,000 values that share 5 seeds are not 1,000 independent values."""
    of = sample(5, 200)
    values = np.array([0.0, 1.0, 0.0, 1.0, 1.0])[of.seed]
    found = mean(values, every(of), of)
    rng = np.random.default_rng(0)
    single = [rng.choice(values, 1_000).mean() for _ in range(500)]
    assert np.quantile(single, 0.975) - np.quantile(single, 0.025) < 0.1
    assert found["high"] - found["low"] > 0.5


def test_values_of_one_level_are_not_independent() -> None:
    """Ten copies of each value on the same level say no more than one."""
    rng = np.random.default_rng(2)
    of = sample(4, 50)
    values = rng.normal(size=200)
    once = mean(values, every(of), of)
    ten = mean(np.repeat(values, 10), np.repeat(every(of), 10), of)
    for end in ("value", "low", "high"):
        assert ten[end] == pytest.approx(once[end])


def test_units_are_found_by_seed_and_level() -> None:
    of = Sample.of(np.array([7, 3, 3, 7]), np.array([1, 5, 1, 1]))
    assert (of.seeds.tolist(), of.seed.tolist(), of.level.tolist()) == (
        [3, 7],
        [0, 0, 1],
        [1, 5, 1],
    )
    assert of.unit(np.array([7, 3]), np.array([1, 5])).tolist() == [2, 1]
    with pytest.raises(KeyError):
        of.unit(np.array([7]), np.array([5]))


def test_totals_and_divide() -> None:
    of = sample(2, 2)
    values, unit = np.array([1, 2, 4]), np.array([2, 0, 2])
    np.testing.assert_array_equal(of.totals(values, unit), [2.0, 0.0, 5.0, 0.0])
    np.testing.assert_array_equal(of.by_seed(values, unit), [2.0, 5.0])
    np.testing.assert_array_equal(divide(np.array([1.0, 1.0]), np.array([2.0, 0.0])), [0.5, np.nan])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holms_correction_is_that_of_the_definition(p: list[float]) -> None:
    found = holm(p)
    order = sorted(range(len(p)), key=lambda i: p[i])
    highest = 0.0
    for step, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - step) * p[i]))
        assert found[i] == pytest.approx(highest)
    assert all(corrected >= plain for corrected, plain in zip(found, p, strict=True))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_p_is_small_just_where_the_interval_leaves_zero_out() -> None:
    rng = np.random.default_rng(4)
    of = sample(10, 40)
    told = []
    for shift in (0.0, 0.05, 0.1, 0.2, 0.5):
        values = shift + rng.normal(size=400) + 0.1 * rng.normal(size=10)[of.seed]
        found = mean(values, every(of), of, test=True)
        told.append((found["p"] < 0.05, found["low"] > 0))
    assert told[0] == (False, False)
    assert told[-1] == (True, True)
    assert sum(a != b for a, b in told) <= 1, "the bootstrap and the normal law differ a little"


def drawn(share: float, deviation: float, seeds: int, times: int) -> Iterator[np.ndarray]:
    """Successes of 200 sub-episodes in each seed, whose shares differ by that deviation."""
    rng = np.random.default_rng([7, seeds, int(1000 * deviation)])
    of_seed = np.full((times, seeds), share)
    if deviation:
        spread = share * (1 - share) / deviation**2 - 1
        of_seed = rng.beta(share * spread, (1 - share) * spread, (times, seeds))
    return (rng.binomial(200, each) for each in of_seed)


def coverage(
    interval: Callable[[np.ndarray], tuple[float, float]],
    share: float,
    deviation: float,
    seeds: int,
    times: int = 400,
) -> float:
    """How often an interval holds the share that seeds vary around."""
    found = [interval(won) for won in drawn(share, deviation, seeds, times)]
    return float(np.mean([low <= share <= high for low, high in found]))


def ours(won: np.ndarray) -> tuple[float, float]:
    found = rate_by_seed(won, np.full(len(won), 200))
    return found["low"], found["high"]


def pooled(won: np.ndarray) -> tuple[float, float]:
    found = rate(int(won.sum()), 200 * len(won))
    return found["low"], found["high"]


def percentile(won: np.ndarray) -> tuple[float, float]:
    """The bootstrap over seeds that this replaced."""
    picked = np.random.default_rng(3).integers(len(won), size=(1_000, len(won)))
    low, high = np.quantile((won / 200)[picked].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def means(won: np.ndarray) -> tuple[float, float]:
    """The mean of the same sub-episodes, as any other number is treated."""
    of = sample(len(won), 200)
    values = (np.arange(200) < won[:, None]).ravel()
    found = mean(values, every(of), of)
    return found["low"], found["high"]


@pytest.mark.parametrize("seeds", [5, 10, 20])
@pytest.mark.parametrize(("share", "deviation"), [(0.3, 0.0), (0.3, 0.1), (0.5, 0.2), (0.9, 0.05)])
def test_intervals_of_rates_hold_what_seeds_vary_around(
    share: float, deviation: float, seeds: int
) -> None:
    assert coverage(ours, share, deviation, seeds) >= 0.93
    if deviation >= 0.1:
        independent = coverage(pooled, share, deviation, seeds)
        assert independent < 0.6, "sub-episodes of one seed are not independent"
    if deviation and seeds == 5:
        assert coverage(percentile, share, deviation, seeds) < 0.9, "five seeds are few"


@pytest.mark.parametrize(("seeds", "deviation"), [(5, 0.0), (5, 0.2), (10, 0.1)])
def test_intervals_of_means_hold_what_seeds_vary_around(seeds: int, deviation: float) -> None:
    assert coverage(means, 0.5, deviation, seeds, times=150) >= 0.93


def test_rates_by_seed_leave_out_seeds_without_anything() -> None:
    both = rate_by_seed(np.array([3, 0, 5]), np.array([10, 0, 10]))
    assert both == rate_by_seed(np.array([3, 5]), np.array([10, 10]))
    assert both["value"] == 0.4
    assert rate_by_seed(np.array([3]), np.array([10]))["reason"] == ONE_SEED
    assert rate_by_seed(np.array([0]), np.array([0]))["value"] is None
