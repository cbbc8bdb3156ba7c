"""Monitors and statistics by their ids, as a scenario names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from delegate.monitors.controls import Oracle, Random
from delegate.monitors.destination import Destination
from delegate.monitors.episode_mean import EpisodeMean
from delegate.monitors.mahalanobis import Mahalanobis
from delegate.monitors.monitor import Monitor, MonitorSettings
from delegate.monitors.nearest_neighbours import NearestNeighbours
from delegate.monitors.path import Path
from delegate.monitors.reach import Reach
from delegate.monitors.state_density import StateDensity
from delegate.monitors.statistics import Cusum, Drawdown, Last, Max, Mean, Statistic, Sum

_MONITORS: dict[str, type[Monitor]] = {
    monitor.name: monitor
    for monitor in (
        Path,
        Reach,
        Destination,
        Random,
        Oracle,
        EpisodeMean,
        StateDensity,
        NearestNeighbours,
        Mahalanobis,
    )
}
_STATISTICS: dict[str, type[Statistic]] = {
    statistic.id: statistic for statistic in (Last, Mean, Sum, Max, Drawdown, Cusum)
}


def ids() -> tuple[str, ...]:
    """Every monitor that `make` knows."""
    return tuple(_MONITORS)


def statistic_ids() -> tuple[str, ...]:
    """Every statistic that `make_statistic` knows."""
    return tuple(_STATISTICS)


def monitor_class(monitor: str, /) -> type[Monitor]:
    """The class behind an id; its docstring and `Settings` say what it takes.

    Raises ValueError for an unknown id, naming the nearest one.
    """
    return _MONITORS[_known("monitor", monitor, _MONITORS)]


def statistic_class(statistic: str, /) -> type[Statistic]:
    """The class behind an id, as `monitor_class`."""
    return _STATISTICS[_known("statistic", statistic, _STATISTICS)]


def make(monitor: str, /, **settings: Any) -> Monitor:
    """A monitor by id, not yet fitted: `make("reach", discount=0.9)`.

    Raises ValueError for an unknown id or setting, naming the nearest one, and for a value
    out of bounds.
    """
    chosen = monitor_class(monitor)
    return chosen(_settings(f"monitor {monitor}", chosen.Settings, settings))


def make_statistic(statistic: str, /, **settings: Any) -> Statistic:
    """A running statistic by id: `make_statistic("cusum", drift=0.5)`.

    Raises ValueError as `make` does.
    """
    chosen = statistic_class(statistic)
    return chosen(_settings(f"statistic {statistic}", chosen.Settings, settings))


def _settings(
    place: str, settings: type[MonitorSettings], given: Mapping[str, Any]
) -> MonitorSettings:
    for name in given:
        _known(f"{place}: setting", name, settings.model_fields)
    try:
        return settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"][0].lower() + first["msg"][1:]
        raise ValueError(f"{place}: {first['loc'][0]} is {first['input']!r}; {message}") from None


def _known(kind: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    if name in known:
        return name
    if not known:
        raise ValueError(f'{kind} "{name}" is not known; there are none, so leave it out')
    near = get_close_matches(name, known, n=1, cutoff=0.0)
    raise ValueError(
        f'{kind} "{name}" is not known; did you mean "{near[0]}"? There are: {", ".join(known)}'
    )
