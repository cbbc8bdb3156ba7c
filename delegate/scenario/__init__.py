"""The scenario: what a run is told to do, as YAML that is checked before anything starts."""

from delegate.scenario.document import ScenarioError
from delegate.scenario.schema import RELAY, Scenario, json_schema, load, names_used
from delegate.scenario.sections import (
    Actor,
    Arm,
    AuditArm,
    CalibrationSection,
    Child,
    DelegationSection,
    LevelsSection,
    MonitorSection,
    OpenArm,
    ParentSection,
    PlainArm,
    RandomRollbackArm,
    RecallSection,
    RollbackArm,
    WorldSection,
)

__all__ = [
    "RELAY",
    "Actor",
    "Arm",
    "AuditArm",
    "CalibrationSection",
    "Child",
    "DelegationSection",
    "LevelsSection",
    "MonitorSection",
    "OpenArm",
    "ParentSection",
    "PlainArm",
    "RandomRollbackArm",
    "RecallSection",
    "RollbackArm",
    "Scenario",
    "ScenarioError",
    "WorldSection",
    "json_schema",
    "load",
    "names_used",
]
