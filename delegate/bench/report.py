"""The record of a benchmark as tables of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from delegate.bench.peers import ENVPOOL, LOOP, OURS, SYNC

Table = list[list[str]]


def tables(record: Mapping[str, Any]) -> Iterator[tuple[str, Table]]:
    """Title and rows of each table; the first row is the heading."""
    if "grid" in record:
        first = record["grid"][0]
        title = f"{first['world']} {first['size']}x{first['size']}, one core, random actions"
        yield title, _grid(record["grid"])
    if "delegation" in record:
        found = record["delegation"]
        name = f"{found['arm']} arm of {found['scenario']}"
        yield f"{name}, {found['rows']} rows, one core, tables written", _delegation(found)
    tasks, settings = record.get("mujoco", {}), record["settings"]
    batch = f"{settings['rows']} rows, {settings['threads']} threads"
    if any("peers" in found for found in tasks.values()):
        missing = (
            ""
            if any(ENVPOOL in found["peers"]["steps_per_second"] for found in tasks.values())
            else ("; EnvPool is not installed: pip install 'delegate[bench]'")
        )
        yield f"environment steps a second, {batch}{missing}", _peers(tasks)
    if any("recording_share" in found for found in tasks.values()):
        yield f"more time a step, {batch}, horizon {settings['horizon']}", _shares(tasks)
    if any("restoring" in found for found in tasks.values()):
        yield "restoring one environment, microseconds", _restoring(tasks, "one_row")
        yield f"restoring {settings['rows']} of them, microseconds each", _restoring(tasks, "batch")
        yield "how far a replay is off once restored", _off(tasks)
    if "memory" in record:
        yield "memory of going back", _memory(record["memory"])
    if "recall" in record:
        sizes = record["recall"]["sizes"]
        title = f"learned backtracking model, {sizes['state']} + {sizes['action']} numbers"
        yield f"{title}, batch {sizes['batch']}, one thread", _recall(record["recall"])


def _grid(lines: list[dict[str, Any]]) -> Table:
    table = [["observation", "", "steps/s", "lowest-highest", "x plain loop"]]
    for line in lines:
        name = f"{line['rows']} row{'s' * (line['rows'] > 1)}" if line["rows"] else "plain loop"
        speed = line["steps_per_second"]
        spread = f"{speed['low']:,.0f}-{speed['high']:,.0f}"
        ratio = f"{line['ratio_to_plain']['median']:.2f}"
        table.append([line["observation"], name, f"{speed['median']:,.0f}", spread, ratio])
    return table


def _delegation(found: Mapping[str, Any]) -> Table:
    table = [["", "steps/s", "lowest-highest"]]
    for name, what in (
        ("running", "until nine tenths of the rows have ended"),
        ("tail", "from there to the end"),
        ("whole", "all, with its tables and files"),
    ):
        speed = found[name]
        spread = f"{speed['low']:,.0f}-{speed['high']:,.0f}"
        table.append([what, f"{speed['median']:,.0f}", spread])
    held = ", ".join(f"{name.replace('_', ' ')} {mib:.1f}" for name, mib in found["mib"].items())
    return [
        *table,
        ["MiB", held, ""],
        ["first play, h tabulated (s)", _short(found["seconds_first"]), ""],
    ]


def _peers(tasks: Mapping[str, Any]) -> Table:
    names = (LOOP, SYNC, ENVPOOL, OURS)
    compared = (LOOP, SYNC, ENVPOOL)
    table = [["task", *names, *(f"x {name}" for name in compared)]]
    for task, found in tasks.items():
        peers = found["peers"]
        speeds = [_count(peers["steps_per_second"].get(name)) for name in names]
        ratios = [_times(peers["times_as_fast_as"].get(name)) for name in compared]
        table.append([task, *speeds, *ratios])
    return table


def _shares(tasks: Mapping[str, Any]) -> Table:
    columns = {
        "save_and_restore_share": "saving and restoring all rows",
        "recording_share": "VectorBacktrack, never back",
        "recording_share_back_to_back": "the same, steps back to back",
        "one_percent_back_share": "VectorBacktrack, 1% back",
    }
    table = [["task", *columns.values()]]
    for task, found in tasks.items():
        table.append([task, *(_percent(found[name]) for name in columns)])
    return table


def _restoring(tasks: Mapping[str, Any], how: str) -> Table:
    """One row a task. how: one_row or batch"""
    figures = {
        task: (found["restoring"]["microseconds"][how], found["restoring"]["times_as_fast_as"][how])
        for task, found in tasks.items()
    }
    took, times = next(iter(figures.values()))
    table = [["task", *took, *(f"x {name}" for name in times)]]
    for task, parts in figures.items():
        table.append([task, *(_short(f["median"]) for part in parts for f in part.values())])
    return table


def _off(tasks: Mapping[str, Any]) -> Table:
    figures = {task: found["restoring"]["differs"] for task, found in tasks.items()}
    table = [["task", *next(iter(figures.values()))]]
    return table + [
        [task, *(f"{value:.3g}" for value in off.values())] for task, off in figures.items()
    ]


def _memory(memory: Mapping[str, Any]) -> Table:
    return [
        ["task", "rows", "horizon", "MiB at the start", "MiB after 3 horizons"],
        [
            memory["task"],
            str(memory["rows"]),
            str(memory["horizon"]),
            f"{memory['mib']:.1f}",
            f"{memory['mib_later']:.1f}",
        ],
    ]


def _recall(recall: Mapping[str, Any]) -> Table:
    table = [["", "us", "lowest-highest", "x products"]]
    for name, took in recall["microseconds"].items():
        spread = f"{took['low']:,.0f}-{took['high']:,.0f}"
        ratio = _times(recall["times_the_products"].get(name))
        table.append([name, f"{took['median']:,.0f}", spread, ratio])
    speed = recall["traces_per_second"]
    spread = f"{speed['low']:,.0f}-{speed['high']:,.0f}"
    name = f"traces of {recall['sizes']['trace']} steps a second"
    table.append([name, f"{speed['median']:,.0f}", spread, "-"])
    return table


def _count(figure: Mapping[str, float] | None) -> str:
    return "-" if figure is None else f"{figure['median']:,.0f}"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _times(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "-"
    return f"{figure['median']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def _percent(figure: Mapping[str, float]) -> str:
    return f"{figure['median']:.1%}"
