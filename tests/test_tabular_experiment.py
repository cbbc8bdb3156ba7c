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

import backtrack_trapgrid
import numpy as np
import pytest
from backtrack_trapgrid_figures import figures
from backtrack_trapgrid_plan import KINDS, Scale, arm, chosen, reference, reported, tuning
from backtrack_trapgrid_runs import CHECKPOINTS, Run, Watch, World, load, load_or_play, settled
from backtrack_trapgrid_summary import _interquartile, rounded
from hypothesis import given
from hypothesis import strategies as st

from delegate.policies.tabular import Decision, QLearningSettings

TINY = {"tuning_seeds": 2, "seeds": 3, "calm": 100, "noisy": 100, "long": 200, "quick": True}
RESULTS = ("backtrack_trapgrid.json", "backtrack_trapgrid_seeds.json")


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


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=12))
def test_the_interquartile_mean_is_that_of_the_middle_half(values: list[int]) -> None:
    four_times = np.sort(np.repeat(np.array(values, float), 4))
    middle = four_times[len(values) : 3 * len(values)].mean()
    assert _interquartile(np.array(values, float))["value"] == pytest.approx(middle, abs=1e-9)


def test_settings_are_chosen_among_those_that_end_optimal() -> None:
    def tried(kind: str, epsilon: float, good: float, area: float) -> Any:
        each = arm(kind, {"epsilon": epsilon})
        run = Run(world=World(), arm=each, first_seed=0, seeds=2, interactions=100)
        return run, {"nearly_optimal": np.array([good]), "online": np.array([[area]])}

    pairs = [tried(kind, 0.0, 0.9, 0.8) for kind in KINDS]  # best area, but not good enough
    pairs += [tried(kind, 0.1, 0.97, 0.2) for kind in KINDS]
    pairs += [tried(kind, 0.2, 0.96, 0.3) for kind in KINDS]
    assert [best["epsilon"] for best in chosen(pairs).values()] == [0.2] * len(KINDS)
    # where nothing is good enough, the best of what there is
    assert chosen(pairs[: len(KINDS)])["known"]["epsilon"] == 0.0


def test_no_reported_seed_was_tuned_on_and_every_control_has_its_reference() -> None:
    groups = tuning(Scale())
    runs = [run for group in groups.values() for run in group]
    same = {kind: {"epsilon": 0.1} for kind in KINDS}
    entries = reported(Scale(), {key: same for key in groups})
    assert max(run.first_seed + run.seeds for run in runs) <= min(e.run.first_seed for e in entries)
    there = {entry.run.fingerprint() for entry in entries}
    controls = [entry.run for entry in entries if entry.run.arm.rate_of]
    assert len(controls) > 20
    assert all(reference(run).fingerprint() in there for run in controls)  # type: ignore[union-attr]


def test_a_run_is_played_once_and_a_control_takes_its_rate(tmp_path: Path) -> None:
    learner = QLearningSettings().model_dump(exclude={"going_back"})
    told, control = arm("known", learner), arm("random", learner, rate_of="known")
    world = World(size=6, max_steps=30)

    def run(each: Any) -> Run:
        return Run(world=world, arm=each, first_seed=0, seeds=30, interactions=1_000)

    path = load_or_play(run(told), tmp_path)
    before = path.stat().st_mtime_ns
    assert load_or_play(run(told), tmp_path) == path
    assert path.stat().st_mtime_ns == before
    load_or_play(run(control), tmp_path, reference(run(control)))
    assert [file.suffix for file in tmp_path.iterdir()] == [".npz", ".npz"]
    known, random = load(run(told), tmp_path), load(run(control), tmp_path)
    rates = [each["backtracks"].sum() / each["chances"].sum() for each in (known, random)]
    assert rates[1] == pytest.approx(rates[0], rel=0.2)
    # it goes back as often, but not from the traps
    assert known["online"].mean() > random["online"].mean() + 0.2


def test_a_killed_experiment_goes_on_and_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed with its workers in the middle, and started again."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    monkeypatch.setattr(backtrack_trapgrid, "QUICK", Scale(**TINY))
    backtrack_trapgrid.main(["--quick", "--out", str(whole)])
    assert "| 6×6 | 20% | 0 | known, cost 0.05 |" in capsys.readouterr().out

    first = started(cut)
    while first.poll() is None and len(list(cut.glob("*.npz"))) < 10:
        time.sleep(0.005)
    os.killpg(first.pid, signal.SIGKILL)
    said, _ = first.communicate()  # ends when the last worker is gone
    assert first.returncode == -signal.SIGKILL, said
    finished = {path: moment(path) for path in cut.glob("*.npz")}
    assert 10 <= len(finished) < len(list(whole.glob("*.npz")))
    assert not (cut / "results").exists()

    second = started(cut)
    said, _ = second.communicate()
    assert second.returncode == 0, said
    assert {path: moment(path) for path in finished} == finished, "no finished run is played again"
    assert {path.name for path in cut.glob("*.npz")} == {path.name for path in whole.glob("*.npz")}
    for name in RESULTS:
        assert timeless(cut / "results" / name) == timeless(whole / "results" / name)
    document = json.loads((cut / "results" / RESULTS[0]).read_text())
    assert document["provenance"]["tuning_seeds"] == [0, 1]
    drawn = figures(document["results"], tmp_path)
    assert [path.stem for path in drawn] == ["backtrack_trapgrid_map"], "quick has no more"
    ElementTree.parse(drawn[0])


def started(folder: Path) -> subprocess.Popen[str]:
    """The experiment at a tiny scale, as a process with two workers in a session of its own."""
    script = (
        "import sys, backtrack_trapgrid as experiment\n"
        f"experiment.QUICK = experiment.Scale(**{TINY})\n"
        "experiment.main(sys.argv[1:])"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, "--quick", "--out", str(folder), "--workers", "2"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def moment(path: Path) -> tuple[int, int]:
    """Which file it is and when it was written: another one once it is written again."""
    return path.stat().st_ino, path.stat().st_mtime_ns


def timeless(path: Path) -> Any:
    """The document but for how long things took."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: strip(each) for name, each in value.items() if name != "seconds"}
        return [strip(each) for each in value] if isinstance(value, list) else value

    return strip(json.loads(path.read_text()))


def test_what_is_not_finite_is_null() -> None:
    assert rounded({"a": [float("nan"), 1.234567]}) == {"a": [None, 1.23457]}
