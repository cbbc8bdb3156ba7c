"""log h: by every path, by Doob's transform, by Bayes' rule on recalled traces, and learned."""

from __future__ import annotations

import numpy as np
import pytest
from finite_worlds import dense, maze, random_table
from hypothesis import given, settings
from hypothesis import strategies as st

from delegate.recall import (
    ExactBacktrackingModel,
    ExactReachability,
    Landmarks,
    RecalledReachability,
    Transitions,
    TransitionTable,
    grid_neighbours,
)

ROOM = ["....#", ".##..", "..#..", "#...."]


def bank(*rooms: list[str]) -> TransitionTable:
    """Mazes of one size as one table."""
    tables = [maze(rows) for rows in rooms]
    return TransitionTable(
        **{name: np.concatenate([getattr(t, name) for t in tables]) for name in vars(tables[0])}
    )


def whole(reach: ExactReachability | RecalledReachability, level: int = 0) -> np.ndarray:
    """h of every goal, λ and state of a level: float64 [goal, λ, state], in their order."""
    states = reach.goals[level][reach.goals[level] >= 0]
    log_h = reach.log_h(np.full(len(states), level), None, states)[:, : len(states)]
    return np.exp(log_h.astype(float)).transpose(1, 2, 0)


def reference(table: TransitionTable, weights: np.ndarray, staying: bool) -> np.ndarray:
    """P(s' | s) of a policy that takes actions in proportion to `weights`, in plain loops."""
    leads = dense(table)
    P = np.zeros((table.num_states, table.num_states))
    for s in range(table.num_states):
        for a in range(table.num_actions):
            P[s] += weights[s, a] / weights[s].sum() * leads[s, a]
    if not staying:
        for s in range(table.num_states):
            P[s, s] = 0.0
            if (total := P[s].sum()) > 0:
                P[s] /= total
    return P


def first_arrivals(P: np.ndarray, goal: int, start: int, discount: float, longest: int) -> float:
    """Σ of discount^k times the probability of each path that first comes to `goal` after k."""
    total = 0.0

    def walk(state: int, k: int, probability: float) -> None:
        nonlocal total
        if state == goal:
            total += discount**k * probability
        elif k < longest:
            for after in np.flatnonzero(P[state]):
                walk(after, k + 1, probability * P[state, after])

    walk(start, 0, 1.0)
    return total


@given(seed=st.integers(0, 10_000), staying=st.booleans())
@settings(max_examples=20)
def test_h_is_the_sum_over_every_path_to_the_goal(seed: int, staying: bool) -> None:
    table = random_table(seed, states=4, actions=2, outcomes=2)
    weights = np.random.default_rng(seed).gamma(1.0, size=(4, 2)) + 0.1
    discounts, longest = (0.1, 0.4), 7
    h = whole(ExactReachability(table, discounts, weights, staying=staying))
    P = reference(table, weights, staying)
    for goal in range(4):
        for k, discount in enumerate(discounts):
            for start in range(4):
                least = first_arrivals(P, goal, start, discount, longest)
                # What longer paths can add is at most the chance to live that long.
                assert least - 1e-6 <= h[goal, k, start] <= least + discount ** (longest + 1) + 1e-6


def doob_sums(reach: ExactReachability, P: np.ndarray) -> np.ndarray:
    """Σ over s' of λ P(s' | s) h(s') / h(s), by goal, λ and s; NaN where no way leads to g."""
    h = whole(reach)
    h[h < 1e-200] = np.nan
    discount = np.array(reach.discounts)[None, :, None]
    return discount * np.einsum("st,gkt->gks", P, np.nan_to_num(h)) / h


@given(seed=st.integers(0, 10_000), staying=st.booleans())
@settings(max_examples=30)
def test_doobs_transform_is_a_distribution_over_next_states(seed: int, staying: bool) -> None:
    """Everywhere but at the goal, beyond which its hypothesis only loses; a wrong model fails."""
    table = random_table(seed, states=6, actions=2, outcomes=3, ends=False)
    weights = np.random.default_rng(seed).gamma(1.0, size=(6, 2)) + 0.1
    right = ExactReachability(table, weights=weights, staying=staying)
    P = reference(table, weights, staying)
    sums = doob_sums(right, P)
    at_goal = np.eye(6, dtype=bool)[:, None].repeat(len(right.discounts), 1)
    np.testing.assert_allclose(sums[~at_goal & ~np.isnan(sums)], 1.0, rtol=2e-5)
    assert (sums[at_goal] < 1).all()
    wrong = ExactReachability(table, weights=weights[:, ::-1] ** 3, staying=staying)
    sums = doob_sums(wrong, P)
    assert np.nanmax(np.abs(sums[~at_goal] - 1)) > 1e-3


@pytest.mark.parametrize("discount", [0.3, 0.9])
def test_h_is_what_traces_visit_over_how_often_the_reference_is_there(discount: float) -> None:
    """Bayes' rule: B_g(s) / μ(s), for a policy that prefers some actions, up to a constant of g."""
    table = random_table(5, states=6, actions=3, outcomes=2, ends=False)
    policy = np.random.default_rng(5).dirichlet(np.ones(3), 6)
    P = reference(table, policy, staying=True)
    mu = np.linalg.matrix_power(P, 5000)[0]
    np.testing.assert_allclose(mu @ P, mu, atol=1e-12)
    model = ExactBacktrackingModel(table, mu[:, None] * policy)
    B = np.exp(model.reachability(np.arange(6), 400, discount))
    scaled = B / mu / (np.diag(B) / mu)[:, None]
    h = whole(ExactReachability(table, (discount,), policy, staying=True))[:, 0]
    np.testing.assert_allclose(h, scaled, rtol=1e-5)
    without_mu = B / np.diag(B)[:, None]
    assert np.abs(without_mu - h).max() > 0.01, "the density is needed"


def test_the_goal_is_one_and_what_cannot_reach_it_nearly_nothing() -> None:
    reach = ExactReachability(bank(["..#.", "..#."]))
    h = whole(reach)
    np.testing.assert_array_equal(np.diagonal(h, axis1=0, axis2=2), 1.0)
    left = reach.goals[0] % 4 < 2
    assert (h[left][:, :, ~left] < 1e-200).all()
    assert (h[left][:, :, left] > 0.04).all()


def test_small_h_is_as_exact_as_large() -> None:
    """Forty cells along a corridor at λ = 0.01, by the recursion of a birth-death chain."""
    reach = ExactReachability(maze(["." * 41]), (0.01, 0.95))
    for k, discount in enumerate(reach.discounts):
        step = discount  # from the first cell every move goes on
        expected = [np.log(step)]
        for _ in range(39):
            step = discount / 2 / (1 - discount / 2 * step)
            expected.append(np.log(step))
        found = reach.log_h(np.zeros(41, int), np.full((41, 1), 40), np.arange(41))[:, 0, k]
        np.testing.assert_allclose(found[:-1], np.cumsum(expected[::-1])[::-1], rtol=1e-6)
        assert found[-1] == 0


def test_a_step_in_place_is_none_unless_asked_for() -> None:
    """A slip is uniform over directions: it changes who bumps, not where moves lead."""
    plain = whole(ExactReachability(maze(ROOM)))
    np.testing.assert_allclose(plain, whole(ExactReachability(maze(ROOM), weights="moving")))
    np.testing.assert_allclose(plain, whole(ExactReachability(maze(ROOM, slip=0.4))), rtol=1e-5)
    assert (whole(ExactReachability(maze(ROOM), staying=True)) < plain - 1e-3).any()


def test_what_recalls_exactly_gives_the_exact_h() -> None:
    """From one-step conditionals and the density, which uniform moves have from their number."""
    table = bank(ROOM, ["....#", ".....", ".###.", "....."])
    model = ExactBacktrackingModel(table)
    exact = ExactReachability(table)

    def recalled(turn: float, density: np.ndarray | None = None) -> RecalledReachability:
        return RecalledReachability(
            lambda level, s, a, after: model.log_prob(s, a, after, level) - turn * (s < after),
            grid_neighbours(4, 5), 4, table.valid, density=density,
        )  # fmt: skip

    right, wrong = recalled(0.0), recalled(2.0)
    ways = np.zeros_like(table.valid, float)
    for level in (0, 1):
        told, true = np.log(whole(right, level)), np.log(whole(exact, level))
        np.testing.assert_allclose(told, true, atol=1e-4)
        assert np.abs(np.log(whole(wrong, level)) - true).max() > 0.3
        ways[level, table.valid[level]] = (exact.chain(level) > 0).sum(1)
    np.testing.assert_allclose(whole(recalled(0.0, 7 * ways)), whole(right))
    flat = np.log(whole(recalled(0.0, np.ones_like(ways))))
    assert np.abs(flat - np.log(whole(right))).max() > 0.3, "the density is needed"


def test_recalling_nothing_is_refused() -> None:
    table = maze(["...", "..."])

    def silent(level, s, a, after):  # type: ignore[no-untyped-def]
        return np.where(after == 2, -np.inf, np.log(0.1))

    recalled = RecalledReachability(silent, grid_neighbours(2, 3), 4, table.valid)
    with pytest.raises(ValueError, match="level 0: the model recalls nothing before state 2; tra"):
        whole(recalled)


def test_levels_are_tabulated_when_asked_for_and_by_themselves() -> None:
    table = bank(ROOM, ROOM[::-1], ["....." for _ in range(4)])
    together, alone = ExactReachability(table), ExactReachability(table)
    assert together.nbytes == 0
    level = np.array([2, 0, 1, 2])
    state = np.array([3, 3, 18, 19])
    found = together.log_h(level, None, state)
    assert found.dtype == np.float32
    assert found.shape == (4, 20, 5)
    states = table.valid.sum(1)
    for row in range(4):
        one = slice(row, row + 1)
        np.testing.assert_array_equal(alone.log_h(level[one], None, state[one])[0], found[row])
        asked = np.unique(level[: row + 1])
        assert alone.nbytes == states[asked].sum() * 20 * (5 * 4 + 1)


def test_some_goals_and_other_discounts_give_the_same_numbers() -> None:
    table = bank(ROOM, ROOM[::-1])
    every = ExactReachability(table)
    level, state = np.array([0, 1, 1]), np.array([0, 6, 2])
    some = np.array([[13, 0, -1], [2, 3, 16]])
    fewer = every.at((0.5, 0.95), some)
    asked = some[level]
    by_number = every.log_h(level, asked, state)
    np.testing.assert_array_equal(by_number[..., [1, 4]], fewer.log_h(level, None, state))
    np.testing.assert_array_equal(by_number[..., [1, 4]], fewer.log_h(level, asked, state))
    assert (by_number[0, 2] == 0).all(), "no goal, no meaning"
    assert every.at((0.5, 0.95), some) is fewer, "tabulated once for all who ask"
    assert every.at(every.discounts) is every
    near = every.near(level, asked, np.array([8, 2, 3]))
    np.testing.assert_array_equal(
        near, [[True, False, False], [True, True, False], [True, True, False]]
    )
    with pytest.raises(IndexError, match="goal 1 of level 1 is not among the goals"):
        fewer.log_h(np.array([1]), np.array([[1]]), np.array([2]))


def test_places_that_are_not_there_are_named() -> None:
    reach = ExactReachability(bank(ROOM))
    zero = np.zeros(1, int)
    with pytest.raises(IndexError, match="state 4 of level 0 is not there: it is a wall"):
        reach.log_h(zero, None, zero + 4)
    with pytest.raises(IndexError, match="state -1 is not there; give 0 to 19"):
        reach.log_h(zero, None, zero - 1)
    with pytest.raises(IndexError, match="level 1 is not there; give 0 to 0"):
        reach.log_h(zero + 1, None, zero)
    with pytest.raises(IndexError, match="goal 4 of level 0"):
        reach.log_h(zero, zero[None] + 4, zero)
    with pytest.raises(ValueError, match=r"discount is 1.0; give a number between 0 and 1"):
        reach.at((0.5, 1.0))
    states = maze(ROOM).valid.copy()
    states[0, 0] = False
    with pytest.raises(ValueError, match="level 0: state 1 leads out of the states given"):
        ExactReachability(maze(ROOM), states=states).log_h(zero, None, zero + 1)


def test_landmarks_are_places() -> None:
    places = maze(ROOM).valid
    Landmarks(("cheese", "pit"), np.array([[0, -1]]), places)
    with pytest.raises(ValueError, match="pit of level 0 is no place"):
        Landmarks(("cheese", "pit"), np.array([[0, 4]]), places)
    with pytest.raises(ValueError, match=r"goal has shape \(1, 1\) beside 2 names"):
        Landmarks(("cheese", "pit"), np.array([[0]]), places)


@pytest.mark.slow
def test_a_model_learned_in_other_mazes_gives_nearly_the_exact_h() -> None:
    """Random moves in nominal mazes alone; asked about mazes whose cheese lies anywhere."""
    import gymnasium

    from delegate import envs
    from delegate.recall import LearnedBacktrackingModel

    size, rows = 9, 300
    settings_ = {"size": size, "corner_size": 1}
    nominal = envs.levels("Corner", "nominal", seeds=range(rows), settings=settings_)
    world = envs.make("Corner", rows, levels=nominal, observation="integer", assign="in_order")
    world.reset(seed=0)
    rng, columns = np.random.default_rng(0), []
    for _ in range(80):
        state, level = world.state_index(), world.level_index.copy()
        action = rng.integers(0, 4, rows)
        world.step(action)
        after = world.state_index()
        apart = np.abs(after // size - state // size) + np.abs(after % size - state % size)
        kept = (apart == 1) & (state != nominal.goal[level])
        columns.append([each[kept] for each in (state, action, after, level)])
    state, action, after, level = (np.concatenate(c) for c in zip(*columns, strict=True))
    walls = nominal.walls.reshape(rows, -1).astype(np.float32)
    model = LearnedBacktrackingModel(
        gymnasium.spaces.Discrete(size * size), gymnasium.spaces.Discrete(4),
        grid=(size, size), layout_size=size * size, seed=0,
    )  # fmt: skip
    model.fit(Transitions(state, action, after, None, walls[level]), steps=800)

    shifted = envs.levels("Corner", "shifted", seeds=range(9_000, 9_030), settings=settings_)
    table = envs.make("Corner", 1, levels=shifted).transition_table(endings=False)
    layout = shifted.walls.reshape(30, -1).astype(np.float32)
    states = np.stack([connected(table, i, int(shifted.start[i])) for i in range(30)])
    recalled = RecalledReachability(
        lambda level, s, a, s2: model.log_prob(s, a, s2, layout=layout[level]),
        grid_neighbours(size, size), 4, states,
    )  # fmt: skip
    exact = ExactReachability(table, states=states)
    error, size_of = [], []
    for one in range(30):
        # Where every nominal episode ended no step away was ever seen: those are left out.
        s, t = np.nonzero(exact.chain(one))
        apart = (exact.goals[one][s] != size + 1) & (exact.goals[one][t] != size + 1)
        s, t = s[apart], t[apart]
        told, true = (np.log(whole(each, one)) for each in (recalled, exact))
        true = true[..., t] - true[..., s]
        error.append(np.abs(told[..., t] - told[..., s] - true).ravel())
        size_of.append(np.abs(true).ravel())
    error_of_a_step, size_of_a_step = (np.concatenate(each) for each in (error, size_of))
    assert error_of_a_step.mean() < 0.25 * size_of_a_step.mean()
    assert np.quantile(error_of_a_step, 0.9) < 0.6


def connected(table: TransitionTable, level: int, start: int) -> np.ndarray:
    seen = np.zeros(table.num_states, bool)
    seen[start] = True
    while True:
        more = seen.copy()
        more[table.next_state[level, seen].ravel()] = True
        if (more == seen).all():
            return seen
        seen = more
