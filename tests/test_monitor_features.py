"""Feature monitors against plain formulas written out anew."""

from __future__ import annotations

import numpy as np
import pytest
from finite_worlds import maze

from delegate import monitors
from delegate.monitors import Monitor, Reference, Steps, World
from delegate.recall import ExactBacktrackingModel

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(9, 3)) * [1.0, 10.0, 0.0] + [0.0, 5.0, 2.0]
"""three features of nine cells; the last one never varies"""


def features(level: np.ndarray, goal: np.ndarray, state: np.ndarray) -> np.ndarray:
    return TABLE[state].astype(np.float32)


WORLD = World(ExactBacktrackingModel(maze(["...", "...", "..."])), features)


def steps(count: int, seed: int) -> Steps:
    rng = np.random.default_rng(seed)
    zero = np.zeros(count, int)
    return Steps(zero, zero, zero, rng.integers(0, 4, count), rng.integers(0, 9, count), zero > 0)


NOMINAL = Reference(steps(200, 1), np.repeat(np.arange(20), 10))


def vectors(given: Steps, action: bool) -> np.ndarray:
    seen = features(given.level, given.goal, given.next_state).astype(float)
    return np.hstack([seen, np.eye(4)[given.action]]) if action else seen


def standardised(given: Steps, action: bool) -> np.ndarray:
    reference = vectors(NOMINAL.steps, action)
    scale = np.maximum(reference.std(0), 1e-3)
    return (vectors(given, action) - reference.mean(0)) / scale


def fitted(name: str, **settings: object) -> Monitor:
    monitor = monitors.make(name, **settings)
    monitor.fit(NOMINAL, WORLD)
    return monitor


def test_nearest_neighbours_is_the_kth_distance() -> None:
    asked = steps(30, 2)
    x, reference = standardised(asked, True), standardised(NOMINAL.steps, True)
    distances = np.sort(np.linalg.norm(x[:, None] - reference, axis=2), axis=1)
    for k in (1, 7):
        score, _ = fitted("nearest_neighbours", neighbours=k).score(asked, {})
        np.testing.assert_allclose(score, distances[:, k - 1], atol=1e-6)
    score, _ = fitted("nearest_neighbours", neighbours=500).score(asked, {})
    np.testing.assert_allclose(score, distances[:, -1], atol=1e-6)


def test_state_density_is_the_kernel_density_and_sees_no_action() -> None:
    asked = steps(30, 3)
    x, reference = standardised(asked, False), standardised(NOMINAL.steps, False)
    width = 0.4
    squares = ((x[:, None] - reference) ** 2).sum(2) / width**2
    density = np.exp(-squares / 2).mean(1) / (2 * np.pi * width**2) ** 1.5
    score, _ = fitted("state_density", bandwidth=width).score(asked, {})
    np.testing.assert_allclose(score, -np.log(density), atol=1e-6)
    other = Steps(**{**vars(asked), "action": (asked.action + 1) % 4})
    np.testing.assert_array_equal(
        fitted("state_density", bandwidth=width).score(other, {})[0], score
    )


def test_mahalanobis_sees_correlation_that_no_feature_shows_alone() -> None:
    """Two features that always agree; a state where they differ, each within its range."""
    table = np.array([[-1.0, -1], [-0.5, -0.5], [0.5, 0.5], [1.0, 1], [1, -1]])
    world = World(ExactBacktrackingModel(maze(["....."])), lambda level, goal, state: table[state])
    rng = np.random.default_rng(0)
    zero = np.zeros(400, int)
    nominal = Steps(zero, zero, zero, zero, rng.integers(0, 4, 400), zero > 0)
    monitor = monitors.make("mahalanobis")
    monitor.fit(Reference(nominal, zero), world)
    five = np.zeros(5, int)
    score, _ = monitor.score(Steps(five, five, five, five, np.arange(5), five > 0), {})
    assert score[4] > 5 * score[:4].max()


def test_mahalanobis_is_its_quadratic_form() -> None:
    from sklearn.covariance import LedoitWolf

    asked = steps(30, 4)
    fit = LedoitWolf().fit(standardised(NOMINAL.steps, True))
    away = standardised(asked, True) - fit.location_
    expected = [row @ np.linalg.inv(fit.covariance_) @ row for row in away]
    score, _ = fitted("mahalanobis").score(asked, {})
    np.testing.assert_allclose(score, expected, rtol=1e-6)


def test_episode_mean_is_the_distance_of_the_mean_so_far() -> None:
    monitor = fitted("episode_mean")
    whole = vectors(NOMINAL.steps, False).reshape(20, 10, 3).mean(1)
    scale = np.maximum(whole.std(0), 1e-3)
    memory, seen = monitor.start(4), []
    for t in range(6):
        asked = steps(4, 10 + t)
        seen.append(vectors(asked, False))
        score, memory = monitor.score(asked, memory)
        away = (np.mean(seen, axis=0) - whole.mean(0)) / scale
        np.testing.assert_allclose(score, np.sqrt((away**2).mean(1)), rtol=1e-9)


@pytest.mark.parametrize("name", ["nearest_neighbours", "state_density", "mahalanobis"])
def test_the_kept_reference_is_bounded_and_the_same_each_time(name: str) -> None:
    asked = steps(30, 5)
    first, again, other, whole = (
        fitted(name, max_reference=size, seed=seed).score(asked, {})[0]
        for size, seed in ((50, 0), (50, 0), (50, 1), (200, 0))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != whole).any()
    np.testing.assert_array_equal(whole, fitted(name, max_reference=999).score(asked, {})[0])


@pytest.mark.parametrize("name", ["nearest_neighbours", "state_density", "mahalanobis"])
def test_remembered_scores_are_the_scores(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked twice, in parts, after forgetting, and of another world."""
    from delegate.monitors import features as module

    asked = steps(60, 6)
    fresh = fitted(name).score(asked, {})[0]
    monitor = fitted(name)
    monitor.score(asked.take(np.arange(0, 60, 3)), {})
    np.testing.assert_array_equal(monitor.score(asked, {})[0], fresh)
    np.testing.assert_array_equal(monitor.score(asked, {})[0], fresh)
    assert len(monitor._codes) > 20  # type: ignore[attr-defined]
    monkeypatch.setattr(module, "_SCORES_KEPT", 5)
    np.testing.assert_array_equal(monitor.score(asked.take(np.arange(3)), {})[0], fresh[:3])
    assert len(monitor._codes) <= 4, "what was kept beyond the bound is forgotten"  # type: ignore[attr-defined]
    np.testing.assert_array_equal(monitor.score(asked, {})[0], fresh)
    monitor.bind(World(WORLD.model, lambda level, goal, state: TABLE[state] + 1.0))
    assert (monitor.score(asked, {})[0] != fresh).any()


@pytest.mark.parametrize("name", ["nearest_neighbours", "state_density", "mahalanobis"])
def test_too_small_a_reference_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"monitor {name}: 1 reference transitions; give 2"):
        monitors.make(name).fit(Reference(steps(1, 0), np.zeros(1, int)), WORLD)


@pytest.mark.parametrize(
    ("name", "smallest"),
    [
        ("state_density", {"bandwidth": 1e-6, "min_scale": 1e-9}),
        ("mahalanobis", {"min_scale": 1e-9}),
        ("nearest_neighbours", {"min_scale": 1e-9}),
        ("episode_mean", {"min_scale": 1e-9}),
    ],
)
def test_what_features_are_divided_by_cannot_be_so_small_that_scores_overflow(
    name: str, smallest: dict[str, float]
) -> None:
    """The third feature never varied; a world where it is 3e38 is as far as float32 goes."""
    far = World(WORLD.model, lambda level, goal, state: np.full((len(state), 3), 3e38, np.float32))
    monitor = fitted(name, **smallest)
    monitor.bind(far)
    score, _ = monitor.score(steps(5, 3), monitor.start(5))
    assert np.isfinite(score).all()
    assert (score > 1e9).all()
    for setting, bound in smallest.items():
        with pytest.raises(ValueError, match=f"monitor {name}: {setting}"):
            monitors.make(name, **{setting: bound / 10})
