"""The scenario: what a run is told to do, as YAML that is checked before anything starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, model_validator

from delegate.scenario.document import Document, Location, read
from delegate.scenario.sections import (
    Arm,
    AuditArm,
    CalibrationSection,
    Child,
    Crew,
    DelegationSection,
    LevelsSection,
    MonitorSection,
    Name,
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
"""the names that exist: "envs", "policies", "monitors", "statistics" -> ids; a missing one is
not checked"""

SettingsOf = Callable[[str, str], Callable[..., object] | None]
"""("envs" | "levels" | "policies" | "monitors" | "statistics", id) -> what checks its settings,
see `load`"""

RELAY = "relay"
"""policy of a child that hands its goal on to a crew of its own"""

_LATER = object()
"""validation context of `load`, which reports contradictions together with unknown names"""


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
    arms: Annotated[
        dict[Name, Annotated[Arm, Field(discriminator="protocol")]],
        Field(min_length=1, max_length=64),
    ]
    """the protocols compared, on the same levels and seeds"""
    seeds: SeedList = (0, 1, 2, 3, 4)
    """training seeds: how many, or which"""

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Scenario:
        if info.context is not _LATER:
            refuse("Scenario", _contradictions(self), None)
        return self

    @property
    def trusted(self) -> tuple[str, ...]:
        """Names of the trusted children."""
        return tuple(name for name, child in self.children.items() if child.trusted)


def load(
    path: Path, registries: Registries | None = None, settings_of: SettingsOf | None = None
) -> Scenario:
    """Read, check and return the scenario in `path`.

    registries: the names that exist; without them any name is taken
    settings_of: ("envs" | "levels" | "policies" | "monitors" | "statistics", id) -> a pydantic
        model or other callable that takes the settings as keywords and raises ValidationError,
        ValueError or TypeError for bad ones; None where there is nothing to check. "levels" is
        asked what of a world's settings `nominal` or `shifted` alone may give
    Raises ScenarioError naming file, line, key and remedy.
    """
    document = read(path)
    try:
        scenario = Scenario.model_validate(document.data, context=_LATER)
    except ValidationError as error:
        raise scenario_error(document, describe(error, Scenario)) from None
    problems = [*_unknown_names(scenario, registries or {}), *_contradictions(scenario)]
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
    ):
        if registries and key in registries:
            schema["$defs"][section]["properties"][field]["enum"] = sorted(
                _accepted(registries[key], relay=section == "Child")
            )
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
    if recall.play is not None and recall.play.policy == RELAY:
        yield ("recall", "play", "policy"), "acts itself; name a policy other than relay"


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
        if isinstance(arm, RollbackArm | AuditArm) and arm.monitor not in scenario.monitors:
            remedy = "add it under `monitors`"
            yield (*at, "monitor"), unknown("monitor", arm.monitor, scenario.monitors, remedy)
        if isinstance(arm, RandomRollbackArm) and arm.like not in rollbacks:
            remedy = "add an arm of protocol rollback"
            yield (*at, "like"), unknown("rollback arm", arm.like, rollbacks, remedy)
        if arm.protocol == "trusted_only" and not scenario.trusted:
            yield (
                (*at, "protocol"),
                "no child is trusted; add `trusted: true` to one of `children`",
            )


def _unknown_names(scenario: Scenario, registries: Registries) -> Iterator[Problem]:
    """Worlds, policies, monitors and statistics that do not exist."""
    named: list[tuple[str, str, Location, str]] = [
        ("envs", "world", ("world", "id"), scenario.world.id),
        ("policies", "policy", ("parent", "alone", "policy"), scenario.parent.alone.policy),
    ]
    if (play := scenario.recall.play) is not None:
        named.append(("policies", "policy", ("recall", "play", "policy"), play.policy))
    for name, child in scenario.children.items():
        named.append(("policies", "policy", ("children", name, "policy"), child.policy))
    for name, monitor in scenario.monitors.items():
        at: Location = ("monitors", name)
        named.append(("monitors", "monitor", (*at, "monitor"), monitor.monitor))
        if monitor.statistic is not None:
            named.append(("statistics", "statistic", (*at, "statistic"), monitor.statistic))
    for registry, what, location, name in named:
        if registry not in registries:
            continue
        # A relay is no policy but may stand where a child's does; elsewhere it is refused above.
        accepted = _accepted(registries[registry], relay=location[0] == "children")
        if name not in accepted and (what, name) != ("policy", RELAY):
            yield location, unknown(what, name, accepted)


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
    if (play := scenario.recall.play) is not None:
        where: Location = ("recall", "play", "settings")
        checked.append(("policies", play.policy, play.settings, (where,)))
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
    for kind, name, settings, bases in checked:
        target = settings_of(kind, name)
        for inside, message in settings_problems(target, settings) if target else ():
            base = next((b for b in bases if (*b, *inside[:1]) in document.lines), bases[-1])
            yield (*base, *inside), message
