"""Recalled traces on Four Rooms: against an actor-critic and prioritized replay, by size.

    python experiments/recall_four_rooms.py --workers 2          # hours; killed, it goes on
    python experiments/recall_four_rooms.py --ratio --workers 2  # how often, how far back
    python experiments/recall_four_rooms.py --tune --workers 2   # the search for settings

Start and goal are in opposite corners. Rows 1, 2, 6 and 9 of the table of Recall Traces (arXiv
1804.00379). A finished run is a JSON file under runs/recall_four_rooms and is not done again; a
killed one is done anew, from its seed. The whole plan writes
experiments/results/recall_four_rooms[_ratio|_tuning].json and figures of the same name; a part of
it writes the same beside its runs.
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

from recall_four_rooms_plan import A2C, SIZES, ratio, reported, tuning
from recall_four_rooms_runs import ROWS, play
from recall_four_rooms_summary import curves, heat_maps, summary, table
from running import finish, write_results

HERE = Path(__file__).parent
PLANS = {"": reported, "_ratio": ratio, "_tuning": tuning}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, then gather everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ratio", dest="plan", action="store_const", const="_ratio", default="")
    which.add_argument("--tune", dest="plan", action="store_const", const="_tuning")
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--arms", nargs="+", help="of the plan's, all unless said otherwise")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the plan's")
    parser.add_argument("--steps", type=int, help="a run, instead of the plan's")
    parser.add_argument("--out", type=Path, default=Path("runs/recall_four_rooms"))
    given = parser.parse_args(arguments)
    plan = PLANS[given.plan]()
    runs = [
        run if given.steps is None else run.model_copy(update={"steps": given.steps})
        for run in plan
        if run.size in given.sizes
        and (given.arms is None or run.arm.name in given.arms)
        and (given.seeds is None or run.seed in given.seeds)
    ]
    if not runs:
        parser.error("no run of the plan has those; see recall_four_rooms_plan.py")
    paths = finish(play, runs, given.out, given.workers)
    records = [json.loads(path.read_text()) for path in paths]
    found, name = summary(records), f"recall_four_rooms{given.plan}"
    home = HERE if runs == plan else given.out
    write_results(home, name, records, found, {"a2c": A2C, "rows": ROWS})
    curves(records, home / "figures" / f"{name}.svg")
    if not given.plan:
        heat_maps(records, home / "figures" / f"{name}_visits.png")
    print(table(found))


if __name__ == "__main__":
    main()
