"""Recalled traces on MuJoCo: TRPO and SAC with and without them.

    python experiments/recall_mujoco.py trpo --workers 2          # hours; killed, it goes on
    python experiments/recall_mujoco.py sac --workers 2           # hours
    python experiments/recall_mujoco.py sac_ratio --workers 2     # how often, and how far back
    python experiments/recall_mujoco.py tune_length --workers 2   # and others: see the plan

For rows 4 to 9 of the table of Recall Traces (arXiv 1804.00379).

A finished run is a JSON file under runs/recall_mujoco and is not done again; a killed one is done
anew, from its seed. A whole plan writes experiments/results/recall_mujoco_<plan>.json and a figure
of the same name; a part of it writes the same beside its runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

# One thread a process: the work is parallel over processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from recall_mujoco_plan import PLANS
from recall_mujoco_runs import ROWS, SETTINGS, TASK_SETTINGS, play
from recall_mujoco_summary import figure, summary, table, table_together, together
from running import carry_out, options, write_results


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, then gather everything."""
    parser = options(__doc__.splitlines()[0], "runs/recall_mujoco")
    parser.add_argument("plan", choices=PLANS)
    parser.add_argument("--tasks", nargs="+", help="of the plan's, all unless said otherwise")
    given = parser.parse_args(arguments)
    name = f"recall_mujoco_{given.plan}"
    records, home = carry_out(play, PLANS[given.plan](), name, parser, given, task=given.tasks)
    if short := [r["run"] for r in records if set(r["curve"]["return"]) == {None}]:
        parser.error(f"in {short[0]['steps']} steps no episode ended; ask for more --steps")
    found, overall = summary(records), together(records)
    of_tasks = {" ".join(place): more for place, more in TASK_SETTINGS.items()}
    settings = {"settings": SETTINGS, "of_tasks": of_tasks, "rows": ROWS, "together": overall}
    write_results(home, name, records, found, settings)
    figure(records, home / "figures" / f"{name}.svg")
    print(table(found), table_together(overall), sep="\n\n")


if __name__ == "__main__":
    main()
