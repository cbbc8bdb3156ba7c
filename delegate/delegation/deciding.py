"""What an agent knows when it decides, and what its bounds allow."""

from __future__ import annotations

import numpy as np

from delegate.agents import NO_CODE, Decision, Decisions, Member, View
from delegate.delegation import events
from delegate.delegation.episodes import Episodes


def view_of(episodes: Episodes, member: Member, rows: np.ndarray) -> View:
    """What that member knows in those rows, where it is the deepest agent. rows: int [n]"""
    nodes, depth = episodes.nodes, episodes.nodes.top[rows]
    last = episodes.last[rows, depth].astype(np.int64)
    known, crew = last >= 0, np.asarray(member.crew, np.int64)
    is_child = nodes.member[rows, last][:, None] == crew
    return View(
        obs=episodes.env.observe(rows),
        goal=nodes.goal[rows, nodes.current(rows)],
        clock_left=clock_left(episodes, rows),
        spawns_left=episodes.bounds.max_spawns + 1 - nodes.count[rows],
        may_delegate=may_delegate(episodes, member, rows),
        over=episodes.over[rows],
        last=last,
        last_child=np.where(known & is_child.any(1), is_child.argmax(1), -1)
        if len(crew)
        else np.full(len(rows), -1),
        last_outcome=np.where(known, nodes.outcome[rows, last], NO_CODE),
        last_verdict=np.where(known, nodes.verdict[rows, last], NO_CODE),
        last_alarm=known & (nodes.alarm[rows, last] >= 0),
        let_down=episodes.let_down[rows, depth][:, crew],
        crew=crew,
    )


def may_delegate(episodes: Episodes, member: Member, rows: np.ndarray) -> np.ndarray:
    """Whether depth, spawns and crew allow it: bool [n]."""
    nodes, bounds = episodes.nodes, episodes.bounds
    allowed = (nodes.count[rows] <= bounds.max_spawns) & (nodes.top[rows] < bounds.max_depth)
    return allowed if member.crew else np.zeros(len(rows), bool)


def clock_left(episodes: Episodes, rows: np.ndarray) -> np.ndarray:
    """What each row may still pay: the least of the episode's and every running budget."""
    nodes, left = episodes.nodes, episodes.bounds.interactions - episodes.clock[rows]
    for depth in range(1, nodes.active.shape[1]):
        at = nodes.active[rows, depth]
        own = nodes.budget[rows, at] - nodes.steps[rows, at]
        left = np.where(at >= 0, np.minimum(left, own), left)
    return left


def bounded(
    episodes: Episodes, member: Member, rows: np.ndarray, decisions: Decisions
) -> tuple[np.ndarray, np.ndarray]:
    """Kinds of decisions, and who gives up: what bounds forbid becomes giving up, and is logged."""
    kind, gave_up = decisions.kind.copy(), decisions.gave_up & (decisions.kind == Decision.RETURN)
    delegates, backtracks = kind == Decision.DELEGATE, kind == Decision.BACKTRACK
    # A step back at the very end leaves an episode that can pay nothing more.
    spent = episodes.clock[rows] >= episodes.bounds.interactions
    rare = delegates | backtracks | (kind == Decision.STOP) | episodes.over[rows] | spent
    if not rare.any():
        return kind, gave_up
    in_crew = (decisions.child >= 0) & (decisions.child < len(member.crew))
    for reason, refused in (
        (
            "the world has ended; only backtrack, return and stop are left",
            episodes.over[rows] & (delegates | (kind == Decision.ACT)),
        ),
        (
            "no steps left; raise interactions",
            spent & ~episodes.over[rows] & (delegates | (kind == Decision.ACT)),
        ),
        (
            "no depth, spawns or crew left; raise max_depth or max_spawns, or give it a crew",
            delegates & ~may_delegate(episodes, member, rows),
        ),
        (f"no such child; the crew has {len(member.crew)}", delegates & ~in_crew),
        ("a budget is at least one step", delegates & (decisions.budget < 1)),
        (
            "no such goal here; give a place of this level that can be reached",
            delegates & ~_is_place(episodes, rows, decisions.goal),
        ),
        (
            "only an own committed sub-episode can be taken back",
            backtracks & ~_is_own_commit(episodes, rows, decisions.target),
        ),
        (
            "only the root may stop the episode; return instead",
            (kind == Decision.STOP) & (episodes.nodes.top[rows] > 0),
        ),
    ):
        now = refused & ~gave_up
        node = episodes.nodes.current(rows[now])
        episodes.event(events.Refused, rows[now], sub_episode=node, reason=reason)
        kind[refused], gave_up = Decision.RETURN, gave_up | refused
    return kind, gave_up


def _is_place(episodes: Episodes, rows: np.ndarray, goal: np.ndarray) -> np.ndarray:
    places = episodes.bank.landmarks.places
    exists = (goal >= 0) & (goal < places.shape[1])
    return exists & places[rows, np.where(exists, goal, 0)]


def _is_own_commit(episodes: Episodes, rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    nodes = episodes.nodes
    exists = (target > 0) & (target < nodes.count[rows])
    at = np.where(exists, target, 0)
    own = nodes.parent[rows, at] == nodes.current(rows)
    return exists & own & nodes.stands(rows, at)
