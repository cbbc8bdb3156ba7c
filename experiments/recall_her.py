"""Hindsight replay, recalled traces, both or neither, on a goal that pays only when reached.

    python experiments/recall_her.py --workers 2    # killed, it goes on
    python experiments/recall_her.py --tune         # how strongly to imitate, on other seeds

A finished run is a JSON file under runs/recall_her and is not done again; a killed one is done
anew, from its seed. The whole plan writes experiments/results/recall_her.json and
figures/recall_her.svg (tuning: recall_her_tuning); a part of it writes the same beside its runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# One thread a process: the work is parallel over processes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from curves import draw, gain, interval, panel_of, shown
from recall_four_rooms_summary import success
from recall_her_runs import BINS, HER_SETTINGS, SAC_SETTINGS, TASK, Arm, Run, play
from running import carry_out, options, write_results

STEPS, SEEDS = 40_000, tuple(range(7))
TUNING_STEPS, TUNING_SEEDS = 30_000, (1000, 1001)
RECALL: dict[str, Any] = {"targets_from": "reward", "targets": 0.1, "length": 20}
RIVALS = {"hindsight": "neither", "recall": "neither", "both": "hindsight"}
"""on whom each has gained, whatever its settings"""
ALONE = (Arm(name="neither"), Arm(name="hindsight", hindsight=True))


def recalling(name: str = "", **changes: Any) -> tuple[Arm, Arm]:
    """Recall without and with hindsight replay."""
    settings = RECALL | changes
    return (
        Arm(name=f"recall{name}", recall=settings),
        Arm(name=f"both{name}", hindsight=True, recall=settings),
    )


ARMS = (*ALONE, *recalling())
TUNING = (*ALONE, *recalling(), *recalling(", 20 updates", imitation_updates=20))


def reported() -> list[Run]:
    """Seed by seed, so that whatever is finished can be compared."""
    return [Run(arm=arm, seed=seed, steps=STEPS) for seed in SEEDS for arm in ARMS]


def tuning() -> list[Run]:
    """The search for settings, on seeds that are not reported."""
    return [Run(arm=arm, seed=seed, steps=TUNING_STEPS) for seed in TUNING_SEEDS for arm in TUNING]


PLANS = {"": reported, "_tuning": tuning}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing, then gather everything."""
    parser = options(__doc__.splitlines()[0], "runs/recall_her")
    parser.add_argument(
        "--tune", dest="plan", action="store_const", const="_tuning", default="",
        help="the search for settings instead",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    name = f"recall_her{given.plan}"
    records, home = carry_out(play, PLANS[given.plan](), name, parser, given)
    found = summary(records)
    settings = {"task": TASK, "sac": SAC_SETTINGS, "hindsight": HER_SETTINGS}
    write_results(home, name, records, found, settings)
    figure(records, home / "figures" / f"{name}.svg")
    print(table(found))


def summary(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Per arm: every score over the seeds, and what it gained in area on its rival, paired by
    seed."""
    found: dict[str, Any] = {}
    arms: dict[str, dict[int, dict[str, float]]] = {}
    for record in records:
        of_arm = arms.setdefault(record["run"]["arm"]["name"], {})
        of_arm[record["run"]["seed"]] = scores(record)
    for name, mine in arms.items():
        found[name] = {
            what: interval([told[what] for told in mine.values()])
            for what in next(iter(mine.values()))
        }
        rival = RIVALS.get(name.split(",")[0], "")
        if gained := gain(mine, arms.get(rival, {})):
            found[name]["gained"] = {"on": rival, **gained}
    return found


def scores(record: dict[str, Any]) -> dict[str, float]:
    """area: mean of the success curve · end: that of its last third · seconds: of the processor"""
    curve = success(record)
    end = float(curve[-BINS // 3 :].mean())
    return {"area": float(curve.mean()), "end": end, "seconds": record["seconds"]}


def table(found: dict[str, Any]) -> str:
    """The summary in Markdown."""
    lines = [
        "| arm | area under the success curve | gained on | by | last third | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for name, entry in found.items():
        gained = entry.get("gained")
        cells = (
            shown(entry["area"], 2),
            gained["on"] if gained else "–",
            shown(gained, 2),
            shown(entry["end"], 2),
            shown(entry["seconds"]),
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def figure(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Success over environment steps."""
    draw([panel_of(TASK, "episodes that come to their goal", records, success)], path)


if __name__ == "__main__":
    main()
