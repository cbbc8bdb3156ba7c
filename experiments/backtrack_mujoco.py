"""Does being able to go back help in robotics? PPO on MuJoCo with and without backtracking.

    python experiments/backtrack_mujoco.py --workers 2           # hours; killed, it goes on
    python experiments/backtrack_mujoco.py --tune --workers 2    # the search for settings

The trained policy is evaluated with backtracking on and off. A finished run is a JSON file under
runs/backtrack_mujoco and is not done again; a killed one is done anew, from its seed. --tune tries
other settings, on seeds that are not reported. The whole plan writes
experiments/results/backtrack_mujoco[_tuning].json and figures/backtrack_mujoco[_tuning].svg; a part
of it writes the same beside its runs.
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

from backtrack_mujoco_plan import SEEDS, reported, tuning
from backtrack_mujoco_runs import PPO_SETTINGS, ROWS, play
from backtrack_mujoco_summary import figure, summary, table
from running import finish, write_results

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, then gather everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--tune", action="store_true", help="the settings search, on other seeds")
    parser.add_argument("--tasks", nargs="+", choices=list(SEEDS), default=list(SEEDS))
    parser.add_argument("--arms", nargs="+", help="of the plan's, all unless said otherwise")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the plan's")
    parser.add_argument("--interactions", type=int, help="a run, instead of the plan's")
    parser.add_argument("--out", type=Path, default=Path("runs/backtrack_mujoco"))
    given = parser.parse_args(arguments)
    plan = tuning() if given.tune else reported(list(SEEDS))
    runs = [
        run
        if given.interactions is None
        else run.model_copy(update={"interactions": given.interactions})
        for run in plan
        if run.task in given.tasks
        and (given.arms is None or run.arm.name in given.arms)
        and (given.seeds is None or run.seed in given.seeds)
    ]
    if not runs:
        parser.error("no run of the plan has those arms and seeds; see backtrack_mujoco_plan.py")
    records = [
        json.loads(path.read_text()) for path in finish(play, runs, given.out, given.workers)
    ]
    if len(sources := {record["source"] for record in records}) > 1:
        parser.error(f"runs of different code ({', '.join(sorted(sources))}); start again")
    found = summary(records)
    name = "backtrack_mujoco_tuning" if given.tune else "backtrack_mujoco"
    home = HERE if runs == plan else given.out
    write_results(home, name, records, found, {"ppo": PPO_SETTINGS, "rows": ROWS})
    figure(records, home / "figures" / f"{name}.svg")
    print(table(found))


if __name__ == "__main__":
    main()
