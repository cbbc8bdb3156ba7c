"""What a parent knows when it decides, and what its bounds allow."""

from __future__ import annotations

import numpy as np

from delegate.agents import NO_CODE, Decision, Decisions, Member, ParentView, Ruling
from delegate.delegation import events
from delegate.delegation.episodes import Episodes


def parent_view(episodes: Episodes, member: Member, rows: np.ndarray) -> ParentView:
    """What that member knows in those rows, where it is the deepest agent. rows: int [n]"""
    nodes, depth = episodes.nodes, episodes.nodes.top[rows]
    last = episodes.last[rows, depth]
    known, crew = last >= 0, np.asarray(member.crew, np.int64)
    is_child = nodes.member[rows, last][:, None] == crew
    left = episodes.bounds.max_spawns + 1 - nodes.count[rows]
    return ParentView(
        obs=episodes.env.observe(rows),
        goal=nodes.goal[rows, nodes.current(rows)],
        habit=episodes.facts.proxy_goal[rows],
        clock_left=_clock_left(episodes, rows),
        spawns_left=left,
        may_delegate=(left > 0) & (depth < episodes.bounds.max_depth),
        over=episodes.over[rows],
        last=last,
        last_child=np.where(known & is_child.any(1), is_child.argmax(1), -1),
        last_outcome=np.where(known, nodes.outcome[rows, last], NO_CODE),
        last_verdict=np.where(known, nodes.verdict[rows, last], NO_CODE),
        last_alarm=known & nodes.alarmed[rows, last],
        rolled_back=episodes.taken_back[rows, depth][:, crew],
        crew=crew,
    )


def _clock_left(episodes: Episodes, rows: np.ndarray) -> np.ndarray:
    """What each row may still pay: the least of the episode's and every running budget."""
    nodes, left = episodes.nodes, episodes.bounds.interactions - episodes.clock[rows]
    for depth in range(1, nodes.active.shape[1]):
        at = nodes.active[rows, depth]
        own = nodes.budget[rows, at] - nodes.steps[rows, at]
        left = np.where(at >= 0, np.minimum(left, own), left)
    return left


def bounded(
    episodes: Episodes, rows: np.ndarray, view: ParentView, decisions: Decisions
) -> np.ndarray:
    """Decisions with those that bounds forbid turned into giving up, and logged."""
    kind = decisions.kind.copy()
    delegates, backtracks = kind == Decision.DELEGATE, kind == Decision.BACKTRACK
    in_crew = (decisions.child >= 0) & (decisions.child < len(view.crew))
    for reason, refused in (
        (
            "the world has ended; only backtrack and stop are left",
            view.over & (delegates | (kind == Decision.ACT)),
        ),
        (
            "no depth or spawns left; raise max_depth or max_spawns",
            delegates & ~view.may_delegate,
        ),
        (f"no such child; the crew has {len(view.crew)}", delegates & ~in_crew),
        ("a budget is at least one step", delegates & (decisions.budget < 1)),
        (
            "only an own committed sub-episode can be taken back",
            backtracks & ~_is_own_commit(episodes, rows, decisions.target),
        ),
    ):
        for row in rows[refused & (kind != Decision.GIVE_UP)]:
            node = int(episodes.nodes.active[row, episodes.nodes.top[row]])
            episodes.event(row, events.Refused, sub_episode=node, reason=reason)
        kind[refused] = Decision.GIVE_UP
    return kind


def _is_own_commit(episodes: Episodes, rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    nodes = episodes.nodes
    exists = (target > 0) & (target < nodes.count[rows])
    at = np.where(exists, target, 0)
    own = nodes.parent[rows, at] == nodes.current(rows)
    stands = np.isin(nodes.verdict[rows, at], (Ruling.COMMITTED, Ruling.ESCALATED))
    return exists & own & stands
