"""The tree of sub-episodes: who asked whom, for what, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import networkx as nx

from delegate.delegation.events import (
    Alarm,
    Audited,
    Effect,
    Ended,
    EpisodeEnded,
    EpisodeStarted,
    Event,
    RestoreChecked,
    Spawned,
    Verdict,
)


class DelegationTree(nx.DiGraph):
    """One episode's delegations. Nodes are sub-episode numbers, 0 the episode itself.

    An edge runs from who asked to who was asked. Rolled-back branches stay.
    Node attributes: name, child, goal, budget, depth, spawned (clock), outcome, steps,
    verdict, undone_steps, intent, alarm (clock or None), and what the events add.
    """

    @classmethod
    def from_events(cls, events: Iterable[Event], row: int) -> DelegationTree:
        """The tree of one row of a log. Raises KeyError if the row never started."""
        tree = cls()
        for event in events:
            if event.row == row:
                tree._add(event)
        if 0 not in tree:
            raise KeyError(f"row {row} is not in this log; rows start at 0")
        return tree

    def _add(self, event: Event) -> None:
        match event:
            case EpisodeStarted():
                self.graph["row"] = event.row
                self.add_node(
                    0, name="episode", child="", goal=event.goal, depth=0, spawned=0, alarm=None
                )
            case Spawned():
                self.add_node(
                    event.sub_episode,
                    name=event.name,
                    child=event.child,
                    goal=event.goal,
                    budget=event.budget,
                    depth=event.depth,
                    spawned=event.clock,
                    alarm=None,
                )
                self.add_edge(event.parent, event.sub_episode)
            case Alarm():
                if self.nodes[event.sub_episode]["alarm"] is None:
                    self.nodes[event.sub_episode].update(alarm=event.clock, named=event.named)
            case Audited():
                self.nodes[event.sub_episode]["finding"] = event.finding
            case Ended():
                self.nodes[event.sub_episode].update(
                    outcome=event.outcome, steps=event.steps, intent=event.intent
                )
                if event.cause is not None:
                    self.nodes[event.sub_episode]["cause"] = event.cause
            case Verdict():
                self.nodes[event.sub_episode].update(
                    verdict=event.verdict, undone_steps=event.undone_steps, within=event.within
                )
            case Effect():
                effects = self.nodes[event.sub_episode].setdefault("effects", {})
                effects[event.effect] = effects.get(event.effect, 0) + event.count
            case RestoreChecked():
                self.nodes[event.sub_episode]["restore_equal"] = event.equal
            case EpisodeEnded():
                self.nodes[0].update(outcome=event.outcome, steps=event.env_steps)

    def surviving(self) -> list[int]:
        """Sub-episodes that were not rolled back, in spawn order."""
        return [n for n in sorted(self) if self.nodes[n].get("verdict") != "rolled_back"]

    def to_json(self) -> str:
        """Node-link JSON."""
        return json.dumps(nx.node_link_data(self, edges="edges"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> DelegationTree:
        """Read what `to_json` wrote. Raises ValueError for anything that is not a tree."""
        data: dict[str, Any] = json.loads(text)
        try:
            tree = cls(nx.node_link_graph(data, edges="edges"))
        except (KeyError, TypeError, nx.NetworkXError) as error:
            raise ValueError(f"not a delegation tree in node-link form ({error})") from error
        if not nx.is_arborescence(tree):
            raise ValueError("not a tree: every sub-episode has one parent and 0 is the root")
        return tree
