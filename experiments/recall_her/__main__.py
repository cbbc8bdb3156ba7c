"""Hindsight replay, recalled traces, both or neither, on a goal that pays only when reached.

python -m experiments.recall_her --workers 2    # killed, it goes on
python -m experiments.recall_her tuning         # how strongly to imitate, on other seeds
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.recall_her.runs import BINS, HER_SETTINGS, SAC_SETTINGS, TASK, Arm, Run
from experiments.study.curves import by_arm, draw, filled, gain, intervals, panel_of, shown
from experiments.study.records import Record
from experiments.study.running import Study

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


def success(record: Record) -> np.ndarray:
    """Share of episodes that came to their goal, in each bin. float [BINS]"""
    return filled(record["success"], before=0.0)


def summary(records: Sequence[Record]) -> dict[str, Any]:
    """Per arm: every score over the seeds, and what it gained in area on its rival, paired by
    seed."""
    found = {}
    arms = by_arm(records, scores)
    for name, mine in arms.items():
        found[name] = intervals(mine)
        rival = RIVALS.get(name.split(",")[0], "")
        if gained := gain(mine, arms.get(rival, {})):
            found[name]["gained"] = {"on": rival, **gained}
    return found


def scores(record: Record) -> dict[str, float]:
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


def figures(records: Sequence[Record], folder: Path, name: str) -> None:
    """Success over environment steps."""
    panel = panel_of(TASK, "episodes that come to their goal", records, success)
    draw([panel], folder / f"{name}.svg")


STUDY = Study(
    name="recall_her",
    about=__doc__.splitlines()[0],
    plans={"reported": reported, "tuning": tuning},
    summary=summary,
    table=table,
    figures=figures,
    settings={"task": TASK, "sac": SAC_SETTINGS, "hindsight": HER_SETTINGS},
)

if __name__ == "__main__":
    STUDY.main()
