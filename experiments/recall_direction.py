"""Which way imitating recalled traces pushes the policy of TRPO or SAC, and whether that way is up.

    python experiments/recall_direction.py --workers 2    # killed, it goes on

See recall_direction_measure.py for what is measured. A finished run is a JSON file under
runs/recall_direction. The whole plan writes experiments/results/recall_direction.json; a part of
it writes the same beside its runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

# One thread a process: the work is parallel over processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from curves import interval, shown
from recall_direction_runs import plan, play
from running import carry_out, options, write_results

NAME = "recall_direction"
_ENDS = ("value", "low", "high")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then gather everything."""
    parser = options(__doc__.splitlines()[0], "runs/recall_direction")
    parser.add_argument("--algorithms", nargs="+", help="likewise")
    parser.add_argument("--tasks", nargs="+", help="likewise")
    given = parser.parse_args(arguments)
    asked = {"task": given.tasks, "algorithm": given.algorithms}
    records, home = carry_out(play, plan(), NAME, parser, given, **asked)
    found = summary(records)
    write_results(home, NAME, records, found, {})
    print(table(found))


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Per algorithm and task, over the seeds: what each way gained by divergence and returned at
    the longest, averaged over the moments and at each of them; and how far off the model and who
    stays are after each step back."""
    found: dict[str, Any] = {}
    for algorithm, task in dict.fromkeys(_place(record) for record in records):
        here = [record for record in records if _place(record) == (algorithm, task)]
        walks = {
            name: np.array([[row[name] for row in record["depth"]] for record in here])
            for name in ("model", "stay")
        }
        ways = dict.fromkeys(row["way"] for row in here[0]["rows"])
        found.setdefault(algorithm, {})[task] = {
            "ways": {way: _of_way(here, way) for way in ways},
            "depth": {
                name: [interval(off) for off in values.mean(axis=1).T.tolist()]
                for name, values in walks.items()
            },
        }
    return found


def _place(record: dict[str, Any]) -> tuple[str, str]:
    return record["run"]["algorithm"], record["run"]["task"]


def _of_way(records: Sequence[dict[str, Any]], way: str) -> dict[str, Any]:
    longest = records[0]["run"]["divergences"][-1]
    gains = {
        nats: np.array([_column(record, way, nats, "gain") for record in records])
        for nats in records[0]["run"]["divergences"]
    }
    returned = np.array([_column(record, way, longest, "returned") for record in records])
    return {
        "gain": {str(nats): interval(values.mean(axis=1)) for nats, values in gains.items()},
        "gain_by_moment": {
            str(nats): [interval(moment) for moment in values.T] for nats, values in gains.items()
        },
        "returned": interval(returned.mean(axis=1)),
    }


def _column(record: dict[str, Any], way: str, nats: float, name: str) -> list[float]:
    """At every moment of a record."""
    return [row[name] for row in record["rows"] if row["way"] == way and row["nats"] == nats]


def table(found: dict[str, Any]) -> str:
    """For each algorithm gains by divergence and returns, in thousandths, and the errors after 1,
    5 and 20 steps back, in Markdown."""
    lines = []
    for algorithm, tasks in found.items():
        lengths = list(next(iter(next(iter(tasks.values()))["ways"].values()))["gain"])
        names = [*(f"gain, {nats} nats" for nats in lengths), "return"]
        heads = [f"{task}, {name}" for task in tasks for name in names]
        lines += [f"| {algorithm} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
        for way in next(iter(tasks.values()))["ways"]:
            of_way = [told["ways"][way] for told in tasks.values()]
            measured = (each for own in of_way for each in (*own["gain"].values(), own["returned"]))
            cells = (shown({end: 1_000 * each[end] for end in _ENDS}, 1) for each in measured)
            lines.append(f"| {way} | {' | '.join(cells)} |")
        lines.append("")
    lines.append("| algorithm, task | steps back | the model is off by | who stays by |")
    lines.append("|---|---|---|---|")
    for algorithm, tasks in found.items():
        for task, told in tasks.items():
            for back in (1, 5, 20):
                both = (shown(told["depth"][name][back - 1], 2) for name in ("model", "stay"))
                lines.append(f"| {algorithm} {task} | {back} | {' | '.join(both)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
