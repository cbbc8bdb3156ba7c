"""The exact solvers against brute force on small levels."""

from collections import deque
from functools import cache
from typing import Any

import numpy as np
import pytest

from delegate import envs
from delegate.envs.grid import GridVectorEnv, Level, read_levels
from delegate.envs.grid.facts import level_facts
from delegate.envs.grid.solvers import distances, onset_of_divergence, shortest_path_actions

CASES = [
    ("Corner", {"size": 6, "mix": 1.0, "max_steps": 20}),
    ("Corner", {"size": 6, "mix": 1.0, "max_steps": 20, "slip": 0.3, "discount": 0.9}),
    ("Corner", {"size": 7, "mix": 0.5, "corner_size": 2, "max_steps": 5}),
    ("FourRooms", {"size": 7, "mix": 0.5, "max_steps": 30, "discount": 1.0}),
    ("TrapGrid", {"size": 6, "mix": 0.5, "max_steps": 15, "step_cost": 0.05, "slip": 0.1}),
    (
        "TrapGrid",
        {
            "size": 6,
            "mix": 0.5,
            "max_steps": 40,
            "step_cost": 0.02,
            "trap_density": 0.5,
            "trap_reward": -0.05,
            "terminal_traps": False,
        },
    ),
]
LEVELS = 12


def make(world: str, settings: dict[str, Any], **options: Any) -> GridVectorEnv:
    return envs.make(world, LEVELS, num_levels=LEVELS, assign="in_order", **settings, **options)


def land(level: Level, index: int, cell: int, action: int) -> int:
    target = cell + (-level.width, 1, level.width, -1)[action]
    return cell if level.walls[index].reshape(-1)[target] else target


def queue_distances(level: Level, index: int, target: int, avoid: set[int]) -> list[int]:
    """Fewest steps to the target by a queue, walking backwards over free cells."""
    free = {int(c) for c in np.flatnonzero(~level.walls[index])} - avoid
    found = {target: 0}
    queue = deque([target])
    while queue:
        cell = queue.popleft()
        for step in (-level.width, 1, level.width, -1):
            if cell + step in free and cell + step not in found:
                found[cell + step] = found[cell] + 1
                queue.append(cell + step)
    return [found.get(cell, -1) for cell in range(level.num_cells)]


def walk_reward(env: GridVectorEnv, index: int, proxy: bool, cell: int) -> tuple[float, bool]:
    """Reward for arriving at a cell and whether that ends it, told from the rules' text."""
    level, rules = env.levels, env.rules
    trap = bool(level.traps[index].reshape(-1)[cell])
    paid = cell == (level.proxy_goal if proxy else level.goal)[index]
    reward = float(paid) + (rules.trap_reward if trap else 0.0) - rules.step_cost
    return reward, bool(paid or cell == level.goal[index] or (trap and rules.terminal_traps))


def brute_return(env: GridVectorEnv, index: int, policy: str, proxy: bool = False) -> float:
    """Expected return by recursion over (cell, steps left)."""
    slip, discount = env.settings.slip, env.discount

    @cache
    def value(cell: int, left: int) -> float:
        if left == 0:
            return 0.0
        arrivals = []
        for direction in range(4):
            following = land(env.levels, index, cell, direction)
            reward, ends = walk_reward(env, index, proxy, following)
            arrivals.append(reward + (0.0 if ends else discount * value(following, left - 1)))
        mean = sum(arrivals) / 4
        if policy == "random":
            return mean
        return max((1 - slip) * arrival + slip * mean for arrival in arrivals)

    return value(int(env.levels.start[index]), env.max_steps)


@pytest.mark.parametrize(("world", "settings"), CASES)
def test_distances_equal_a_queue(world: str, settings: dict[str, Any]) -> None:
    env = make(world, settings)
    level, facts = env.levels, env.facts()
    for index in range(LEVELS):
        traps = set(np.flatnonzero(level.traps[index]).tolist())
        ends = traps if env.rules.terminal_traps else set()
        goal, proxy = int(level.goal[index]), int(level.proxy_goal[index])
        assert facts.goal_distance[index].tolist() == queue_distances(level, index, goal, ends)
        on_the_way = (ends | {goal}) - {proxy}
        expected = queue_distances(level, index, proxy, on_the_way)
        assert facts.proxy_distance[index].tolist() == expected
        assert facts.optimal_steps[index] == facts.goal_distance[index, level.start[index]]
        assert facts.proxy_steps[index] == expected[int(level.start[index])]


@pytest.mark.parametrize(("world", "settings"), CASES)
def test_returns_equal_recursion_over_steps_left(world: str, settings: dict[str, Any]) -> None:
    env = make(world, settings)
    facts = env.facts()
    for index in range(LEVELS):
        optimal = brute_return(env, index, "optimal")
        assert facts.optimal_return[index] == pytest.approx(optimal, rel=1e-12, abs=1e-12)
        proxy = brute_return(env, index, "optimal", proxy=True)
        assert facts.proxy_optimal_return[index] == pytest.approx(proxy, rel=1e-12, abs=1e-12)
        random = brute_return(env, index, "random")
        assert facts.random_return[index] == pytest.approx(random, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("world", "settings"), CASES)
def test_random_return_equals_the_matrix_power_sum(world: str, settings: dict[str, Any]) -> None:
    env = make(world, settings)
    table, level = env.transition_table(), env.levels
    random_return = env.facts().random_return
    for index in range(LEVELS):
        cells = level.num_cells
        step = np.zeros((cells, cells))
        for action in range(4):
            for outcome in range(table.num_outcomes):
                np.add.at(
                    step,
                    (np.arange(cells), table.next_state[index, :, action, outcome]),
                    table.probability[index, :, action, outcome] / 4,
                )
        arrival = [walk_reward(env, index, False, cell)[0] for cell in range(cells)]
        here = np.eye(cells)[level.start[index]]
        total = 0.0
        for clock in range(env.max_steps):
            here = here @ step
            total += env.discount**clock * float(here @ arrival)
        assert random_return[index] == pytest.approx(total, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize(("world", "settings"), CASES)
def test_action_sets_are_exactly_the_greedy_ones(world: str, settings: dict[str, Any]) -> None:
    """Any policy within the sets earns the optimal value, any action outside falls short."""
    env = make(world, settings)
    facts = env.facts()
    for proxy, sets in ((False, facts.intended_actions), (True, facts.proxy_actions)):
        for index in range(LEVELS):
            check_action_sets(env, index, proxy, sets[index])


def check_action_sets(env: GridVectorEnv, index: int, proxy: bool, sets: np.ndarray) -> None:
    level, slip = env.levels, env.settings.slip
    discount = min(env.discount, 1 - 1e-6)
    states = np.flatnonzero(sets.any(1))
    number = {int(cell): row for row, cell in enumerate(states)}
    reward = np.zeros((len(states), 4))
    onward = np.zeros((len(states), 4, len(states)))
    for row, cell in enumerate(states):
        for action in range(4):
            for direction in range(4):
                chance = (1 - slip) * (action == direction) + slip / 4
                following = land(level, index, int(cell), direction)
                paid, ends = walk_reward(env, index, proxy, following)
                reward[row, action] += chance * paid
                if not ends and chance:
                    onward[row, action, number[following]] += chance
    for choose in (sets[states].argmax(1), 3 - sets[states][:, ::-1].argmax(1)):
        rows = np.arange(len(states))
        value = np.linalg.solve(
            np.eye(len(states)) - discount * onward[rows, choose], reward[rows, choose]
        )
        gap = value[:, None] - (reward + discount * onward @ value)
        assert (np.abs(gap[sets[states]]) < 1e-7).all()
        assert (gap[~sets[states]] > 1e-7).all()


def test_without_traps_or_slip_the_sets_are_the_shortest_paths() -> None:
    env = make("Corner", {"size": 13, "mix": 1.0})
    level, facts = env.levels, env.facts()
    expected = shortest_path_actions(level.walls, distances(level.walls, level.goal))
    np.testing.assert_array_equal(facts.intended_actions, expected)
    undiscounted = make("Corner", {"size": 13, "mix": 1.0, "discount": 1.0}).facts()
    np.testing.assert_array_equal(undiscounted.intended_actions, expected)


@pytest.mark.parametrize(("world", "settings"), [CASES[0], CASES[2], CASES[3]])
def test_following_the_sets_earns_the_optimal_return(world: str, settings: dict[str, Any]) -> None:
    env = make(world, settings, autoreset_mode="Disabled")
    facts = env.facts()
    for sets, optimal, name in (
        (facts.intended_actions, facts.optimal_return, None),
        (facts.proxy_actions, facts.proxy_optimal_return, "proxy_reward"),
    ):
        env.reset(seed=0)
        total = np.zeros(LEVELS)
        for clock in range(env.max_steps):
            action = sets[np.arange(LEVELS), env.state_index()].argmax(1)
            _, reward, _, _, info = env.step(action)
            total += env.discount**clock * (reward if name is None else info[name])
        np.testing.assert_allclose(total, optimal, rtol=1e-12)


@pytest.mark.parametrize(("world", "settings"), [CASES[0], CASES[3], CASES[5]])
def test_random_return_agrees_with_random_play(world: str, settings: dict[str, Any]) -> None:
    rules = envs.make_rules(world, settings)
    levels = envs.levels(world, "shifted", seeds=[5], settings=settings)
    env = envs.make(world, 4000, levels=levels, autoreset_mode="Disabled", **settings)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    total = np.zeros(4000)
    for clock in range(rules.settings.max_steps):
        total += env.discount**clock * env.step(rng.integers(0, 4, 4000))[1]
    error = total.std() / np.sqrt(4000)
    assert abs(total.mean() - env.facts().random_return[0]) < 4 * error


@pytest.mark.parametrize(("world", "settings"), CASES)
def test_distinguishing_is_what_every_proxy_optimal_walk_shows(
    world: str, settings: dict[str, Any]
) -> None:
    """Walk every proxy-optimal path at once: does any end on the intended goal?"""
    env = make(world, {**settings, "slip": 0.0})
    level, facts = env.levels, env.facts()
    for index in range(LEVELS):
        goal, proxy = level.goal[index], level.proxy_goal[index]
        front = {int(level.start[index])}
        met_goal = False
        for _ in range(env.max_steps):
            if int(proxy) in front or met_goal or not front:
                break
            front = {
                land(level, index, cell, int(action))
                for cell in front
                for action in np.flatnonzero(facts.proxy_actions[index, cell])
            }
            met_goal = int(goal) in front
        distinguishing = int(proxy) in front and not met_goal
        assert facts.distinguishing[index] == distinguishing
    assert world != "Corner" or facts.distinguishing.any()


BLOCKED, ON_THE_WAY, APART, SAME, NONE = range(5)
PICTURES = read_levels(
    "#######\n#P.G.A#\n#######",
    "#######\n#A.P.G#\n#######",
    "#######\n#P.A.G#\n#######",
    "#######\n#A...B#\n#######",
    "#######\n#A...G#\n#######",
)


def test_facts_of_corridors_worked_out_by_hand() -> None:
    facts = level_facts(envs.make_rules("Corner", {}), PICTURES)
    assert facts.distinguishing.tolist() == [False, True, True, False, False]
    assert facts.optimal_steps.tolist() == [2, 4, 2, 4, 4]
    assert facts.proxy_steps.tolist() == [-1, 2, 2, 4, -1]
    np.testing.assert_allclose(facts.optimal_return, 0.99 ** (facts.optimal_steps - 1.0))
    np.testing.assert_allclose(facts.proxy_optimal_return, [0, 0.99, 0.99, 0.99**3, 0])
    middle = 7 + np.arange(1, 6)
    assert facts.divergent[BLOCKED, middle].tolist() == [True, True, False, False, False]
    assert facts.divergent[ON_THE_WAY, middle].tolist() == [False, False, True, True, False]
    assert facts.divergent[APART, middle].tolist() == [True, True, True, True, False]
    assert not facts.divergent[[SAME, NONE]].any()
    assert not np.delete(facts.divergent, middle, axis=1).any()


def test_onset_is_the_first_state_where_the_goals_part() -> None:
    divergent = level_facts(envs.make_rules("Corner", {}), PICTURES).divergent
    walk = np.array([[8, 9, 10, 11, -1], [10, 9, 8, -1, -1], [8, 9, 8, 8, 9], [8, 9, 10, 11, 12]])
    level = np.array([ON_THE_WAY, APART, ON_THE_WAY, SAME])
    assert onset_of_divergence(divergent, level, walk).tolist() == [2, 0, -1, -1]
    rng = np.random.default_rng(0)
    env = make("Corner", {"size": 7, "mix": 1.0})
    divergent = env.facts().divergent
    level = rng.integers(0, LEVELS, 40)
    walk = rng.integers(0, 49, (40, 9))
    expected = [
        next((t for t, cell in enumerate(path) if divergent[index, cell]), -1)
        for index, path in zip(level, walk, strict=True)
    ]
    assert onset_of_divergence(divergent, level, walk).tolist() == expected


def test_distances_refuse_a_target_inside_a_wall() -> None:
    with pytest.raises(ValueError, match="level 2: target 0 is a wall"):
        distances(PICTURES.walls, np.array([8, 8, 0, 8, 8]))
