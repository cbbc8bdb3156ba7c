"""Monitors and statistics by their ids, as a scenario names them."""

from __future__ import annotations

from typing import Any

from delegate.monitors.controls import Arrival, Constant, Oracle, Random
from delegate.monitors.destination import Destination
from delegate.monitors.distance import Distance, Value
from delegate.monitors.episode_mean import EpisodeDeviation, EpisodeMean
from delegate.monitors.goal_odds import GoalOdds
from delegate.monitors.goal_odds_or_drift import GoalOddsOrDrift
from delegate.monitors.likelihood import Likelihood, LikelihoodCusum
from delegate.monitors.mahalanobis import Mahalanobis
from delegate.monitors.monitor import Monitor
from delegate.monitors.nearest_neighbours import NearestNeighbours
from delegate.monitors.networks import ForwardEnsemble, RandomNetworkDistillation
from delegate.monitors.path import Path
from delegate.monitors.planner_odds import PlannerOdds
from delegate.monitors.reach import Reach
from delegate.monitors.state_density import StateDensity
from delegate.monitors.statistics import Cusum, Drawdown, Last, Max, Mean, Statistic, Sum
from delegate.registry import Registry
from delegate.settings import checked

_OURS: tuple[type[Monitor], ...] = (
    GoalOdds,
    GoalOddsOrDrift,
    Reach,
    Path,
    Destination,
    PlannerOdds,
    Distance,
    Value,
    Likelihood,
    LikelihoodCusum,
    Arrival,
    EpisodeMean,
    EpisodeDeviation,
    StateDensity,
    NearestNeighbours,
    Mahalanobis,
    ForwardEnsemble,
    RandomNetworkDistillation,
    Random,
    Constant,
    Oracle,
)
MONITORS: Registry[Monitor] = Registry(
    "monitor",
    "delegate.monitors",
    Monitor,  # type: ignore[type-abstract]
    {monitor.name: monitor for monitor in _OURS},
)
STATISTICS: Registry[Statistic] = Registry(
    "statistic",
    "delegate.statistics",
    Statistic,  # type: ignore[type-abstract]
    {statistic.id: statistic for statistic in (Last, Mean, Sum, Max, Drawdown, Cusum)},
)

register = MONITORS.register
"""register("odd", Odd), or @register("odd") on a class: see Registry.register"""
register_statistic = STATISTICS.register
"""likewise for statistics"""


def ids() -> tuple[str, ...]:
    """Every monitor that `make` knows."""
    return tuple(MONITORS)


def statistic_ids() -> tuple[str, ...]:
    """Every statistic that `make_statistic` knows."""
    return tuple(STATISTICS)


def monitor_class(monitor: str, /) -> type[Monitor]:
    """The class behind an id; its docstring and `Settings` say what it takes.

    monitor: an id, or `module:Class`
    Raises ValueError for an unknown id, naming the nearest one, and for a class that cannot be
    used.
    """
    return MONITORS[monitor]


def statistic_class(statistic: str, /) -> type[Statistic]:
    """The class behind an id, as `monitor_class`."""
    return STATISTICS[statistic]


def make(monitor: str, /, **settings: Any) -> Monitor:
    """A monitor by id, not yet fitted: `make("reach", discount=0.9)`.

    Raises ValueError for an unknown id or setting, naming the nearest one, and for a value
    out of bounds.
    """
    chosen = monitor_class(monitor)
    return chosen(checked(f"monitor {monitor}", chosen.Settings, settings))


def make_statistic(statistic: str, /, **settings: Any) -> Statistic:
    """A running statistic by id: `make_statistic("cusum", drift=0.5)`.

    Raises ValueError as `make` does.
    """
    chosen = statistic_class(statistic)
    return chosen(checked(f"statistic {statistic}", chosen.Settings, settings))
