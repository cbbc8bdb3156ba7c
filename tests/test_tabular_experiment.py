"""The trap grid experiment: its measures by hand, its choices, and that a killed run goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from delegate.policies.tabular import Decision, QLearningSettings
from experiments.backtrack_trapgrid import __main__ as trapgrid
from experiments.backtrack_trapgrid.__main__ import KINDS, Scale, arm, chosen, reported, tuning
from experiments.backtrack_trapgrid.measures import (
    CHECKPOINTS,
    recorded,
    rounded,
    settled,
)
from experiments.backtrack_trapgrid.runs import Run, Watch, World, measure
from experiments.backtrack_trapgrid.summary import rows, summary
from experiments.study.records import EXPERIMENTS, ROOT, play, read_records

TINY = {"tuning_seeds": 2, "seeds": 3, "calm": 100, "noisy": 100, "long": 200, "quick": True}
NAME = trapgrid.NAME


def decision(tick: int, reward: list[float], over: list[bool], back: list[bool]) -> Decision:
    none, no = np.zeros(2, np.int64), np.zeros(2, bool)
    info = {"backtracked": np.array(back)}
    return Decision(tick, none, none, np.array(reward), none, np.array(over), no, no, ~no, info)


def test_the_online_return_by_hand() -> None:
    watch = Watch(2, 2 * CHECKPOINTS)  # bins of two interactions
    for tick in range(2 * CHECKPOINTS):
        # row 0: one episode of three steps and return 6, then of one step and return 1 each
        reward, over = (2.0, tick == 2) if tick < 3 else (1.0, True)
        watch.see(decision(tick, [reward, 0.5], [over, False], [False, True]))
    online = watch.online()
    assert online[0].tolist() == [6.0, 3.5] + [1.0] * (CHECKPOINTS - 2)
    # row 1 never ends: what it has at the end counts for all of it
    np.testing.assert_allclose(online[1], CHECKPOINTS)
    assert watch.episodes()[0].tolist() == [0] + [2] * (CHECKPOINTS - 1)
    assert watch.episodes()[1].tolist() == [0] * (CHECKPOINTS - 1) + [1]
    assert watch.backtracks.sum(axis=1).tolist() == [0, 2 * CHECKPOINTS]
    assert (watch.chances == 2).all()


@pytest.mark.parametrize(
    ("optimal", "expected"),
    [("1111", 1), ("0111", 2), ("1011", 3), ("0001", 4), ("1110", 4), ("0000", 4)],
)
def test_settled_by_hand(optimal: str, expected: int) -> None:
    assert settled(np.array([[digit == "1" for digit in optimal]])).tolist() == [expected]


def test_settings_are_chosen_among_those_that_end_optimal() -> None:
    def tried(kind: str, epsilon: float, good: float, area: float) -> Any:
        run = {"arm": {"name": kind, "learner": {"epsilon": epsilon, "discount": 0.9}}}
        measures = {"nearly_optimal": {"value": good}, "online_area": {"value": area}}
        return {"run": run, "measures": measures}

    records = [tried(kind, 0.0, 0.9, 0.8) for kind in KINDS]  # best area, but not good enough
    records += [tried(kind, 0.1, 0.97, 0.2) for kind in KINDS]
    records += [tried(kind, 0.2, 0.96, 0.3) for kind in KINDS]
    assert chosen(records) == {kind: {"epsilon": 0.2} for kind in KINDS}
    # where nothing is good enough, the best of what there is
    assert chosen(records[: len(KINDS)])["known"]["epsilon"] == 0.0


def test_no_reported_seed_was_tuned_on() -> None:
    groups = tuning(Scale())
    runs = [run for group in groups.values() for run in group]
    same = {kind: {"epsilon": 0.1} for kind in KINDS}
    entries = [run for _, run in reported(Scale(), {key: same for key in groups})]
    assert max(run.first_seed + run.seeds for run in runs) <= min(run.first_seed for run in entries)
    assert sum(run.reference is not None for run in entries) > 20


def test_a_run_follows_from_its_seeds_and_a_control_takes_its_rate(tmp_path: Path) -> None:
    learner = QLearningSettings().model_dump(exclude={"going_back"})
    informed, control = arm("known", learner), arm("random", learner, rate_of="known")
    world = World(size=6, max_steps=30)

    def run(each: Any) -> Run:
        return Run(world=world, arm=each, first_seed=0, seeds=30, interactions=1_000)

    assert run(control).reference == run(informed)
    path = play(run(informed), tmp_path)
    before = path.stat().st_mtime_ns
    assert play(run(informed), tmp_path) == path
    assert path.stat().st_mtime_ns == before
    known = json.loads(path.read_text())
    again = recorded(measure(run(informed)), 1_000)
    assert {name: known[name] for name in again} | {"seconds": 0} == again | {"seconds": 0}
    random = json.loads(play(run(control), tmp_path).read_text())
    shares = [each["measures"]["backtrack_share"]["value"] for each in (known, random)]
    assert shares[1] == pytest.approx(shares[0], rel=0.2)
    # it goes back as often, but not from the traps
    areas = [np.mean(each["by_seed"]["online_area"]) for each in (known, random)]
    assert areas[0] > areas[1] + 0.2


def test_what_is_committed_is_of_the_plan_and_follows_from_its_records() -> None:
    document = json.loads((EXPERIMENTS / "results" / f"{NAME}.json").read_text())
    records = read_records(EXPERIMENTS, NAME)
    groups, rest = tuning(Scale()), records
    tuned = {}
    for (key, runs), told in zip(groups.items(), document["chosen"], strict=True):
        tried, rest = rest[: len(runs)], rest[len(runs) :]
        assert [Run.model_validate_json(json.dumps(each["run"])) for each in tried] == runs
        assert chosen(tried) == told["chosen"]
        tuned[key] = told["chosen"]
    found = summary(rows(reported(Scale(), tuned), rest))
    assert len(found) == len(document["summary"]) == 220
    for mine, theirs in zip(found, document["summary"], strict=True):
        assert mine.pop("differences").keys() == theirs["differences"].keys()
        assert mine == {name: value for name, value in theirs.items() if name != "differences"}
    # a record's numbers are rounded to five digits, these differences are not of rounded ones
    again = rows(reported(Scale(), tuned), rest)
    for row, theirs in zip(again, document["summary"], strict=True):
        for name, gained in theirs["differences"].items():
            for area, metric in gained.items():
                assert row["differences"][name][area] == pytest.approx(metric, abs=2e-5)
    assert document["runs"] == len(records)
    rest[0]["by_seed"]["online_area"][0] += 1
    changed = rows(reported(Scale(), tuned), rest)
    assert changed[1]["differences"] != again[1]["differences"], "the check can fail"


def test_a_killed_experiment_goes_on_and_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed with its workers in the middle, and started again."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    monkeypatch.setattr(trapgrid, "QUICK", Scale(**TINY))
    trapgrid.main(["--quick", "--out", str(whole)])
    assert "| 6×6 | 20% | 0 | known, cost 0.05 |" in capsys.readouterr().out

    first = started(cut)
    while first.poll() is None and len(list(cut.glob("*.json"))) < 10:
        time.sleep(0.005)
    os.killpg(first.pid, signal.SIGKILL)
    said, _ = first.communicate()  # ends when the last worker is gone
    assert first.returncode == -signal.SIGKILL, said
    finished = {path: moment(path) for path in cut.glob("*.json")}
    assert 10 <= len(finished) < len(list(whole.glob("*.json")))
    assert not (cut / "results").exists()

    second = started(cut)
    said, _ = second.communicate()
    assert second.returncode == 0, said
    assert {path: moment(path) for path in finished} == finished, "no finished run is played again"
    assert {path.name for path in cut.glob("*.json")} == {p.name for p in whole.glob("*.json")}
    told = [json.loads((folder / f"results/{NAME}.json").read_text()) for folder in (cut, whole)]
    assert told[0] == told[1]
    assert told[0]["tuning_seeds"] == [0, 1]
    mine, theirs = (read_records(folder, NAME) for folder in (cut, whole))
    assert [each | {"seconds": 0} for each in mine] == [each | {"seconds": 0} for each in theirs]
    trapgrid.main(["--quick", "--out", str(cut), "--gather"])
    assert json.loads((cut / f"results/{NAME}.json").read_text()) == told[0]
    drawn = sorted(path.stem for path in (cut / "figures").iterdir())
    assert drawn == ["backtrack_trapgrid_map"], "quick has no more"
    ElementTree.parse(cut / "figures/backtrack_trapgrid_map.svg")
    next(cut.glob("known_*.json")).unlink()
    with pytest.raises(SystemExit):
        trapgrid.main(["--quick", "--out", str(cut), "--gather"])
    assert "takes all of them; leave out --gather" in capsys.readouterr().err


def started(folder: Path) -> subprocess.Popen[str]:
    """The experiment at a tiny scale, as a process with two workers in a session of its own."""
    script = (
        "import sys\n"
        "from experiments.backtrack_trapgrid import __main__ as experiment\n"
        f"experiment.QUICK = experiment.Scale(**{TINY})\n"
        "experiment.main(sys.argv[1:])"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, "--quick", "--out", str(folder), "--workers", "2"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def moment(path: Path) -> tuple[int, int]:
    """Which file it is and when it was written: another one once it is written again."""
    return path.stat().st_ino, path.stat().st_mtime_ns


def test_what_is_not_finite_is_null() -> None:
    assert rounded({"a": [float("nan"), 1.234567]}) == {"a": [None, 1.23457]}
