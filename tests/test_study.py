"""What all studies share: what may be asked, what is run and kept, and what is refused."""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest
import small_study
from hypothesis import given
from hypothesis import strategies as st
from small_study import STUDY

from experiments.study import records, running
from experiments.study.records import Code, as_text, binned, play, read_records


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where whole plans and named results are kept instead of in experiments/."""
    folder = tmp_path / "home"
    for module in (records, running):
        monkeypatch.setattr(module, "EXPERIMENTS", folder)
    return folder


def ask(out: Path, *wanted: str) -> list[str]:
    return [*wanted, "--out", str(out)]


def refused(capsys: pytest.CaptureFixture[str], *wanted: str) -> str:
    """What is said of what cannot be done."""
    with pytest.raises(SystemExit) as ended:
        STUDY.main(wanted)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("--arms plain othr", "--arms: the plan has no arm othr; it has plain, other"),
        ("--sizes 9", "--sizes: the plan has no size 9; it has 7"),
        ("tuning --arms other", "--arms: the plan has no arm other; it has plain"),
        ("--seeds 7 1000", "--seeds: 1000 is of the plan tuning"),
        ("tuning --seeds 2", "--seeds: 2 is of the plan"),
        ("--workers 0", "--workers: 0 is no whole number above 0"),
        ("--steps -5", "--steps: -5 is no whole number above 0"),
        ("--gather", "nothing to gather in"),
        ("broken --arms raises --sizes 9", "no run of the plan is all that; ask for less"),
        ("--name tuning", "--name tuning: is a plan's"),
        ("--name ../a", "--name ../a: is a plan's, or more than a word"),
    ],
)
def test_what_is_not_in_the_plan_is_named_before_anything_is_run(
    wanted: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, *ask(tmp_path, *wanted.split()))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_or_read_is_named_before_anything_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "runs"
    said = refused(capsys, *ask(tmp_path / "file/runs"))
    assert "file/runs: Not a directory; give a folder that can be written" in said
    first, second = STUDY.plans["reported"]()[:2]
    path = first.path(out)
    path.parent.mkdir(parents=True)
    another = play(second, tmp_path / "another")
    for content, why in (
        ("{", "is damaged (Expecting property name"),
        ("[1]", "is damaged (no JSON object)"),
        ("{}", "is no record of that run; remove it"),
        (another.read_text(), "is no record of that run; remove it"),
    ):
        path.write_text(content)
        assert f"{path} {why}" in refused(capsys, *ask(out))
    path.write_text("{")
    assert f"{path} is damaged" in refused(capsys, *ask(out, "--gather"))
    assert len(list(out.rglob("*.json"))) == 1, "nothing was run"
    path.unlink()
    STUDY.main(ask(out))
    packed = home / "results/small.jsonl.gz"
    whole = packed.read_bytes()
    for damaged in (whole[:-9], whole[:20] + b"abcdef" + whole[26:], b"", b"{}"):
        packed.write_bytes(damaged)
        assert "small.jsonl.gz is damaged" in refused(capsys, *ask(out, "--gather")), damaged


def test_a_whole_plan_is_a_result_and_a_part_is_one_beside_its_runs(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    STUDY.main(ask(out, "--seeds", "0", "2"))
    assert "plain: 2" in capsys.readouterr().out
    assert not home.exists()
    assert (out / "figures/small.svg").read_text() == "<svg>4</svg>"
    when = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*.json")}
    STUDY.main(ask(out, "--workers", "2"))
    assert all(path.stat().st_mtime_ns == at for path, at in when.items()), "they are not redone"
    document = json.loads((home / "results/small.json").read_text())
    kept = read_records(home, "small")
    assert document["runs"] == len(kept) == 6
    assert document["seeds"] == [0, 1, 2]
    assert (document["plan"], document["rows"]) == ("reported", 4)
    assert document["summary"] == small_study.summary(kept)
    assert {"python", "numpy"} <= set(document["versions"])
    assert [record["run"] for record in kept] == [
        run.model_dump(mode="json") for run in STUDY.plans["reported"]()
    ]


def test_other_seeds_are_a_result_by_name(tmp_path: Path, home: Path) -> None:
    out, more = tmp_path / "runs", ("--arms", "other", "--seeds", "11", "1", "10")
    STUDY.main(ask(out, *more, "--name", "row6"))
    kept = read_records(home, "small_row6")
    assert [record["run"]["seed"] for record in kept] == [1, 11, 10]
    assert {record["run"]["arm"]["name"] for record in kept} == {"other"}
    assert not (home / "results/small.json").exists()
    STUDY.main(ask(tmp_path / "none", *more, "--name", "row6", "--gather"))
    assert read_records(home, "small_row6") == kept


def test_a_result_that_only_history_can_run_is_not_replaced(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "results").mkdir(parents=True)
    (home / "results/small_old.json").write_text('{"run_by": {"commit": "dca913a"}}')
    assert "is of commit dca913a and stays" in refused(capsys, *ask(tmp_path, "--name", "old"))


def test_what_is_finished_is_gathered_whatever_code_it_was_of(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, ours = tmp_path / "runs", ("--arms", "plain")
    STUDY.main(ask(out, *ours))
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*/*.json")}
    other = Code("experiments/study/running.py")
    monkeypatch.setattr(small_study.Run, "code", other)
    run = STUDY.plans["reported"]()[0]
    assert run.path(out) not in before, "other code makes another record"
    newer = play(run, out)
    STUDY.main(ask(out, *ours, "--gather"))
    assert "3 of 3 runs are finished" in capsys.readouterr().out
    sources = [record["source"] for record in read_records(out, "small")]
    assert sources.count(other.source) == 1
    newer.unlink()
    for path in list(before)[1:]:
        path.unlink()
    STUDY.main(ask(out, *ours, "--gather"))
    assert "1 of 3 runs are finished" in capsys.readouterr().out


def test_a_setting_that_came_later_does_not_hide_a_record(tmp_path: Path) -> None:
    run = STUDY.plans["reported"]()[0]
    record = json.loads(play(run, tmp_path).read_text())
    del record["run"]["size"]  # as from before there was one
    run.path(tmp_path).write_text(json.dumps(record))
    assert records.finished([run], "small", tmp_path) == [record]
    record["run"]["size"] = 8
    run.path(tmp_path).write_text(json.dumps(record))
    assert records.finished([run], "small", tmp_path) == []


def test_a_run_that_fails_ends_the_study_and_the_others_stay(tmp_path: Path, home: Path) -> None:
    began, both = time.monotonic(), ("broken", "--workers", "2")
    with pytest.raises(RuntimeError, match="seed 0 fails"):
        STUDY.main(ask(tmp_path, *both, "--arms", "plain", "raises", "--steps", "20000"))
    assert time.monotonic() - began < 150, "what takes 200 s is not waited for"
    with pytest.raises(SystemExit, match="a worker was killed, perhaps for want of memory"):
        STUDY.main(ask(tmp_path, *both, "--arms", "plain", "dies"))
    assert not home.exists()


numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    numbers | st.text() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(st.lists(st.dictionaries(st.text(), documents, max_size=4), min_size=1, max_size=3))
def test_results_keep_every_number(tmp_path_factory: pytest.TempPathFactory, found: Any) -> None:
    folder = tmp_path_factory.mktemp("result")
    made = [{**each, "commit": "a", "versions": {"python": "3"}} for each in found]
    packed = []
    for _ in range(2):
        records.write_result(folder, "result", made, {"summary": found})
        packed.append((folder / "results/result.jsonl.gz").read_bytes())
    assert packed[0] == packed[1], "the same records are the same file"
    assert packed[0][4:8] == bytes(4), "whenever it is written"
    assert _same(read_records(folder, "result"), made)
    assert _same(json.loads((folder / "results/result.json").read_text())["summary"], found)
    assert len(gzip.decompress(packed[0]).splitlines()) == len(made), "one line a run"


def _same(one: Any, other: Any) -> bool:
    """Exactly, integers and floats apart."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def test_a_metric_stands_on_one_line() -> None:
    metric = {"value": 0.5, "per_seed": [1 / 3] * 20}
    text = as_text({"area": metric, "rows": {"a": metric, "b": metric}})
    assert [line.strip()[:6] for line in text.splitlines()] == [
        "{", '"area"', '"rows"', '"a": {', '"b": {', "}", "}",
    ]  # fmt: skip


def test_a_record_of_several_versions_names_all(tmp_path: Path) -> None:
    made = [{"commit": n, "versions": {"numpy": n}} for n in ("2.1", "2.0", "2.1")]
    records.write_result(tmp_path, "result", made, {})
    document = json.loads((tmp_path / "results/result.json").read_text())
    assert document["versions"] == {"numpy": "2.0, 2.1"}
    assert document["commits"] == ["2.0", "2.1"]


def test_code_is_every_module_below_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "ROOT", tmp_path)
    inner = tmp_path / "library/inner"
    inner.mkdir(parents=True)
    (inner / "a.py").write_text("A = 1")
    first = Code("library").source
    assert Code("library").source == first
    (inner / "a.py").write_text("A = 2")
    assert Code("library").source != first
    with pytest.raises(FileNotFoundError):
        Code("missing")


def test_bins_by_hand() -> None:
    ended = [(1, 0.0), (10, 1.0), (11, 3.0), (100, 7.0), (104, 9.0)]
    assert binned(ended, steps=100, bins=10) == [0.5, 3.0, *[None] * 7, 8.0]
    assert binned([], steps=100, bins=2) == [None, None]
