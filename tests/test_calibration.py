"""Thresholds, p-values and the martingale: exact on paper, and by simulation within bounds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binom, kstest

from delegate.monitors import (
    Calibration,
    Ville,
    calibrate,
    log_power_mixture,
    threshold_from_json,
)


@pytest.mark.parametrize(
    ("n", "target", "rank"),
    [
        (19, 0.05, 19),
        (20, 0.05, 20),
        (39, 0.05, 38),
        (99, 0.01, 99),
        (100, 0.1, 91),
        (9, 0.1, 9),
        (99, 0.29, 71),
    ],
)
def test_threshold_is_the_conformal_rank(n: int, target: float, rank: int) -> None:
    """ceil((n + 1)(1 - target)), worked out by hand: 20 * 0.95 is 19, 100 * 0.29 is 29."""
    peaks = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    assert calibrate(peaks, target, "mean").threshold == rank


@pytest.mark.parametrize(("n", "target", "needed"), [(18, 0.05, 19), (0, 0.05, 19), (98, 0.01, 99)])
def test_too_few_calibration_sub_episodes_never_alarm_and_say_so(
    n: int, target: float, needed: int
) -> None:
    calibration = calibrate(np.arange(float(n)), target, "mean")
    assert calibration.threshold == np.inf
    assert not calibration.alarm(np.array([1e300, np.inf])).any()
    assert calibration.reason is not None
    assert calibration.reason.startswith(f"{n} scored calibration sub-episodes")
    assert calibration.reason.endswith(f"{needed} or more can")
    enough = calibrate(np.arange(float(needed)), target, "mean")
    assert enough.reason is None
    assert np.isfinite(enough.threshold)


def test_alarm_is_strictly_above_and_a_missing_score_is_none() -> None:
    calibration = calibrate(np.arange(1.0, 20.0), 0.05, "mean")
    values = np.array([19.0, np.nextafter(19.0, 20.0), np.nan, -np.inf])
    np.testing.assert_array_equal(calibration.alarm(values), [False, True, False, False])


def test_unscored_sub_episodes_are_counted_and_not_ranked() -> None:
    peaks = np.array([np.nan, 1.0, 2.0, np.nan, 3.0])
    calibration = calibrate(peaks, 0.5, "max")
    assert (calibration.n, calibration.unscored, calibration.threshold) == (3, 2, 2.0)
    p = calibration.p_values(np.array([np.nan, 5.0]), rng=0)
    assert np.isnan(p[0])
    assert 0 <= p[1] <= 0.25


def test_false_alarms_keep_to_the_target() -> None:
    """8,000 calibrations of 59 peaks, each with one new sub-episode: P(alarm) is 3 of 60.

    Exact binomial bounds at 1e-6 on both sides; a threshold one rank lower must break them.
    """
    rng, n, trials, target = np.random.default_rng(4), 59, 8000, 0.05
    draws = rng.normal(size=(trials, n + 1))
    alarms = sum(bool(calibrate(row[:n], target, "mean").alarm(row[n:])[0]) for row in draws)
    low, high = binom.ppf([1e-6, 1 - 1e-6], trials, target)
    assert low <= alarms <= high
    one_rank_lower = (draws[:, n] > np.sort(draws[:, :n], axis=1)[:, -4]).sum()
    assert one_rank_lower > high


def test_ties_only_make_alarms_rarer() -> None:
    rng = np.random.default_rng(0)
    draws = rng.integers(0, 3, (4000, 60)).astype(float)
    alarms = sum(bool(calibrate(row[:59], 0.05, "max").alarm(row[59:])[0]) for row in draws)
    assert alarms <= binom.ppf(1 - 1e-6, 4000, 0.05)


def test_all_tied_scores_never_alarm_and_have_uniform_p_values() -> None:
    calibration = calibrate(np.zeros(100), 0.05, "mean")
    assert calibration.threshold == 0.0
    assert not calibration.alarm(np.zeros(50)).any()
    p = calibration.p_values(np.zeros(2000), rng=1)
    assert kstest(p, "uniform").pvalue > 1e-3


def test_p_values_are_ranks_with_ties_broken_at_random() -> None:
    calibration = calibrate(np.array([1.0, 2.0, 2.0, 3.0]), 0.5, "last")
    draws = calibration.p_values(np.repeat([0.0, 2.0, 2.5, 9.0], 4000), rng=3).reshape(4, -1)
    bounds = [(0.8, 1.0), (0.2, 0.8), (0.2, 0.4), (0.0, 0.2)]
    for p, (low, high) in zip(draws, bounds, strict=True):
        assert low <= p.min() < p.max() <= high
        assert kstest((p - low) / (high - low), "uniform").pvalue > 1e-3
    np.testing.assert_array_equal(
        calibration.p_values(np.array([2.0, 2.0]), 3), calibration.p_values(np.array([2.0, 2.0]), 3)
    )


@given(
    p=st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=25),
)
def test_power_mixture_is_its_integral(p: list[float]) -> None:
    t, log_p = len(p), np.log(p).sum()
    # Divided by its largest value so that quad sees numbers near one.
    at_top = min(1.0, t / -log_p) if log_p < 0 else 1.0
    log_top = t * np.log(at_top) + (at_top - 1) * log_p

    def integrand(epsilon: float) -> float:
        log = t * np.log(epsilon) + (epsilon - 1) * log_p if epsilon > 0 else -np.inf
        return float(np.exp(log - log_top))

    integral = quad(integrand, 0, 1, points=[at_top], limit=200)[0]
    assert log_power_mixture(np.array(p))[-1] == pytest.approx(
        np.log(integral) + log_top, rel=1e-6, abs=1e-6
    )


def test_power_mixture_at_the_extremes() -> None:
    """All p-values 1: the integral of ε^t is 1 / (t + 1). Near 0 it grows without overflow."""
    ones = log_power_mixture(np.ones(5000))
    np.testing.assert_allclose(ones, -np.log(np.arange(5000) + 2.0), rtol=1e-9)
    tiny = log_power_mixture(np.full(5000, 1e-9))
    assert np.isfinite(tiny).all()
    assert (np.diff(tiny) > 0).all()
    assert np.isfinite(log_power_mixture(np.array([0.0]))).all()
    steady = log_power_mixture(np.full(3000, np.exp(-1.0)))
    assert np.isfinite(steady).all()
    assert (np.diff(steady[5:]) < 0).all()


def test_unscored_leave_the_martingale_as_it_was() -> None:
    p = np.array([0.1, np.nan, 0.01])
    log_m = log_power_mixture(p)
    assert log_m[0] == log_m[1]
    np.testing.assert_allclose(log_m[[0, 2]], log_power_mixture(p[[0, 2]]))
    assert log_power_mixture(np.array([np.nan]))[0] == pytest.approx(0.0)


def exceedance(n: int, new: int, trials: int, level: float, reference: str, seed: int) -> int:
    """In how many trials a martingale of exchangeable peaks ever reaches 1 / level."""
    rng = np.random.default_rng(seed)
    return sum(
        bool(
            calibrate(rng.normal(size=n), 0.05, "mean")
            .log_martingale(rng.normal(size=new), rng, reference)  # type: ignore[arg-type]
            .max()
            >= -np.log(level)
        )
        for _ in range(trials)
    )


def test_ville_holds_when_the_reference_grows() -> None:
    trials, level = 1500, 0.1
    above = exceedance(50, 300, trials, level, "growing", seed=1)
    assert above <= binom.ppf(1 - 1e-6, trials, level)
    assert above > 0, "a martingale that never moves would pass as well"


def test_a_fixed_reference_holds_for_short_streams_and_breaks_for_long_ones() -> None:
    """All its p-values share one finite reference; this is where the guarantee ends."""
    trials, level = 1000, 0.1
    short = exceedance(400, 100, trials, level, "fixed", seed=2)
    assert short <= binom.ppf(1 - 1e-6, trials, level)
    long = exceedance(50, 2000, 200, level, "fixed", seed=3)
    assert long > binom.ppf(1 - 1e-6, 200, level)


@pytest.mark.parametrize("reference", ["fixed", "growing"])
def test_a_shift_is_noticed(reference: str) -> None:
    rng = np.random.default_rng(0)
    calibration = calibrate(rng.normal(size=200), 0.05, "mean")
    log_m = calibration.log_martingale(rng.normal(1.5, size=60), rng, reference)  # type: ignore[arg-type]
    assert log_m.max() > np.log(1000)


@given(
    peaks=st.lists(st.floats(-1e6, 1e6), max_size=40),
    target=st.sampled_from([0.01, 0.05, 0.1, 0.5]),
    unscored=st.integers(0, 5),
)
def test_json_round_trip(peaks: list[float], target: float, unscored: int) -> None:
    calibration = Calibration(target, "cusum(drift=0.5)", tuple(peaks), unscored)
    text = json.dumps(calibration.to_json(), allow_nan=False)
    again = Calibration.from_json(json.loads(text))
    assert again == calibration
    assert again.threshold == calibration.threshold


def test_a_tampered_threshold_is_noticed() -> None:
    data = calibrate(np.arange(40.0), 0.05, "mean").to_json()
    data["threshold"] = 1.0
    with pytest.raises(ValueError, match="does not follow from the peaks"):
        Calibration.from_json(data)


@pytest.mark.parametrize("target", [0.0, 1.0, -0.1, float("nan")])
def test_a_target_is_a_rate(target: float) -> None:
    with pytest.raises(ValueError, match="give a rate between 0 and 1"):
        calibrate(np.arange(40.0), target, "mean")


def test_infinite_peaks_are_refused() -> None:
    for infinite in (np.inf, -np.inf):
        with pytest.raises(ValueError, match="a peak of mean is not finite"):
            calibrate(np.array([1.0, infinite]), 0.05, "mean")
    assert calibrate(np.array([1.0, np.nan]), 0.05, "mean").unscored == 1


def test_a_bound_is_an_alarm_above_the_prior_odds_over_alpha() -> None:
    bound = Ville(0.05, np.log(0.2 / 0.5))
    np.testing.assert_allclose(np.exp(bound.threshold), 0.4 / 0.05)
    assert (bound.n, bound.reason, bound.target) == (0, None, 0.05)
    values = np.array([bound.threshold, np.nextafter(bound.threshold, 9), np.nan, np.inf])
    np.testing.assert_array_equal(bound.alarm(values), [False, True, False, True])


def test_villes_inequality_on_a_likelihood_ratio() -> None:
    """Coins that are fair, against 0.8: the odds from 0.4 ever exceed 0.4 / α with at most α."""
    rng, alpha, children = np.random.default_rng(0), 0.1, 5000
    heads = rng.random((children, 200)) < 0.5
    odds = np.log(0.4) + np.cumsum(np.log(np.where(heads, 0.8, 0.2) / 0.5), axis=1)
    alarms = Ville(alpha, np.log(0.4)).alarm(odds).any(1).sum()
    assert 0 < alarms <= binom.ppf(1 - 1e-6, children, alpha)
    unfair = np.where(rng.random((children, 200)) < 0.8, 0.8, 0.2)
    odds = np.log(0.4) + np.cumsum(np.log(unfair / 0.5), axis=1)
    assert Ville(alpha, np.log(0.4)).alarm(odds).any(1).mean() > 0.8


@given(
    target=st.floats(1e-6, 0.999),
    odds=st.floats(-20, 20),
    statistic=st.sampled_from(["last", "max"]),
)
def test_a_bound_survives_json(target: float, odds: float, statistic: str) -> None:
    bound = Ville(target, odds, statistic)
    again = threshold_from_json(json.loads(json.dumps(bound.to_json(), allow_nan=False)))
    assert again == bound
    assert again.threshold == bound.threshold


def test_what_is_recorded_says_which_kind_it_is() -> None:
    calibration = calibrate(np.arange(40.0), 0.05, "mean")
    assert threshold_from_json(calibration.to_json()) == calibration
    old = {name: value for name, value in calibration.to_json().items() if name != "kind"}
    assert threshold_from_json(old) == calibration, "as written before there were two kinds"
    with pytest.raises(ValueError, match="kind 'guess' is not known; it is calibrated or ville"):
        threshold_from_json({**old, "kind": "guess"})
    with pytest.raises(ValueError, match="does not follow from alpha"):
        threshold_from_json({**Ville(0.05, 0.0).to_json(), "threshold": 1.0})


def test_a_bound_of_odds_is_no_bound_of_their_mean() -> None:
    with pytest.raises(ValueError, match="statistic is mean; a bound of the odds holds for `last`"):
        Ville(0.05, 0.0, "mean")
    with pytest.raises(ValueError, match=r"alpha is 1\.0; give a rate between 0 and 1"):
        Ville(1.0, 0.0)
