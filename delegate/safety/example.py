"""One episode to look at: a typical one in which work was taken back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from delegate.delegation.events import Ended
from delegate.delegation.tree import DelegationTree
from delegate.safety.episodes import Episodes, episodes
from delegate.safety.logs import Run, Trial


@dataclass(frozen=True)
class Path:
    """Cells walked, in order, int [n]; label: whose and what became of it."""

    label: str
    cells: np.ndarray


@dataclass(frozen=True)
class Example:
    """An episode of an arm: its tree, and what was walked in its maze.

    walls: bool [H, W] · start, goal, proxy_goal: cells, -1 for none
    kept: what finally stood · undone: what was rolled back, one path a rollback
    proxied: what the proxy child does alone on the same level, None if it was not run
    drawable: the states of this world are cells of its grid
    """

    arm: str
    seed: int
    row: int
    tree: DelegationTree
    walls: np.ndarray
    start: int
    goal: int
    proxy_goal: int
    kept: Path
    undone: tuple[Path, ...]
    proxied: Path | None
    drawable: bool


def example(run: Run) -> Example | None:
    """An episode with the median number of undone steps, of those on distinguishing shifted
    levels in which a proxy child was rolled back and the intended goal was reached in the end;
    where several have it, the one that stood longest.

    Failing that one with any rollback; failing that the first episode. None without an arm.
    """
    arms = [name for name, arm in run.scenario.arms.items() if arm.protocol == "rollback"]
    for arm in [*arms, *run.scenario.arms]:
        for trial in run.of(arm)[:1]:
            table = episodes(trial)
            return _example(run, trial, _typical(table))
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


def _example(run: Run, trial: Trial, row: int) -> Example:
    tree = DelegationTree.from_events(trial.events, row)
    gone = {n for n in tree if tree.nodes[n].get("verdict") == "rolled_back"}
    first = [n for n in sorted(gone) if tree.nodes[n].get("within") is None]
    levels = trial.levels
    kept = _walked(trial, row, set(tree) - gone)
    undone = tuple(
        Path(str(tree.nodes[n]["name"]), _walked(trial, row, {n, *_below(tree, n)})) for n in first
    )
    proxied = _proxied(run, trial.seed, int(levels["seed"][row]))
    paths = [kept, *(each.cells for each in undone), *([proxied.cells] if proxied else [])]
    walls = levels["walls"][row]
    return Example(
        arm=trial.arm,
        seed=trial.seed,
        row=row,
        tree=tree,
        walls=walls,
        start=int(levels["start"][row]),
        goal=int(levels["goal"][row]),
        proxy_goal=int(levels["proxy_goal"][row]),
        kept=Path("kept", kept),
        undone=undone,
        proxied=proxied,
        drawable=all(_on_grid(cells, walls) for cells in paths),
    )


def _below(tree: DelegationTree, node: int) -> list[int]:
    return [n for child in tree.successors(node) for n in (child, *_below(tree, child))]


def _walked(trial: Trial, row: int, nodes: set[int] | None = None) -> np.ndarray:
    """States passed by those sub-episodes (or all) of a row, in order of the interaction clock."""
    steps = trial.steps
    mine = steps["row"] == row
    if nodes is not None:
        mine &= np.isin(steps["sub_episode"], sorted(nodes))
    chosen = np.flatnonzero(mine)[np.argsort(steps["clock"][mine], kind="stable")]
    if not len(chosen):
        return np.zeros(0, np.int64)
    return np.append(steps["state"][chosen], steps["next_state"][chosen[-1]]).astype(np.int64)


def _proxied(run: Run, seed: int, level: int) -> Path | None:
    """What a child that pursues the proxy does on that level when nobody stops it."""
    for trial in run.alone:
        rows = np.flatnonzero(trial.levels["seed"] == level)
        intents = {event.intent for event in trial.events if isinstance(event, Ended)}
        if trial.seed == seed and len(rows) and intents == {"proxy"}:
            return Path(str(trial.child), _walked(trial, int(rows[0])))
    return None


def _on_grid(cells: np.ndarray, walls: np.ndarray) -> bool:
    """Are these states cells, walked from one to a neighbour at a time?"""
    height, width = walls.shape
    if len(cells) and (cells.min() < 0 or cells.max() >= height * width):
        return False
    rows, columns = np.divmod(cells, width)
    far = np.abs(np.diff(rows)) + np.abs(np.diff(columns))
    return not walls.ravel()[cells].any() and bool((far <= 1).all())
