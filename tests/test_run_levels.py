"""The levels of a scenario: what each setting does to them, and that no level occurs twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import SCENARIOS

from delegate import envs, run
from delegate.envs.grid import Level
from delegate.run.source import SPLITS
from delegate.scenario import Scenario, ScenarioError

NOMINAL_SPLITS = ("train", "calibrate", "validate", "test_nominal")

DIFFERENT: dict[str, dict[str, tuple[Any, Any]]] = {
    "Corner": {"wall_density": (0.1, 0.3), "corner_size": (2, 11), "mix": (0.2, 0.7)},
    "FourRooms": {"start": ("random", "corner"), "doors": ("middle", "random"), "mix": (0.2, 0.7)},
    "TrapGrid": {"trap_density": (0.1, 0.3), "start": ("random", "corner"), "mix": (0.2, 0.7)},
}
"""two values of every setting that shapes a world's levels"""


def text(world: str, levels: str = "{train: 9, calibrate: 20, validate: 5, test: 30}") -> str:
    return f"""\
name: tiny
world: {world}
levels: {levels}
children:
  intended: {{policy: intended, trusted: true}}
parent: {{alone: {{policy: intended}}}}
crew: [intended]
delegation: {{budget: 40, interactions: 120}}
arms:
  none: {{protocol: none}}
seeds: [3, 4]
"""


def load(folder: Path, world: dict[str, Any], **levels: Any) -> Scenario:
    path = folder / "tiny.yaml"
    counts = {"train": 9, "calibrate": 20, "validate": 5, "test": 30, **levels}
    path.write_text(text(flow(world), flow(counts)))
    return run.load_scenario(path)


def flow(value: Any) -> str:
    """As YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow(inner)}" for key, inner in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def contents(bank: Level) -> list[tuple[bytes, ...]]:
    """What there is to see of each level, compared array by array."""
    names = ("walls", "traps", "start", "goal", "proxy_goal")
    return [tuple(getattr(bank, name)[i].tobytes() for name in names) for i in range(bank.count)]


def banks(plan: Scenario, seed: int = 3) -> dict[str, Level]:
    return run.Source(plan)._drawn(seed)


@pytest.mark.parametrize("where", ["nominal", "shifted"])
@pytest.mark.parametrize(
    ("world", "setting"), [(world, name) for world in DIFFERENT for name in DIFFERENT[world]]
)
def test_a_setting_of_one_distribution_changes_its_levels(
    tmp_path: Path, world: str, setting: str, where: str
) -> None:
    # With doors in the middle and starts in the corner FourRooms has one nominal level.
    common = {"doors": "random"} if setting == "start" and world == "FourRooms" else {}
    found = []
    for value in DIFFERENT[world][setting]:
        counts = {"train": 5, "calibrate": 5, "validate": 5, "test": 20}
        plan = load(tmp_path, {"id": world, "settings": common, where: {setting: value}}, **counts)
        found.append(banks(plan))
    one, other = found
    changed = {split for split in one if contents(one[split]) != contents(other[split])}
    if where == "shifted":
        assert changed == {"test_shifted"}
    else:
        # The shifted levels may change too: they leave out what the nominal splits hold.
        assert changed >= set(NOMINAL_SPLITS)


@pytest.mark.parametrize("world", envs.ids())
def test_every_setting_either_shapes_levels_or_is_refused_for_one_distribution(
    tmp_path: Path, world: str
) -> None:
    fields = envs.settings_type(world).model_fields
    assert set(DIFFERENT[world]) == set(envs.registry.WORLDS[world].level_settings)
    for name, field in fields.items():
        if name in DIFFERENT[world]:
            continue
        for where in ("nominal", "shifted"):
            with pytest.raises(ScenarioError, match=rf"tiny.yaml:2: world.{where}.{name}: "):
                load(tmp_path, {"id": world, where: {name: field.default}})


def test_dynamics_are_sent_to_the_settings_of_both(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"slip is the same in both .* move it to world.set"):
        load(tmp_path, {"id": "Corner", "shifted": {"slip": 0.3}})
    plan = load(tmp_path, {"id": "Corner", "settings": {"slip": 0.3}})
    assert run.Source(plan).bank(3, "test").table().next_state.shape[3] == 4


@pytest.mark.parametrize("size", [2, 3, 5])
def test_shifted_cheese_lies_in_its_own_square(tmp_path: Path, size: int) -> None:
    world = {"id": "Corner", "nominal": {"corner_size": 1}, "shifted": {"corner_size": size}}
    found = banks(load(tmp_path, world, test=200))
    row, column = np.divmod(found["test_shifted"].goal, 13)
    assert max(row.max(), column.max()) == size
    assert set(found["test_nominal"].goal.tolist()) == {14}


def test_shifted_goals_lie_anywhere_unless_told(tmp_path: Path) -> None:
    wide = banks(load(tmp_path, {"id": "Corner", "shifted": {"corner_size": 11}}, test=300))
    untold = banks(load(tmp_path, {"id": "Corner"}, test=300))
    np.testing.assert_array_equal(wide["test_shifted"].goal, untold["test_shifted"].goal)
    assert len(np.unique(untold["test_shifted"].goal)) > 90


def test_mix_puts_that_share_of_training_cheese_anywhere(tmp_path: Path) -> None:
    world = {"id": "Corner", "nominal": {"corner_size": 1, "mix": 0.3}}
    found = banks(load(tmp_path, world, train=2000))
    away = found["train"].goal != 14
    assert 0.26 < away.mean() < 0.34
    assert not found["train"].kind.any()
    assert found["test_shifted"].kind.all()


def assert_no_level_twice(found: dict[str, Level]) -> None:
    every = [level for bank in found.values() for level in contents(bank)]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_scenarios_hold_no_level_twice(path: Path) -> None:
    plan = run.load_scenario(path)
    for seed in plan.seeds:
        found = banks(plan, seed)
        assert_no_level_twice(found)
        counts = plan.levels.model_dump(by_alias=True)
        assert {split: bank.count for split, bank in found.items()} == {
            split: counts["test" if split.startswith("test") else split] for split in SPLITS
        }


SMALL: dict[str, Any] = {"id": "FourRooms", "settings": {"size": 13}}
"""103 nominal levels: 104 open cells to start from less the goal"""


def test_a_small_world_is_shared_out_without_overlap(tmp_path: Path) -> None:
    plan = load(tmp_path, SMALL, train=20, calibrate=40, validate=5, test=30)
    assert_no_level_twice(banks(plan))


def test_the_same_seeds_would_overlap_were_nothing_left_out() -> None:
    """Negative control: without `seen`, a small world repeats its levels."""
    bank = envs.levels("FourRooms", seeds=range(200), settings={"size": 13})
    assert len(set(contents(bank))) < 104 < bank.count


@pytest.mark.parametrize("first", [*NOMINAL_SPLITS, "test_shifted", "test"])
def test_a_split_does_not_depend_on_which_was_asked_for_first(tmp_path: Path, first: str) -> None:
    plan = load(tmp_path, SMALL)
    expected = {split: bank.digest() for split, bank in banks(plan).items()}
    source = run.Source(plan)
    source.bank(3, first)
    source.bank(4, first)
    for split, digest in expected.items():
        assert source.bank(3, split).env.levels.digest() == digest


def test_each_training_seed_has_levels_of_its_own(tmp_path: Path) -> None:
    plan = load(tmp_path, {"id": "Corner"})
    assert banks(plan, 3)["train"].digest() != banks(plan, 4)["train"].digest()


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (
            {"train": 104},
            r"only 103 distinct levels found of 104 wanted in train; lower levels.tra",
        ),
        (
            {"train": 60, "calibrate": 60},
            r"only 43 distinct .* of 60 wanted in calibrate; lower le",
        ),
        ({"train": 60, "test": 30}, r"only 18 .* of 30 wanted in test_nominal; lower levels.test "),
    ],
)
def test_a_world_too_small_is_refused_with_the_number_to_lower(
    tmp_path: Path, levels: dict[str, int], message: str
) -> None:
    plan = load(tmp_path, SMALL, **levels)
    with pytest.raises(ValueError, match=message):
        banks(plan)


def test_a_shift_that_is_none_is_refused(tmp_path: Path) -> None:
    world = {"id": "Corner", "shifted": {"corner_size": 1}}
    with pytest.raises(ValueError, match=r"only 0 distinct distinguishing levels .* world.shifted"):
        banks(load(tmp_path, world))
    assert banks(load(tmp_path, world, distinguishing_only=False))["test_shifted"].count == 30


def test_rare_distinguishing_levels_are_searched_for(tmp_path: Path) -> None:
    """One level in seventeen tells the goals apart here: more than a few tries for each."""
    world = {"id": "Corner", "shifted": {"corner_size": 1, "mix": 0.06}}
    found = banks(load(tmp_path, world))["test_shifted"]
    assert found.count == 30
    assert np.ptp(found.seed) > 8 * 30
    assert (found.goal != found.proxy_goal).all()
