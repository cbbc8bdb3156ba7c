"""Scenarios: what ships is valid, what is wrong is named by file, line, key and remedy."""

from __future__ import annotations

import inspect
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from delegate import run
from delegate.scenario import Scenario, ScenarioError, json_schema, load, sections

SHIPPED = sorted((Path(__file__).parents[1] / "experiments" / "scenarios").glob("*.yaml"))

REGISTRIES = {
    "envs": ["Corner", "FourRooms", "TrapGrid"],
    "policies": ["intended", "proxy", "random", "trigger"],
    "monitors": ["path", "reach", "destination"],
    "statistics": ["last", "mean", "drawdown"],
    "protocols": [*sections.OUR_PROTOCOLS, "patient"],
}

TEXT = """\
name: corner
title: The cheese moved
world:
  id: Corner
  settings: {size: 13}
  nominal: {corner_size: 1}
  shifted: {corner_size: 11}
levels: {train: 20, calibrate: 40, validate: 10, test: 20}
children:
  intended: {policy: intended, settings: {noise: 0.1}, trusted: true}
  proxy: {policy: proxy}
  team: {policy: relay, crew: [proxy, intended]}
parent: {policy: in_turn, alone: {policy: intended}}
crew: [proxy, intended]
delegation: {budget: 128, interactions: 384, max_depth: 1, max_spawns: 4}
recall: {backward: uniform, length: 128, discount: 0.97}
monitors:
  reach: {statistic: drawdown}
  path: {}
calibration: {false_alarm_rate: 0.05}
arms:
  none: {protocol: none}
  rollback: {protocol: rollback, monitor: reach}
  rollback_random: {protocol: rollback_random, like: rollback}
  audit: {protocol: audit, monitor: reach, audits: 0.05}
  trusted_only: {protocol: trusted_only}
seeds: 3
"""


class CornerSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = Field(13, ge=5, le=101)
    corner_size: int = Field(1, ge=1)

    @model_validator(mode="after")
    def fits(self) -> CornerSettings:
        if self.corner_size > self.size - 2:
            raise ValueError(f"corner_size {self.corner_size} does not fit; give {self.size - 2}")
        return self


class Noise(BaseModel):
    model_config = ConfigDict(extra="forbid")
    noise: float = Field(0.0, ge=0, le=1)


def reach(length: int = 128) -> None:
    if length < 1:
        raise ValueError(f"length {length} is below 1; give at least 1")


def settings_of(kind: str, name: str) -> Callable[..., object] | None:
    if kind == "monitors":
        return reach if name == "reach" else None
    if kind == "levels":
        return None
    return CornerSettings if kind == "envs" else Noise


def write(folder: Path, text: str) -> Path:
    path = folder / "corner.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


def refusal(folder: Path, text: str) -> str:
    """What `load` says of that text, with the folder taken off."""
    with pytest.raises(ScenarioError) as caught:
        load(write(folder, text), REGISTRIES, settings_of)
    return str(caught.value).replace(f"{folder}/", "")


def completed(schema: dict[str, Any], section: str, field: str) -> list[str]:
    """The ids that editors complete there, beside `module:Class`."""
    ids, code, *_ = schema["$defs"][section]["properties"][field]["anyOf"]
    assert re.search(code["pattern"], "my_package.monitors:Odd")
    assert not any(re.search(code["pattern"], bad) for bad in ("odd", "a:", ":b", "a:b:c", "a b:c"))
    return ids["enum"]


def test_a_good_scenario_is_read(tmp_path: Path) -> None:
    plan = load(write(tmp_path, TEXT), REGISTRIES, settings_of)
    assert plan.name == "corner"
    assert plan.seeds == (0, 1, 2)
    assert plan.crew == ("proxy", "intended")
    assert plan.trusted == ("intended",)
    assert plan.world.nominal_settings == {"size": 13, "corner_size": 1}
    assert plan.world.shifted_settings == {"size": 13, "corner_size": 11}
    assert plan.levels.validate_ == 10
    assert [m.monitor for m in plan.monitors.values()] == ["reach", "path"]
    assert plan.children["team"].crew == ("proxy", "intended")
    assert [type(arm).__name__ for arm in plan.arms.values()] == [
        "PlainArm",
        "RollbackArm",
        "RandomRollbackArm",
        "AuditArm",
        "PlainArm",
    ]


def test_defaults_are_those_of_the_docstring(tmp_path: Path) -> None:
    example = inspect.getdoc(Scenario)
    assert example is not None
    plan = load(write(tmp_path, example.split("\n\n")[1]))
    assert plan.seeds == (0, 1, 2, 3, 4)
    assert plan.recall.backward == "moving"
    assert plan.calibration.false_alarm_rate == 0.05


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_scenarios_are_valid_and_survive_json(path: Path) -> None:
    plan = load(path)
    assert plan.name == path.stem
    assert Scenario.model_validate_json(plan.model_dump_json()) == plan
    assert Scenario.model_validate(plan.model_dump()) == plan


def test_there_are_shipped_scenarios() -> None:
    assert {"corner", "four-rooms", "nested", "trigger"} <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize(
    "section",
    [c for c in vars(sections).values() if isinstance(c, type) and issubclass(c, sections.Section)],
)
def test_the_yaml_in_each_docstring_is_valid(section: type[sections.Section]) -> None:
    if section is sections.Section:
        return
    doc = inspect.getdoc(section)
    assert doc is not None
    example = yaml.safe_load(doc.split("\n\n")[-1])
    if set(example) & set(section.model_fields):
        section.model_validate(example)
        return
    (inner,) = example.values()
    entries = inner.values() if "children" in example or "monitors" in example else [inner]
    for entry in entries:
        section.model_validate(entry)


# (what is replaced, by what, line, key, words the message must hold)
FAULTS: dict[str, tuple[str, str, int, str, list[str]]] = {
    "unknown key": ("test: 20", "tset: 20", 8, "levels.tset", ["'test'", "accepted: train,"]),
    "unknown root key": ("world:", "wrold:", 3, "wrold", ["unknown key", "'world'"]),
    "unknown arm key": ("monitor: reach}", "monitr: reach}", 23, "arms.rollback.monitr", ["'mon"]),
    "missing key": ("budget: 128, ", "", 15, "delegation.budget", ["missing", "environment steps"]),
    "word for a number": ("20, cal", "ten, cal", 8, "levels.train", ["whole number", "'ten'"]),
    "quoted number": ("train: 20", "train: '20'", 8, "levels.train", ["whole number", "text"]),
    "fraction": ("train: 20", "train: 20.5", 8, "levels.train", ["whole number", "20.5"]),
    "true for a number": ("train: 20", "train: true", 8, "levels.train", ["whole number"]),
    "yes for true": ("trusted: true", "trusted: yes", 10, "children.intended.trusted", ["true or"]),
    "list for a mapping": ("{policy: proxy}", "[proxy]", 11, "children.proxy", ["a mapping"]),
    "text for a list": ("crew: [proxy, intended]\nd", "crew: proxy\nd", 14, "crew", ["a list"]),
    "nothing": ("  path: {}", "  path:", 19, "monitors.path", ["mapping", "nothing"]),
    "negative budget": ("budget: 128", "budget: -5", 15, "delegation.budget", ["-5", "at least 1"]),
    "huge budget": ("budget: 128", "budget: 1000000000", 15, "delegation.budget", ["100,000"]),
    "infinite": ("discount: 0.97", "discount: .inf", 16, "recall.discount", ["finite"]),
    "not a number": ("discount: 0.97", "discount: .nan", 16, "recall.discount", ["finite"]),
    "discount": ("discount: 0.97", "discount: 1.5", 16, "recall.discount", ["less than 1"]),
    "rate": ("rate: 0.05", "rate: 0", 20, "calibration.false_alarm_rate", ["more than 0"]),
    "climbing name": ("name: corner", "name: ../corner", 1, "name", ["safe name", "a-z"]),
    "absolute name": ("name: corner", "name: /etc", 1, "name", ["safe name"]),
    "name with a newline": ("name: corner", 'name: "corner\\n"', 1, "name", ["safe name"]),
    "climbing arm": ("  none: {", "  ../none: {", 22, "arms.'../none'", ["safe name"]),
    "climbing child": ("  proxy: {", "  ../proxy: {", 11, "children.'../proxy'", ["safe name"]),
    "arm like a child alone": ("  none: {", "  alone-proxy: {", 22, "arms.alone-proxy", ["rename"]),
    "unknown world": ("id: Corner", "id: Cornre", 4, "world.id", ["unknown world", "'Corner'"]),
    "unknown policy": ("y: proxy}", "y: porxy}", 11, "children.proxy.policy", ["'proxy'"]),
    "unknown relay": ("policy: relay", "policy: rely", 12, "children.team.policy", ["'relay'"]),
    "unknown monitor": ("  reach: {", "  raech: {", 18, "monitors.raech.monitor", ["'reach'"]),
    "unknown statistic": ("drawdown", "drwadown", 18, "monitors.reach.statistic", ["'drawdown'"]),
    "unknown protocol": ("protocol: none", "protocol: nnoe", 22, "arms.none.protocol", ["'none'"]),
    "misspelt with keys of its own": (
        "protocol: audit", "protocol: audti", 25, "arms.audit.protocol", ["'audit'", "1 more"],
    ),
    "key of another arm": ("l: none}", "l: patient, like: a}", 22, "arms.none.like", ["settings"]),
    "protocol in numbers": ("protocol: none", "protocol: 3", 22, "arms.none.protocol", ["text"]),
    "monitor of an open arm": (
        "l: none}", "l: patient, monitor: raech}", 22, "arms.none.monitor", ["'reach'"],
    ),
    "an arm in a word": ("{protocol: none}", "none", 22, "arms.none", ["mapping"]),
    "no protocol": ("{protocol: none}", "{}", 22, "arms.none.protocol", ["missing"]),
    "unknown parent": ("in_turn", "inturn", 13, "parent.policy", ["'in_turn'"]),
    "unknown crew": ("[proxy, intended]\nd", "[proxi]\nd", 14, "crew[0]", ["'proxy'"]),
    "arm's monitor": ("itor: reach, ", "itor: raech, ", 25, "arms.audit.monitor", ["'reach'"]),
    "like no rollback": ("like: rollb", "like: n", 24, "arms.rollback_random.like", ["rollback)"]),
    "nobody to learn from": (", trusted: true", "", 17, "monitors", ["trusted: true", "1 more"]),
    "statistic settings without a statistic": (
        "path: {}", "path: {statistic_settings: {drift: 1}}", 19,
        "monitors.path.statistic_settings", ["add `statistic`"],
    ),
    "too few steps": ("384", "100", 15, "delegation.interactions", ["at least 128"]),
    "rate too small": ("0.05}\narms", "0.01}\narms", 20, "calibration.false_alarm_rate", ["99"]),
    "audits": ("audits: 0.05", "audits: 5", 25, "arms.audit.audits", ["at most 1"]),
    "relay without crew": (", crew: [proxy, intended]}", "}", 12, "children.team", ["`crew`"]),
    "crew without relay": ("policy: relay", "policy: random", 12, "children.team.crew", ["relay"]),
    "relay of itself": ("[proxy, intended]}", "[team]}", 12, "children.team.crew", ["itself"]),
    "too deep": ("[proxy, intended]\nd", "[team]\nd", 15, "delegation.max_depth", ["give 2"]),
    "relay alone": (
        "alone: {policy: intended",
        "alone: {policy: relay",
        13,
        "parent.alone.policy",
        ["other than relay"],
    ),
    "no seeds": ("seeds: 3", "seeds: 0", 27, "seeds", ["1 to 1000"]),
    "many seeds": ("seeds: 3", "seeds: 1000000000", 27, "seeds", ["1 to 1000"]),
    "seed in words": ("seeds: 3", "seeds: [1, two]", 27, "seeds[1]", ["whole number"]),
    "negative seed": ("seeds: 3", "seeds: [-1]", 27, "seeds[0]", ["at least 0"]),
    "relay with settings": ("relay, crew", "relay, settings: {noise: 1}, crew", 12,
                            "children.team.settings", ["remove"]),
    "seed twice": ("seeds: 3", "seeds: [1, 1]", 27, "seeds", ["twice"]),
    "world setting": ("{size: 13}", "{sise: 13}", 5, "world.settings.sise", ["'size'"]),
    "world value": ("{size: 13}", "{size: 1000}", 5, "world.settings.size", ["at most 101"]),
    "world text": ("{size: 13}", "{size: '13'}", 5, "world.settings.size", ["whole number"]),
    "shifted value": ("size: 11", "size: 12", 7, "world.shifted.corner_size", ["does not fit"]),
    "policy value": ("noise: 0.1", "noise: 2", 10, "children.intended.settings.noise", ["most 1"]),
    "monitor setting": ("drawdown}", "drawdown, settings: {lenght: 1}}", 18,
                        "monitors.reach.settings.lenght", ["'length'"]),
    "monitor value": ("drawdown}", "drawdown, settings: {length: 0}}", 18,
                      "monitors.reach.settings.length", ["at least 1"]),
}  # fmt: skip


def test_an_arm_for_trusted_children_needs_one(tmp_path: Path) -> None:
    text = TEXT.replace(", trusted: true", "")
    unwatched = text[: text.index("monitors:")] + text[text.index("calibration:") :]
    for arm in ("rollback", "rollback_random", "audit"):
        unwatched = re.sub(rf"(?m)^  {arm}: .*\n", "", unwatched)
    message = refusal(tmp_path, unwatched)
    assert re.match(r"corner\.yaml:\d+: arms\.trusted_only\.protocol: .*trusted: true", message)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_line_key_and_remedy(fault: str, tmp_path: Path) -> None:
    old, new, line, key, words = FAULTS[fault]
    assert TEXT.count(old) >= 1
    message = refusal(tmp_path, TEXT.replace(old, new, 1))
    assert message.startswith(f"corner.yaml:{line}: {key}: ")
    assert len(message.splitlines()) <= 2
    for word in words:
        assert word in message


def test_further_faults_are_counted(tmp_path: Path) -> None:
    text = TEXT.replace("train: 20", "train: -1").replace("audits: 0.05", "audits: 7")
    message = refusal(tmp_path, text.replace("seeds: 3", "seeds: 0"))
    assert message.splitlines()[0].startswith("corner.yaml:8: levels.train: ")
    assert message.splitlines()[1:] == ["(and 2 more problems)"]


def test_the_same_fault_in_both_distributions_is_told_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, TEXT.replace("size: 13", "size: 2000"))
    assert message == ("corner.yaml:5: world.settings.size: 2000 is out of range; give at most 101")


def test_contradictions_are_refused_without_a_file_too(tmp_path: Path) -> None:
    data = load(write(tmp_path, TEXT)).model_dump()
    Scenario.model_validate(data)
    data["delegation"]["interactions"] = 1
    with pytest.raises(ValidationError, match="below the budget"):
        Scenario.model_validate(data)


def test_without_registries_any_name_is_taken(tmp_path: Path) -> None:
    plan = load(write(tmp_path, TEXT.replace("id: Corner", "id: MyWorld")))
    assert plan.world.id == "MyWorld"
    with pytest.raises(ScenarioError, match="MyWorld"):
        load(tmp_path / "corner.yaml", {"envs": ["Corner"]})


def test_crews_that_share_members_many_times_over_are_checked_at_once(tmp_path: Path) -> None:
    teams = "".join(
        f"  t{n}: {{policy: relay, crew: [t{n + 1}, t{n + 1}, proxy]}}\n" for n in range(60)
    )
    text = TEXT.replace("  team:", f"{teams}  t60: {{policy: relay, crew: [proxy]}}\n  team:")
    assert load(write(tmp_path, text)).children["t0"].crew == ("t1", "t1", "proxy")


def test_the_scenario_cannot_be_changed(tmp_path: Path) -> None:
    plan = load(write(tmp_path, TEXT))
    with pytest.raises(ValidationError, match="frozen"):
        plan.name = "other"


def test_the_schema_names_every_key_and_completes_names() -> None:
    schema = json_schema(REGISTRIES)
    assert set(schema["properties"]) == set(Scenario.model_fields)
    assert schema["additionalProperties"] is False
    assert completed(schema, "WorldSection", "id") == REGISTRIES["envs"]
    children = completed(schema, "Child", "policy")
    assert children == sorted([*REGISTRIES["policies"], "relay"])
    assert completed(schema, "Actor", "policy") == REGISTRIES["policies"]
    assert completed(schema, "MonitorSection", "statistic") == sorted(REGISTRIES["statistics"])
    assert completed(schema, "OpenArm", "protocol") == ["patient"], (
        "ours have sections of their own"
    )
    assert "validate" in schema["$defs"]["LevelsSection"]["properties"]
    assert schema["$defs"]["MonitorSection"].get("required") is None
    assert "anyOf" not in json_schema()["$defs"]["WorldSection"]["properties"]["id"]
    assert {"type": "integer"} in schema["properties"]["seeds"]["anyOf"]


def test_a_relay_stands_once_among_childrens_policies_and_acts_for_nobody(tmp_path: Path) -> None:
    """Whether or not the registry names it among the policies, as `delegate list` does."""
    listed = {**REGISTRIES, "policies": [*REGISTRIES["policies"], "relay"]}
    for registries in (REGISTRIES, listed):
        schema = json_schema(registries)
        children = completed(schema, "Child", "policy")
        assert children == ["intended", "proxy", "random", "relay", "trigger"]
        assert "relay" not in completed(schema, "Actor", "policy")
        for bad, offered in (
            ("  proxy: {policy: prxy}", "intended, proxy, random, trigger, relay"),
            ("alone: {policy: prxy}", "intended, proxy, random, trigger"),
        ):
            good = bad.replace("prxy", "proxy").replace(
                "alone: {policy: proxy", "alone: {policy: intended"
            )
            with pytest.raises(ScenarioError, match=rf"\(accepted: {offered}\)"):
                load(write(tmp_path, TEXT.replace(good, bad)), registries)


def test_an_arm_whose_monitor_is_nowhere_is_told_to_add_it(tmp_path: Path) -> None:
    start, end = TEXT.index("monitors:"), TEXT.index("calibration:")
    said = refusal(tmp_path, TEXT[:start] + TEXT[end:])
    assert "arms.rollback.monitor: unknown monitor 'reach'; add it under `monitors`" in said
    without = TEXT.replace("  rollback: {protocol: rollback, monitor: reach}\n", "")
    assert "unknown rollback arm 'rollback'; add an arm of protocol rollback" in refusal(
        tmp_path, without
    )


def test_the_world_in_the_docstring_can_be_run(tmp_path: Path) -> None:
    example = inspect.getdoc(sections.WorldSection)
    assert example is not None
    world = example.split("\n\n")[1]
    text = re.sub(r"world:\n(  .*\n)+", world + "\n", TEXT).replace("max_depth: 1", "max_depth: 2")
    assert "wall_density" in text
    run.load_scenario(write(tmp_path, text))
    with pytest.raises(ScenarioError, match=r"max_steps is set by delegation\.interactions"):
        run.load_scenario(write(tmp_path, text.replace("size: 13", "size: 13, max_steps: 9")))


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 4))
def test_a_damaged_scenario_is_read_or_refused_in_two_lines(
    tmp_path_factory: pytest.TempPathFactory, seed: int, changes: int
) -> None:
    chance, lines = random.Random(seed), TEXT.splitlines()
    for _ in range(changes):
        at = chance.randrange(len(lines))
        line = lines[at]
        cut = chance.randrange(len(line) + 1)
        lines[at] = chance.choice(
            [
                line[:cut] + chance.choice("\t:{}[]#&*!|>'\"%@`-?,\x00\x85é💥 0") + line[cut:],
                line[:cut] + line[cut + 1 :],
                f"{line}\n{lines[chance.randrange(len(lines))]}",
                "",
                "  " + line,
            ]
        )
    path = write(tmp_path_factory.mktemp("fuzz"), "\n".join(lines))
    try:
        plan = load(path, REGISTRIES, settings_of)
    except ScenarioError as error:
        message = str(error)
    else:
        message = f"{path}: valid: {plan.name}"
    assert message.startswith(str(path))
    assert len(message.splitlines()) <= 2
