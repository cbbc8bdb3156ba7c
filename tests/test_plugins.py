"""Classes that are not ours, from end to end: installed, of the working folder, of a script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from plugin_packages import MINE, delegate, environment, install, scenario

ENTRIES = {
    "delegate.envs": {"maze": "tiny_delegates:Maze"},
    "delegate.policies": {"right": "tiny_delegates:Right"},
    "delegate.monitors": {"still": "tiny_delegates:Still"},
    "delegate.statistics": {"lowest": "tiny_delegates:Lowest"},
    "delegate.protocols": {"patient": "tiny_delegates:Patient"},
}
OTHERS = {
    "delegate.monitors": {
        "still": "other_delegates:Still",
        "reach": "other_delegates:Still",
        "gone": "other_delegates:Gone",
        "sound": "other_delegates:Still",
    },
    "delegate.policies": {"wrong": "other_delegates:Still"},
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one package of delegates in it."""
    target = tmp_path_factory.mktemp("installed")
    install(target, tmp_path_factory.mktemp("source"), "tiny-delegates", ENTRIES)
    return target


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second one, one of whose ids is also the first's, one ours, one broken and one improper."""
    target = tmp_path_factory.mktemp("crowded")
    install(target, tmp_path_factory.mktemp("source"), "other-delegates", OTHERS)
    return target


def played(out: Path) -> dict[str, bytes]:
    """What the trials of a run wrote, but for their records, which hold times."""
    found = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.glob("trials/*/*/*"))
        if path.name != "trial.json"
    }
    assert found
    return found


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """One clear error of one or two lines, status 2."""
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) <= 2
    for word in words:
        assert word in done.stderr


def test_an_installed_package_gives_all_five_kinds(installed: Path, tmp_path: Path) -> None:
    source = scenario(tmp_path)
    for workers in ("1", "2"):
        words = ["run", str(source), "--out", workers, "--workers", workers]
        done = delegate(words, tmp_path, installed)
        assert done.returncode == 0, done.stderr
    assert played(tmp_path / "1") == played(tmp_path / "2")
    record = json.loads((tmp_path / "1" / "run.json").read_text())
    for place, name in (
        ("world.id", "Maze"),
        ("children.right.policy", "Right"),
        ("monitors.still.monitor", "Still"),
        ("monitors.lowest.statistic", "Lowest"),
        ("arms.patient.protocol", "Patient"),
    ):
        code = {"class": f"tiny_delegates:{name}", "package": "tiny-delegates 1.0"}
        assert record["classes"][place] == code
    assert record["classes"]["monitors.still.statistic"]["class"].endswith("statistics:Mean")


def test_an_installed_package_is_listed_with_its_name(installed: Path, tmp_path: Path) -> None:
    for group, ids in ENTRIES.items():
        (id,) = ids
        done = delegate(["list", group.removeprefix("delegate.")], tmp_path, installed)
        (line,) = (line for line in done.stdout.splitlines() if line.startswith(f"{id} "))
        assert line.endswith("[tiny-delegates 1.0]")
    shown = json.loads(delegate(["schema"], tmp_path, installed).stdout)
    assert "maze" in shown["$defs"]["WorldSection"]["properties"]["id"]["anyOf"][0]["enum"]
    bad = scenario(tmp_path, monitor="stil")
    refused(delegate(["validate", str(bad)], tmp_path, installed), "did you mean 'still'?")
    refused(delegate(["validate", str(bad)], tmp_path), "unknown protocol 'patient'")


def test_another_version_of_a_package_is_not_mixed_in(installed: Path, tmp_path: Path) -> None:
    source = scenario(tmp_path)
    assert delegate(["run", str(source), "--out", "r"], tmp_path, installed).returncode == 0
    newer = tmp_path / "newer"
    install(newer, tmp_path / "source", "tiny-delegates", ENTRIES, version="2.0")
    before = played(tmp_path / "r")
    done = delegate(["run", str(source), "--out", "r", "--resume"], tmp_path, newer)
    refused(done, "other classes: ", ".package was tiny-delegates 1.0 and is tiny-delegates 2.0")
    assert played(tmp_path / "r") == before
    done = delegate(["run", str(source), "--out", "r", "--resume"], tmp_path, installed)
    assert done.returncode == 0, done.stderr


def test_ids_that_two_have_and_what_is_broken_leave_the_rest_alone(
    installed: Path, crowded: Path, tmp_path: Path
) -> None:
    paths = (installed, crowded)
    lines = delegate(["list", "monitors"], tmp_path, *paths).stdout.splitlines()
    shown = dict(line.split(maxsplit=1) for line in lines)
    assert shown["tiny_delegates:Still"] == "[tiny-delegates 1.0]"
    assert shown["sound"] == "[other-delegates 1.0]"
    assert "still" not in shown
    assert "of other-delegates 1.0" in shown["gone"]
    assert "not usable" not in shown["reach"]
    assert "[" not in shown["reach"], "ours comes first"
    for monitor, words in {
        "still": ["tiny-delegates 1.0 as tiny_delegates:Still", "other-delegates 1.0 as other"],
        "gone": ["(other_delegates:Gone, of other-delegates 1.0)", "AttributeError", "remove that"],
    }.items():
        done = delegate(["validate", str(scenario(tmp_path, monitor=monitor))], tmp_path, *paths)
        refused(done, "mine.yaml:12: monitors.still.monitor", *words)
    wrong = scenario(tmp_path, policy="wrong", monitor="sound")
    done = delegate(["validate", str(wrong)], tmp_path, *paths)
    refused(done, "children.right.policy", "is not derived from delegate.agents.Policy")
    for monitor in ("sound", '"tiny_delegates:Still"'):
        done = delegate(["validate", str(scenario(tmp_path, monitor=monitor))], tmp_path, *paths)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["a module", "an entry point"])
def test_code_of_the_working_folder_is_run_only_where_that_is_allowed(
    tmp_path: Path, how: str
) -> None:
    text = MINE + "\nopen('was-imported', 'a').close()\n"
    (tmp_path / "mine.py").write_text(text)
    source = scenario(tmp_path, "mine")
    if how == "an entry point":
        about = tmp_path / "mine.egg-info"
        about.mkdir()
        (about / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 3\n")
        lines = [
            f"[{group}]\n{id} = {reference.replace('tiny_delegates', 'mine')}"
            for group, ids in ENTRIES.items()
            for id, reference in ids.items()
        ]
        (about / "entry_points.txt").write_text("\n".join(lines))
        source = scenario(tmp_path)
    marker = tmp_path / "was-imported"
    # Python itself finds it, as after `python -m`
    for command in (["run", "--out", "r"], ["validate"]):
        done = delegate([*command, str(source)], tmp_path, tmp_path)
        refused(done, "mine.yaml:2: world.id", "lies in the working folder; add --allow-code")
        assert not (tmp_path / "r").exists()
    if how == "a module":
        refused(delegate(["validate", str(source)], tmp_path), "add --allow-code")
    else:
        listed = delegate(["list", "monitors"], tmp_path, tmp_path).stdout
        assert "(not usable: lies in the working folder; add --allow-code" in listed
    assert not marker.exists()
    done = delegate(["validate", str(source), "--allow-code"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert marker.exists(), "the marker shows what it should"


def test_a_run_of_the_working_folder_is_killed_resumed_and_not_mixed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    source = scenario(tmp_path, "mine", seeds=3)
    whole = delegate(["run", str(source), "--out", "whole", "--allow-code"], tmp_path)
    assert whole.returncode == 0, whole.stderr
    words = ["run", str(source), "--out", "r", "--workers", "2", "--allow-code"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "delegate.cli", *words],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "r").glob("trials/*/*/trial.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "r" / "metrics.json").exists()
    refused(delegate([*words[:6], "--resume"], tmp_path), "add --allow-code")
    (tmp_path / "mine.py").write_text(MINE + "# another comment\n")
    refused(delegate([*words, "--resume"], tmp_path), "other classes", "source was", "and is")
    (tmp_path / "mine.py").write_text(MINE)
    while True:  # workers that outlive their parent for a moment hold nothing but time
        resumed = delegate([*words, "--resume"], tmp_path)
        if "another run writes here" not in resumed.stderr:
            break
    assert resumed.returncode == 0, resumed.stderr
    assert played(tmp_path / "r") == played(tmp_path / "whole")
    assert delegate(["report", "r"], tmp_path).returncode == 0, "a report needs no code"


def test_a_script_registers_its_own_and_its_workers_find_them(tmp_path: Path) -> None:
    source = scenario(tmp_path)
    script = tmp_path / "study.py"
    registering = (
        ("Monitor", "delegate.monitors.register('still')"),
        ("Policy", "delegate.policies.register('right')"),
        ("Statistic", "delegate.monitors.register_statistic('lowest')"),
        ("Protocol", "delegate.delegation.register_protocol('patient')"),
        ("Corner", "delegate.envs.register_world('maze')"),
    )
    text = (
        "import delegate.delegation, delegate.envs, delegate.monitors, delegate.policies\n" + MINE
    )
    for base, decorator in registering:
        name = next(line for line in MINE.splitlines() if line.endswith(f"({base}):"))
        text = text.replace(name, f"@{decorator}\n{name}")
    text += f"""
from pathlib import Path
from delegate import run
if __name__ == "__main__":
    source = Path({str(source)!r})
    for workers in (1, 2):
        run.execute(run.load_scenario(source), source, Path(str(workers)), workers=workers)
"""
    script.write_text(text)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert played(tmp_path / "1") == played(tmp_path / "2")
    found = json.loads((tmp_path / "2" / "run.json").read_text())["classes"]
    assert found["arms.patient.protocol"]["class"] == "__main__:Patient"
    assert len(found["arms.patient.protocol"]["source"]) == 16
