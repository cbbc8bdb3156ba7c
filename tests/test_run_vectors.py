"""Runs of the worlds on MuJoCo, made small: end to end, the same again, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import small_scenario
from test_run import execute, metrics, trial_files

from delegate.run import RunError, load_scenario
from delegate.run.source import Source
from delegate.trial import Laboratory

WORLDS = {"point-maze": 160, "reacher-pair": 40}
"""and a budget in which a trusted child comes to its goal (steps)"""


def small(folder: Path, world: str, *changes: tuple[str, str]) -> Path:
    path = small_scenario(folder, test=4, name=world)
    text = path.read_text(encoding="utf-8")
    for pattern, instead in (
        (r"(?m)^  steps: \d+$", "  steps: 600"),
        (r"(?m)^  updates: \d+$", "  updates: 20"),
        (
            r"budget: \d+, interactions: \d+",
            f"budget: {WORLDS[world]}, interactions: {2 * WORLDS[world]}",
        ),
        *changes,
    ):
        text, count = re.subn(pattern, instead, text)
        assert count, pattern
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("world", WORLDS)
def test_it_runs_end_to_end(world: str, tmp_path: Path) -> None:
    """The arm, whose runs are short, twice: the same comes out."""
    path = small(tmp_path, world)
    out = execute(path, tmp_path / "one")
    for name in load_scenario(path).arms:
        steps = np.load(out / "trials" / name / "0" / "steps.npz")
        assert steps["state"].ndim == steps["action"].ndim == 2
    watch = np.load(out / "trials/alone-proxy/0/watch.npz")
    assert np.isfinite(watch["named_probability/goal_odds"]).any()
    if world == "reacher-pair":
        again = execute(path, tmp_path / "two")
        assert metrics(again) == metrics(out)
        (learned,) = (out / "artefacts").iterdir()
        for name in (f"artefacts/{learned.name}", *trial_files(out)):
            assert (again / name).read_bytes() == (out / name).read_bytes()


def test_recalled_traces_can_teach_the_critic(tmp_path: Path) -> None:
    path = small(
        tmp_path, "reacher-pair", (r"(?m)^  updates: 20$", "  updates: 20\n  pairs: recalled")
    )
    scenario: Any = load_scenario(path)
    laboratory = Laboratory(scenario, Source(scenario), 0)
    assert set(laboratory.monitors) == set(scenario.monitors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((r"recall:\n(  .*\n)+", "recall: {model: exact}\n"), "set `model: learned`"),
        ((r"  constant: \{\}", "  path: {}"), "monitor path: .*leave it out"),
        ((r"discount: 0\.9\d*\n\nmon", "discount: 0.5\n\nmon"), "discount 0.5 was not learned"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    change: tuple[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises((RunError, ValueError), match=message):
        execute(small(tmp_path, "reacher-pair", change), tmp_path / "run")
