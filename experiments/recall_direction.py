"""Which way imitating recalled traces pushes the policy of TRPO, and whether that way is up.

    python experiments/recall_direction.py --workers 2    # killed, it goes on

See recall_direction_runs.py for what is measured. A finished run is a JSON file under
runs/recall_direction. The whole plan writes experiments/results/recall_direction.json; a part of
it writes the same beside its runs.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# One thread a process: the work is parallel over processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from curves import interval, shown
from recall_direction_runs import DIVERGENCE, MOMENTS, Run, play
from running import finish, write_results

HERE = Path(__file__).parent
TASKS = ("Hopper-v5", "Walker2d-v5", "HalfCheetah-v5")
_ENDS = ("value", "low", "high")
SEEDS = (100, 101, 102, 103, 104)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then gather everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--out", type=Path, default=Path("runs/recall_direction"))
    given = parser.parse_args(arguments)
    plan = [Run(task=task, seed=seed) for seed in SEEDS for task in TASKS]
    runs = [run for run in plan if run.task in given.tasks and run.seed in given.seeds]
    if not runs:
        parser.error(f"no run of the plan has those seeds; give some of {SEEDS}")
    paths = finish(play, runs, given.out, given.workers)
    records = [json.loads(path.read_text()) for path in paths]
    found = summary(records)
    home = HERE if runs == plan else given.out
    settings = {"divergence": DIVERGENCE, "moments": MOMENTS}
    write_results(home, "recall_direction", records, found, settings)
    print(table(found))


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Per task, over the seeds and averaged over the moments: what each way gained and returned,
    and how far off the model and who stays are after each step back."""
    found: dict[str, Any] = {}
    for task in dict.fromkeys(record["run"]["task"] for record in records):
        of_task = [record for record in records if record["run"]["task"] == task]
        walks = {
            name: np.array([[row[name] for row in record["depth"]] for record in of_task])
            for name in ("model", "stay")
        }
        found[task] = {
            "ways": {
                way: {name: interval(_means(of_task, way, name)) for name in ("gain", "returned")}
                for way in dict.fromkeys(row["way"] for row in of_task[0]["rows"])
            },
            "depth": {
                name: [interval(off) for off in values.mean(axis=1).T.tolist()]
                for name, values in walks.items()
            },
        }
    return found


def _means(records: Sequence[dict[str, Any]], way: str, name: str) -> list[float]:
    return [
        float(np.mean([row[name] for row in record["rows"] if row["way"] == way]))
        for record in records
    ]


def table(found: dict[str, Any]) -> str:
    """Both x 1000, and the errors after 1, 5 and 20 steps back, in Markdown."""
    heads = [f"{task}, {name}" for task in found for name in ("gain", "return")]
    lines = [f"| imitated | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for way in next(iter(found.values()))["ways"]:
        cells = (
            shown({end: 1_000 * told["ways"][way][name][end] for end in _ENDS}, 1)
            for told in found.values()
            for name in ("gain", "returned")
        )
        lines.append(f"| {way} | {' | '.join(cells)} |")
    lines += ["", "| task | steps back | the model is off by | who stays by |", "|---|---|---|---|"]
    for task, told in found.items():
        for back in (1, 5, 20):
            both = (shown(told["depth"][name][back - 1], 2) for name in ("model", "stay"))
            lines.append(f"| {task} | {back} | {' | '.join(both)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
