"""The house rules that can be read off the source: what may import what, names, safe loading."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
import types
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"delegate": "delegate", "delegate.envs": "envs", "delegate.policies": "policies"}
"""package -> its folder; `delegate/envs` and `delegate/policies` are links to the last two"""

FLOORS = {
    "delegate": 1,  # delegate/__init__.py itself: hands on what `import delegate` offers
    "delegate.cli": 5,
    "delegate.terminal": 5,
    "delegate.run": 4,
    "delegate.store": 4,
    "delegate.trial": 4,
    "delegate.recalling": 3,
    "delegate.replay": 4,
    "delegate.replay_gif": 4,
    "delegate.safety": 4,
    "delegate.bench": 4,
    "delegate.delegation": 3,
    "delegate.monitors": 2,
    "delegate.envs": 2,
    "delegate.policies": 2,
    "delegate.bank": 1,
    "delegate.planner": 1,
    "delegate.backtrack": 1,
    "delegate.recall": 1,
    "delegate.scenario": 1,
    "delegate.agents": 1,
    "delegate.drawing": 0,
    "delegate.files": 0,
    "delegate.lazy": 0,
    "delegate.settings": 0,
}
SIDEWAYS = {
    ("delegate.policies", "delegate.envs"),
    ("delegate.cli", "delegate.terminal"),
    ("delegate", "delegate.backtrack"),
    ("delegate", "delegate.recall"),
    ("delegate.bank", "delegate.backtrack"),
    ("delegate.bank", "delegate.recall"),
    ("delegate.planner", "delegate.bank"),
    ("delegate.planner", "delegate.recall"),
    (
        "delegate.recall",
        "delegate.backtrack",
    ),  # recall charges the ledger of the world it learns in
    ("delegate.agents", "delegate.bank"),
    ("delegate.bench", "delegate.run"),
    ("delegate.bench", "delegate.store"),
    ("delegate.bench", "delegate.trial"),
    ("delegate.run", "delegate.safety"),
    ("delegate.run", "delegate.store"),
    ("delegate.run", "delegate.trial"),
    ("delegate.store", "delegate.safety"),
    ("delegate.replay", "delegate.safety"),
    ("delegate.replay_gif", "delegate.replay"),
}
"""imports between places on one floor that the design names"""

WORLDS = ("delegate.envs", "delegate.policies")
"""what only `delegate.run` may name"""

FORBIDDEN_NAMES = ("utils", "util", "helpers", "helper", "common", "misc", "manager", "handler")
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "joblib"}


def module_name(path: Path, folder: Path, package: str) -> str:
    parts = (package, *path.relative_to(folder).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(root: Path, packages: dict[str, str] = PACKAGES) -> dict[str, Path]:
    """Module name -> file."""
    return {
        module_name(path, root / folder, package): path
        for package, folder in packages.items()
        for path in sorted((root / folder).rglob("*.py"))
        if not path.is_relative_to(root / "delegate/envs")
        and not path.is_relative_to(root / "delegate/policies")
    }


def imported(name: str, path: Path, known: set[str]) -> Iterator[tuple[str, int]]:
    """Every module of ours that `path` imports anywhere in it, once, with the line."""
    seen = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            inner = [f"{base}.{alias.name}" for alias in node.names]
            targets = [target if target in known else base for target in inner]
        else:
            continue
        for target in targets:
            if target.split(".")[0] in ("delegate", "envs", "policies") and target not in seen:
                seen.add(target)
                yield target, node.lineno


def place_of(module: str) -> str | None:
    """The entry of the floor table that `module` belongs to: the longest that fits."""
    if module == "delegate":
        return module
    parts = module.split(".")
    prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((p for p in prefixes if p in FLOORS and p != "delegate"), None)


def import_faults(root: Path) -> list[str]:
    """Imports that point up, sideways without leave, or at worlds and policies by name."""
    modules = sources(root)
    faults = []
    for name, path in modules.items():
        here = place_of(name)
        if here is None:
            faults.append(f"{name} is on no floor")
            continue
        for target, line in imported(name, path, set(modules)):
            there = place_of(target)
            where = f"{name}:{line} imports {target}"
            if there is None:
                faults.append(f"{where}, which is on no floor")
            elif FLOORS[there] > FLOORS[here]:
                faults.append(f"{where}, which is upwards")
            elif there != here and FLOORS[there] == FLOORS[here] and (here, there) not in SIDEWAYS:
                faults.append(f"{where}, which is sideways")
            if there in WORLDS and here not in WORLDS and here != "delegate.run":
                faults.append(f"{where}, which only delegate.run may name")
    return faults


def circle(root: Path) -> list[str]:
    """Modules that import each other in a ring; empty when there is none."""
    modules = sources(root)
    graph = {
        name: {target for target, _ in imported(name, path, set(modules)) if target != name}
        for name, path in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def name_faults(root: Path) -> list[str]:
    """Files and folders whose name says nothing."""
    folders = (*PACKAGES.values(), "experiments")
    paths = [path for folder in folders for path in (root / folder).rglob("*")]
    return [
        str(path.relative_to(root))
        for path in paths
        if (path.suffix == ".py" or path.is_dir())
        and any(part in FORBIDDEN_NAMES for part in path.stem.lower().split("_"))
    ]


def loading_faults(root: Path) -> list[str]:
    """Calls that could run code found in a file."""
    faults = []
    for name, path in sources(root, {**PACKAGES, "experiments": "experiments"}).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                loaded = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                loaded = {(node.module or "").split(".")[0]}
                if loaded == {"yaml"} and any("load" in a.name for a in node.names):
                    loaded = {"yaml loader"}
            else:
                loaded = set()
            bad = loaded & (FORBIDDEN_MODULES | {"yaml loader"})
            if bad or (isinstance(node, ast.Call) and unsafe_call(node)):
                faults.append(f"{name}:{node.lineno}")
    return faults


def unsafe_call(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Attribute) or not isinstance(call.func.value, ast.Name):
        return False
    module, function = call.func.value.id, call.func.attr
    given = {keyword.arg: keyword.value for keyword in call.keywords}

    def is_constant(key: str, value: bool) -> bool:
        node = given.get(key)
        return isinstance(node, ast.Constant) and node.value is value

    if module == "yaml":
        return function in {"load", "load_all", "unsafe_load", "full_load", "unsafe_load_all"}
    if module in {"np", "numpy"} and function == "load":
        return "allow_pickle" in given and not is_constant("allow_pickle", False)
    return module == "torch" and function == "load" and not is_constant("weights_only", True)


def test_imports_point_down() -> None:
    assert import_faults(ROOT) == []


def test_no_circles() -> None:
    assert circle(ROOT) == []


def test_names_say_what_a_file_does() -> None:
    assert name_faults(ROOT) == []


def test_nothing_loads_code_from_a_file() -> None:
    assert loading_faults(ROOT) == []


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small house in order."""
    for file, text in {
        "delegate/__init__.py": "",
        "delegate/run.py": "from delegate import envs\nfrom delegate import policies\n",
        "delegate/scenario.py": "import json\nimport yaml\nyaml.safe_load('')\n",
        "delegate/monitors/__init__.py": "from delegate.scenario import load\n",
        "envs/__init__.py": "import numpy as np\nnp.load('x', allow_pickle=False)\n",
        "policies/__init__.py": "import delegate.envs\nimport torch as t\n",
        "policies/net.py": "import torch\ntorch.load('x', weights_only=True)\n",
        "experiments/bench.py": "import numpy as np\nnp.load('x')\n",
    }.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_house_in_order_has_no_faults(house: Path) -> None:
    assert import_faults(house) == []
    assert circle(house) == []
    assert name_faults(house) == []
    assert loading_faults(house) == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("delegate/scenario.py", "from delegate.run import execute\n"),
        ("delegate/scenario.py", "def f():\n    from . import run\n"),
        ("delegate/monitors/reach.py", "from ..safety import logs\n"),
        ("delegate/monitors/reach.py", "import delegate.envs.grid\n"),
        ("delegate/cli.py", "from delegate.envs import make\n"),
        ("delegate/safety/logs.py", "import delegate.policies.scripted as p\n"),
        ("envs/grid.py", "from delegate import policies\n"),
        ("envs/grid.py", "import policies\n"),
        ("envs/grid.py", "from delegate import run\n"),
        ("delegate/__init__.py", "from delegate import run\n"),
        ("delegate/attic.py", ""),
        ("delegate/cli.py", "import delegate.attic\n"),
    ],
)
def test_a_bad_import_is_found(house: Path, file: str, text: str) -> None:
    path = house / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert import_faults(house) != []


def test_a_circle_is_found(house: Path) -> None:
    (house / "delegate/monitors/path.py").write_text("import delegate.monitors.reach\n")
    (house / "delegate/monitors/reach.py").write_text("from delegate.monitors import path\n")
    assert {"delegate.monitors.path", "delegate.monitors.reach"} <= set(circle(house))


@pytest.mark.parametrize("name", ["utils.py", "grid_helpers.py", "run_manager.py", "common"])
def test_a_name_that_says_nothing_is_found(house: Path, name: str) -> None:
    path = house / "envs" / name
    if path.suffix:
        path.write_text("")
    else:
        path.mkdir()
    assert name_faults(house) == [f"envs/{name}"]


@pytest.mark.parametrize(
    "text",
    [
        "import pickle\n",
        "from pickle import loads\n",
        "import joblib.numpy_pickle\n",
        "import yaml\nyaml.load('', yaml.SafeLoader)\n",
        "import yaml\nyaml.unsafe_load('')\n",
        "from yaml import load\n",
        "import numpy as np\nnp.load('x', allow_pickle=True)\n",
        "import numpy\nnumpy.load('x', allow_pickle=flag)\n",
        "import torch\ntorch.load('x')\n",
        "import torch\ntorch.load('x', weights_only=False)\n",
    ],
)
def test_loading_that_could_run_code_is_found(house: Path, text: str) -> None:
    (house / "experiments" / "bench.py").write_text(text)
    assert loading_faults(house) != []


def _loaded_by(statement: str, folder: Path) -> set[str]:
    """The modules in memory after a fresh interpreter in `folder` has run `statement`."""
    code = f"import sys; sys.path[:0] = ['', {str(ROOT)!r}]; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_engine_imports_no_worlds_policies_or_torch(tmp_path: Path) -> None:
    assert not _loaded_by("import delegate, delegate.scenario", tmp_path) & {
        "delegate.envs",
        "delegate.policies",
        "torch",
    }


COMPUTES = {"delegate.envs", "delegate.policies", "torch", "gymnasium", "scipy", "sklearn"}
CHECKS = {"numpy", "pydantic", "yaml", "delegate.scenario"}


@pytest.mark.parametrize(
    ("words", "without", "with_"),
    [
        ("--help", COMPUTES | CHECKS, "typer"),
        ("list protocols", COMPUTES | {"delegate.scenario"}, "delegate.delegation.protocols"),
        ("list scenarios", COMPUTES | {"numpy"}, "yaml"),
        ("list policies", {"torch", "scipy", "sklearn"}, "delegate.policies"),
    ],
)
def test_the_command_line_starts_without_what_computes(
    words: str, without: set[str], with_: str, tmp_path: Path
) -> None:
    loaded = _loaded_by(f"from delegate.cli import main; main({words.split()})", tmp_path)
    assert not loaded & without
    assert with_ in loaded


@pytest.mark.parametrize("package", ["delegate.run", "delegate.delegation"])
def test_what_a_package_hands_on_is_there_and_is_no_module_of_that_name(package: str) -> None:
    """A module that is imported becomes an attribute of its package, before any looking up."""
    held = importlib.import_module(package)
    for module in pkgutil.iter_modules(held.__path__):
        importlib.import_module(f"{package}.{module.name}")
    for name in held.__all__:
        assert not isinstance(getattr(held, name), types.ModuleType), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        held.nothing  # noqa: B018


def test_a_users_own_folders_of_those_names_stand_beside_ours(tmp_path: Path) -> None:
    for name in ("envs", "policies"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    loaded = _loaded_by(
        "import envs, policies; assert envs.MINE and policies.MINE; "
        "import delegate.cli, delegate.envs, delegate.policies; "
        "assert envs is not delegate.envs and delegate.envs.ids()",
        tmp_path,
    )
    assert {"envs", "policies", "delegate.envs", "delegate.policies"} <= loaded
    assert "envs.grid" not in loaded
    with pytest.raises(subprocess.CalledProcessError):
        _loaded_by("import envs; envs.ids()", tmp_path)
