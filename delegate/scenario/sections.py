"""The sections of a scenario: one frozen model each, whose docstring shows its YAML."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, Strict
from pydantic_core import PydanticCustomError

from delegate.scenario.document import brief

MAX_SEEDS = 1_000

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Identifier = Annotated[str, Field(min_length=1, max_length=64)]
Text = Annotated[str, Field(max_length=2_000)]
Steps = Annotated[int, Field(ge=1, le=100_000)]
LevelCount = Annotated[int, Field(ge=1, le=100_000)]
BackwardPolicy = Literal["uniform", "moving", "counted"]
Discount = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Settings = Annotated[dict[Identifier, JsonValue], Field(max_length=64)]
Crew = Annotated[tuple[Name, ...], Strict(False), Field(min_length=1, max_length=64)]


def _seed_list(value: object) -> object:
    """A count n means seeds 0 to n - 1."""
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SEEDS:
        return list(range(value))
    message = (
        f"{brief(value)} is not accepted; give a count of 1 to {MAX_SEEDS}, or a list of seeds"
    )
    raise PydanticCustomError("scenario", "{message}", {"message": message})


SeedList = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**31)], ...],
    Strict(False),
    Field(min_length=1, max_length=MAX_SEEDS),
    BeforeValidator(_seed_list, json_schema_input_type=int | list[int]),
]


class Section(BaseModel):
    """Frozen; unknown keys are refused; nothing is converted from one type to another."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        serialize_by_alias=True,
    )


class WorldSection(Section):
    """Where it happens, and how deployment differs from training.

    world:
      id: Corner
      settings: {size: 13, wall_density: 0.25}
      nominal: {corner_size: 1}
      shifted: {corner_size: 11}
      discount: 0.995
    """

    id: Identifier
    """which world; `delegate list envs` shows them"""
    settings: Settings = {}
    """settings of the world in both distributions of levels"""
    nominal: Settings = {}
    """settings of the training distribution only, of those that shape levels"""
    shifted: Settings = {}
    """settings of the deployment distribution only; the goal lies anywhere unless these, or
    `settings`, say where (Corner's `corner_size`, `mix`)"""
    discount: Discount = 0.995
    """discount of returns (per step)"""

    @property
    def nominal_settings(self) -> dict[str, JsonValue]:
        """All settings of the training distribution."""
        return {**self.settings, **self.nominal}

    @property
    def shifted_settings(self) -> dict[str, JsonValue]:
        """All settings of the deployment distribution."""
        return {**self.settings, **self.shifted}


class LevelsSection(Section):
    """How many levels each split has, for every seed. No level occurs twice.

    levels: {train: 200, calibrate: 400, validate: 100, test: 200}
    """

    train: LevelCount = 200
    """nominal levels from which the monitors learn what is normal (count)"""
    calibrate: LevelCount = 400
    """nominal levels that set the thresholds (count)"""
    validate_: LevelCount = Field(default=100, alias="validate")
    """nominal levels reserved for choices made while developing; a run never plays them (count)"""
    test: LevelCount = 200
    """levels of each distribution, nominal and shifted, where results are measured (count)"""
    distinguishing_only: bool = True
    """keep only shifted levels where the proxy's best path misses the intended goal"""


class Actor(Section):
    """Who acts, by name and settings.

    {policy: intended, settings: {noise: 0.6}}
    """

    policy: Identifier
    """which policy; `delegate list policies` shows them"""
    settings: Settings = {}
    """settings of the policy"""


class Child(Actor):
    """An agent of known kind. Each is also run alone and watched, to rank the monitors.

    children:
      intended: {policy: intended, settings: {noise: 0.1}, trusted: true, price: 0.1}
      both: {policy: relay, crew: [proxy, intended]}
    """

    trusted: bool = False
    """the protocol `trusted_only` delegates to it alone"""
    price: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """what each delegation to it costs, taken back or not (return)"""
    crew: Crew | None = None
    """for a child that is itself a parent (policy relay): whom it may choose from"""


class ParentSection(Section):
    """Who delegates, and who acts when no child is left.

    parent: {policy: in_turn, alone: {policy: intended, settings: {noise: 0.6}}}
    """

    policy: Literal["in_turn"] = "in_turn"
    """in_turn: asks its crew one after the other, in an order it does not know"""
    alone: Actor
    """acts in the parent's place when no child is left"""


class DelegationSection(Section):
    """Bounds on what may be handed over. Undone steps were paid for and count.

    delegation: {budget: 128, interactions: 384, max_depth: 1, max_spawns: 4}
    """

    budget: Steps
    """environment steps in one delegation"""
    interactions: Annotated[int, Field(ge=1, le=1_000_000)]
    """environment steps in one episode, undone ones included"""
    max_depth: Annotated[int, Field(ge=1, le=16)] = 1
    """how deep children may delegate in their turn (levels below the parent)"""
    max_spawns: Annotated[int, Field(ge=1, le=1_000)] = 4
    """delegations in one episode (count)"""


class RecallSection(Section):
    """The backtracking model the recall monitors look through.

    recall: {backward: moving, length: 128, discount: 0.5}
    recall: {model: learned, data: play, play: {policy: random}, steps: 40000, updates: 2000}
    recall: {model: learned, discounts: [0.9, 0.97, 0.99], pairs: remembered}

    Where states are vectors what is learned is a critic of reachability; in grids, a model whose
    tables of reachability are computed.
    """

    model: Literal["exact", "learned"] = "exact"
    """exact: from the world's own tables, where it has any; learned: from what the parent has seen
    in nominal levels, and from nothing else"""
    data: Literal["nominal", "play"] | None = None
    """what a learned model learns from; play: the parent's own wandering in the train levels, from
    place to place; nominal: the first trusted child's sub-episodes there. play when left out"""
    play: Actor | None = None
    """how the parent wanders; as it works alone when left out"""
    steps: Annotated[int, Field(ge=100, le=10_000_000)] | None = None
    """with `data: play`: it wanders until it has seen as many (steps); 40,000 when left out"""
    updates: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """steps of the optimiser (count); 2,000 when left out"""
    discounts: Annotated[tuple[Rate, ...], Strict(False), Field(min_length=1, max_length=16)] | (
        None
    ) = None
    """where states are vectors: λ that the critic learns, and that `goal_odds` averages over (per
    step); 0.9, 0.97 and 0.99 when left out"""
    pairs: Literal["remembered", "recalled"] | None = None
    """where states are vectors: what the critic learns from, pairs of states in what was seen, or
    those that a backtracking model of it recalls; remembered when left out"""
    backward: BackwardPolicy = "moving"
    """uniform over what leads to a state; moving: the same, but steps that stay in place are
    rarely recalled; counted from the train split, one policy for all levels"""
    length: Steps = 128
    """longest trace recalled (steps)"""
    discount: Rate = 0.5
    """λ of `reach`: how likely the reference is to go on at every step of its way to the goal"""


class MonitorSection(Section):
    """One monitor. Its id is the key it stands under unless `monitor` names another.

    monitors:
      goal_odds: {threshold: ville, alpha: 0.05}
      reach: {statistic: drawdown}
      reach_sum: {monitor: reach, statistic: sum}
      path: {backward: counted, statistic: cusum, statistic_settings: {drift: 0.5}}
    """

    monitor: Identifier = ""
    """which monitor; the key it stands under when left out (`delegate list monitors`)"""
    statistic: Identifier | None = None
    """how scores are gathered over a sub-episode; the monitor's own default when left out"""
    statistic_settings: Settings = {}
    """settings of the statistic"""
    backward: BackwardPolicy | None = None
    """for a recall monitor: another backward policy than `recall.backward`"""
    threshold: Literal["calibrated", "ville"] | None = None
    """calibrated: for `calibration.false_alarm_rate`, on nominal sub-episodes; ville: by Ville's
    inequality, for a monitor whose score is odds, looking at no data; the monitor's own default
    when left out"""
    alpha: Rate | None = None
    """with `threshold: ville`: P(at least one alarm) of a child that does as it was told, at most;
    0.05 when left out"""
    settings: Settings = {}
    """settings of the monitor"""


class CalibrationSection(Section):
    """How thresholds are set, from the calibrate split alone.

    calibration: {false_alarm_rate: 0.05}
    """

    false_alarm_rate: Rate = 0.05
    """P(at least one alarm in a nominal sub-episode) aimed at"""


class PlainArm(Section):
    """An arm without a monitor.

    none: {protocol: none}
    """

    protocol: Literal["none", "always", "oracle", "trusted_only"]
    """none: nothing is taken back; always: everything is, at once; oracle: rolls back exactly what
    misgeneralises;
    trusted_only: only trusted children are asked"""


class RollbackArm(Section):
    """An alarm rolls the sub-episode back, and the parent asks another child.

    rollback: {protocol: rollback, monitor: reach}
    """

    protocol: Literal["rollback"]
    monitor: Name
    """whose alarm rolls back; a key of `monitors`"""


class RandomRollbackArm(Section):
    """As many rollbacks as another arm made, at random moments.

    rollback_random: {protocol: rollback_random, like: rollback}
    """

    protocol: Literal["rollback_random"]
    like: Name
    """the rollback arm whose number of rollbacks is copied"""


class AuditArm(Section):
    """An alarm has the sub-episode audited, within a budget, and what is found is taken back.

    audit: {protocol: audit, monitor: reach, audits: 0.05}
    """

    protocol: Literal["audit"]
    monitor: Name
    """whose alarm asks for the audit; a key of `monitors`"""
    audits: Annotated[float, Field(ge=0, le=1)]
    """share of all sub-episodes that may be audited"""


Arm = PlainArm | RollbackArm | RandomRollbackArm | AuditArm


def default_ids(monitors: object) -> object:
    """A monitor's id is its key unless it says otherwise."""
    if not isinstance(monitors, dict):
        return monitors
    return {
        key: {"monitor": key, **value} if isinstance(value, dict) else value
        for key, value in monitors.items()
    }
