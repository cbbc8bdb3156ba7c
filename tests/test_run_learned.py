"""Runs whose model is learned: the same whatever the workers, kept as an artefact, read again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_run import TINY, execute, metrics, trial_files

from delegate import run
from delegate.scenario import ScenarioError
from delegate.trial import Laboratory

RECALL = "recall: {model: learned, play: {policy: random}, steps: 500, updates: 50}"
LEARNED = (
    TINY.replace("reach: {statistic: drawdown}", "goal_odds: {}")
    .replace("monitor: reach", "monitor: goal_odds")
    .replace("  path: {backward: counted}\n", "")
    .replace("monitors:", f"{RECALL}\nmonitors:")
    .replace("seeds: [3, 4]", "seeds: [3]")
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("learned")
    path = folder / "learned.yaml"
    path.write_text(LEARNED)
    out = execute(path, folder / "whole")
    return path, out, metrics(out)


def learned(out: Path) -> Path:
    """The one artefact of a run."""
    (file,) = (out / "artefacts").iterdir()
    return file


def test_two_workers_learn_the_same(whole: Any, tmp_path: Path) -> None:
    path, out, expected = whole
    assert expected["provenance"]["artefacts"] == [learned(out).name]
    again = execute(path, tmp_path / "again", workers=2)
    assert metrics(again) == expected
    for name in (f"artefacts/{learned(out).name}", *trial_files(out)):
        assert (again / name).read_bytes() == (out / name).read_bytes()


def test_a_run_that_nobody_watches_learns_nothing(tmp_path: Path) -> None:
    text = LEARNED.split("monitors:")[0] + "arms: {none: {protocol: none}}\nseeds: [3]\n"
    (tmp_path / "blind.yaml").write_text(text)
    out = execute(tmp_path / "blind.yaml", tmp_path / "run")
    assert not (out / "artefacts").exists()


def test_what_was_learned_is_read_and_not_learned_again(
    whole: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out, expected = whole
    shutil.copytree(out, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/trials/rollback")
    monkeypatch.setattr(Laboratory, "_wander", lambda self, train: pytest.fail("learned again"))
    execute(path, tmp_path / "run", resume=True)
    assert metrics(tmp_path / "run") == expected


@pytest.mark.parametrize("harm", ["cut", "another", "gone"])
def test_what_is_damaged_or_changed_is_learned_again(harm: str, whole: Any, tmp_path: Path) -> None:
    path, out, expected = whole
    shutil.copytree(out, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/trials/rollback")
    file = learned(tmp_path / "run")
    content = file.read_bytes()
    file.unlink()
    if harm == "cut":
        file.write_bytes(content[:1_000])
    elif harm == "another":  # one bit of a weight, and all is well-formed
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    execute(path, tmp_path / "run", resume=True)
    assert metrics(tmp_path / "run") == expected
    assert learned(tmp_path / "run").read_bytes() == learned(out).read_bytes()


def test_the_parent_wanders_through_nominal_levels_until_it_has_seen_enough(whole: Any) -> None:
    plan = run.load_scenario(whole[0])
    laboratory = Laboratory(plan, run.Source(plan), 3)
    train = laboratory.source.bank(3, "train")
    before = train.assigned.copy()
    seen = laboratory._wander(train)
    assert sum(map(len, seen)) >= 500 > sum(map(len, seen[:-1]))
    assert (train.split == 0).all()
    np.testing.assert_array_equal(train.assigned, before)
    assert len(np.unique(np.concatenate([part.goal for part in seen]))) > 10, "to many places"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("model: learned, ", ""), "recall.play.*belongs to `model: learned`"),
        (("play: {policy: random}", "data: nominal"), "recall.steps.*belongs to `data: play`"),
        (("policy: random}, steps", "policy: randon}, steps"), "recall.play.policy.*'random'"),
        (("policy: random}, steps", "policy: relay}, steps"), "recall.play.policy.*acts itself"),
        (("{policy: random}", "{policy: random, settings: {a: 1}}"), "recall.play.settings.a"),
        (("steps: 500", "steps: 5"), "recall.steps.*at least 100"),
        (("updates: 50", "updates: 0"), "recall.updates.*at least 1"),
        (("model: learned", "model: guessed"), "recall.model.*exact"),
    ],
)
def test_bad_settings_are_named(change: tuple[str, str], why: str, tmp_path: Path) -> None:
    assert change[0] in LEARNED
    path = tmp_path / "bad.yaml"
    path.write_text(LEARNED.replace(*change))
    with pytest.raises(ScenarioError, match=why):
        run.load_scenario(path)
