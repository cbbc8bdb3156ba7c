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

import os
from collections.abc import Sequence

# One thread a process: the work is parallel over processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from recall_four_rooms_plan import A2C, A2C_PRIORITIZED, SIZES, ratio, reported, tuning
from recall_four_rooms_runs import ROWS, play
from recall_four_rooms_summary import curves, heat_maps, summary, table
from running import carry_out, options, write_results

SETTINGS = {"a2c": A2C, "a2c_prioritized": A2C_PRIORITIZED, "rows": ROWS}
PLANS = {"": reported, "_ratio": ratio, "_tuning": tuning}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, then gather everything."""
    parser = options(__doc__.splitlines()[0], "runs/recall_four_rooms")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ratio", dest="plan", action="store_const", const="_ratio", default="")
    which.add_argument("--tune", dest="plan", action="store_const", const="_tuning")
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES)
    given = parser.parse_args(arguments)
    name = f"recall_four_rooms{given.plan}"
    records, home = carry_out(play, PLANS[given.plan](), name, parser, given, size=given.sizes)
    found = summary(records)
    write_results(home, name, records, found, SETTINGS)
    curves(records, home / "figures" / f"{name}.svg")
    if not given.plan:
        heat_maps(records, home / "figures" / f"{name}_visits.png")
    print(table(found))


if __name__ == "__main__":
    main()
