"""The studies of recalled traces: their numbers by hand, their arms, and what they leave behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recall_direction
import recall_direction_runs
import recall_four_rooms
import recall_four_rooms_plan as rooms
import recall_her
import recall_mujoco
import recall_mujoco_summary as mujoco
from recall_four_rooms_plan import (
    MORE_SEEDS,
    SEEDS,
    TUNING_SEEDS,
    arms,
    recall,
    reported,
    tuning,
)
from recall_four_rooms_runs import EARLY, Run, play, recalled
from recall_four_rooms_summary import scores, success, summary, table
from recall_mujoco_plan import PLANS
from recall_mujoco_runs import SETTINGS, Arm, Watch, learner
from recall_mujoco_runs import Run as MujocoRun
from recall_mujoco_runs import play as play_mujoco
from running import finished

from delegate import envs


def record(arm: str, seed: int, curve: list[float | None]) -> dict[str, Any]:
    """What a run on Four Rooms leaves, made up."""
    return {
        "run": {"size": 7, "seed": seed, "steps": 1_000, "arm": {"name": arm}},
        "success": curve,
        "visits": [0, 3, 0, 1],
        "seconds": 2.0,
    }


def test_scores_of_four_rooms_by_hand() -> None:
    curve: list[float | None] = [None, 0.0, 1.0, 0.5, 1.0, None, 0.9, 1.0, 1.0, 1.0]
    made = record("a", 0, curve)
    np.testing.assert_array_equal(success(made), [0, 0, 1, 0.5, 1, 1, 0.9, 1, 1, 1])
    found = scores(made)
    assert found["area"] == pytest.approx(0.74)
    assert found["steps_to_90"] == 500, "three bins in a row, the first of which ends there"
    assert found["converged"] == 1
    assert found["visited"] == 2
    never = scores(record("a", 0, [0.0] * 9 + [0.8]))
    assert never["steps_to_90"] == 1_000
    assert never["converged"] == 0


def test_the_summary_pairs_seeds() -> None:
    runs = [record("actor_critic", seed, [0.0, seed / 10, 1.0]) for seed in (1, 2)]
    runs += [record("recall", seed, [0.3, seed / 10, 1.0]) for seed in (2, 1)]
    found = summary(runs)["7"]
    assert found["recall"]["area_minus_actor_critic"]["per_seed"] == pytest.approx([0.1, 0.1])
    assert "area_minus_actor_critic" not in found["actor_critic"]
    assert "| 7 | recall | 0.48 [0.47, 0.50] |" in table({"7": found})


def test_nothing_is_tuned_on_a_reported_seed() -> None:
    tuned = {run.seed for run in tuning()}
    assert not set(SEEDS) & tuned
    assert tuned == set(MORE_SEEDS) > set(TUNING_SEEDS)
    assert len({run.path(Path()) for run in reported()}) == len(reported())
    assert not set(recall_her.SEEDS) & set(recall_her.TUNING_SEEDS)
    seeds = {name: {run.seed for run in plan()} for name, plan in PLANS.items()}
    sought = set().union(*(found for name, found in seeds.items() if name.startswith("tune")))
    assert sought
    assert not sought & (seeds["trpo"] | seeds["sac"] | set(recall_direction_runs.SEEDS))


@pytest.mark.parametrize("arm", arms(11), ids=lambda arm: arm.name)
def test_every_arm_of_four_rooms_follows_from_its_seed(arm: Any, tmp_path: Path) -> None:
    run = Run(size=11, arm=arm, seed=5, steps=4_000, a2c=rooms.A2C)
    first, second = (play(run, tmp_path / name) for name in "ab")
    told = [json.loads(path.read_text()) | {"seconds": 0} for path in (first, second)]
    if arm.prioritized is None:  # whose library cannot be seeded
        assert told[0] == told[1]
    assert sum(told[0]["visits"]) == 4_000 < EARLY, "every step of every row counts"
    when = first.stat().st_mtime_ns
    assert play(run, tmp_path / "a").stat().st_mtime_ns == when
    plain = run.model_copy(update={"arm": rooms.PLAIN})
    if arm.name not in (rooms.PLAIN.name, "goal_unknown"):  # so soon nobody has found it
        other = json.loads(play(plain, tmp_path / "c").read_text())
        assert other["visits"] != told[0]["visits"], "what is added does something"


def test_a_known_goal_is_where_traces_end() -> None:
    world = envs.make("FourRooms", 1, size=11, start="corner", num_levels=1, observation="integer")
    run = Run(size=11, arm=recall("known", "exact"), seed=0, steps=1, a2c=rooms.A2C)
    assert recalled(run, world).targets_from.tolist() == [9 * 11 + 9]


def test_a_part_of_the_plan_writes_beside_its_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["--sizes", "11", "--seeds", "0", "--arms", "actor_critic", "recall_exact"]
    recall_four_rooms.main([*wanted, "--steps", "2048", "--out", str(tmp_path)])
    assert "| 11 | recall exact |" in capsys.readouterr().out
    document = json.loads((tmp_path / "results/recall_four_rooms.json").read_text())
    assert len(document["records"]) == 2
    assert document["summary"]["11"]["recall_exact"]["seeds"] == [0]
    for name in ("recall_four_rooms.svg", "recall_four_rooms_visits.png"):
        assert (tmp_path / "figures" / name).stat().st_size > 1_000


def test_what_is_finished_is_gathered_whatever_code_it_was_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def kept(path: Path, seed: int, commit: str) -> dict[str, object]:
        record = {"run": runs[seed].model_dump(mode="json"), "commit": commit}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
        return record

    runs = [rooms.run_of(11, rooms.PLAIN, seed) for seed in range(4)]
    committed = [kept(tmp_path / "other/0.json", seed, "before") for seed in (0, 1)]
    result = tmp_path / "results/study.json"
    assert finished(runs, result, tmp_path / "none") == []
    result.parent.mkdir()
    result.write_text(json.dumps({"records": [*committed, {"run": {"another": "plan"}}]}))
    there = [kept(tmp_path / f"runs/{seed}.json", seed, "now") for seed in (3, 1)]
    assert finished(runs, result, tmp_path / "runs") == [committed[0], there[1], there[0]]

    here = ["--sizes", "11", "--arms", "actor_critic", "--steps", "2048", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as refused:
        recall_four_rooms.main([*here, "--seeds", "0", "1", "--gather"])
    assert refused.value.code == 2
    assert "leave out --gather" in capsys.readouterr().err
    recall_four_rooms.main([*here, "--seeds", "1"])
    recall_four_rooms.main([*here, "--seeds", "0", "1", "--gather"])
    assert "1 of 2 runs are finished" in capsys.readouterr().out


RESULTS = Path(recall_four_rooms.__file__).parent / "results"
STUDIES = {
    **{f"recall_four_rooms{end}": (plan, summary) for end, plan in recall_four_rooms.PLANS.items()},
    **{f"recall_mujoco_{name}": (plan, mujoco.summary) for name, plan in PLANS.items()},
    **{f"recall_her{end}": (plan, recall_her.summary) for end, plan in recall_her.PLANS.items()},
    "recall_direction": (recall_direction_runs.plan, recall_direction.summary),
}


@pytest.mark.parametrize("name", sorted({path.stem for path in RESULTS.iterdir()} & set(STUDIES)))
def test_what_is_committed_is_of_the_plan_and_follows_from_its_records(name: str) -> None:
    (plan, told), result = STUDIES[name], RESULTS / f"{name}.json"
    document = json.loads(result.read_text())
    assert len(finished(plan(), result, Path("none"))) == len(document["records"])
    assert dict(numbers(told(document["records"]))) == pytest.approx(
        dict(numbers(document["summary"]))
    )


def numbers(tree: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a document, by the way there."""
    if isinstance(tree, dict | list):
        for name, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from numbers(value, f"{path}/{name}")
    elif isinstance(tree, int | float):
        yield path, tree


def test_the_curve_of_a_run_on_mujoco_by_hand() -> None:
    watch = Watch(MujocoRun(algorithm="trpo", task="T", arm=Arm(name="a"), seed=0, steps=1_000))
    watch._ended = [(10, 1.0), (20, 2.0), (20, 4.0), (1_000, 7.0)]
    curve = watch.curve()
    assert curve[:3] == [1.0, 3.0, None]
    assert curve[-1] == 7.0
    watch._told = [(0, {"recall/loss": 1.0, "recall/time_share": 0.1})]
    watch._told += [(100, {"recall/loss": 3.0, "recall/time_share": 0.2})]
    told = watch.told()
    assert told["loss"] == [2.0] + [None] * 9
    assert told["time_share_at_end"] == [0.2]


@pytest.mark.parametrize("algorithm", ["trpo", "sac"])
def test_a_run_on_mujoco_follows_from_its_seed(
    algorithm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETTINGS["sac"], "learning_starts", 1_200)
    steps, told = {"trpo": 4_096, "sac": 1_300}[algorithm], {}
    for name, given in {
        "none": {},
        "random": {"recall": {"start": 600, "every": 300, "model": "random"}},
        "forward": {"recall": {"start": 600, "every": 300, "model": "forward"}},
        "remembered": {"recall": {"start": 600, "every": 300, "model": "remembered"}},
        "learned": {"recall": {"start": 600, "every": 300}},
    }.items():
        arm = Arm(name=name, **given)
        run = MujocoRun(algorithm=algorithm, task="Hopper-v5", arm=arm, seed=1, steps=steps)
        told[name] = json.loads(play_mujoco(run, tmp_path / "a").read_text())
    again = json.loads(play_mujoco(run, tmp_path / "b").read_text())
    assert _timeless(again) == _timeless(told["learned"])
    ends = [json.dumps(found["end"], sort_keys=True) for found in told.values()]
    assert len(set(ends)) == len(ends), "every arm does something of its own"


def _timeless(told: dict[str, Any]) -> dict[str, Any]:
    told["recall"] = {n: v for n, v in told["recall"].items() if "time_share" not in n}
    return told | {"seconds": 0}


def test_rows_of_neighbouring_seeds_share_no_episode() -> None:
    first = []
    for seed in (0, 1):
        run = MujocoRun(
            algorithm="trpo", task="Hopper-v5", arm=Arm(name="none"), seed=seed, steps=8
        )
        _, venv = learner(run)
        first += [row.tobytes() for row in venv.unwrapped.reset()]
        venv.close()
    assert len(set(first)) == len(first)


def test_hindsight_and_recall_go_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    often = recall_her.recalling(start=200, every=50, targets_from="critic")
    monkeypatch.setattr(recall_her, "ARMS", (*recall_her.ALONE, *often))
    recall_her.main(["--seeds", "0", "--steps", "1100", "--out", str(tmp_path)])
    document = json.loads((tmp_path / "results/recall_her.json").read_text())
    assert set(document["summary"]) == {"neither", "hindsight", "recall", "both"}
    assert all(len(record["success"]) == 30 for record in document["records"])
    told = {record["run"]["arm"]["name"]: record["recall"] for record in document["records"]}
    assert told["neither"] == told["hindsight"] == {}
    assert told["recall"]["steps"] > 0 < told["both"]["steps"]
    assert told["recall"]["imitation_loss"] != told["both"]["imitation_loss"]


def test_what_an_arm_of_the_maze_gained_is_paired_by_seed() -> None:
    def kept(arm: str, seed: int, share: float) -> dict[str, Any]:
        run = {"arm": {"name": arm}, "seed": seed}
        return {"run": run, "success": [share] * 30, "seconds": 1.0}

    records = [
        *(kept("neither", seed, seed / 10) for seed in (0, 1, 2)),
        *(kept("recall, 20 updates", seed, 0.3 + seed / 10) for seed in (2, 1)),
        *(kept("both", seed, 0.5) for seed in (0, 1)),
    ]
    found = recall_her.summary(records)
    assert "gained" not in found["neither"]
    assert "gained" not in found["both"], "hindsight replay alone was not run"
    assert found["recall, 20 updates"]["gained"]["on"] == "neither"
    assert found["recall, 20 updates"]["gained"]["per_seed"] == pytest.approx([0.3, 0.3])
    row = "| recall, 20 updates | 0.45 [0.40, 0.50] | neither | 0.30 [0.30, 0.30] | 0.45"
    assert row in recall_her.table(found)


def mujoco_record(arm: str, seed: int, curve: list[float | None], share: float) -> dict[str, Any]:
    """What a run on MuJoCo leaves, made up."""
    return {
        "run": {
            "algorithm": "trpo",
            "task": "T",
            "seed": seed,
            "steps": 1_000,
            "arm": {"name": arm},
        },
        "curve": {"return": curve},
        "recall": {"time_share_at_end": [share]} if share else {},
        "end": {"mean": 7.0 + seed, "sampled": 3.0},
        "seconds": 10.0 * len(curve),
    }


def test_the_summary_of_mujoco_by_hand() -> None:
    gaps: list[float | None] = [None, 2.0, None, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0]
    np.testing.assert_array_equal(
        mujoco.returns(mujoco_record("a", 0, gaps, 0)), [2, 2, 2, 4, 4, 4, 4, 4, 4, 4]
    )
    late = [0.0] * 5 + [4.0] * 5
    runs = [mujoco_record("none", seed, gaps, 0) for seed in (0, 1)]
    runs += [mujoco_record("recall", seed, list(late), 0.2) for seed in (1, 0)]
    runs += [mujoco_record("never", 0, [0.0] * 10, 0.5)]
    found = mujoco.summary(runs)["trpo T"]
    assert found["threshold"] == 3.0, "three quarters of 4"
    none, recall, never = (found["arms"][name] for name in ("none", "recall", "never"))
    assert none["area"]["value"] == pytest.approx(3.4)
    assert recall["area_minus_none"]["per_seed"] == pytest.approx([-1.4, -1.4])
    assert recall["mean_minus_none"]["per_seed"] == [0, 0], "paired by seed"
    assert recall["added"]["value"] == pytest.approx(0.25)
    assert never["added"]["value"] == pytest.approx(1.0)
    # Five bins whose mean is 3 or more: from the second on, 2 2 4 4 4; from the fifth, 0 4 4 4 4.
    assert none["steps_to_threshold"]["value"] == 600
    assert recall["steps_to_threshold"]["value"] == 900
    assert none["seconds_to_threshold"]["value"] == 60
    assert recall["seconds_to_threshold"]["value"] == pytest.approx(100 * 0.9 * 1.25)
    assert never["reached"] == 0
    assert never["steps_to_threshold"]["value"] == 1_000, "all it had"
    assert never["seconds_to_threshold"]["value"] == pytest.approx(100 * 2)
    assert "| 1,000 [1,000, 1,000] | 0 of 1 |" in mujoco.table({"trpo T": found})


def test_areas_of_several_tasks_together_by_hand() -> None:
    runs = [mujoco_record("none", seed, [2.0] * 10, 0) for seed in (0, 1)]
    runs += [mujoco_record("recall", seed, [3.0] * 10, 0) for seed in (0, 1)]
    tens = [mujoco_record("none", seed, [10.0] * 10, 0) for seed in (0, 1)]
    runs += [record | {"run": record["run"] | {"task": "U"}} for record in (*tens, *runs[2:])]
    found = mujoco.together(runs)["trpo"]
    assert set(found) == {"recall"}
    assert found["recall"]["gain"]["per_seed"] == pytest.approx([0.5, 0.5, -0.7, -0.7])
    # Drawn without regard to the task, some samples would be of one task alone.
    assert found["recall"]["gain"]["low"] == pytest.approx(found["recall"]["gain"]["high"])
    assert "| trpo | recall | 2 | -0.10 [-0.10, -0.10] |" in mujoco.table_together({"trpo": found})


def test_a_part_of_the_mujoco_study_writes_beside_its_runs(tmp_path: Path) -> None:
    wanted = ["trpo", "--tasks", "Hopper-v5", "--seeds", "1", "--steps", "6144"]
    recall_mujoco.main([*wanted, "--out", str(tmp_path)])
    document = json.loads((tmp_path / "results/recall_mujoco_trpo.json").read_text())
    assert document["summary"]["trpo Hopper-v5"]["arms"]["none"]["seeds"] == [1]
    for record in document["records"]:
        plain = record["run"]["arm"]["name"] == "none"
        assert plain == (record["recall"] == {}), "every other arm has recalled something"
    ends = {json.dumps(record["end"], sort_keys=True) for record in document["records"]}
    assert len(ends) == len(document["records"]), "no two arms are the same"
    assert (tmp_path / "figures/recall_mujoco_trpo.svg").exists()
