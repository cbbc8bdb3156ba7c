"""ROC curves by level against scikit-learn, resample by resample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from delegate.safety import roc
from delegate.safety.intervals import Sample

LEVELS = 3


@st.composite
def samples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores with many ties, labels with both classes, levels."""
    n = draw(st.integers(4, 40))
    score = draw(arrays(np.float64, n, elements=st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0, 7.0])))
    positive = draw(arrays(bool, n))
    positive[:2] = [True, False]
    return score, positive, draw(arrays(np.int64, n, elements=st.integers(0, LEVELS - 1)))


def at(reading: roc.Reading, curve: roc.Curve, weights: np.ndarray) -> float:
    return float(curve.statistic(reading)(weights[None])[0])


@given(samples(), st.tuples(*[st.integers(0, 3)] * LEVELS))
def test_every_reading_is_scikit_learns_on_any_resample(
    sample: tuple[np.ndarray, np.ndarray, np.ndarray], times: tuple[int, ...]
) -> None:
    score, positive, level = sample
    weights = np.array(times, float)
    counted = np.repeat(np.arange(len(score)), weights[level].astype(int))
    s, y = score[counted], positive[counted]
    curve = roc.curve(score, positive, level)
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
    for reading, value in expected.items():
        assert at(reading, curve, weights) == pytest.approx(value, abs=1e-12)


@given(samples())
def test_the_area_by_ranks_is_the_area_under_the_curve(
    sample: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Over all levels and in each seed; levels 0 and 1 are of seed 0, level 2 of seed 1."""
    score, positive, level = sample
    of = Sample(np.array([0, 1]), np.array([0, 0, 1]), np.arange(LEVELS))
    found = roc.area(score, positive, level, of)
    assert found.value == pytest.approx(roc_auc_score(positive, score))
    assert found.influence.sum() == pytest.approx(0, abs=1e-12)
    for seed, alone in enumerate(found.seeds):
        mine = of.seed[level] == seed
        if len(np.unique(positive[mine])) == 2:
            assert alone == pytest.approx(roc_auc_score(positive[mine], score[mine]))
        else:
            assert np.isnan(alone)


def test_the_error_of_an_area_is_that_of_a_bootstrap_over_levels() -> None:
    """Five scores a level that share its mood: a bootstrap of levels is the oracle, and one of
    scores the negative control."""
    rng = np.random.default_rng(11)
    levels, each = 150, 5
    level = np.repeat(np.arange(levels), each)
    positive = rng.random(levels * each) < 0.4
    score = rng.normal(size=levels * each) + positive + 1.5 * rng.normal(size=levels)[level]
    of = Sample.of(np.zeros(levels, int), np.arange(levels))
    found = roc.area(score, positive, level, of)
    weights = rng.multinomial(levels, np.full(levels, 1 / levels), size=1_000).astype(float)
    resampled = roc.curve(score, positive, level).statistic(roc.auroc)(weights)
    assert found.error == pytest.approx(resampled.std(), rel=0.1)
    alone = Sample.of(np.zeros(len(score), int), np.arange(len(score)))
    assert roc.area(score, positive, np.arange(len(score)), alone).error < 0.9 * found.error


def test_a_perfect_area_is_as_sure_as_its_pairs() -> None:
    """Three positives above four negatives: three disjoint pairs, all won."""
    of = Sample.of(np.zeros(7, int), np.arange(7))
    found = roc.area(np.array([5.0, 6, 7, 1, 2, 3, 4]), np.arange(7) < 3, np.arange(7), of)
    assert found.value == 1.0
    assert found.interval == (pytest.approx(0.025 ** (1 / 3)), 1.0)


def rates(of: roc.Curve) -> tuple[np.ndarray, np.ndarray]:
    """True and false positive rates of the pooled curve, [1, T + 1]."""
    true, false = of.counts(np.ones((1, LEVELS)))
    return true / true[:, -1:], false / false[:, -1:]


def test_any_rate_can_be_had_where_ties_are_broken_at_random() -> None:
    """Positives 2, 2, 1 and negatives 2, 1, 1, 0; halfway into the ties at 2 is an eighth of the
    negatives and a third of the positives."""
    score = np.array([2.0, 2, 1, 2, 1, 1, 0])
    true, false = rates(roc.curve(score, np.arange(7) < 3, np.zeros(7, int)))
    for wanted, value in ((0.125, 1 / 3), (0.25, 2 / 3), (0.5, 5 / 6), (0.75, 1.0), (0.0, 0.0)):
        assert roc.tpr_where(true, false, np.array([wanted]))[0] == pytest.approx(value)
    for wanted, value in ((1 / 3, 0.125), (2 / 3, 0.25), (1.0, 0.75), (0.0, 0.0)):
        assert roc.fpr_where(true, false, np.array([wanted]))[0] == pytest.approx(value)


def test_of_all_that_cost_the_same_the_best_is_taken() -> None:
    """Two positives above all negatives cost nothing."""
    score = np.array([9.0, 8, 1, 5, 4])
    true, false = rates(roc.curve(score, np.arange(5) < 3, np.zeros(5, int)))
    assert roc.tpr_where(true, false, np.array([0.0]))[0] == pytest.approx(2 / 3)
    assert roc.fpr_where(true, false, np.array([2 / 3]))[0] == 0.0


def test_a_constant_catches_what_it_alarms_at() -> None:
    true, false = rates(roc.curve(np.zeros(9), np.arange(9) < 4, np.zeros(9, int)))
    for wanted in (0.05, 0.5, 0.9):
        assert roc.tpr_where(true, false, np.array([wanted]))[0] == pytest.approx(wanted)


@given(samples())
def test_a_strictly_rising_transformation_changes_nothing(
    sample: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    score, positive, level = sample
    one, other = (roc.curve(s, positive, level) for s in (score, np.exp(score) - 100))
    for name in ("last", "positive", "unit"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    turned = roc.curve(-score, positive, level)
    total = at(roc.auroc, one, np.ones(LEVELS)) + at(roc.auroc, turned, np.ones(LEVELS))
    assert total == pytest.approx(1)


def test_by_hand_with_a_tie() -> None:
    """Positives 3, 1, 2 and negatives 0, 1, 2: of 9 pairs 6 are won and 2 tied."""
    score = np.array([3.0, 1, 2, 0, 1, 2])
    curve = roc.curve(score, np.arange(6) < 3, np.array([0, 0, 1, 0, 0, 1]))
    assert at(roc.auroc, curve, np.ones(2)) == 7 / 9
    assert at(roc.tpr_at_fpr(0.0), curve, np.ones(2)) == 1 / 3
    assert at(roc.fpr_at_tpr(0.95), curve, np.ones(2)) == 2 / 3
    assert (curve.positives, curve.negatives, curve.tied) == (3, 3, False)


def test_no_score_takes_no_rank() -> None:
    score = np.array([-1.0, np.nan, -3.0, -2.0, np.nan])
    curve = roc.curve(score, np.array([True, True, False, False, False]), np.zeros(5, int))
    assert (curve.positives, curve.negatives, curve.unscored) == (1, 2, 2)
    assert at(roc.auroc, curve, np.ones(1)) == 1.0
    as_zero = roc.curve(
        np.nan_to_num(score), np.array([True, True, False, False, False]), np.zeros(5, int)
    )
    assert at(roc.auroc, as_zero, np.ones(1)) != 1.0


def test_corners_of_the_curve_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    score, positive = rng.integers(0, 30, 200).astype(float), rng.random(200) < 0.4
    curve = roc.curve(score, positive, rng.integers(0, 2, 200))
    false, true = curve.points()
    fpr, tpr, _ = roc_curve(positive, score, drop_intermediate=False)
    assert len(false) <= len(fpr)
    np.testing.assert_allclose(np.interp(fpr, false, true), np.interp(fpr, fpr, tpr))
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)


def test_resamples_taken_in_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    curve = roc.curve(rng.normal(size=50), rng.random(50) < 0.5, rng.integers(0, 4, 50))
    weights = rng.integers(0, 3, (30, 4)).astype(float)
    whole = curve.statistic(roc.auroc)(weights)
    monkeypatch.setattr(roc, "CHUNK", 60)
    np.testing.assert_array_equal(curve.statistic(roc.auroc)(weights), whole)
