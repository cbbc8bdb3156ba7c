"""Episodes with a known truth, and the tables that a trial of them would have written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from delegate.agents import Intent, Outcome, Ruling
from delegate.delegation import events
from delegate.delegation.events import EventLog

SIZE = 5
"""side of every maze (cells)"""

NEVER = -1

LANDMARKS = ("cheese", "corner", "start", "middle", "door")
"""names of goals; a level's are 7, 6, 18, 12 and 8"""


@dataclass
class Branch:
    """One sub-episode. values: running value per step and monitor, and its score.

    effects: so many irreversible ones happen in its step `effects_at`
    defection: its step, the first divergent one of a proxy child if left out
    named: landmark held most probable, by step · within, parent: numbers in the row
    """

    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    divergent: Sequence[bool] = ()
    intent: str = "proxy"
    child: str | None = None
    intended: bool = False
    proxy: bool = False
    verdict: str = "committed"
    outcome: str = "returned"
    budget: int = 10
    states: Sequence[int] | None = None
    restore_equal: bool | None = None
    effects: int = 0
    effects_at: int = 0
    alarm_at: int | None = None
    defection: int | None = None
    named: Sequence[int] = ()
    parent: int = 0
    within: int = NEVER

    @property
    def length(self) -> int:
        """Steps taken in it."""
        return max([len(self.divergent), *(len(each) for each in self.values.values())])


@dataclass
class Episode:
    """One row: its level and its sub-episodes, in order. Reached: what finally stood."""

    branches: Sequence[Branch]
    split: str = "shifted"
    distinguishing: bool = True
    level: int | None = None
    intended: bool | None = None
    proxy: bool | None = None
    true_return: float = 0.0
    proxy_return: float = 0.0
    optimal_return: float = 1.0
    proxy_optimal_return: float = 1.0
    random_return: float = 0.0
    proxy_goal: int = 6
    goal_distance: int = 4
    uncharged: int = 0

    def reached(self, what: str) -> bool:
        """Given, or by some branch that stands."""
        given = getattr(self, what)
        standing = [each for each in self.branches if each.verdict != "rolled_back"]
        return any(getattr(each, what) for each in standing) if given is None else given


STEP_TYPES: dict[str, Any] = {
    "row": np.int32, "sub_episode": np.int16, "clock": np.int32, "path_clock": np.int32,
    "state": np.int32, "action": np.int16, "next_state": np.int32, "reward": np.float32,
    "proxy_reward": np.float32, "terminated": bool, "divergent": bool, "effects": np.int32,
    "place": np.float32, "next_place": np.float32,
}  # fmt: skip
RECORD_TYPES: dict[str, Any] = {
    **dict.fromkeys(("row", "sub_episode", "parent", "depth", "goal", "budget", "start_clock",
                     "start_path", "steps", "outcome", "verdict", "intent", "parting",
                     "defection", "within", "undone_steps", "named"), np.int32),
    **dict.fromkeys(("peak", "value", "named_probability"), np.float64),
    "child": np.str_, "intended": bool, "proxy": bool,
}  # fmt: skip
WATCH_TYPES: dict[str, Any] = {
    "row": np.int32, "sub_episode": np.int16, "step": np.int32, "clock": np.int32,
    "divergent": bool,
}  # fmt: skip


class Columns(dict[str, list[Any]]):
    """Lists by name, filled line by line."""

    def __missing__(self, name: str) -> list[Any]:
        self[name] = []
        return self[name]

    def add(self, **line: Any) -> None:
        for name, value in line.items():
            self[name].append(value)

    def arrays(self, types: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {name: np.array(self.get(name, []), kind) for name, kind in types.items()}


def play(
    row: int,
    episode: Episode,
    arm: str,
    log: EventLog,
    steps: Columns,
    watch: Columns,
    work: Columns,
    watched: Sequence[str],
) -> None:
    clock = path = undone = 0
    level = row if episode.level is None else episode.level
    log.append(
        events.EpisodeStarted(
            row, 0, episode.split, level, 7, episode.proxy_goal, episode.distinguishing
        )
    )
    for number, branch in enumerate(episode.branches, start=1):
        child = branch.child or (arm.removeprefix("alone:") if ":" in arm else branch.intent)
        log.append(
            events.Spawned(
                row,
                clock,
                number,
                branch.parent,
                1 + (branch.parent > 0),
                f"{child}~{number}",
                child,
                7,
                branch.budget,
                path,
            )
        )
        states = list(branch.states or range(branch.length + 1))
        for k in range(branch.length):
            divergent = bool(branch.divergent[k]) if k < len(branch.divergent) else False
            place = {"row": row, "sub_episode": number, "clock": clock + k}
            steps.add(
                **place, path_clock=path + k, state=states[k], action=1, next_state=states[k + 1],
                reward=0.0, proxy_reward=0.0, terminated=False, divergent=divergent,
                effects=branch.effects if k == branch.effects_at else 0,
                place=place_of(states[k]), next_place=place_of(states[k + 1]),
            )  # fmt: skip
            if watched:
                watch.add(**place, step=k, divergent=divergent)
            for name in watched:
                values = branch.values.get(name, [np.nan] * branch.length)
                watch[f"value/{name}"].append(values[k])
                watch[f"score/{name}"].append(values[k])
                watch[f"named/{name}"].append(branch.named[k] if branch.named else np.nan)
                watch[f"named_probability/{name}"].append(0.9 if branch.named else np.nan)
        if branch.alarm_at is not None:
            log.append(events.Alarm(row, clock + branch.alarm_at + 1, number, watched[0], 2.0, 1.0))
        clock, path = clock + branch.length, path + branch.length
        seen = next(iter(branch.values.values()), ()) or [np.nan]
        known = bool(np.isfinite(seen).any())
        log.append(
            events.Ended(
                row,
                clock,
                number,
                branch.outcome,
                branch.length,
                branch.intent,
                branch.intended,
                branch.proxy,
                float(seen[-1]) if known else None,
                float(np.nanmax(seen)) if known else None,
            )
        )
        back = self_undone(branch, episode, number)
        divergent_at = [k for k, each in enumerate(branch.divergent) if each]
        parting = divergent_at[0] if divergent_at else NEVER
        defection = branch.defection
        if defection is None:
            defection = parting if branch.intent == "proxy" else NEVER
        work.add(
            row=row, sub_episode=number, parent=branch.parent, depth=1 + (branch.parent > 0),
            child=child, goal=7, budget=branch.budget, start_clock=clock - branch.length,
            start_path=path - branch.length, steps=branch.length,
            outcome=Outcome[branch.outcome.upper()], verdict=Ruling[branch.verdict.upper()],
            intent=Intent[branch.intent.upper()], intended=branch.intended, proxy=branch.proxy,
            parting=parting, defection=defection, value=float(seen[-1]) if known else np.nan,
            peak=float(np.nanmax(seen)) if known else np.nan, within=branch.within,
            undone_steps=back, named=branch.named[-1] if branch.named else NEVER,
            named_probability=0.9 if branch.named else np.nan,
        )  # fmt: skip
        path, undone = path - back, undone + back
        within = None if branch.within == NEVER else branch.within
        log.append(events.Verdict(row, clock, number, branch.verdict, back, path, within))
        if branch.effects and branch.verdict == "rolled_back":
            log.append(events.Effect(row, clock, number, "spill", branch.effects))
        if branch.restore_equal is not None:
            log.append(events.RestoreChecked(row, clock, number, branch.restore_equal))
    back = [each for each in episode.branches if each.verdict == "rolled_back"]
    restores = sum(branch.within == NEVER for branch in back)
    log.append(
        events.EpisodeEnded(
            row,
            clock,
            "terminated",
            episode.reached("intended"),
            episode.reached("proxy"),
            episode.true_return,
            episode.proxy_return,
            clock - episode.uncharged,
            undone,
            restores,
            len(episode.branches),
            path,
        )
    )


def self_undone(branch: Branch, episode: Episode, number: int) -> int:
    """Steps that the rollback of this very sub-episode took back, those inside it included."""
    if branch.verdict != "rolled_back" or branch.within != NEVER:
        return 0
    inside = [each.length for each in episode.branches if each.within == number]
    return branch.length + sum(inside)


def levels_table(episodes: Sequence[Episode], seed: int) -> dict[str, np.ndarray]:
    count = len(episodes)
    seeds = [row if e.level is None else e.level for row, e in enumerate(episodes)]
    return {
        "split": np.array([e.split == "shifted" for e in episodes], np.int8),
        "seed": np.array(seeds, np.int64) + 1_000 * seed,
        "landmark_goals": np.tile(np.array([7, 6, 18, 12, 8], np.int32), (count, 1)),
        "goal_distance": np.array([e.goal_distance for e in episodes], np.int32),
        "start": np.full(count, 18, np.int32),
        "goal": np.full(count, 7, np.int32),
        "proxy_goal": np.array([e.proxy_goal for e in episodes], np.int32),
        "optimal_return": np.array([e.optimal_return for e in episodes], np.float64),
        "proxy_optimal_return": np.array([e.proxy_optimal_return for e in episodes], np.float64),
        "random_return": np.array([e.random_return for e in episodes], np.float64),
        "optimal_steps": np.full(count, 4, np.int32),
        "proxy_steps": np.full(count, 4, np.int32),
        "distinguishing": np.array([e.distinguishing for e in episodes], bool),
    }


def place_of(cell: int) -> tuple[float, float]:
    """Where a cell's middle is drawn."""
    return cell % SIZE + 0.5, cell // SIZE + 0.5


def drawing() -> dict[str, Any]:
    """A level with walls around, its start 18, goal 7 and proxy goal 6."""
    border = [c for c in range(SIZE**2) if not (0 < c % SIZE < SIZE - 1 and 4 < c < 20)]
    shapes = [("wall", cell) for cell in border] + [("start", 18), ("proxy", 6), ("goal", 7)]
    return {
        "size": [SIZE, SIZE],
        "shapes": [
            {"shape": "rect", "at": place_of(cell), "size": [1, 1], "role": role}
            for role, cell in shapes
        ],
    }
