"""Intervals over seeds, how often they leave out what is true, and curves, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.study.curves import area, band, by_arm, filled, gain, interval, intervals

SAMPLES = 2_000


@pytest.mark.parametrize(("seeds", "missed"), [(3, 0.24), (5, 0.10), (10, 0.07)])
def test_intervals_of_few_seeds_are_too_narrow(seeds: int, missed: float) -> None:
    """Of noise around zero, zero should be left out in 5% of the cases."""
    noise = np.random.default_rng(0).normal(size=(SAMPLES, seeds))
    found = [interval(values) for values in noise]
    out = np.mean([not each["low"] <= 0 <= each["high"] for each in found])
    deviation = (missed * (1 - missed) / SAMPLES) ** 0.5
    assert out == pytest.approx(missed, abs=3 * deviation)
    assert out > 0.05


def test_interquartile_means_leave_the_outer_quarters_out() -> None:
    found = interval([0.0, 1.0, 3.0, 1_000.0])
    assert found["value"] == 2.0
    assert found["low"] >= 0.0
    assert found["n"] == 4
    value, low, high = band(np.array([[1.0, 5.0], [1.0, 5.0]]))
    assert value.tolist() == low.tolist() == high.tolist() == [1.0, 5.0]
    assert area(np.array([0.0, 1.0, 4.0]), np.array([2.0, 2.0, 4.0])) == pytest.approx(11 / 4)


def test_gaps_of_a_curve_are_filled_from_before() -> None:
    assert filled([None, 2.0, None, 4.0, None], before=0.0).tolist() == [0, 2, 2, 4, 4]
    assert filled([None, 2.0, None, 4.0]).tolist() == [2, 2, 2, 4]
    assert filled([None, None], before=0.0).tolist() == [0, 0]
    assert np.isnan(filled([None, None])).all()


def test_gains_are_paired_by_seed() -> None:
    def record(arm: str, seed: int, score: float) -> dict[str, object]:
        return {"run": {"arm": {"name": arm}, "seed": seed}, "score": score}

    records = [record("a", seed, seed) for seed in (2, 0, 1)]
    records += [record("b", seed, 10.0 * seed) for seed in (1, 2, 3)]
    arms = by_arm(records, lambda each: {"area": each["score"]})
    found = gain(arms["b"], arms["a"])
    assert found is not None
    assert found["per_seed"] == [9.0, 18.0], "seed 3 has no pair"
    assert gain(arms["a"], arms["a"]) is None
    assert gain(arms["a"], {}) is None
    assert intervals(arms["a"])["area"]["per_seed"] == [2.0, 0.0, 1.0]
