"""Running statistics against their definitions on whole sequences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delegate import monitors

score = st.one_of(st.floats(-100, 100), st.just(float("nan")))
sequence = st.lists(score, min_size=1, max_size=30)


def run(name: str, scores: np.ndarray, **settings: float) -> np.ndarray:
    """Values of one row, step by step: float64 [T]."""
    statistic = monitors.make_statistic(name, **settings)
    memory = statistic.start(1)
    values = np.zeros(len(scores))
    for t, given_score in enumerate(scores):
        value, memory = statistic.update(np.array([given_score]), memory)
        values[t] = value[0]
    return values


def defined(name: str, seen: np.ndarray) -> float:
    """The statistic of all scores so far by its definition; seen: float64 [t], no NaN, t >= 1."""
    total = np.concatenate([[0.0], np.cumsum(seen)])
    lowest_since = total[-1] - total.min()
    definitions = {
        "last": seen[-1],
        "mean": seen.mean(),
        "sum": total[-1],
        "max": seen.max(),
        "drawdown": lowest_since,
        "cusum": lowest_since,
    }
    return float(definitions[name])


@pytest.mark.parametrize("name", monitors.statistic_ids())
@given(scores=sequence)
def test_statistics_are_what_they_say(name: str, scores: list[float]) -> None:
    given_scores = np.array(scores)
    values = run(name, given_scores)
    for t in range(len(scores)):
        seen = given_scores[: t + 1]
        seen = seen[~np.isnan(seen)]
        if len(seen):
            assert values[t] == pytest.approx(defined(name, seen), abs=1e-9)
        else:
            assert np.isnan(values[t])


@given(levels=st.lists(st.floats(-50, 50), min_size=2, max_size=30))
def test_drawdown_is_the_running_maximum_minus_now(levels: list[float]) -> None:
    """Of the losses of a quantity (reach: of log B) it is the best so far minus the present."""
    quantity = np.array(levels)
    expected = np.maximum.accumulate(quantity) - quantity
    np.testing.assert_allclose(run("drawdown", -np.diff(quantity)), expected[1:], atol=1e-9)


@given(scores=sequence)
def test_cusum_without_drift_is_drawdown(scores: list[float]) -> None:
    np.testing.assert_array_equal(run("cusum", np.array(scores)), run("drawdown", np.array(scores)))


@given(scores=sequence, drift=st.floats(0, 10))
def test_cusum_forgets_by_its_drift(scores: list[float], drift: float) -> None:
    given_scores = np.array(scores)
    expected, value = [], float("nan")
    for one in given_scores:
        if not np.isnan(one):
            value = max(0.0, (0.0 if np.isnan(value) else value) + one - drift)
        expected.append(value)
    np.testing.assert_array_equal(run("cusum", given_scores, drift=drift), expected)


@pytest.mark.parametrize("name", monitors.statistic_ids())
def test_rows_do_not_influence_each_other_and_memory_is_left_alone(name: str) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(12, 5))
    scores[rng.random(scores.shape) < 0.3] = np.nan
    scores[:2, 0] = np.nan
    statistic = monitors.make_statistic(name)
    memory = statistic.start(5)
    for t in range(12):
        before = {key: array.copy() for key, array in memory.items()}
        value, after = statistic.update(scores[t], memory)
        for key, array in memory.items():
            np.testing.assert_array_equal(array, before[key])
        for row in range(5):
            np.testing.assert_array_equal(value[row], run(name, scores[: t + 1, row])[-1])
        memory = after


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
@pytest.mark.parametrize("name", monitors.statistic_ids())
def test_an_infinite_score_is_refused_and_the_highest_number_is_not(
    name: str, infinite: float
) -> None:
    statistic = monitors.make_statistic(name)
    memory = statistic.start(3)
    with pytest.raises(
        monitors.ScoreNotFinite, match=f"the score is {infinite}; bound it"
    ) as error:
        statistic.update(np.array([0.0, np.nan, infinite]), memory)
    assert error.value.row == 2
    highest = np.nextafter(infinite, 0.0)
    value, _ = statistic.update(np.array([0.0, np.nan, highest]), memory)
    assert not np.isinf(value).any()


@pytest.mark.parametrize("name", ["mean", "sum", "cusum", "drawdown"])
def test_scores_that_add_up_to_infinity_are_refused(name: str) -> None:
    """Two of 1e308 do; `last` and `max` add nothing."""
    with pytest.raises(monitors.ScoreNotFinite, match=f"the {name} of its scores is inf"):
        run(name, np.array([1e308, 1e308]))
    for other in ("last", "max"):
        assert run(other, np.array([1e308, 1e308]))[-1] == 1e308
    assert run(name, np.array([8e307, 8e307])).max() > 0


def test_names_tell_the_settings() -> None:
    assert monitors.make_statistic("mean").name == "mean"
    assert monitors.make_statistic("cusum", drift=0.5).name == "cusum(drift=0.5)"


@pytest.mark.parametrize(
    ("name", "given_settings", "message"),
    [
        ("cumsum", {}, 'statistic "cumsum" is not known; did you mean "cusum"'),
        ("cusum", {"drit": 1}, 'setting "drit" is not known; did you mean "drift"'),
        ("cusum", {"drift": -1}, "statistic cusum: drift is -1; give at least 0$"),
        ("mean", {"drift": 1}, 'statistic mean: setting "drift" is not known; there are none'),
    ],
)
def test_bad_names_and_settings_are_one_line(
    name: str, given_settings: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        monitors.make_statistic(name, **given_settings)
    assert "\n" not in str(error.value)
