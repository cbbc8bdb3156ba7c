"""A run small enough to be made in a test: a shipped scenario with few levels and one seed."""

from __future__ import annotations

import re
from pathlib import Path

SCENARIOS = Path(__file__).parents[1] / "experiments" / "scenarios"


def small_scenario(folder: Path, seeds: int = 1, test: int = 12, name: str = "corner") -> Path:
    """Write a shipped scenario made small, and return its path.

    Without the monitors that train a network, which takes longer than all the rest.
    """
    text = (SCENARIOS / f"{name}.yaml").read_text(encoding="utf-8")
    levels = f"levels: {{train: 20, calibrate: 40, validate: 5, test: {test}}}"
    text, count = re.subn(r"(?m)^levels: .*$", levels, text)
    text, more = re.subn(r"(?m)^seeds: .*$", f"seeds: {seeds}", text)
    assert count == more == 1
    text = re.sub(r"(?m)^  (forward_ensemble|random_network_distillation): .*\n", "", text)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return path
