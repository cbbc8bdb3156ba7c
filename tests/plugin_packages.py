"""Small packages of delegates, installed for real, and modules that lie in a working folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]

MINE = """\
import numpy as np

from delegate.agents import Policy
from delegate.delegation import Judgement, Protocol
from delegate.envs.grid.corner import Corner
from delegate.monitors import Monitor, Statistic


class Still(Monitor):
    def score(self, steps, memory):
        return (steps.state == steps.next_state).astype(float), memory


class Right(Policy):
    def act(self, obs, goal, memory):
        return np.ones(len(goal), int), memory


class Lowest(Statistic):
    def fold(self, score, memory):
        return {"value": np.fmin(memory["value"], score)}


class Patient(Protocol):
    def judge(self, watched):
        return Judgement.only(watched.alarm & (watched.steps > 3))


class Maze(Corner):
    pass
"""
"""natural minimal classes: no docstrings, names, settings or memory"""

SCENARIO = """\
name: mine
world: {{id: {world}, settings: {{size: 9}}, nominal: {{corner_size: 1}},
  shifted: {{corner_size: 7}}}}
levels: {{train: 10, calibrate: 20, validate: 1, test: 8}}
children:
  intended: {{policy: intended, trusted: true}}
  right: {{policy: {policy}}}
parent: {{policy: in_turn, alone: {{policy: intended}}}}
crew: [right, intended]
delegation: {{budget: 40, interactions: 100}}
monitors:
  still: {{monitor: {monitor}}}
  lowest: {{monitor: {monitor}, statistic: {statistic}}}
arms:
  rollback: {{protocol: rollback, monitor: still}}
  patient: {{protocol: {protocol}, monitor: still}}
seeds: {seeds}
"""


def scenario(folder: Path, module: str | None = None, seeds: int = 1, **names: str) -> Path:
    """A scenario of the five classes of `MINE`: by ids, or as `module:Class` of that module."""
    ids = {"world": "maze", "policy": "right", "monitor": "still", "statistic": "lowest"}
    ids["protocol"] = "patient"
    classes = dict(zip(ids, ("Maze", "Right", "Still", "Lowest", "Patient"), strict=True))
    if module is not None:
        ids = {kind: f'"{module}:{name}"' for kind, name in classes.items()}
    path = folder / "mine.yaml"
    path.write_text(SCENARIO.format(**{**ids, **names}, seeds=seeds))
    return path


def install(
    target: Path,
    work: Path,
    name: str,
    entries: Mapping[str, Mapping[str, str]],
    text: str = MINE,
    version: str = "1.0",
) -> None:
    """Install a package of one module with pip. entries: group -> id -> `module:Class`"""
    source = work / f"{name}-{version}"
    source.mkdir(parents=True)
    (source / f"{name.replace('-', '_')}.py").write_text(text)
    lines = [
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"',
        f'[project]\nname = "{name}"\nversion = "{version}"',
        f'[tool.setuptools]\npy-modules = ["{name.replace("-", "_")}"]',
    ]
    for group, ids in entries.items():
        lines.append(f'[project.entry-points."{group}"]')
        lines += [f'{id} = "{reference}"' for id, reference in ids.items()]
    (source / "pyproject.toml").write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--upgrade"]
    done = subprocess.run(
        [*command, "--target", str(target), str(source)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def environment(*paths: Path) -> dict[str, str]:
    """That of a process which finds modules in these folders, beside this checkout."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*paths, ROOT)))}


def delegate(words: list[str], folder: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line as its console script does: the working folder is not on the path."""
    code = "import sys; from delegate.cli import main; sys.exit(main())"
    command = [sys.executable, "-P", "-c", code, *words]
    return subprocess.run(
        command, cwd=folder, env=environment(*paths), capture_output=True, text=True
    )
