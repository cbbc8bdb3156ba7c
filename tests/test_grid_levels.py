"""Level banks: from a seed alone, always solvable, distributed as the settings say."""

from collections import deque
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delegate import envs
from delegate.envs import concatenate
from delegate.envs.grid import Level, read_levels
from delegate.envs.grid.level import flood, pick

WORLDS = [
    ("Corner", {"size": 9, "corner_size": 2}),
    ("FourRooms", {"size": 9, "doors": "random"}),
    ("TrapGrid", {"size": 7, "start": "random"}),
]


def assert_same_levels(one: Level, other: Level) -> None:
    for field in fields(Level):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def walkable(level: Level, index: int) -> set[int]:
    """Cells that a queue reaches from the start without touching walls or traps."""
    closed = (level.walls[index] | level.traps[index]).reshape(-1)
    queue, seen = deque([int(level.start[index])]), {int(level.start[index])}
    while queue:
        cell = queue.popleft()
        for step in (-level.width, 1, level.width, -1):
            if not closed[cell + step] and cell + step not in seen:
                seen.add(cell + step)
                queue.append(cell + step)
    return seen


@pytest.mark.parametrize("kind", ["nominal", "shifted", "mixed"])
@pytest.mark.parametrize(("world", "settings"), WORLDS)
@given(seeds=st.lists(st.integers(0, 2**62), min_size=1, max_size=6))
def test_a_level_depends_on_its_seed_alone(
    world: str, settings: dict[str, object], kind: str, seeds: list[int]
) -> None:
    settings = {**settings, "mix": 0.5}
    together = envs.levels(world, kind, seeds=seeds, settings=settings)
    alone = [envs.levels(world, kind, seeds=[seed], settings=settings) for seed in seeds]
    assert_same_levels(together, concatenate(*alone))
    assert together.seed.tolist() == seeds


@pytest.mark.parametrize(("world", "settings"), WORLDS)
def test_start_goal_and_proxy_are_connected(world: str, settings: dict[str, object]) -> None:
    level = envs.levels(world, "shifted", seeds=range(200), settings=settings)
    for index in range(level.count):
        reached = walkable(level, index)
        assert {int(level.goal[index]), int(level.proxy_goal[index])} <= reached
        assert level.start[index] not in (level.goal[index], level.proxy_goal[index])


def test_connectivity_check_can_fail() -> None:
    """Negative control: a walled-off goal is not walkable."""
    level = read_levels("#####\n#A#G#\n#####")
    assert walkable(level, 0) == {6}
    assert not flood(~level.walls, level.start)[0, level.goal[0]]


@pytest.mark.parametrize(("world", "settings"), WORLDS)
def test_different_seeds_give_different_levels(world: str, settings: dict[str, object]) -> None:
    level = envs.levels(world, "shifted", seeds=range(50), settings=settings)
    drawn = [level.take(np.array([i])) for i in range(50)]
    scenes = {(one.walls.tobytes(), one.traps.tobytes(), *one.start, *one.goal) for one in drawn}
    assert len(scenes) == 50


def test_corner_keeps_the_cheese_in_its_square() -> None:
    nominal = envs.levels("Corner", seeds=range(2000), settings={"corner_size": 3})
    row, column = np.divmod(nominal.goal, 13)
    counts = np.zeros((13, 13), int)
    np.add.at(counts, (row, column), 1)
    assert counts[1:4, 1:4].sum() == 2000
    assert counts[1:4, 1:4].min() > 2000 / 9 * 0.7
    assert abs(nominal.walls[:, 1:-1, 1:-1].mean() - 0.25) < 0.02


def test_shifted_cheese_lies_anywhere_unless_the_settings_say_where() -> None:
    untold = envs.levels("Corner", "shifted", seeds=range(2000))
    assert len(np.unique(untold.goal)) == 121
    assert (untold.proxy_goal == 14).all()
    assert untold.kind.all()
    assert_same_levels(
        untold, envs.levels("Corner", "shifted", seeds=range(2000), settings={"corner_size": 11})
    )
    told = envs.levels("Corner", "shifted", seeds=range(2000), settings={"corner_size": 3})
    assert len(np.unique(told.goal)) == 9
    assert told.kind.all()
    half = envs.levels("Corner", "shifted", seeds=range(2000), settings={"mix": 0.5})
    assert 0.45 < (half.goal != half.proxy_goal).mean() < 0.55


def test_corner_size_one_puts_the_cheese_on_the_proxy_cell() -> None:
    level = envs.levels("Corner", seeds=range(20))
    np.testing.assert_array_equal(level.goal, level.proxy_goal)
    assert (level.kind == 0).all()


def test_mix_is_the_share_of_shifted_levels() -> None:
    for mix, low, high in ((0.0, 0, 0), (0.3, 500, 700), (1.0, 2000, 2000)):
        level = envs.levels("Corner", "mixed", seeds=range(2000), settings={"mix": mix, "size": 7})
        assert low <= int(level.kind.sum()) <= high


def test_four_rooms_has_four_doors() -> None:
    level = envs.levels("FourRooms", seeds=[0], settings={"size": 11, "start": "corner"})
    cross = np.concatenate([level.walls[0, 5, 1:-1], level.walls[0, 1:-1, 5]])
    assert (~cross).sum() == 4
    assert (level.start[0], level.goal[0]) == (12, 9 * 11 + 9)


def test_only_distinguishing_levels_are_kept_in_order_from_the_given_seeds() -> None:
    settings = {"size": 7, "corner_size": 2, "mix": 0.5}
    every = envs.levels("Corner", "mixed", seeds=range(100, 200), settings=settings)
    facts = envs.make("Corner", levels=every, **settings).facts()
    assert 0 < facts.distinguishing.sum() < 100
    kept = envs.levels(
        "Corner", "mixed", seeds=range(100, 200), distinguishing_only=True, settings=settings
    )
    assert_same_levels(kept, every.take(facts.distinguishing))
    first = envs.levels(
        "Corner",
        "mixed",
        seeds=range(100, 200),
        count=20,
        distinguishing_only=True,
        settings=settings,
    )
    assert_same_levels(first, kept.take(np.arange(20)))


def test_too_few_seeds_are_refused() -> None:
    with pytest.raises(envs.TooFewLevels, match="only 0 distinguishing levels found of 5 wanted"):
        envs.levels("Corner", seeds=range(10), count=5, distinguishing_only=True)
    with pytest.raises(envs.TooFewLevels, match="only 0 distinguishing levels found of 10 wanted"):
        envs.levels("Corner", seeds=range(10), distinguishing_only=True)
    with pytest.raises(ValueError, match="20 levels wanted from 10 seeds"):
        envs.levels("Corner", seeds=range(10), count=20)


def test_levels_seen_are_left_out_and_those_taken_are_seen() -> None:
    settings = {"size": 7}
    every = envs.levels("FourRooms", seeds=range(300), settings=settings)
    assert (every.height - 2) ** 2 > len(set(every.fingerprints())) == 19
    seen: set[bytes] = set()
    one = envs.levels("FourRooms", seeds=range(300), count=6, seen=seen, settings=settings)
    assert seen == set(one.fingerprints())
    other = envs.levels("FourRooms", seeds=range(300), count=13, seen=seen, settings=settings)
    assert len({*one.fingerprints(), *other.fingerprints()}) == 19 == len(seen)
    firsts = sorted({key: i for i, key in reversed(list(enumerate(every.fingerprints())))}.values())
    assert [*one.seed, *other.seed] == firsts
    with pytest.raises(envs.TooFewLevels, match="only 0 distinct levels found of 1 wanted in 300"):
        envs.levels("FourRooms", seeds=range(300), count=1, seen=seen, settings=settings)


@given(count=st.integers(1, 40))
def test_what_is_found_does_not_depend_on_how_many_are_wanted(count: int) -> None:
    """The seeds are tried in portions whose size follows from `count`."""
    settings = {"size": 5, "mix": 0.5}
    few, many = (
        envs.levels(
            "Corner",
            "mixed",
            seeds=range(10**6),
            count=wanted,
            distinguishing_only=True,
            seen=set(),
            settings=settings,
        )
        for wanted in (count, 40)
    )
    assert_same_levels(few, many.take(np.arange(count)))


def test_fingerprints_tell_apart_what_can_be_seen_and_nothing_else() -> None:
    picture = "######\n#A..P#\n#.#.G#\n######"
    level = read_levels(picture)
    same = replace(level, seed=level.seed + 1, kind=level.kind + 1)
    assert same.fingerprints() == level.fingerprints()
    others = [
        read_levels(picture.replace("#.#.G", "#...G")),
        read_levels(picture.replace("A..P", "A.xP")),
        *(replace(level, **{n: getattr(level, n) + d}) for n, d in
          (("start", 1), ("goal", -1), ("proxy_goal", -1))),
    ]  # fmt: skip
    assert len({key for one in (level, *others) for key in one.fingerprints()}) == 6


def test_unsolvable_settings_name_a_seed() -> None:
    crowded = {"size": 61, "wall_density": 0.6}
    with pytest.raises(ValueError, match="level seed 7: no solvable level"):
        envs.levels("Corner", "shifted", seeds=[7], settings=crowded)


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        ("####\n#AG.\n####", "open border"),
        ("#####\n#A.##\n#####", "0 cells G"),
        ("#####\n#AGG#\n#####", "2 cells G"),
        ("#####\n#AG#\n#####", "lines of one length"),
    ],
)
def test_levels_that_make_no_sense_are_refused(picture: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_levels(picture)


def test_a_bank_is_read_only() -> None:
    level = envs.levels("TrapGrid", seeds=range(3))
    with pytest.raises(ValueError, match="read-only"):
        level.goal[0] = 9


def test_the_digest_covers_every_array() -> None:
    picture = "######\n#A..P#\n#.#.G#\n######"
    level = read_levels(picture)
    changes = {
        "walls": read_levels(picture.replace("#.#.G", "#...G")).walls,
        "traps": read_levels(picture.replace("A..P", "A.xP")).traps,
        "start": level.start + 1,
        "goal": level.goal - 1,
        "proxy_goal": level.proxy_goal - 1,
        "seed": level.seed + 1,
        "kind": level.kind + 1,
    }
    assert set(changes) == {field.name for field in fields(Level)}
    digests = {replace(level, **{name: array}).digest() for name, array in changes.items()}
    assert len(digests | {level.digest()}) == len(changes) + 1
    assert read_levels(picture).digest() == level.digest()


@given(
    mask=st.lists(st.booleans(), min_size=1, max_size=20), chance=st.floats(0, 1, exclude_max=True)
)
def test_pick_takes_the_true_cell_of_that_rank(mask: list[bool], chance: float) -> None:
    chosen = pick(np.array([mask]), np.array([chance]))[0]
    cells = np.flatnonzero(mask)
    assert chosen == (cells[int(chance * len(cells))] if len(cells) else -1)
