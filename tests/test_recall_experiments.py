"""The studies of recalled traces: their numbers by hand, their arms, and what they leave behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delegate import envs
from experiments.backtrack_mujoco import __main__ as backtrack
from experiments.recall_four_rooms import __main__ as rooms
from experiments.recall_four_rooms.runs import EARLY, Run, recalled
from experiments.recall_four_rooms.summary import scores, success, summary, table
from experiments.recall_her import __main__ as her
from experiments.recall_mujoco import __main__ as mujoco
from experiments.recall_mujoco.runs import SETTINGS, Arm, Watch, learner
from experiments.recall_mujoco.runs import Run as MujocoRun
from experiments.recall_mujoco.summary import by_task, returns, together
from experiments.study.records import EXPERIMENTS, finished, play, read_records


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
    tuned = {run.seed for run in rooms.tuning()}
    assert not set(rooms.SEEDS) & tuned
    assert tuned == set(rooms.MORE_SEEDS) > set(rooms.TUNING_SEEDS)
    assert len({run.path(Path()) for run in rooms.reported()}) == len(rooms.reported())
    assert not set(her.SEEDS) & set(her.TUNING_SEEDS)
    sought = {
        record["run"]["seed"]
        for name in RESULTS
        if name.startswith("recall_mujoco_tune")
        for record in read_records(EXPERIMENTS, name)
    }
    assert sought
    reported = [*mujoco.SEEDS["trpo"], *mujoco.SEEDS["sac"]]
    reported += [record["run"]["seed"] for record in read_records(EXPERIMENTS, "recall_direction")]
    assert not sought & set(reported)


@pytest.mark.parametrize("arm", rooms.arms(11), ids=lambda arm: arm.name)
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
    run = Run(size=11, arm=rooms.recall("known", "exact"), seed=0, steps=1, a2c=rooms.A2C)
    assert recalled(run, world).targets_from.tolist() == [9 * 11 + 9]


def test_further_seeds_are_drawn_and_summarised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["--sizes", "11", "--seeds", "0", "10", "--arms", "actor_critic", "recall_exact"]
    rooms.STUDY.main([*wanted, "--steps", "2048", "--out", str(tmp_path)])
    assert "| 11 | recall exact |" in capsys.readouterr().out
    document = json.loads((tmp_path / "results/recall_four_rooms.json").read_text())
    assert len(read_records(tmp_path, "recall_four_rooms")) == 4
    assert document["summary"]["11"]["recall_exact"]["seeds"] == [0, 10]
    for name in ("recall_four_rooms.svg", "recall_four_rooms_visits.png"):
        assert (tmp_path / "figures" / name).stat().st_size > 1_000


RESULTS = sorted(path.name.split(".")[0] for path in EXPERIMENTS.glob("results/*.jsonl.gz"))
STUDIES = [module.STUDY for module in (rooms, her, mujoco, backtrack)]
HISTORY = "dca913a"
"""the last commit that has the settings of what no plan runs any more"""


@pytest.mark.parametrize("name", RESULTS)
def test_what_is_committed_is_of_its_plan_or_of_history_and_follows_from_its_records(
    name: str,
) -> None:
    document = json.loads((EXPERIMENTS / "results" / f"{name}.json").read_text())
    records = read_records(EXPERIMENTS, name)
    assert document["runs"] == len(records)
    assert document["commits"] == sorted({record["commit"] for record in records})
    study = next((study for study in STUDIES if name.startswith(study.name)), None)
    if study is None:
        return  # recall_direction, whose code is history, and backtrack_trapgrid, which see
    if "run_by" in document:
        assert document["run_by"]["commit"] == HISTORY
        assert name not in map(study.result, study.plans), "no plan would replace it"
    else:
        seeds = document["seeds"]
        lengths = {record["run"][study.clock] for record in records}
        plan = [
            run.model_copy(update={"seed": seed, study.clock: length})
            for run in study.plans[document["plan"]]()
            for seed in {run.seed, *seeds}
            for length in lengths
        ]
        unique = {run.model_dump_json(): run for run in plan if run.seed in seeds}
        assert len(finished(list(unique.values()), name, Path("none"))) == len(records)
        if name in map(study.result, study.plans):
            whole = study.plans[document["plan"]]()
            assert len(finished(whole, name, Path("none"))) == len(whole) == len(records)
    committed = dict(numbers(document["summary"]))
    assert dict(numbers(study.summary(records))) == pytest.approx(committed)
    least = study.summary(records[: len(records) // 2])
    assert dict(numbers(least)) != pytest.approx(committed), "the check can fail"


def test_the_studies_of_history_say_how_they_ran() -> None:
    document = json.loads((EXPERIMENTS / "results/recall_direction.json").read_text())
    assert document["run_by"] == {
        "commit": HISTORY,
        "command": "python experiments/recall_direction.py --workers 2",
    }
    readme = (EXPERIMENTS / "README.md").read_text()
    for name in RESULTS:
        run_by = json.loads((EXPERIMENTS / f"results/{name}.json").read_text()).get("run_by")
        assert run_by is None or run_by["command"] in readme


def numbers(tree: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a document, by the way there."""
    if isinstance(tree, dict | list):
        for name, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from numbers(value, f"{path}/{name}")
    elif isinstance(tree, int | float):
        yield path, tree


def test_what_recall_logs_is_averaged_over_tenths_of_a_run() -> None:
    watch = Watch(steps=1_000)
    assert watch.logged() == {}
    watch._logged = [(0, {"recall/loss": 1.0, "recall/time_share": 0.1})]
    watch._logged += [(100, {"recall/loss": 3.0, "recall/time_share": 0.2})]
    watch._logged += [(950, {"recall/loss": float("nan"), "recall/time_share": 0.3})]
    found = watch.logged()
    assert found["loss"] == [2.0] + [None] * 9
    assert found["time_share_at_end"] == [0.3]


@pytest.mark.parametrize("algorithm", ["trpo", "sac"])
def test_a_run_on_mujoco_follows_from_its_seed(
    algorithm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETTINGS["sac"], "learning_starts", 1_200)
    steps, found = {"trpo": 4_096, "sac": 1_300}[algorithm], {}
    often = {"start": 600, "every": 300}
    for name, recall in {
        "none": None,
        "random": often | {"model": "random"},
        "recall": often,
    }.items():
        arm = Arm(name=name, recall=recall)
        run = MujocoRun(algorithm=algorithm, task="Hopper-v5", arm=arm, seed=1, steps=steps)
        found[name] = json.loads(play(run, tmp_path / "a").read_text())
    again = json.loads(play(run, tmp_path / "b").read_text())
    assert _timeless(again) == _timeless(found["recall"])
    assert found["none"]["recall"] == {}
    ends = [json.dumps(each["end"], sort_keys=True) for each in found.values()]
    assert len(set(ends)) == len(ends), "every arm does something of its own"


def _timeless(record: dict[str, Any]) -> dict[str, Any]:
    kept = {n: v for n, v in record["recall"].items() if "time_share" not in n}
    return record | {"recall": kept, "seconds": 0}


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
    often = her.recalling(start=200, every=50, targets_from="critic")
    monkeypatch.setattr(her, "ARMS", (*her.ALONE, *often))
    her.STUDY.main(["--seeds", "0", "--steps", "1100", "--out", str(tmp_path)])
    document = json.loads((tmp_path / "results/recall_her.json").read_text())
    assert set(document["summary"]) == {"neither", "hindsight", "recall", "both"}
    records = read_records(tmp_path, "recall_her")
    assert all(len(record["success"]) == 30 for record in records)
    logged = {record["run"]["arm"]["name"]: record["recall"] for record in records}
    assert logged["neither"] == logged["hindsight"] == {}
    assert logged["recall"]["steps"] > 0 < logged["both"]["steps"]
    assert logged["recall"]["imitation_loss"] != logged["both"]["imitation_loss"]


def test_what_an_arm_of_the_maze_gained_is_paired_by_seed() -> None:
    def kept(arm: str, seed: int, share: float) -> dict[str, Any]:
        run = {"arm": {"name": arm}, "seed": seed}
        return {"run": run, "success": [share] * 30, "seconds": 1.0}

    records = [
        *(kept("neither", seed, seed / 10) for seed in (0, 1, 2)),
        *(kept("recall, 20 updates", seed, 0.3 + seed / 10) for seed in (2, 1)),
        *(kept("both", seed, 0.5) for seed in (0, 1)),
    ]
    found = her.summary(records)
    assert "gained" not in found["neither"]
    assert "gained" not in found["both"], "hindsight replay alone was not run"
    assert found["recall, 20 updates"]["gained"]["on"] == "neither"
    assert found["recall, 20 updates"]["gained"]["per_seed"] == pytest.approx([0.3, 0.3])
    row = "| recall, 20 updates | 0.45 [0.40, 0.50] | neither | 0.30 [0.30, 0.30] | 0.45"
    assert row in her.table(found)


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
        returns(mujoco_record("a", 0, gaps, 0)), [2, 2, 2, 4, 4, 4, 4, 4, 4, 4]
    )
    late = [0.0] * 5 + [4.0] * 5
    runs = [mujoco_record("none", seed, gaps, 0) for seed in (0, 1)]
    runs += [mujoco_record("recall", seed, list(late), 0.2) for seed in (1, 0)]
    runs += [mujoco_record("never", 0, [0.0] * 10, 0.5)]
    found = by_task(runs)["trpo T"]
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
    assert "| 1,000 [1,000, 1,000] | 0 of 1 |" in mujoco.table(
        {"by_task": {"trpo T": found}, "together": {}}
    )


def test_areas_of_several_tasks_together_by_hand() -> None:
    runs = [mujoco_record("none", seed, [2.0] * 10, 0) for seed in (0, 1)]
    runs += [mujoco_record("recall", seed, [3.0] * 10, 0) for seed in (0, 1)]
    tens = [mujoco_record("none", seed, [10.0] * 10, 0) for seed in (0, 1)]
    runs += [record | {"run": record["run"] | {"task": "U"}} for record in (*tens, *runs[2:])]
    found = together(by_task(runs))["trpo"]
    assert set(found) == {"recall"}
    assert found["recall"]["gain"]["per_seed"] == pytest.approx([0.5, 0.5, -0.7, -0.7])
    # Drawn without regard to the task, some samples would be of one task alone.
    assert found["recall"]["gain"]["low"] == pytest.approx(found["recall"]["gain"]["high"])
    assert "| trpo | recall | 2 | -0.10 [-0.10, -0.10] |" in mujoco.table(
        {"by_task": {}, "together": {"trpo": found}}
    )


def test_a_run_in_which_no_episode_ends_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["trpo_shipped", "--tasks", "HalfCheetah-v5", "--arms", "none", "--seeds", "1"]
    with pytest.raises(SystemExit):
        mujoco.STUDY.main([*wanted, "--steps", "64", "--out", str(tmp_path)])
    assert "in 64 steps no episode ended; ask for more --steps" in capsys.readouterr().err


def test_a_part_of_the_mujoco_study_writes_beside_its_runs(tmp_path: Path) -> None:
    arms = ["none", "recall", "paper", "random", "length 2", "length 50"]
    wanted = ["trpo_shipped", "--tasks", "Hopper-v5", "--seeds", "1", "--steps", "6144"]
    mujoco.STUDY.main([*wanted, "--arms", *arms, "--out", str(tmp_path)])
    name = "recall_mujoco_trpo_shipped"
    document = json.loads((tmp_path / f"results/{name}.json").read_text())
    assert document["summary"]["by_task"]["trpo Hopper-v5"]["arms"]["none"]["seeds"] == [1]
    records = read_records(tmp_path, name)
    assert {record["run"]["arm"]["name"] for record in records} == set(arms)
    for record in records:
        plain = record["run"]["arm"]["name"] == "none"
        assert plain == (record["recall"] == {}), "every other arm has recalled something"
    ends = {json.dumps(record["end"], sort_keys=True) for record in records}
    assert len(ends) == len(records), "no two arms are the same"
    assert (tmp_path / f"figures/{name}.svg").exists()
