"""Open registries: what may be registered, what stands behind a name, and what tells its code."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plugin_packages import MINE, SCENARIO
from pydantic import BaseModel

from delegate import envs, monitors, policies, run, store
from delegate.agents import Policy
from delegate.delegation import PROTOCOLS, Judgement, Protocol, register_protocol
from delegate.importing import code_of, is_reference, reference_to
from delegate.monitors import Monitor
from delegate.monitors.registry import MONITORS, STATISTICS
from delegate.policies.registry import POLICIES
from delegate.run import RunError
from delegate.run.execution import _check_worker
from delegate.run.names import classes, fault


class Odd(Monitor):
    def score(self, steps: Any, memory: Any) -> Any:
        return np.zeros(len(steps)), memory


@pytest.fixture(autouse=True)
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten."""
    for registry in (MONITORS, STATISTICS, POLICIES, PROTOCOLS, envs.registry.LEVELLED):
        monkeypatch.setattr(registry, "_registered", {})


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module `several` that Python finds, of classes which are not what they should be."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "several.py"
    path.write_text(MINE)
    yield path
    sys.modules.pop("several", None)


def test_what_is_registered_is_found_by_its_id_and_made() -> None:
    assert monitors.register("odd", Odd) is Odd
    assert monitors.register("odd")(Odd) is Odd, "twice the same is no clash"
    made = monitors.make("odd")
    assert (type(made), made.name, made.default_statistic) == (Odd, "Odd", "mean")
    assert "odd" in monitors.ids()
    assert fault("monitors", "odd", allow_code=False) is None
    with pytest.raises(ValueError, match='did you mean "odd"'):
        monitors.make("od")
    assert run.listed("monitors")["odd"] == "[test_registry:Odd]", "no docstring, and whose it is"


def test_classes_that_give_no_names_or_settings_have_some() -> None:
    @policies.register("right")
    class Right(Policy):
        def act(self, obs: Any, goal: np.ndarray, memory: Any) -> Any:
            return np.ones(len(goal), int), memory

    @register_protocol("never")
    class Never(Protocol):
        def judge(self, watched: Any) -> Judgement:
            return Judgement.only(np.zeros(len(watched.row), bool))

    @monitors.register_statistic("lowest")
    class Lowest(monitors.Statistic):
        def fold(self, score: np.ndarray, memory: Any) -> Any:
            return {"value": np.fmin(memory["value"], score)}

    world = envs.make_world("Corner", {})
    assert isinstance(policies.make("right", world), Right)
    with pytest.raises(ValueError, match="noise"):
        policies.make("right", world, noise=1)
    assert (Never.id, PROTOCOLS["never"]().settings.model_dump()) == ("Never", {})
    assert monitors.make_statistic("lowest").name == "Lowest"


@pytest.mark.parametrize(
    ("id", "message"),
    [
        ("reach", "is ours; register yours under another id"),
        ("a:b", "is no id"),
        ("../up", "is no id"),
        ("", "is no id"),
        ("x" * 65, "is no id"),
    ],
)
def test_an_id_that_cannot_be_is_refused(id: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        monitors.register(id, Odd)


def test_an_id_of_anothers_is_refused_and_a_relay_is_nobodys() -> None:
    monitors.register("odd", Odd)
    other = type("Other", (Odd,), {})
    with pytest.raises(ValueError, match="is test_registry:Odd already"):
        monitors.register("odd", other)
    again = type("Odd", (Odd,), {"__module__": __name__, "__qualname__": "Odd"})
    monitors.register("odd", again)
    assert monitors.monitor_class("odd") is again, "a class that is written anew takes its place"
    with pytest.raises(ValueError, match="relay"):
        policies.register("relay", type("R", (Policy,), {"act": lambda self, o, g, m: (g, m)}))


NOT_PROPER = {
    "several": ("monitors", "is no name; write an id, or module:Class|not known"),
    "several:a:b": ("monitors", "is no name; write an id, or module:Class"),
    "nowhere:Odd": ("monitors", r"ModuleNotFoundError.*install its package"),
    "several:Gone": ("monitors", r"AttributeError.*Gone"),
    "several:Right": ("monitors", "derive Right from it"),
    "several:np": ("monitors", "is no class but a module"),
    "several:Bare": ("monitors", "let Bare define score"),
    "several:Short": ("monitors", r"called as score\(steps, memory\); give Short.score those"),
    "several:Sets": ("monitors", "Settings that are no pydantic model"),
    "several:Greedy": ("monitors", r"cannot be made of \(settings\); let its __init__ take those"),
    "several:Still": ("protocols", "derive Still from it"),
    "several:Loner": ("policies", r"called as act\(obs, goal, memory\)"),
    "several:Boss": ("protocols", r"cannot be made of \(settings, seed\)"),
    "several:Leaves.Inner": ("monitors", "SystemExit"),
}
IMPROPER = """

class Bare(Monitor):
    pass


class Short(Monitor):
    def score(self, steps):
        return steps


class Sets(Still):
    Settings = dict


class Greedy(Still):
    def __init__(self, one, two):
        pass


class Loner(Policy):
    def act(self, obs):
        return obs


class Boss(Patient):
    def __init__(self):
        pass


class Leaving(type):
    def __getattr__(cls, name):
        raise SystemExit(name)


class Leaves(metaclass=Leaving):
    pass
"""


@pytest.mark.parametrize("name", NOT_PROPER)
def test_what_is_no_proper_class_is_refused_with_cause_and_remedy(module: Path, name: str) -> None:
    kind, message = NOT_PROPER[name]
    module.write_text(MINE + IMPROPER)
    with pytest.raises(ValueError, match=message):
        {"monitors": MONITORS, "policies": POLICIES, "protocols": PROTOCOLS}[kind][name]
    if name != "several":
        assert fault(kind, name, allow_code=True) is not None


def test_proper_ones_of_the_same_module_are_not_refused(module: Path) -> None:
    module.write_text(MINE + IMPROPER)
    for kind, name in (
        ("monitors", "Still"),
        ("policies", "Right"),
        ("statistics", "Lowest"),
        ("protocols", "Patient"),
        ("envs", "Maze"),
    ):
        assert fault(kind, f"several:{name}", allow_code=False) is None
    assert isinstance(envs.make("several:Maze", 2, size=9).num_envs, int)


def test_a_fault_stands_at_its_line(module: Path, tmp_path: Path) -> None:
    module.write_text(MINE + IMPROPER)
    names = {"policy": "proxy", "monitor": '"several:Short"', "statistic": "mean"}
    text = SCENARIO.format(world="Corner", protocol="always", seeds=1, **names)
    text = text.replace("always, monitor: still", "always")
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"s\.yaml:12: monitors\.still\.monitor: 'several:Short' "):
        run.load_scenario(tmp_path / "s.yaml")


def test_settings_of_a_plugin_are_checked_at_their_line(module: Path, tmp_path: Path) -> None:
    extra = """
from pydantic import BaseModel


class Times(BaseModel):
    times: int = 3


class Thrice(Patient):
    Settings = Times

    def judge(self, watched):
        return Judgement.only(watched.steps >= self.settings.times + 0 * self.seed)
"""
    module.write_text(MINE + extra)
    text = SCENARIO.format(
        world="Corner", policy="proxy", monitor="random", statistic="max", seeds=1,
        protocol='"several:Thrice", settings: {times: few}',
    )  # fmt: skip
    (tmp_path / "s.yaml").write_text(text)
    message = r"s\.yaml:16: arms\.patient\.settings\.times: must be a whole number"
    with pytest.raises(ValueError, match=message):
        run.load_scenario(tmp_path / "s.yaml")
    (tmp_path / "s.yaml").write_text(text.replace("few", "2"))
    plan = run.load_scenario(tmp_path / "s.yaml")
    out = run.execute(plan, tmp_path / "s.yaml", tmp_path / "out")
    table = store.read_table(out / "trials" / "patient" / "0", "sub_episodes.npz")
    top = table["within"] < 0
    assert top.any()
    assert (table["steps"][top] <= 2).all()


def test_what_tells_code_from_other_code(module: Path) -> None:
    ours = code_of(monitors.monitor_class("reach"))
    assert ours == {
        "class": "delegate.monitors.reach:Reach",
        "package": f"delegate {version('delegate')}",
    }
    assert code_of(BaseModel) == {
        "class": "pydantic.main:BaseModel",
        "package": f"pydantic {version('pydantic')}",
    }
    first = code_of(MONITORS["several:Still"])
    assert first["class"] == "several:Still"
    assert "package" not in first
    module.write_text(MINE + "\n")
    assert code_of(MONITORS["several:Still"])["source"] != first["source"]
    module.write_text(MINE)
    assert code_of(MONITORS["several:Still"]) == first
    again = type("Odd", (Odd,), {"__module__": "__mp_main__"})
    assert reference_to(again) == "__main__:Odd"


def test_code_that_no_file_holds_is_told_by_its_name_alone() -> None:
    typed = type("Typed", (Odd,), {"__module__": "typed_in"})
    assert code_of(typed) == {"class": "typed_in:Typed", "source": "unknown"}


def test_references_are_dotted_names_on_both_sides() -> None:
    assert is_reference("a.b:C.D")
    assert not any(map(is_reference, ("a", "a:", ":a", "a:b:c", "a b:c", "a/b:c", "a.:c")))


def test_a_fingerprint_is_of_classes_and_format(module: Path, tmp_path: Path) -> None:
    names = {"world": "Corner", "policy": "proxy", "statistic": "max", "protocol": "none"}
    text = SCENARIO.format(monitor='"several:Still"', seeds=1, **names)
    (tmp_path / "s.yaml").write_text(text.replace("none, monitor: still", "none"))
    plan = run.load_scenario(tmp_path / "s.yaml")
    found = classes(plan)
    assert found["monitors.still.statistic"]["class"] == "delegate.monitors.statistics:Mean"
    made_of = store.ingredients(plan, found)
    assert store.fingerprint(made_of) == store.fingerprint(json.loads(json.dumps(made_of)))
    _check_worker(plan.model_dump_json(), json.dumps(found), tmp_path)
    module.write_text(MINE + "\n")
    later = store.ingredients(plan, classes(plan))
    assert store.fingerprint(later) != store.fingerprint(made_of)
    assert all("several" in str(found[place]) or "source" not in found[place] for place in found)
    assert [text.split()[0] for text in store.differences(made_of, later)] == [
        f"classes.monitors.{name}.monitor.source" for name in ("still", "lowest")
    ]
    _check_worker.cache_clear()
    with pytest.raises(RunError, match=r"a worker found other code: classes\.monitors"):
        _check_worker(plan.model_dump_json(), json.dumps(found), tmp_path)
    assert store.fingerprint({**made_of, "format": 0}) != store.fingerprint(made_of)


def test_differences_name_the_key_the_old_and_the_new() -> None:
    one = {"a": {"b": 1, "c": [1, 2]}, "d": "x"}
    other = {"a": {"b": 2, "c": [1, 2]}, "e": None}
    assert store.differences(one, other) == [
        "a.b was 1 and is 2",
        "d was x and is not there",
        "e was not there and is None",
    ]
    assert store.differences(one, one) == []
