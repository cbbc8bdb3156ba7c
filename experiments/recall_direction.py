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
from recall_direction_algorithms import DIVERGENCE
from recall_direction_runs import MOMENTS, Run, play
from running import carry_out, options, write_results

NAME = "recall_direction"
TASKS = {
    "trpo": ("Hopper-v5", "Walker2d-v5", "HalfCheetah-v5"),
    "sac": ("HalfCheetah-v5", "Hopper-v5"),
}
STEPS = {"trpo": 130_000, "sac": 60_000}
_ENDS = ("value", "low", "high")
SEEDS = (100, 101, 102)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then gather everything."""
    parser = options(__doc__.splitlines()[0], "runs/recall_direction")
    parser.add_argument("--algorithms", nargs="+", choices=TASKS)
    parser.add_argument("--tasks", nargs="+", help="of the plan's, all unless said otherwise")
    given = parser.parse_args(arguments)
    plan = [
        Run(algorithm=algorithm, task=task, seed=seed, steps=STEPS[algorithm])
        for seed in SEEDS
        for algorithm, tasks in TASKS.items()
        for task in tasks
    ]
    asked = {"task": given.tasks, "algorithm": given.algorithms}
    records, home = carry_out(play, plan, NAME, parser, given, **asked)
    found = summary(records)
    write_results(home, NAME, records, found, {"divergence": DIVERGENCE, "moments": MOMENTS})
    print(table(found))


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Per algorithm and task, over the seeds and averaged over the moments: what each way gained
    and returned, and how far off the model and who stays are after each step back."""
    found: dict[str, Any] = {}
    for algorithm, task in dict.fromkeys(_place(record) for record in records):
        here = [record for record in records if _place(record) == (algorithm, task)]
        walks = {
            name: np.array([[row[name] for row in record["depth"]] for record in here])
            for name in ("model", "stay")
        }
        found.setdefault(algorithm, {})[task] = {
            "ways": {
                way: {name: interval(_means(here, way, name)) for name in ("gain", "returned")}
                for way in dict.fromkeys(row["way"] for row in here[0]["rows"])
            },
            "depth": {
                name: [interval(off) for off in values.mean(axis=1).T.tolist()]
                for name, values in walks.items()
            },
        }
    return found


def _place(record: dict[str, Any]) -> tuple[str, str]:
    return record["run"]["algorithm"], record["run"]["task"]


def _means(records: Sequence[dict[str, Any]], way: str, name: str) -> list[float]:
    return [
        float(np.mean([row[name] for row in record["rows"] if row["way"] == way]))
        for record in records
    ]


def table(found: dict[str, Any]) -> str:
    """For each algorithm both x 1000, and the errors after 1, 5 and 20 steps back, in Markdown."""
    lines = []
    for algorithm, tasks in found.items():
        heads = [f"{task}, {name}" for task in tasks for name in ("gain", "return")]
        lines += [f"| {algorithm} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
        for way in next(iter(tasks.values()))["ways"]:
            cells = (
                shown({end: 1_000 * told["ways"][way][name][end] for end in _ENDS}, 1)
                for told in tasks.values()
                for name in ("gain", "returned")
            )
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
