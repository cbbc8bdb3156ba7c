"""What every monitor owes, and the sign of each on cases made for it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from finite_worlds import maze
from hypothesis import given, settings
from hypothesis import strategies as st

from delegate import monitors
from delegate.monitors import Control, Memory, Monitor, Reference, Steps, TablePlanner, Truth, World
from delegate.recall import ExactBacktrackingModel, ExactReachability, Landmarks, TransitionTable

SIDE = 5
GOAL, FAR = 0, 24
UP, RIGHT, DOWN, LEFT = range(4)


def open_room(usual: int) -> World:
    """Two levels of an open 5x5 room, nothing terminal; features are goal-relative.

    usual: where the landmark lies at which all nominal walks end
    """
    table = maze(["....."] * SIDE)
    both = TransitionTable(**{n: np.repeat(getattr(table, n), 2, axis=0) for n in vars(table)})

    def features(level: np.ndarray, goal: np.ndarray, state: np.ndarray) -> np.ndarray:
        down, right = goal // SIDE - state // SIDE, goal % SIDE - state % SIDE
        return np.stack([down, right, level], axis=1).astype(np.float32)

    return World(
        ExactBacktrackingModel(both),
        features,
        ExactReachability(both),
        Landmarks(("goal", "usual", "middle"), np.array([[GOAL, usual, 12]] * 2), both.valid),
        TablePlanner(both),
    )


TRAINING, WORLD = open_room(GOAL), open_room(FAR)
LANDS = WORLD.model.table.next_state[0, :, :, 0]  # type: ignore[attr-defined]
NOTHING_TO_LEARN = ("random", "constant", "arrival", "oracle")


def walks(
    count: int, length: int, seed: int, towards: int = GOAL, goal: int = GOAL, noise: float = 0.1
) -> Reference:
    """`count` walks of `length` steps from random cells to `towards`, sent to `goal`.

    They go left and up (or right and down) at random, and anywhere with probability `noise`.
    """
    rng = np.random.default_rng(seed)
    state = rng.integers(0, SIDE * SIDE, count)
    columns: list[list[np.ndarray]] = []
    for t in range(length):
        right, down = towards % SIDE - state % SIDE, towards // SIDE - state // SIDE
        sideways = np.where(right > 0, RIGHT, LEFT)
        upright = np.where(down > 0, DOWN, UP)
        first = rng.random(count) < 0.5
        action = np.where((right != 0) & (first | (down == 0)), sideways, upright)
        action = np.where(rng.random(count) < noise, rng.integers(0, 4, count), action)
        after = LANDS[state, action]
        ended = np.full(count, t == length - 1)
        level = np.arange(count) % 2
        columns.append([level, np.full(count, goal), state, action, after, ended])
        state = after
    merged = [np.concatenate(column) for column in zip(*columns, strict=True)]
    truth = Truth(np.full(count * length, 1 if towards == goal else 2, np.int8))
    return Reference(Steps(*merged), np.tile(np.arange(count), length), truth)


NOMINAL = walks(60, 12, seed=0)


def fitted(name: str, **given_settings: object) -> Monitor:
    monitor = monitors.make(name, **given_settings)
    monitor.fit(NOMINAL, TRAINING)
    monitor.bind(WORLD)
    return monitor


def ask(monitor: Monitor, recorded: Reference, rows: np.ndarray, memory: Memory) -> Any:
    """The score of those transitions and the memory after; a control is told the truth."""
    assert recorded.truth is not None
    return monitors.scored(monitor, recorded.steps.take(rows), recorded.truth.take(rows), memory)


def in_lockstep(monitor: Monitor, recorded: Reference, rows: np.ndarray) -> np.ndarray:
    """Scores [T, n] of sub-episodes `rows`, side by side in that order; all of equal length."""
    count = len(np.unique(recorded.sub_episode))
    memory, scores = monitor.start(len(rows)), []
    for t in range(len(recorded.sub_episode) // count):
        score, memory = ask(monitor, recorded, t * count + rows, memory)
        scores.append(score)
    return np.array(scores)


@pytest.mark.parametrize("name", monitors.ids())
def test_rows_do_not_influence_each_other(name: str) -> None:
    """All at once, shuffled, and each alone: the same scores to the last bit."""
    recorded, monitor = walks(9, 8, seed=1, towards=FAR), fitted(name)
    together = in_lockstep(monitor, recorded, np.arange(9))
    shuffled = np.random.default_rng(0).permutation(9)
    for rows in (shuffled, *np.arange(9)[:, None]):
        monitor.bind(WORLD)  # what was computed for all rows is forgotten
        np.testing.assert_array_equal(in_lockstep(monitor, recorded, rows), together[:, rows])


@pytest.mark.parametrize("name", monitors.ids())
def test_score_leaves_its_arguments_alone_and_can_be_asked_again(name: str) -> None:
    """What a rollback relies on: old memory put back gives the old scores again."""
    monitor = fitted(name)
    recorded = walks(6, 5, seed=2)
    memory = monitor.start(6)
    for t in range(5):
        rows = np.arange(6) + t * 6
        steps = recorded.steps.take(rows)
        kept = {key: array.copy() for key, array in memory.items()}
        columns = {key: array.copy() for key, array in vars(steps).items()}
        first, after = ask(monitor, recorded, rows, memory)
        for key, array in memory.items():
            np.testing.assert_array_equal(array, kept[key])
        for key, array in vars(steps).items():
            np.testing.assert_array_equal(array, columns[key])
        again, _ = ask(monitor, recorded, rows, kept)
        np.testing.assert_array_equal(first, again)
        assert first.dtype == np.float64
        assert all(len(array) == 6 for array in after.values())
        memory = after


@pytest.mark.parametrize("name", monitors.ids())
def test_no_rows_is_no_trouble(name: str) -> None:
    monitor = fitted(name)
    score, memory = ask(monitor, NOMINAL, np.zeros(0, int), monitor.start(0))
    assert score.shape == (0,)
    assert all(len(array) == 0 for array in memory.values())


@pytest.mark.parametrize("name", monitors.ids())
def test_scores_are_finite_or_missing(name: str) -> None:
    score, value = monitors.play(
        fitted(name), monitors.make_statistic("mean"), walks(20, 15, seed=3, towards=FAR)
    )
    assert not np.isinf(score).any()
    assert not np.isinf(value).any()


KNOWS_NO_GOAL = ("random", "constant", "path")


@pytest.mark.parametrize("name", [n for n in monitors.ids() if n not in KNOWS_NO_GOAL])
def test_going_elsewhere_is_more_suspicious(name: str) -> None:
    """The sign, on ends and roads no reference took: to the far corner instead of the goal."""
    monitor = fitted(name)
    statistic = monitors.make_statistic(monitor.default_statistic)
    final = {}
    for child, towards in (("intended", GOAL), ("proxy", FAR)):
        recorded = walks(40, 12, seed=4, towards=towards)
        _, value = monitors.play(monitor, statistic, recorded)
        final[child] = value[-40:]
    pairs = final["proxy"][:, None] > final["intended"]
    assert pairs.mean() > 0.8


def test_an_odd_manner_is_more_suspicious_to_path() -> None:
    """Reference children rarely bump into a wall far from the goal; a counted model knows."""
    steps = NOMINAL.steps
    table: TransitionTable = WORLD.model.table  # type: ignore[attr-defined]
    counts = np.full(table.probability.shape[:3], 0.01)
    np.add.at(counts, (steps.level, steps.state, steps.action), 1)
    model = ExactBacktrackingModel(table, counts)
    monitor = monitors.make("path")
    monitor.bind(World(model, WORLD.features))
    zero = np.zeros(2, int)
    score, _ = monitor.score(
        Steps(zero, zero, np.array([8, 14]), np.array([LEFT, RIGHT]), np.array([7, 14]), zero > 0),
        {},
    )
    assert score[1] > score[0] + 1


def test_path_of_an_impossible_step_is_its_ceiling() -> None:
    monitor = fitted("path", ceiling=30.0)
    zero = np.zeros(1, int)
    score, _ = monitor.score(
        Steps(zero, zero, zero, np.array([RIGHT]), np.array([7]), zero > 0), {}
    )
    assert score[0] == 30.0


def test_reach_is_the_loss_of_log_h() -> None:
    zero = np.zeros(3, int)
    state, after = np.array([1, 6, 24]), np.array([0, 7, 24])
    steps = Steps(zero, zero + GOAL, state, zero, after, zero > 0)
    reach = ExactReachability(WORLD.model.table, (0.8,))  # type: ignore[attr-defined]
    h = reach.log_h(np.zeros(25, int), np.full((25, 1), GOAL), np.arange(25))[:, 0, 0]
    plain, _ = fitted("reach", discount=0.8).score(steps, {})
    np.testing.assert_allclose(plain, h[state] - h[after], atol=1e-6)
    assert plain[0] < 0 < plain[1]
    assert plain[2] == 0
    drifting, _ = fitted("reach", discount=0.8, drift=True).score(steps, {})
    np.testing.assert_allclose(drifting - plain, [-np.log(0.8), -np.log(0.8), 0], atol=1e-6)


def test_reach_with_drift_counts_loitering() -> None:
    """There and back again: nothing is lost of h, and -log λ at every step."""
    pacing = np.tile([6, 7], 10)
    zero = np.zeros(19, int)
    steps = Steps(zero, zero + GOAL, pacing[:-1], zero, pacing[1:], zero > 0)
    for drift, expected in ((False, 0.0), (True, 18 * np.log(2))):
        monitor, statistic = fitted("reach", drift=drift), monitors.make_statistic("drawdown")
        _, value = monitors.play(monitor, statistic, Reference(steps, zero))
        np.testing.assert_allclose(value[-2], expected, atol=1e-5)


@pytest.mark.parametrize("column", ["level", "goal", "state", "next_state"])
def test_negative_places_do_not_wrap_around(column: str) -> None:
    given_columns = {name: np.zeros(2, int) for name in vars(NOMINAL.steps)}
    given_columns[column] = np.array([0, -1])
    with pytest.raises(IndexError, match="-1 is not there"):
        fitted("reach").score(Steps(**{**given_columns, "ended": np.zeros(2, bool)}), {})


def test_destination_scores_ends_only() -> None:
    recorded = walks(5, 6, seed=5)
    scores = in_lockstep(fitted("destination"), recorded, np.arange(5))
    assert np.isnan(scores[:-1]).all()
    assert np.isfinite(scores[-1]).all()
    assert monitors.make("destination").scores_ends


@given(goal=st.integers(0, 24), length=st.integers(1, 10), smoothing=st.floats(0.01, 10))
@settings(max_examples=30, deadline=None)
def test_destination_is_a_probability_over_states(goal: int, length: int, smoothing: float) -> None:
    monitor = fitted("destination", length=length, smoothing=smoothing)
    states, zero = np.arange(25), np.zeros(25, int)
    ends = Steps(zero, zero + goal, zero, zero, states, zero == 0)
    score, _ = monitor.score(ends, {})
    np.testing.assert_allclose(np.exp(-score).sum(), 1.0)


def test_destination_counts_distances() -> None:
    """Three ends at the goal and one a step away, by hand; the goal's shell holds 2 cells more."""
    zero, level = np.zeros(4, int), np.array([0, 0, 1, 1])
    ends = Steps(level, zero, zero, zero, np.array([0, 0, 0, 1]), zero == 0)
    monitor = monitors.make("destination", length=1, smoothing=1.0)
    monitor.fit(Reference(ends, np.arange(4)), WORLD)
    asked = Steps(zero[:3], zero[:3], zero[:3], zero[:3], np.array([0, 5, 24]), zero[:3] == 0)
    score, _ = monitor.score(asked, {})
    np.testing.assert_allclose(np.exp(-score), [4 / 7, 2 / 7 / 2, 1 / 7 / 22])


def test_destination_needs_ends() -> None:
    steps = NOMINAL.steps.take(~NOMINAL.steps.ended)
    with pytest.raises(ValueError, match="no reference sub-episode has ended"):
        monitors.make("destination").fit(Reference(steps, np.arange(len(steps))), WORLD)


def test_random_is_uniform_seeded_and_knows_nothing_of_the_order() -> None:
    recorded = walks(400, 10, seed=6)
    scores = in_lockstep(fitted("random"), recorded, np.arange(400))
    assert 0 <= scores.min() < scores.max() < 1
    counts = np.histogram(scores, 10, (0, 1))[0]
    assert np.abs(counts - 400).max() < 5 * np.sqrt(400 * 0.9)
    assert abs(np.corrcoef(scores[:-1].ravel(), scores[1:].ravel())[0, 1]) < 0.06
    other = in_lockstep(fitted("random", seed=1), recorded, np.arange(400))
    assert (other != scores).all()


def test_random_tells_histories_apart() -> None:
    """Rows share a score as long as they have done the same, and never again after."""
    level = np.array([0, 0])
    monitor = fitted("random")
    memory: Memory = monitor.start(2)
    differs = []
    for after in ([1, 1], [2, 6], [3, 3], [4, 4]):
        zero = np.zeros(2, int)
        steps = Steps(level, zero, zero, zero, np.array(after), zero > 0)
        score, memory = monitor.score(steps, memory)
        differs.append(score[0] != score[1])
    assert differs == [False, True, True, True]


def test_the_oracle_reads_intent_and_nothing_else() -> None:
    zero = np.zeros(4, int)
    steps = Steps(zero, zero, zero, zero, zero, zero > 0)
    oracle = monitors.make("oracle")
    truth = Truth(np.array([-1, 0, 1, 2], np.int8))
    score, _ = monitors.scored(oracle, steps, truth, {})
    np.testing.assert_array_equal(score, [np.nan, 0.0, 0.0, 1.0])
    for name in monitors.ids():
        assert isinstance(monitors.make(name), Control) == (name == "oracle")
    with pytest.raises(ValueError, match="monitor oracle: nothing is known of the child"):
        monitors.scored(oracle, steps, None, {})
    with pytest.raises(ValueError, match="monitor oracle: reads what is true of the child"):
        oracle.score(steps, {})


def test_steps_carry_no_truth() -> None:
    """A monitor that is no control cannot read what the child pursues."""
    assert not {"intent", "truth"} & {field.name for field in fields(Steps)}


@pytest.mark.parametrize("name", [n for n in monitors.ids() if n not in NOTHING_TO_LEARN])
def test_unbound_monitors_say_what_is_missing(name: str) -> None:
    monitor = monitors.make(name)
    with pytest.raises(RuntimeError, match=f"monitor {name}: no(t fitted| world yet).*call"):
        monitor.score(NOMINAL.steps, monitor.start(len(NOMINAL.steps)))


def test_play_is_the_stream_and_peaks_are_its_highest_values() -> None:
    monitor, statistic = fitted("reach"), monitors.make_statistic("drawdown")
    recorded = walks(7, 9, seed=7, towards=FAR)
    keep = recorded.sub_episode + 2 < np.arange(63) // 7 + 5
    shortened = Reference(recorded.steps.take(keep), recorded.sub_episode[keep])
    score, value = monitors.play(monitor, statistic, shortened)
    ids, peak = monitors.peaks(value, shortened.sub_episode)
    np.testing.assert_array_equal(ids, np.unique(shortened.sub_episode))
    for row, child in enumerate(ids):
        of_child = shortened.sub_episode == child
        memory, running, expected = monitor.start(1), statistic.start(1), []
        for t in np.flatnonzero(of_child):
            one, memory = monitor.score(shortened.steps.take(np.array([t])), memory)
            assert one[0] == score[t]
            now, running = statistic.update(one, running)
            expected.append(now[0])
        np.testing.assert_array_equal(value[of_child], expected)
        assert peak[row] == max(expected)


def test_peaks_of_what_was_never_scored_are_missing() -> None:
    value = np.array([np.nan, 3.0, np.nan, 1.0, np.nan])
    ids, peak = monitors.peaks(value, np.array([5, 2, 5, 2, 2]))
    np.testing.assert_array_equal(ids, [2, 5])
    np.testing.assert_array_equal(peak, [3.0, np.nan])
    assert len(monitors.peaks(np.zeros(0), np.zeros(0, int))[1]) == 0


@pytest.mark.parametrize(
    ("name", "given_settings", "message"),
    [
        ("reech", {}, 'monitor "reech" is not known; did you mean "reach"'),
        ("neighbours", {}, 'monitor "neighbours" .* did you mean "nearest_neighbours"'),
        ("reach", {"dicsount": 3}, 'monitor reach: setting "dicsount" .* did you mean "discount"'),
        ("reach", {"discount": 1.5}, "monitor reach: discount is 1.5; give less than 1$"),
        ("planner_odds", {"child": "lost"}, "planner_odds: child is 'lost'; give 'noisy'"),
        ("destination", {"length": 0}, "monitor destination: length is 0; give at least 1$"),
        ("path", {"ceiling": float("inf")}, "monitor path: ceiling is inf"),
        (
            "state_density",
            {"bandwidth": "scot"},
            "monitor state_density: bandwidth is 'scot'; give a number, or give 'scott' or 'silv",
        ),
        ("oracle", {"seed": 1}, 'monitor oracle: setting "seed" is not known; there are none'),
    ],
)
def test_bad_names_and_settings_are_one_line(
    name: str, given_settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        monitors.make(name, **given_settings)
    assert "\n" not in str(error.value)


def test_steps_of_unequal_columns_are_refused() -> None:
    zero = np.zeros(2, int)
    with pytest.raises(ValueError, match=r"steps: action has shape \(3,\)"):
        Steps(zero, zero, zero, np.zeros(3, int), zero, zero > 0)
    with pytest.raises(ValueError, match="reference: sub_episode has shape"):
        Reference(Steps(zero, zero, zero, zero, zero, zero > 0), np.zeros(3, int))


def test_monitors_load_without_worlds_policies_or_torch() -> None:
    code = (
        "import sys, delegate.monitors, delegate.recall;"
        "heavy = ('delegate.envs', 'delegate.policies', 'torch', 'sklearn');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
