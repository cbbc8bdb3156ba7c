"""The scenario: what a run is told to do, as YAML that is checked before anything starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, model_validator

from delegate.scenario.document import Document, Location, brief, read
from delegate.scenario.sections import (
    OUR_PROTOCOLS,
    Actor,
    Arm,
    CalibrationSection,
    Child,
    Crew,
    DelegationSection,
    LevelsSection,
    MonitorSection,
    Name,
    OpenArm,
    ParentSection,
    RandomRollbackArm,
    RecallSection,
    RollbackArm,
    Section,
    SeedList,
    Text,
    WorldSection,
    default_ids,
)
from delegate.scenario.validation import (
    Problem,
    describe,
    refuse,
    scenario_error,
    settings_problems,
    unknown,
)

Registries = Mapping[str, Collection[str]]
"""the names that exist: "envs", "policies", "monitors", "statistics", "protocols" -> ids; a missing
one is not checked"""

FaultOf = Callable[[str, str], str | None]
"""(kind, name) -> why what is there, or stands behind `module:Class`, cannot be used; see `load`"""

SettingsOf = Callable[[str, str], Callable[..., object] | None]
"""("envs" | "levels" | "policies" | "monitors" | "statistics" | "protocols", name) -> what checks
its settings, see `load`"""

RELAY = "relay"
"""policy of a child that hands its goal on to a crew of its own"""

REFERENCE = r"^[^\W\d][\w.]*:[^\W\d][\w.]*$"
"""what `module:Class` looks like"""


class Scenario(Section):
    """One experiment: a world, children of known kind, monitors, and the arms compared.

    name: corner
    title: The cheese moved
    world: {id: Corner, nominal: {corner_size: 1}, shifted: {corner_size: 11}}
    children:
      intended: {policy: intended, trusted: true}
      proxy: {policy: proxy}
    parent: {policy: in_turn, alone: {policy: intended, settings: {noise: 0.6}}}
    crew: [proxy, intended]
    delegation: {budget: 128, interactions: 384}
    monitors: {reach: {statistic: drawdown}}
    arms:
      none: {protocol: none}
      rollback: {protocol: rollback, monitor: reach}
    seeds: 5
    """

    name: Name
    """short name, used for folders"""
    title: Text = ""
    """one line, shown at the top of the report"""
    description: Text = ""
    """what is studied and why, shown in the report"""
    world: WorldSection
    """where it happens"""
    levels: LevelsSection = LevelsSection()
    """how many levels each split has"""
    children: Annotated[dict[Name, Child], Field(min_length=1, max_length=64)]
    """every child of known kind"""
    parent: ParentSection
    """who delegates"""
    crew: Crew
    """whom the parent may choose from, in an order it does not know"""
    delegation: DelegationSection
    """bounds on what may be handed over"""
    recall: RecallSection = RecallSection()
    """the backtracking model the recall monitors look through"""
    monitors: Annotated[
        dict[Name, MonitorSection],
        Field(default_factory=dict, max_length=64),
        BeforeValidator(default_ids),
    ]
    """who watches"""
    calibration: CalibrationSection = CalibrationSection()
    """how thresholds are set"""
    arms: Annotated[dict[Name, Arm], Field(min_length=1, max_length=64)]
    """the protocols compared, on the same levels and seeds"""
    seeds: SeedList = (0, 1, 2, 3, 4)
    """training seeds: how many, or which"""

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Scenario:
        if info.context is None:  # `load` reports these together with unknown names
            refuse("Scenario", _contradictions(self), None)
        return self

    @property
    def trusted(self) -> tuple[str, ...]:
        """Names of the trusted children."""
        return tuple(name for name, child in self.children.items() if child.trusted)


def load(
    path: Path,
    registries: Registries | None = None,
    settings_of: SettingsOf | None = None,
    fault_of: FaultOf | None = None,
) -> Scenario:
    """Read, check and return the scenario in `path`.

    registries: the names that exist; without them any name is taken
    settings_of: ("envs" | "levels" | "policies" | "monitors" | "statistics", id) -> a pydantic
        model or other callable that takes the settings as keywords and raises ValidationError,
        ValueError or TypeError for bad ones; None where there is nothing to check. "levels" is
        asked what of a world's settings `nominal` or `shifted` alone may give
    fault_of: is told every name that exists, and every `module:Class`
    Raises ScenarioError naming file, line, key and remedy.
    """
    document = read(path)
    context = {"protocols": (registries or {}).get("protocols")}
    try:
        scenario = Scenario.model_validate(document.data, context=context)
    except ValidationError as error:
        raise scenario_error(document, describe(error, Scenario)) from None
    problems = [*_unknown_names(scenario, registries or {}), *_contradictions(scenario)]
    if not problems and fault_of is not None:
        problems = list(_unusable_names(scenario, fault_of))
    if not problems and settings_of is not None:
        problems = list(_bad_settings(scenario, document, settings_of))
    if problems:
        raise scenario_error(document, problems)
    return scenario


def json_schema(registries: Registries | None = None) -> dict[str, Any]:
    """JSON Schema of the YAML, for editors; with `registries`, names are completed too."""
    schema = Scenario.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    for key, section, field in (
        ("envs", "WorldSection", "id"),
        ("policies", "Child", "policy"),
        ("policies", "Actor", "policy"),
        ("monitors", "MonitorSection", "monitor"),
        ("statistics", "MonitorSection", "statistic"),
        ("protocols", "OpenArm", "protocol"),
    ):
        own = schema["$defs"][section]["properties"][field]
        if section == "OpenArm":
            own["not"] = {"enum": sorted(OUR_PROTOCOLS)}
        if registries and key in registries:
            names = _accepted(registries[key], relay=section == "Child")
            names = [name for name in names if section != "OpenArm" or name not in OUR_PROTOCOLS]
            choices: list[dict[str, Any]] = [{"enum": sorted(names)}] if names else []
            choices.append({"type": "string", "pattern": REFERENCE})
            optional = [{"type": "null"}] if field == "statistic" else []
            own["anyOf"] = [*choices, *optional]
    return schema


def _accepted(names: Collection[str], relay: bool) -> list[str]:
    """Those names, with a relay last where one may stand: for a child, and for nobody else."""
    return [*(name for name in names if name != RELAY), *([RELAY] if relay else [])]


def _contradictions(scenario: Scenario) -> Iterator[Problem]:
    """What no single field can see."""
    children = scenario.children
    for index, name in enumerate(scenario.crew):
        if name not in children:
            yield ("crew", index), unknown("child", name, children)
    for name, child in children.items():
        at: Location = ("children", name)
        if child.crew is None and child.policy == RELAY:
            yield at, "a relay delegates; add `crew`, the children it may choose from"
        if child.policy == RELAY and child.settings:
            yield (*at, "settings"), "a relay has none; remove them"
        if child.crew is not None and child.policy != RELAY:
            yield (*at, "crew"), f"policy {child.policy!r} does not delegate; use policy relay"
        for index, member in enumerate(child.crew or ()):
            if member not in children:
                yield (*at, "crew", index), unknown("child", member, children)
    if scenario.parent.alone.policy == RELAY:
        yield ("parent", "alone", "policy"), "acts itself; name a policy other than relay"
    for name, monitor in scenario.monitors.items():
        if monitor.statistic_settings and monitor.statistic is None:
            at = ("monitors", name, "statistic_settings")
            yield at, "no statistic is named that could take them; add `statistic`"
        if monitor.alpha is not None and monitor.threshold == "calibrated":
            at = ("monitors", name, "alpha")
            yield at, "belongs to `threshold: ville`; set calibration.false_alarm_rate instead"
    yield from _recall_problems(scenario)
    yield from _depth_problems(scenario)
    yield from _arm_problems(scenario)
    if scenario.monitors and not scenario.trusted:
        yield (
            ("monitors",),
            "learn what is normal from a trusted child; add `trusted: true` to one of `children`",
        )
    bounds = scenario.delegation
    if bounds.interactions < bounds.budget:
        yield (
            ("delegation", "interactions"),
            f"{bounds.interactions} is below the budget of one delegation; "
            f"give at least {bounds.budget}",
        )
    rate, count = scenario.calibration.false_alarm_rate, scenario.levels.calibrate
    if scenario.monitors and (count + 1) * rate < 1:
        yield (
            ("calibration", "false_alarm_rate"),
            f"{rate} cannot be calibrated on {count} levels; "
            f"raise levels.calibrate to {math.ceil(1 / rate - 1)} or the rate",
        )
    if len(set(scenario.seeds)) < len(scenario.seeds):
        yield ("seeds",), "the same seed stands twice; give each once"


def _recall_problems(scenario: Scenario) -> Iterator[Problem]:
    recall = scenario.recall
    if recall.model == "exact":
        for key in ("data", "play", "steps", "updates", "discounts", "pairs"):
            if getattr(recall, key) is not None:
                yield ("recall", key), "belongs to `model: learned`; add that, or remove this"
    elif recall.data == "nominal":
        for key in ("play", "steps"):
            if getattr(recall, key) is not None:
                yield ("recall", key), "belongs to `data: play`; set that, or remove this"
    for at, actor in _players(recall):
        if actor.policy == RELAY:
            yield (*at, "policy"), "acts itself; name a policy other than relay"


def _players(recall: RecallSection) -> list[tuple[Location, Actor]]:
    """Who plays for the model to learn from, and where each stands."""
    play = recall.play or ()
    one = len(play) == 1
    return [(("recall", "play") if one else ("recall", "play", i), a) for i, a in enumerate(play)]


def _depth_problems(scenario: Scenario) -> Iterator[Problem]:
    """Crews that lead back to themselves, or deeper than `max_depth`."""
    crews = {name: child.crew or () for name, child in scenario.children.items()}
    try:
        order = list(TopologicalSorter(crews).static_order())
    except CycleError as error:
        circle: list[str] = error.args[1]
        where = ("children", circle[-1], "crew")
        yield where, f"leads back to itself ({' < '.join(circle)}); break the circle"
        return
    depth: dict[str, int] = {}
    for name in order:
        depth[name] = 1 + max((depth[member] for member in crews.get(name, ())), default=0)
    deepest = max((depth[name] for name in scenario.crew if name in depth), default=0)
    if deepest > scenario.delegation.max_depth:
        yield (
            ("delegation", "max_depth"),
            f"{scenario.delegation.max_depth} is too small for this crew; give {deepest}",
        )


def _arm_problems(scenario: Scenario) -> Iterator[Problem]:
    """Arms that name a monitor, an arm or a trusted child that is not there."""
    rollbacks = [name for name, arm in scenario.arms.items() if isinstance(arm, RollbackArm)]
    for name, arm in scenario.arms.items():
        at: Location = ("arms", name)
        if name.startswith("alone-"):
            yield at, "`alone-` begins the folders of children run alone; rename the arm"
        monitor = getattr(arm, "monitor", None)
        if monitor is not None and monitor not in scenario.monitors:
            remedy = "add it under `monitors`"
            yield (*at, "monitor"), unknown("monitor", monitor, scenario.monitors, remedy)
        if isinstance(arm, RandomRollbackArm) and arm.like not in rollbacks:
            remedy = "add an arm of protocol rollback"
            yield (*at, "like"), unknown("rollback arm", arm.like, rollbacks, remedy)
        if arm.protocol == "trusted_only" and not scenario.trusted:
            yield (
                (*at, "protocol"),
                "no child is trusted; add `trusted: true` to one of `children`",
            )


def names_used(scenario: Scenario) -> Iterator[tuple[str, Location, str]]:
    """Every name of a class in a scenario, a relay's left out: (kind, where, id or `module:Class`).

    kind: "envs", "policies", "monitors", "statistics" or "protocols"
    """
    yield "envs", ("world", "id"), scenario.world.id
    policies: dict[Location, str] = {
        ("children", name): child.policy for name, child in scenario.children.items()
    }
    policies["parent", "alone"] = scenario.parent.alone.policy
    policies |= {where: actor.policy for where, actor in _players(scenario.recall)}
    for at, policy in policies.items():
        if policy != RELAY:
            yield "policies", (*at, "policy"), policy
    for name, monitor in scenario.monitors.items():
        yield "monitors", ("monitors", name, "monitor"), monitor.monitor
        if monitor.statistic is not None:
            yield "statistics", ("monitors", name, "statistic"), monitor.statistic
    for name, arm in scenario.arms.items():
        yield "protocols", ("arms", name, "protocol"), arm.protocol


WHAT = {
    "envs": "world",
    "policies": "policy",
    "monitors": "monitor",
    "statistics": "statistic",
    "protocols": "protocol",
}
"""kind -> what one is called in messages"""


def _unknown_names(scenario: Scenario, registries: Registries) -> Iterator[Problem]:
    """Worlds, policies, monitors, statistics and protocols that do not exist."""
    for kind, location, name in names_used(scenario):
        if kind not in registries or ":" in name:
            continue
        # A relay is no policy but may stand where a child's does; elsewhere it is refused above.
        accepted = _accepted(registries[kind], relay=location[0] == "children")
        if name not in accepted:
            yield location, unknown(WHAT[kind], name, accepted)


def _unusable_names(scenario: Scenario, fault_of: FaultOf) -> Iterator[Problem]:
    """Names behind which stands what cannot be used."""
    for kind, location, name in names_used(scenario):
        if (fault := fault_of(kind, name)) is not None:
            yield location, f"{brief(name)} {fault}"


def _bad_settings(
    scenario: Scenario, document: Document, settings_of: SettingsOf
) -> Iterator[Problem]:
    """Settings that the world, policy or monitor they are meant for would refuse."""
    world = scenario.world
    alone = scenario.parent.alone
    plain: Location = ("world", "settings")
    checked: list[tuple[str, str, Mapping[str, Any], tuple[Location, ...]]] = [
        ("envs", world.id, world.nominal_settings, (("world", "nominal"), plain)),
        ("envs", world.id, world.shifted_settings, (("world", "shifted"), plain)),
        ("levels", world.id, world.nominal, (("world", "nominal"),)),
        ("levels", world.id, world.shifted, (("world", "shifted"),)),
        ("policies", alone.policy, alone.settings, (("parent", "alone", "settings"),)),
    ]
    for where, actor in _players(scenario.recall):
        checked.append(("policies", actor.policy, actor.settings, ((*where, "settings"),)))
    for name, child in scenario.children.items():
        if child.policy != RELAY:
            where = ("children", name, "settings")
            checked.append(("policies", child.policy, child.settings, (where,)))
    for name, monitor in scenario.monitors.items():
        where = ("monitors", name, "settings")
        checked.append(("monitors", monitor.monitor, monitor.settings, (where,)))
        if monitor.statistic is not None:
            where = ("monitors", name, "statistic_settings")
            checked.append(("statistics", monitor.statistic, monitor.statistic_settings, (where,)))
    for name, arm in scenario.arms.items():
        if isinstance(arm, OpenArm):
            where = ("arms", name, "settings")
            checked.append(("protocols", arm.protocol, arm.settings, (where,)))
    for kind, name, settings, bases in checked:
        target = settings_of(kind, name)
        for inside, message in settings_problems(target, settings) if target else ():
            base = next((b for b in bases if (*b, *inside[:1]) in document.lines), bases[-1])
            yield (*base, *inside), message
