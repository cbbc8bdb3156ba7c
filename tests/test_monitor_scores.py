"""What every monitor owes, and the sign of each on cases made for it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from finite_worlds import maze
from hypothesis import given, settings
from hypothesis import strategies as st

from delegate import monitors
from delegate.monitors import Memory, Monitor, Reference, Steps, World
from delegate.recall import ExactBacktrackingModel, TransitionTable

SIDE = 5
GOAL, FAR = 0, 24
UP, RIGHT, DOWN, LEFT = range(4)


def open_room() -> World:
    """Two levels of an open 5x5 room, nothing terminal; features are goal-relative."""
    table = maze(["....."] * SIDE)
    both = {name: np.repeat(getattr(table, name), 2, axis=0) for name in vars(table)}
    model = ExactBacktrackingModel(TransitionTable(**both))

    def features(level: np.ndarray, goal: np.ndarray, state: np.ndarray) -> np.ndarray:
        down, right = goal // SIDE - state // SIDE, goal % SIDE - state % SIDE
        return np.stack([down, right, level], axis=1).astype(np.float32)

    return World(model, features)


WORLD = open_room()
LANDS = WORLD.model.table.next_state[0, :, :, 0]  # type: ignore[attr-defined]


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
    intent = np.full(count * length, 1 if towards == goal else 2, np.int8)
    return Reference(Steps(*merged, intent), np.tile(np.arange(count), length))


NOMINAL = walks(60, 12, seed=0)


def fitted(name: str, **given_settings: object) -> Monitor:
    monitor = monitors.make(name, **given_settings)
    monitor.fit(NOMINAL, WORLD)
    return monitor


def in_lockstep(monitor: Monitor, recorded: Reference, rows: np.ndarray) -> np.ndarray:
    """Scores [T, n] of sub-episodes `rows`, side by side in that order; all of equal length."""
    count = len(np.unique(recorded.sub_episode))
    memory, scores = monitor.start(len(rows)), []
    for t in range(len(recorded.sub_episode) // count):
        score, memory = monitor.score(recorded.steps.take(t * count + rows), memory)
        scores.append(score)
    return np.array(scores)


@pytest.mark.parametrize("name", monitors.ids())
def test_rows_do_not_influence_each_other(name: str) -> None:
    """All at once, shuffled, and each alone: the same scores to the last bit."""
    recorded = walks(9, 8, seed=1, towards=FAR)
    together = in_lockstep(fitted(name), recorded, np.arange(9))
    shuffled = np.random.default_rng(0).permutation(9)
    np.testing.assert_array_equal(
        in_lockstep(fitted(name), recorded, shuffled), together[:, shuffled]
    )
    for row in range(9):
        alone = in_lockstep(fitted(name), recorded, np.array([row]))
        np.testing.assert_array_equal(alone[:, 0], together[:, row])


@pytest.mark.parametrize("name", monitors.ids())
def test_score_leaves_its_arguments_alone_and_can_be_asked_again(name: str) -> None:
    """What a rollback relies on: old memory put back gives the old scores again."""
    monitor = fitted(name)
    recorded = walks(6, 5, seed=2)
    memory = monitor.start(6)
    for t in range(5):
        steps = recorded.steps.take(np.arange(6) + t * 6)
        kept = {key: array.copy() for key, array in memory.items()}
        columns = {key: array.copy() for key, array in vars(steps).items()}
        first, after = monitor.score(steps, memory)
        for key, array in memory.items():
            np.testing.assert_array_equal(array, kept[key])
        for key, array in vars(steps).items():
            np.testing.assert_array_equal(array, columns[key])
        again, _ = monitor.score(steps, kept)
        np.testing.assert_array_equal(first, again)
        assert first.dtype == np.float64
        assert all(len(array) == 6 for array in after.values())
        memory = after


@pytest.mark.parametrize("name", monitors.ids())
def test_no_rows_is_no_trouble(name: str) -> None:
    monitor = fitted(name)
    none = np.zeros(0, int)
    score, memory = monitor.score(NOMINAL.steps.take(none), monitor.start(0))
    assert score.shape == (0,)
    assert all(len(array) == 0 for array in memory.values())


@pytest.mark.parametrize("name", monitors.ids())
def test_scores_are_finite_or_missing(name: str) -> None:
    score, value = monitors.play(
        fitted(name), monitors.make_statistic("mean"), walks(20, 15, seed=3, towards=FAR)
    )
    assert not np.isinf(score).any()
    assert not np.isinf(value).any()


@pytest.mark.parametrize("name", [n for n in monitors.ids() if n not in ("random", "path")])
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


def test_reach_is_the_loss_of_log_b() -> None:
    log_b = WORLD.model.reachability(np.array([GOAL]), 40, 0.8, np.array([1]))[0]
    zero = np.zeros(3, int)
    state, after = np.array([1, 6, 24]), np.array([0, 7, 24])
    steps = Steps(zero + 1, zero + GOAL, state, zero, after, zero > 0)
    change, _ = fitted("reach", length=40, discount=0.8).score(steps, {})
    np.testing.assert_array_equal(change, log_b[state] - log_b[after])
    assert change[0] < 0 < change[1]
    assert change[2] == 0
    level, _ = fitted("reach", length=40, discount=0.8, form="level").score(steps, {})
    np.testing.assert_array_equal(level, -log_b[after])


def test_reach_beyond_every_trace_is_its_floor() -> None:
    """With traces of 2 steps, all that is farther than 2 steps counts as -20 nats."""
    monitor = fitted("reach", length=2, discount=0.5, floor=-20.0)
    zero = np.zeros(3, int)
    steps = Steps(zero, zero + GOAL, np.array([2, 3, 24]), zero, np.array([3, 2, 23]), zero > 0)
    score, _ = monitor.score(steps, {})
    at_two = WORLD.model.reachability(np.array([GOAL]), 2, 0.5, np.array([0]))[0, 2]
    np.testing.assert_allclose(score, [at_two + 20, -20 - at_two, 0.0])


def test_reach_asks_the_model_once_a_pair() -> None:
    asked: list[tuple[int, int]] = []

    class Counted(ExactBacktrackingModel):
        def reachability(self, goal, length, discount, level=None):  # type: ignore[no-untyped-def]
            asked.extend(zip(level.tolist(), goal.tolist(), strict=True))
            return super().reachability(goal, length, discount, level)

    monitor = monitors.make("reach")
    monitor.bind(World(Counted(WORLD.model.table), WORLD.features))  # type: ignore[attr-defined]
    zero = np.zeros(6, int)
    for goal in ([0, 0, 3, 3, 0, 3], [0, 1, 3, 0, 3, 1]):
        level = np.array([0, 1, 0, 0, 0, 1])
        monitor.score(Steps(level, np.array(goal), zero, zero, zero + 1, zero > 0), {})
    assert sorted(asked) == [(0, 0), (0, 3), (1, 0), (1, 1), (1, 3)]


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


def test_oracle_reads_intent_and_nothing_else() -> None:
    zero = np.zeros(4, int)
    steps = Steps(zero, zero, zero, zero, zero, zero > 0, np.array([-1, 0, 1, 2], np.int8))
    score, _ = monitors.make("oracle").score(steps, {})
    np.testing.assert_array_equal(score, [np.nan, 0.0, 0.0, 1.0])
    assert monitors.make("oracle").privileged
    unread = [name for name in monitors.ids() if not monitors.make(name).privileged]
    assert unread == [name for name in monitors.ids() if name != "oracle"]
    with pytest.raises(ValueError, match="steps carry no intent"):
        monitors.make("oracle").score(Steps(zero, zero, zero, zero, zero, zero > 0), {})


@pytest.mark.parametrize("name", [n for n in monitors.ids() if n != "oracle"])
def test_only_privileged_monitors_see_intent(name: str) -> None:
    monitor = fitted(name)
    steps = NOMINAL.steps.take(np.arange(60))
    hidden = Steps(**{**vars(steps), "intent": None})
    seen, _ = monitor.score(steps, monitor.start(60))
    unseen, _ = monitor.score(hidden, monitor.start(60))
    np.testing.assert_array_equal(seen, unseen)


@pytest.mark.parametrize("name", [n for n in monitors.ids() if n != "oracle" and n != "random"])
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
        ("reach", {"lenght": 3}, 'monitor reach: setting "lenght" .* did you mean "length"'),
        ("reach", {"discount": 1.5}, "monitor reach: discount is 1.5; give at most 1$"),
        ("reach", {"form": "slope"}, "form is 'slope'; give 'change' or 'level'$"),
        ("reach", {"length": 0}, "monitor reach: length is 0; give at least 1$"),
        ("reach", {"floor": float("-inf")}, "monitor reach: floor is -inf"),
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
