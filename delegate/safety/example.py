"""One episode to look at: a typical one in which work was taken back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from delegate.delegation.events import Ended
from delegate.delegation.tree import DelegationTree
from delegate.safety.episodes import Episodes, episodes
from delegate.safety.logs import Run, Trial, read_drawing
from delegate.safety.sub_episodes import SubEpisodes, sub_episodes


@dataclass(frozen=True)
class Path:
    """Where somebody walked, in order, float [n, 2] in units of the drawing.

    label: whose and what became of it · heading: where the arm's monitor saw it going and how
    surely, "" where it names nothing
    """

    label: str
    places: np.ndarray
    heading: str = ""


@dataclass(frozen=True)
class Example:
    """An episode of an arm: its tree, and what was walked in its level.

    drawing: as Bank.drawing gives it, None where the run keeps no drawings
    kept: what finally stood · undone: what was rolled back, one path a rollback
    proxied: what the proxy child does alone on the same level, None if it was not run
    headings: where each sub-episode was seen going when it ended, by number
    """

    arm: str
    seed: int
    row: int
    tree: DelegationTree
    drawing: Mapping[str, Any] | None
    kept: Path
    undone: tuple[Path, ...]
    proxied: Path | None
    headings: Mapping[int, str]


def example(run: Run) -> Example | None:
    """An episode with the median number of undone steps, of those on distinguishing shifted
    levels in which a proxy child was rolled back and the intended goal was reached in the end;
    where several have it, the one that stood longest.

    Failing that one with any rollback; failing that the first episode. None without an arm.
    """
    arms = [name for name, arm in run.scenario.arms.items() if arm.protocol == "rollback"]
    for arm in [*arms, *run.scenario.arms]:
        for trial in run.of(arm)[:1]:
            work = sub_episodes(trial)
            return _example(run, trial, _typical(episodes(trial, work)), work)
    return None


def _typical(table: Episodes) -> int:
    telling = table.shifted & table.distinguishing
    for wanted in (
        telling & (table.hostile_rollbacks > 0) & table.intended,
        telling & (table.rollbacks > 0),
        table.rollbacks > 0,
    ):
        rows = np.flatnonzero(wanted)
        if len(rows):
            undone = table.undone_steps[rows]
            typical = rows[undone == np.sort(undone)[len(undone) // 2]]
            return int(typical[np.argmax((table.env_steps - table.undone_steps)[typical])])
    return 0


def _example(run: Run, trial: Trial, row: int, work: SubEpisodes) -> Example:
    tree = DelegationTree.from_events(trial.events, row)
    gone = {n for n in tree if tree.nodes[n].get("verdict") == "rolled_back"}
    first = [n for n in sorted(gone) if tree.nodes[n].get("within") is None]
    headings = _headings(trial, row, work)
    drawn = "place" in trial.steps and (trial.folder / "drawings.npz").exists()
    drawing = read_drawing(trial.folder, row) if drawn else None
    undone = tuple(
        Path(
            str(tree.nodes[n]["name"]),
            _walked(trial, row, {n, *_below(tree, n)}),
            headings.get(n, ""),
        )
        for n in first
    )
    return Example(
        arm=trial.arm,
        seed=trial.seed,
        row=row,
        tree=tree,
        drawing=drawing,
        kept=Path("kept", _walked(trial, row, set(tree) - gone)),
        undone=undone,
        proxied=_proxied(run, trial.seed, int(trial.levels["seed"][row])),
        headings=headings,
    )


def _headings(trial: Trial, row: int, work: SubEpisodes) -> dict[int, str]:
    """`top-left corner, 0.97` for each sub-episode of a row whose goal was named when it ended."""
    found = {}
    for place in np.flatnonzero(work.row == row).tolist():
        mark, probability = int(work.named[place]), float(work.named_probability[place])
        if not np.isnan(probability) and mark < len(trial.landmarks):
            name = trial.landmarks[mark] if mark >= 0 else "the goal it was given"
            found[int(work.sub_episode[place])] = f"{name}, {probability:.2f}"
    return found


def _below(tree: DelegationTree, node: int) -> list[int]:
    return [n for child in tree.successors(node) for n in (child, *_below(tree, child))]


def _walked(trial: Trial, row: int, nodes: set[int] | None = None) -> np.ndarray:
    """Places passed by those sub-episodes (or all) of a row, in order of the interaction clock."""
    steps = trial.steps
    mine = steps["row"] == row
    if nodes is not None:
        mine &= np.isin(steps["sub_episode"], sorted(nodes))
    chosen = np.flatnonzero(mine)[np.argsort(steps["clock"][mine], kind="stable")]
    if not len(chosen) or "place" not in steps:
        return np.zeros((0, 2))
    return np.concatenate([steps["place"][chosen], steps["next_place"][chosen[-1:]]])


def _proxied(run: Run, seed: int, level: int) -> Path | None:
    """What a child that pursues the proxy does on that level when nobody stops it."""
    for trial in run.alone:
        rows = np.flatnonzero(trial.levels["seed"] == level)
        intents = {event.intent for event in trial.events if isinstance(event, Ended)}
        if trial.seed == seed and len(rows) and intents == {"proxy"}:
            return Path(str(trial.child), _walked(trial, int(rows[0])))
    return None
