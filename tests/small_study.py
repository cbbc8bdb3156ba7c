"""A study whose runs do next to nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from experiments.study import records
from experiments.study.curves import by_arm, intervals
from experiments.study.running import Study

CODE = records.Code("experiments/study/curves.py", libraries=("numpy",))


class Arm(BaseModel, frozen=True):
    name: str


class Run(records.Run):
    """steps: hundredths of a second that it takes"""

    code: ClassVar = CODE
    names: ClassVar = ("arm", "size", "seed")

    arm: Arm
    size: int = 7
    seed: int
    steps: int = 1

    def train(self) -> dict[str, Any]:
        if self.arm.name == "raises":
            raise RuntimeError(f"seed {self.seed} fails")
        if self.arm.name == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.steps / 100)
        return {"area": self.seed / 3}


def plan(*arms: str, seeds: Sequence[int] = range(3)) -> list[Run]:
    sizes = {"dies": 9}
    return [
        Run(arm=Arm(name=arm), size=sizes.get(arm, 7), seed=seed) for seed in seeds for arm in arms
    ]


def summary(found: Sequence[records.Record]) -> dict[str, Any]:
    arms = by_arm(found, lambda record: {"area": record["area"]})
    return {name: intervals(mine) for name, mine in arms.items()}


def draw(found: Sequence[records.Record], folder: Path, name: str) -> None:
    (folder / f"{name}.svg").parent.mkdir(exist_ok=True)
    (folder / f"{name}.svg").write_text(f"<svg>{len(found)}</svg>")


STUDY = Study(
    name="small",
    about="does next to nothing",
    plans={
        "reported": lambda: plan("plain", "other"),
        "tuning": lambda: plan("plain", seeds=range(1_000, 1_002)),
        "broken": lambda: plan("plain", "raises", "dies"),
    },
    summary=summary,
    table=lambda found: "\n".join(f"{name}: {told['area']['n']}" for name, told in found.items()),
    figures=draw,
    settings={"rows": 4},
    of_a_run=("size",),
)
