"""ROC curves by seed against scikit-learn, resample by resample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from delegate.safety import roc

SEEDS = 3


@st.composite
def samples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with many ties, labels with both classes, seeds."""
    n = draw(st.integers(4, 40))
    score = draw(arrays(np.float64, n, elements=st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0, 7.0])))
    positive = draw(arrays(bool, n))
    positive[:2] = [True, False]
    return score, positive, draw(arrays(np.int64, n, elements=st.integers(0, SEEDS - 1)))


def at(statistic: roc.CurveStatistic, curve: roc.Curve, weights: np.ndarray) -> float:
    return float(curve.statistic(statistic)(weights[None])[0])


@given(samples(), st.tuples(*[st.integers(0, 3)] * SEEDS))
def test_every_reading_is_scikit_learns_on_any_resample(
    sample: tuple[np.ndarray, np.ndarray, np.ndarray], times: tuple[int, ...]
) -> None:
    score, positive, seed = sample
    weights = np.array(times, float)
    counted = np.repeat(np.arange(len(score)), weights[seed].astype(int))
    s, y = score[counted], positive[counted]
    curve = roc.curve(score, positive, seed, SEEDS)
    if len(np.unique(y)) < 2:
        assert np.isnan(at(roc.auroc, curve, weights))
        return
    fpr, tpr, _ = roc_curve(y, s, drop_intermediate=False)
    expected = {
        roc.auroc: roc_auc_score(y, s),
        roc.aupr: average_precision_score(y, s),
        roc.partial_auroc(0.2): roc_auc_score(y, s, max_fpr=0.2),
        roc.fpr_at_tpr(0.95): fpr[tpr >= 0.95 - 1e-9].min(),
        roc.tpr_at_fpr(0.05): tpr[fpr <= 0.05 + 1e-9].max(),
    }
    for statistic, value in expected.items():
        assert at(statistic, curve, weights) == pytest.approx(value, abs=1e-12)


@given(samples())
def test_a_strictly_rising_transformation_changes_nothing(
    sample: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    score, positive, seed = sample
    one, other = (roc.curve(s, positive, seed, SEEDS) for s in (score, np.exp(score) - 100))
    np.testing.assert_array_equal(one.true, other.true)
    np.testing.assert_array_equal(one.false, other.false)
    turned = roc.curve(-score, positive, seed, SEEDS)
    total = at(roc.auroc, one, np.ones(SEEDS)) + at(roc.auroc, turned, np.ones(SEEDS))
    assert total == pytest.approx(1)


def test_by_hand_with_a_tie() -> None:
    """Positives 3, 1, 2 and negatives 0, 1, 2: of 9 pairs 6 are won and 2 tied."""
    score = np.array([3.0, 1, 2, 0, 1, 2])
    curve = roc.curve(score, np.arange(6) < 3, np.array([0, 0, 1, 0, 0, 1]), 2)
    assert at(roc.auroc, curve, np.ones(2)) == 7 / 9
    assert at(roc.tpr_at_fpr(0.0), curve, np.ones(2)) == 1 / 3
    assert at(roc.fpr_at_tpr(0.95), curve, np.ones(2)) == 2 / 3
    assert (curve.positives, curve.negatives, curve.tied) == (3, 3, False)


def test_no_score_takes_no_rank() -> None:
    score = np.array([-1.0, np.nan, -3.0, -2.0, np.nan])
    curve = roc.curve(score, np.array([True, True, False, False, False]), np.zeros(5, int), 1)
    assert (curve.positives, curve.negatives, curve.unscored) == (1, 2, 2)
    assert at(roc.auroc, curve, np.ones(1)) == 1.0
    as_zero = roc.curve(
        np.nan_to_num(score), np.array([True, True, False, False, False]), np.zeros(5, int), 1
    )
    assert at(roc.auroc, as_zero, np.ones(1)) != 1.0


def test_corners_of_the_curve_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    score, positive = rng.integers(0, 30, 200).astype(float), rng.random(200) < 0.4
    curve = roc.curve(score, positive, rng.integers(0, 2, 200), 2)
    false, true = curve.points()
    fpr, tpr, _ = roc_curve(positive, score, drop_intermediate=False)
    assert len(false) <= len(fpr)
    np.testing.assert_allclose(np.interp(fpr, false, true), np.interp(fpr, fpr, tpr))
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)


def test_resamples_taken_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    curve = roc.curve(rng.normal(size=50), rng.random(50) < 0.5, rng.integers(0, 4, 50), 4)
    weights = rng.integers(0, 3, (30, 4)).astype(float)
    whole = curve.statistic(roc.auroc)(weights)
    monkeypatch.setattr(roc, "CHUNK", 60)
    np.testing.assert_array_equal(curve.statistic(roc.auroc)(weights), whole)
