"""Watch: scores of a child's steps, statistics over them, and calibrated alarms."""

from delegate.monitors.calibration import (
    Calibration,
    Threshold,
    Ville,
    calibrate,
    log_power_mixture,
    threshold_from_json,
)
from delegate.monitors.monitor import (
    Control,
    FeatureFunction,
    Memory,
    Monitor,
    MonitorSettings,
    Reference,
    Steps,
    Truth,
    World,
)
from delegate.monitors.registry import (
    ids,
    make,
    make_statistic,
    monitor_class,
    statistic_class,
    statistic_ids,
)
from delegate.monitors.statistics import ScoreNotFinite, Statistic
from delegate.monitors.stream import advance, peaks, play, scored
from delegate.planner import TablePlanner

__all__ = [
    "Calibration",
    "Control",
    "FeatureFunction",
    "Memory",
    "Monitor",
    "MonitorSettings",
    "Reference",
    "ScoreNotFinite",
    "Statistic",
    "Steps",
    "TablePlanner",
    "Threshold",
    "Truth",
    "Ville",
    "World",
    "advance",
    "calibrate",
    "ids",
    "log_power_mixture",
    "make",
    "make_statistic",
    "monitor_class",
    "peaks",
    "play",
    "scored",
    "statistic_class",
    "statistic_ids",
    "threshold_from_json",
]
