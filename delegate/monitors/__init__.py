"""Watch: scores of a child's steps, statistics over them, and calibrated alarms."""

from delegate.monitors.calibration import Calibration, calibrate, log_power_mixture
from delegate.monitors.monitor import (
    FeatureFunction,
    Memory,
    Monitor,
    MonitorSettings,
    Reference,
    Steps,
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
from delegate.monitors.stream import advance, peaks, play

__all__ = [
    "Calibration",
    "FeatureFunction",
    "Memory",
    "Monitor",
    "MonitorSettings",
    "Reference",
    "ScoreNotFinite",
    "Statistic",
    "Steps",
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
    "statistic_class",
    "statistic_ids",
]
