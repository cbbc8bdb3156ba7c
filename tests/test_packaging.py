"""What is built from the tree, installed elsewhere: worlds, types and scenarios are all there.

Nothing is downloaded: the environments that are made see the libraries of the one that runs this.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = (".*", "build", "runs", "*.egg-info", "__pycache__", "results", "figures")
BUILD = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"

SCRIPT = """
import envs, policies
assert envs.MINE and policies.MINE
import delegate.envs, delegate.policies
print(delegate.envs.__file__)
assert envs is not delegate.envs and delegate.envs.make("Corner", 2).num_envs == 2
assert delegate.policies.ids()
"""
TYPES = "import delegate.envs, envs; reveal_type(delegate.envs.make); reveal_type(envs.MINE)"

pytestmark = pytest.mark.slow


def copy(to: Path) -> Path:
    """The tree as it is checked out, links as links."""
    shutil.copytree(ROOT, to, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return to


def build(tree: Path, what: str, into: Path) -> Path:
    """The wheel or sdist of that tree."""
    subprocess.run(
        [sys.executable, "-c", BUILD, f"build_{what}", str(into)],
        cwd=tree,
        check=True,
        capture_output=True,
    )
    (made,) = into.iterdir()
    return made


def install(folder: Path, *what: str) -> Path:
    """A new environment with that installed in it; returns its folder."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    offline = ["--quiet", "--no-deps", "--no-index", "--ignore-installed", "--no-build-isolation"]
    subprocess.run([*pip, *offline, *what], check=True)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    return build(copy(folder / "tree"), "wheel", folder / "dist")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel."""
    return install(tmp_path_factory.mktemp("installed") / "env", str(wheel))


@pytest.fixture(scope="module", params=["compat", "lenient", "strict"])
def editable(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with an editable install of each kind that setuptools has."""
    folder = tmp_path_factory.mktemp("editable")
    mode = ["--config-settings", f"editable_mode={request.param}"]
    return install(folder / request.param, *mode, "--editable", str(copy(folder / "tree")))


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A folder with a script and folders `envs` and `policies` of the user's own."""
    for name in ("envs", "policies"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def run(env: Path, user: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of that environment in the user's folder, and nowhere near the tree."""
    return subprocess.run(
        [str(env / "bin" / words[0]), *words[1:]],
        cwd=user,
        capture_output=True,
        text=True,
        env={"PATH": str(env / "bin"), "HOME": str(user)},
    )


def mypy(env: Path, user: Path) -> str:
    command = ["python", "-m", "mypy", "--cache-dir", str(user / "cache"), "-c", TYPES]
    return run(env, user, *command).stdout


def package_files(tree: Path) -> set[str]:
    """Every file of the package in that tree, through its links."""
    found: set[str] = set()
    folders = [(tree / "delegate", PurePosixPath("delegate"))]
    while folders:
        folder, name = folders.pop()
        for path in folder.iterdir():
            if path.is_dir():
                folders.append((path, name / path.name))
            else:
                found.add(str(name / path.name))
    return {name for name in found if "__pycache__" not in name}


def held(archive: Path) -> set[str]:
    """The package's files in a wheel or sdist."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as file:
            names = file.namelist()
    else:
        with tarfile.open(archive) as file:
            names = [each.name.partition("/")[2] for each in file if each.isfile()]
    return {name for name in names if name.startswith("delegate/")}


def test_wheel_and_sdist_hold_every_file_of_the_package(wheel: Path, tmp_path: Path) -> None:
    expected = package_files(ROOT)
    assert {"delegate/envs/mujoco/assets/point_mass.xml", "delegate/py.typed"} <= expected
    assert held(wheel) == expected
    tree = copy(tmp_path / "tree")
    sdist = build(tree, "sdist", tmp_path / "sdist")
    assert held(sdist) == expected
    with tarfile.open(sdist) as file:
        file.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert held(build(unpacked, "wheel", tmp_path / "again")) == expected
    (tree / "delegate" / "envs").unlink()
    assert held(build(tree, "wheel", tmp_path / "without")) < expected


def test_the_wheel_stands_beside_a_users_own_folders(installed: Path, user: Path) -> None:
    done = run(installed, user, "python", "script.py")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(installed)
    certified = run(installed, user, "delegate", "certify", "Corner", "--steps", "60")
    assert certified.stdout.startswith("Corner: exact\n"), certified.stderr
    listed = run(installed, user, "delegate", "list", "scenarios").stdout.splitlines()
    paths = [Path(line.split()[0]) for line in listed]
    assert {path.stem for path in paths} >= {"corner", "four-rooms", "nested", "trigger"}
    assert all(path.is_relative_to(installed) for path in paths)
    assert run(installed, user, "delegate", "validate", str(paths[0])).returncode == 0


def test_an_editable_install_stands_beside_a_users_own_folders(editable: Path, user: Path) -> None:
    done = run(editable, user, "python", "script.py")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(editable.parent / "tree")
    assert run(editable, user, "delegate", "certify", "Corner", "--steps", "60").returncode == 0


def test_mypy_knows_the_types_of_what_is_installed(installed: Path, user: Path) -> None:
    revealed = mypy(installed, user)
    assert "delegate.envs.grid.vector.GridVectorEnv" in revealed
    assert "delegate.envs.mujoco.vector.MujocoVectorEnv" in revealed
    assert 'Revealed type is "bool"' in revealed
    (marker,) = installed.glob("lib/python*/site-packages/delegate/py.typed")
    marker.unlink()
    try:
        assert "py.typed" in mypy(installed, user)
    finally:
        marker.touch()


def test_mypy_knows_an_editable_install_that_leaves_a_path(editable: Path, user: Path) -> None:
    """`lenient`, the default, leaves an import hook instead, which mypy does not run."""
    revealed = mypy(editable, user)
    assert ("delegate.envs.grid.vector.GridVectorEnv" in revealed) == (editable.name != "lenient")
    assert 'Revealed type is "bool"' in revealed
