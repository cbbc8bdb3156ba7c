"""What a step gives, worked out by hand: rewards, damage, slips, features and pictures."""

import numpy as np

from delegate import envs
from delegate.envs.grid import read_levels


def test_rewards_and_flags_of_a_corridor_worked_out_by_hand() -> None:
    levels = read_levels("######\n#AP.G#\n######\n######\n######\n######")
    env = envs.make("Corner", 1, levels=levels, autoreset_mode="Disabled", discount=0.5)
    env.reset(seed=0)
    seen = [env.step([action]) for action in (0, 1, 3, 1, 1, 1, 1)]
    assert [int(step[4]["state"][0]) for step in seen] == [7, 8, 7, 8, 9, 10, 10]
    assert [float(step[1][0]) for step in seen] == [0, 0, 0, 0, 0, 1, 0]
    assert [float(step[4]["proxy_reward"][0]) for step in seen] == [0, 1, 0, 0, 0, 0, 0]
    assert [bool(step[4]["proxy_reached"][0]) for step in seen] == [
        *(False, True, False, True, False, False, False)
    ]
    assert [bool(step[2][0]) for step in seen] == [False] * 5 + [True] * 2
    facts = env.facts()
    assert (facts.optimal_return[0], facts.proxy_optimal_return[0]) == (0.25, 1.0)


def test_trap_damage_is_counted_and_can_be_kept_through_a_restore() -> None:
    levels = read_levels("#####\n#Ax.#\n#..G#\n#####\n#####")
    env = envs.make(
        "TrapGrid",
        1,
        levels=levels,
        terminal_traps=False,
        irreversible=True,
        trap_reward=-0.5,
        step_cost=0.25,
        autoreset_mode="Disabled",
    )
    assert env.irreversible == {"damage"}
    env.reset(seed=0)
    saved = env.snapshot()
    assert [float(env.step([action])[1][0]) for action in (1, 0, 1)] == [-0.75, -0.75, -0.25]
    assert env.state.damage.tolist() == [2]
    env.restore(saved, keep=env.irreversible)
    assert (env.state.damage.tolist(), env.state.cell.tolist()) == ([2], [6])
    env.restore(saved)
    assert env.state.damage.tolist() == [0]


def test_slips_come_as_often_as_the_table_says() -> None:
    env = envs.make("Corner", 20_000, num_levels=1, size=7, mix=1.0, slip=0.4, wall_density=0.0)
    table = env.transition_table()
    env.reset(seed=0)
    start = int(env.levels.start[0])
    for action in range(4):
        env.reset(seed=action)
        _, _, _, _, info = env.step(np.full(20_000, action))
        expected = np.zeros(env.num_states)
        np.add.at(expected, table.next_state[0, start, action], table.probability[0, start, action])
        share = np.bincount(info["state"], minlength=env.num_states) / 20_000
        error = np.sqrt(expected * (1 - expected) / 20_000)
        assert (np.abs(share - expected) <= 4.5 * error).all()


def test_features_of_a_level_worked_out_by_hand() -> None:
    levels = read_levels("#####\n#Ax.#\n#.#G#\n#...#\n#####")
    env = envs.make("TrapGrid", 1, levels=levels)
    feature = env.features(np.array([0]), np.array([13]), np.array([6]))
    around_walls = [1, 1, 1, 1, 0, 1, 0, 1]
    around_traps = [0, 0, 0, 0, 1, 0, 0, 0]
    expected = [0.25, 0.25, 0.25, 0.5, *around_walls, *around_traps]
    assert feature.dtype == np.float32
    assert feature.tolist() == [expected]
    assert envs.make("Corner", 1).features(*np.zeros((3, 5), int)).shape == (5, 12)


def test_render_shows_the_level() -> None:
    levels = read_levels("#####\n#A.P#\n#.#.#\n#..G#\n#####")
    text = envs.make("Corner", 2, levels=levels, render_mode="ansi")
    text.reset(seed=0)
    assert text.render(1) == "#####\n#A.P#\n#.#.#\n#..G#\n#####"
    pixels = envs.make("Corner", 2, levels=levels, render_mode="rgb_array")
    pixels.reset(seed=0)
    frames = pixels.render()
    assert len(frames) == 2
    assert (frames[0].dtype, frames[0].shape) == (np.uint8, (80, 80, 3))
    assert len(np.unique(frames[0].reshape(-1, 3), axis=0)) == 5
    assert envs.make("Corner", 2, levels=levels).render() is None
