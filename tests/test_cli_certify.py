"""`delegate certify`: exact, refused, or cannot be made, in words and as JSON."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from pydantic import TypeAdapter

from delegate.cli import main
from delegate.envs import Certificate


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with a module of environments, which Python does not find by itself."""
    shutil.copy(Path(__file__).with_name("certified_worlds.py"), tmp_path / "kinds.py")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("kinds", None)


def certified(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, Certificate]:
    """The exit status, and the certificate that `--json` prints and nothing else."""
    path = list(sys.path)
    status = main(["certify", *words, "--json"])
    assert sys.path == path
    printed = capsys.readouterr().out
    assert set(json.loads(printed)) == set(Certificate.__dataclass_fields__)
    return status, TypeAdapter(Certificate).validate_json(printed, strict=True)


@pytest.mark.parametrize(
    ("name", "codec", "package"),
    [
        ("CartPole-v1", "copy", "numpy"),
        ("Corner", "rows", "numpy"),
        ("Hopper-v5", "rows", "mujoco"),
        ("minigrid:MiniGrid-DoorKey-5x5-v0", "copy", "minigrid"),
        ("gymnasium.envs.mujoco:Hopper-v5", "mujoco", "mujoco"),
    ],
)
def test_an_exact_one_is_certified(
    name: str, codec: str, package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ours come before Gymnasium's; behind `package:` stands Gymnasium's own."""
    status, found = certified([name, "--steps", "60"], capsys)
    assert status == 0
    assert (found.env, found.verdict, found.codec) == (name, "exact", codec)
    assert (found.field, found.step, found.reason) == (None, None, None)
    assert found.steps >= 60
    assert found.versions["delegate"] == version("delegate")
    assert found.versions[package] == version(package)


def test_what_cannot_be_copied_is_refused_with_the_reason(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = certified(["kinds:Stream", "--allow-code"], capsys)
    assert (status, found.verdict) == (1, "refused")
    assert "numbers" in (found.reason or "")
    assert "generator" in (found.reason or "")
    status, found = certified(["kinds:Counter", "--allow-code"], capsys)
    assert (status, found.verdict) == (0, "exact")


def test_a_recipe_that_forgets_a_field_is_refused_with_the_first_step_that_differs(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is forgotten shows when the time limit comes too late."""
    status, found = certified(["kinds:forgetful", "--allow-code"], capsys)
    assert (status, found.verdict, found.codec) == (1, "refused", "rows")
    assert found.field
    assert found.step is not None
    assert 0 < found.step <= 20
    status, found = certified(["kinds:complete", "--allow-code"], capsys)
    assert (status, found.verdict) == (0, "exact")


@pytest.mark.parametrize("name", ["Corner", "kinds:Counter", "kinds:Stream", "kinds:forgetful"])
def test_the_words_say_what_the_json_says_in_80_columns(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [name, "--allow-code", "--steps", "70"]
    status, found = certified(words, capsys)
    assert main(["certify", *words]) == status
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{name}: {found.verdict}"
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert f"steps: {found.steps}, resets: {found.resets}, rows: {found.rows}" in text
    assert ("from step" in text) == (found.step is not None)
    assert ("reason" in text) == (found.reason is not None)
    for part in filter(None, [found.reason, found.field, f"numpy {found.versions['numpy']}"]):
        assert part in text


def test_steps_and_seed_are_given_on(capsys: pytest.CaptureFixture[str]) -> None:
    short, long = (certified(["Corner", "--steps", n], capsys)[1].steps for n in ("60", "200"))
    assert 60 <= short < 200 <= long
    first, again, other = (
        certified(["Corner", "--seed", seed], capsys) for seed in ("0", "0", "1")
    )
    assert first == again
    assert other[0] == 0


CANNOT: dict[str, list[str]] = {
    "CartPol-v1": ["is not known", "did you mean CartPole-v1?"],
    "CartPole-v9": ["is not known", "v9"],
    "corner": ["is not known", "did you mean Corner?"],
    "": ["''", "cannot be made"],
    "x\ty": ["'x\\ty'", "cannot be made"],
    "a:b:c": ["is no name", "package:id", "module:Callable"],
    "no module:X-v0": ["is no name"],
    "nowhere:X-v0": ["cannot be made", "No module named 'nowhere'"],
    "sys:Nope-v0": ["is not known", "Nope"],
    "__main__:Nope-v0": ["is not known", "Nope"],
    "minigrid:Nope-v0": ["is not known", "Nope"],
    "kinds:Counter": ["names code", "--allow-code"],
    "os:getcwd": ["names code", "--allow-code", "import os and call getcwd"],
    "kinds:Counter-v0": ["kinds lies in the working folder", "--allow-code"],
}


@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["words", "json"])
@pytest.mark.parametrize("name", CANNOT)
def test_what_cannot_be_made_is_one_line_and_runs_no_code_of_the_folder(
    name: str, as_json: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(["certify", name, *as_json], CANNOT[name], capsys)
    assert "kinds" not in sys.modules


def refused(words: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    complaint = printed.err.replace("imported\n", "")
    assert len(complaint.splitlines()) == 1
    for word in expected:
        assert word in complaint


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kinds:broken", ["cannot be made (RuntimeError: no licence for this machine)"]),
        ("kinds:leaves", ["cannot be made (SystemExit: 3)"]),
        ("kinds:plain", ["makes a dict", "gymnasium.Env or a StatefulVectorEnv"]),
        ("kinds:again", ["one environment twice"]),
        ("kinds:IMPORTED", ["is a bool", "name what makes an environment"]),
        ("kinds:Conter", ["cannot be imported", "no attribute 'Conter'"]),
        ("nowhere:Counter", ["cannot be imported", "No module named 'nowhere'"]),
        ("kinds:Counter-v0", ["is not known"]),
    ],
)
def test_code_that_makes_no_environment_is_one_line(
    name: str, expected: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(["certify", name, "--allow-code"], expected, capsys)


def test_a_package_that_is_installed_needs_no_leave_and_one_of_the_folder_does(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where Python finds a folder's own module first, that is what would run."""
    monkeypatch.setattr(sys, "path", [str(here), *sys.path])
    (here / "registers").mkdir()
    (here / "registers" / "__init__.py").write_text(
        "import gymnasium\ngymnasium.register('Mine-v0', 'kinds:Counter')\n"
    )
    refused(["certify", "registers:Mine-v0"], ["registers lies in the working folder"], capsys)
    assert "registers" not in sys.modules
    try:
        status, found = certified(["registers:Mine-v0", "--allow-code"], capsys)
    finally:
        sys.modules.pop("registers", None)
        gymnasium.registry.pop("Mine-v0", None)
    assert (status, found.verdict) == (0, "exact")


def test_options_that_make_no_sense_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    cases: list[Any] = [
        (["certify"], ["ENV"]),
        (["certify", "Corner", "--steps", "59"], ["--steps"]),
        (["certify", "Corner", "--steps", "many"], ["--steps"]),
        (["certify", "Corner", "--seed", "-1"], ["--seed"]),
    ]
    for words, expected in cases:
        refused(words, expected, capsys)
