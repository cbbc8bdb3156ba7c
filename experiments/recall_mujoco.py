"""Recalled traces on MuJoCo: TRPO and SAC with and without them.

    python experiments/recall_mujoco.py trpo --workers 2          # hours; killed, it goes on
    python experiments/recall_mujoco.py sac --workers 2           # hours
    python experiments/recall_mujoco.py tune --workers 2 --seeds 1000    # the search for settings
    python experiments/recall_mujoco.py tune_sac --workers 2 --seeds 1000

For rows 4 to 9 of the table of Recall Traces (arXiv 1804.00379); the plan of sac holds the
algorithm alone so far.

A finished run is a JSON file under runs/recall_mujoco and is not done again; a killed one is done
anew, from its seed. A whole plan writes experiments/results/recall_mujoco_<plan>.json and a figure
of the same name; a part of it writes the same beside its runs.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

# One thread a process: the work is parallel over processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from recall_mujoco_plan import PLANS
from recall_mujoco_runs import ROWS, SETTINGS, TASK_SETTINGS, play
from recall_mujoco_summary import figure, summary, table, table_together, together
from running import finish, write_results

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, then gather everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plan", choices=PLANS)
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--tasks", nargs="+", help="of the plan's, all unless said otherwise")
    parser.add_argument("--arms", nargs="+", help="likewise")
    parser.add_argument("--seeds", type=int, nargs="+", help="likewise")
    parser.add_argument("--steps", type=int, help="a run, instead of the plan's")
    parser.add_argument("--out", type=Path, default=Path("runs/recall_mujoco"))
    given = parser.parse_args(arguments)
    plan = PLANS[given.plan]()
    runs = [
        run if given.steps is None else run.model_copy(update={"steps": given.steps})
        for run in plan
        if (given.tasks is None or run.task in given.tasks)
        and (given.arms is None or run.arm.name in given.arms)
        and (given.seeds is None or run.seed in given.seeds)
    ]
    if not runs:
        parser.error("no run of the plan has those; see recall_mujoco_plan.py")
    paths = finish(play, runs, given.out, given.workers)
    records = [json.loads(path.read_text()) for path in paths]
    found, overall, name = summary(records), together(records), f"recall_mujoco_{given.plan}"
    home = HERE if runs == plan else given.out
    of_tasks = {" ".join(place): more for place, more in TASK_SETTINGS.items()}
    settings = {"settings": SETTINGS, "of_tasks": of_tasks, "rows": ROWS, "together": overall}
    write_results(home, name, records, found, settings)
    figure(records, home / "figures" / f"{name}.svg")
    print(table(found), table_together(overall), sep="\n\n")


if __name__ == "__main__":
    main()
