"""Run folders are read whole or refused, naming the file, the cause and the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import Branch, Episode, seal, write_run, write_trial

from delegate.agents import NO_CODE
from delegate.safety import DamagedTrial, load_run, load_trial, verify_trial
from delegate.safety.logs import FILES, MAYBE
from delegate.safety.sub_episodes import sub_episodes

Harm = Callable[[Path], object]
"""something done to a trial's folder or file"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with two trials."""
    folder = write_run(tmp_path / "run")
    for arm, protocol, monitor in (("none", "none", None), ("rollback", "rollback", "reach")):
        row = Episode([Branch({"reach": [0.0, 1.0], "path": [1.0, 0.0]}, [False, True])])
        write_trial(folder, arm, 0, [row, row], protocol, monitor)
    return folder


def trial(run: Path) -> Path:
    """The trial that is damaged."""
    return run / "trials" / "none" / "0"


def test_what_was_written_is_read(run: Path) -> None:
    loaded = load_run(run)
    assert loaded.arms == ["none", "rollback"]
    assert loaded.monitors == []
    (one,) = loaded.of("rollback")
    assert (one.seed, one.kind, one.child, one.monitor) == (0, "arm", None, "reach")
    assert one.monitors == ["path", "reach"]
    np.testing.assert_array_equal(one.watch["value/reach"], [0, 1, 0, 1])
    assert one.calibration["reach"].n == 100
    assert verify_trial(one.folder)["arm"] == "rollback"


def test_a_child_alone_keeps_its_name_and_not_its_folders(run: Path) -> None:
    write_trial(run, "alone:proxy", 3, [Episode([Branch({"reach": [0.0]})])])
    (alone,) = load_run(run).alone
    assert alone.folder.parent.name == "alone-proxy"
    assert (alone.arm, alone.child, alone.seed) == ("alone:proxy", "proxy", 3)


def test_trials_that_are_not_there_are_named(run: Path) -> None:
    missing = load_run(run).missing
    assert "rollback_random, seed 0" in missing
    assert "none, seed 0" not in missing


def delete(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [delete, cut, flip])
@pytest.mark.parametrize("name", [*FILES, *MAYBE])
def test_damage_is_noticed_and_named(run: Path, name: str, harm: Harm) -> None:
    harm(trial(run) / name)
    for read in (verify_trial, load_trial):
        with pytest.raises(DamagedTrial) as caught:
            read(trial(run))
        assert caught.value.path == trial(run) / name
        assert "redo the trial" in caught.value.reason
        assert str(caught.value).startswith(str(trial(run) / name))
    with pytest.raises(DamagedTrial):
        load_run(run)


def rewrite(name: str, change: Callable[[dict[str, np.ndarray]], object]) -> Harm:
    """Change a table and seal it again, as a wrong writer would have."""

    def harm(folder: Path) -> None:
        with np.load(folder / name, allow_pickle=False) as file:
            table = {key: file[key] for key in file.files}
        change(table)
        np.savez(folder / name, **table)

    return harm


def text(name: str, content: str) -> Harm:
    """Another content of a text file."""
    return lambda folder: (folder / name).write_text(content)


def first_line(change: Callable[[dict[str, object]], object]) -> Harm:
    """Change the first event."""

    def harm(folder: Path) -> None:
        lines = (folder / "events.jsonl").read_text().splitlines()
        event = json.loads(lines[0])
        change(event)
        (folder / "events.jsonl").write_text("\n".join([json.dumps(event), *lines[1:]]) + "\n")

    return harm


WRONG = {
    "no column": (rewrite("steps.npz", lambda t: t.pop("reward")), "has no column reward"),
    "wrong type": (
        rewrite("levels.npz", lambda t: t.update(seed=t["seed"].astype(float))),
        "column seed is of type float64",
    ),
    "lengths": (rewrite("levels.npz", lambda t: t.update(goal=t["goal"][:1])), "different lengths"),
    "no pair": (rewrite("watch.npz", lambda t: t.pop("score/reach")), "lacks its pair"),
    "infinite score": (
        rewrite("watch.npz", lambda t: t["score/reach"].__setitem__(0, -np.inf)),
        "column score/reach holds infinite numbers",
    ),
    "infinite value": (
        rewrite("watch.npz", lambda t: t["value/path"].__setitem__(0, np.inf)),
        "column value/path holds infinite numbers",
    ),
    "infinite event": (first_line(lambda e: e.update(clock=np.inf)), "line 1 is not an event"),
    "not JSON": (text("calibration.json", '{"target": NaN}'), "NaN is not JSON"),
    "pickled": (
        rewrite("levels.npz", lambda t: t.update(goal=np.array([{}, {}], object))),
        "Object arrays cannot be loaded",
    ),
    "not an archive": (text("steps.npz", "no"), "cannot be read"),
    "stray row": (first_line(lambda e: e.update(row=9)), "names row 9 and levels.npz has 2"),
    "negative row": (first_line(lambda e: e.update(row=-1)), "names row -1"),
    "sequence": (first_line(lambda e: e.update(seq=4)), "out of sequence"),
    "kind": (first_line(lambda e: e.update(kind="rewound")), "line 1 is not an event"),
    "field": (first_line(lambda e: e.update(extra=1)), "line 1 is not an event"),
    "no calibration": (text("calibration.json", '{"target": 0.05, "monitors": {}}'), "monitor"),
    "a list": (text("calibration.json", "[]"), "is not a JSON object"),
    "threshold": (
        text(
            "calibration.json",
            '{"target": 0.05, "monitors": {"reach": {"statistic": "last", "peaks": [1.0], '
            '"threshold": 0.5}}}',
        ),
        "does not follow from the peaks",
    ),
}


@pytest.mark.parametrize(("harm", "words"), WRONG.values(), ids=WRONG)
def test_what_is_whole_but_wrong_is_refused(run: Path, harm: Harm, words: str) -> None:
    harm(trial(run))
    seal(trial(run))
    with pytest.raises(DamagedTrial, match=words):
        load_trial(trial(run))


def test_a_trial_record_is_checked(run: Path) -> None:
    path = trial(run) / "trial.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "seed": "0"}))
    with pytest.raises(DamagedTrial, match="no usable 'seed'"):
        verify_trial(trial(run))
    path.write_text(json.dumps({**record, "files": {}}))
    with pytest.raises(DamagedTrial, match=r"lists no events\.jsonl"):
        verify_trial(trial(run))
    path.write_text("{")
    with pytest.raises(DamagedTrial, match=r"trial\.json: cannot be read"):
        verify_trial(trial(run))


def test_scores_of_nobody_are_refused(run: Path) -> None:
    rewrite("watch.npz", lambda t: t.update(sub_episode=t["sub_episode"] + 1))(trial(run))
    seal(trial(run))
    with pytest.raises(DamagedTrial, match="sub-episode 2 of row 0, which was never spawned"):
        sub_episodes(load_trial(trial(run)))


def test_a_sub_episode_that_never_ends_is_refused(run: Path) -> None:
    rewrite("sub_episodes.npz", lambda t: t["outcome"].fill(NO_CODE))(trial(run))
    seal(trial(run))
    with pytest.raises(DamagedTrial, match="sub-episode 1 of row 0 never ends"):
        sub_episodes(load_trial(trial(run)))


def test_what_is_no_run_folder_is_refused(tmp_path: Path, run: Path) -> None:
    with pytest.raises(DamagedTrial, match="is not a folder"):
        load_run(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DamagedTrial, match="is no run folder"):
        load_run(tmp_path / "empty")
    (run / "run.json").unlink()
    with pytest.raises(DamagedTrial, match=r"run\.json"):
        load_run(run)


def test_a_run_without_a_finished_trial_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    half = folder / "trials" / "none" / ".0.half"
    half.mkdir(parents=True)
    (half / "trial.json").write_text("{}")
    with pytest.raises(DamagedTrial, match="holds no finished trial"):
        load_run(folder)


def test_a_table_without_lines_is_read(tmp_path: Path) -> None:
    """An arm that nobody watched writes empty columns of any type."""
    folder = write_run(tmp_path / "run")
    place = write_trial(folder, "none", 0, [Episode([Branch({}, [True, False])])])
    np.savez(place / "watch.npz", **{name: np.zeros(0) for name in (
        "row", "sub_episode", "step", "clock", "divergent")})  # fmt: skip
    seal(place)
    table = sub_episodes(load_trial(place))
    assert (len(table), table.scores, table.length.tolist()) == (1, {}, [0])
