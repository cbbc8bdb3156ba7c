"""The event log and the tree built from it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import networkx as nx
import pytest
from delegations import runtime, whimsical_crew, world

from delegate.delegation import events
from delegate.delegation.episodes import Bounds
from delegate.delegation.events import EventLog
from delegate.delegation.tree import DelegationTree


@pytest.fixture(scope="module")
def log():
    env = world(rows=5, slip=0.1)
    return runtime(env, whimsical_crew(env), bounds=Bounds(30, 90, max_depth=3, max_spawns=9)).run()


def test_a_log_read_back_is_the_same_log(log):
    text = log.to_jsonl()
    again = EventLog.from_jsonl(text.splitlines())
    assert list(again) == list(log)
    assert again.to_jsonl() == text


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: lines[:2] + lines[3:],
        lambda lines: [*lines[:2], lines[2][:-4], *lines[3:]],
        lambda lines: [*lines[:2], lines[2].replace('"kind": "', '"kind": "no_'), *lines[3:]],
        lambda lines: [*lines[:2], lines[2].replace('"row"', '"wor"'), *lines[3:]],
        lambda lines: [*lines[:2], "[]", *lines[3:]],
    ],
    ids=["a line is missing", "cut off", "unknown kind", "unknown field", "not an object"],
)
def test_a_damaged_line_is_named(log, damage):
    with pytest.raises(ValueError, match="event log line 3"):
        EventLog.from_jsonl(damage(log.to_jsonl().splitlines()))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_number_that_json_has_not_is_named_when_written_and_when_read(log, value):
    whole = [events.Alarm(0, 3, 1, "reach", number, 1.0) for number in (2.0, value)]
    written = EventLog()
    for event in (*log, *whole):
        written.append(event)
    with pytest.raises(ValueError, match=rf"event {len(log) + 1}, alarm of row 0: .* not finite"):
        written.to_jsonl()
    lines = log.to_jsonl().splitlines()
    lines.append(json.dumps({"seq": len(log), "kind": "alarm", **asdict(whole[1])}))
    with pytest.raises(ValueError, match=f"line {len(log) + 1} .* is not JSON"):
        EventLog.from_jsonl(lines)


def test_every_kind_of_event_can_be_read():
    assert all(kind == event.kind for kind, event in events.KINDS.items())
    named = {each for each in vars(events).values() if isinstance(each, type)}
    subclasses = {each for each in named if issubclass(each, events.Event)} - {events.Event}
    assert set(events.KINDS.values()) == subclasses


def test_the_tree_holds_every_delegation_of_its_row_and_no_other(log):
    for row in range(5):
        tree = DelegationTree.from_events(log, row)
        spawned = [e for e in log if isinstance(e, events.Spawned) and e.row == row]
        assert nx.is_arborescence(tree)
        assert sorted(tree) == list(range(len(spawned) + 1))
        assert set(tree.edges) == {(e.parent, e.sub_episode) for e in spawned}
        verdicts = {e.sub_episode: e.verdict for e in log
                    if isinstance(e, events.Verdict) and e.row == row}  # fmt: skip
        assert {n: tree.nodes[n]["verdict"] for n in tree if n} == verdicts
        kept = [n for n, verdict in verdicts.items() if verdict != "rolled_back"]
        assert tree.surviving() == [0, *sorted(kept)]
    with pytest.raises(KeyError, match="row 5"):
        DelegationTree.from_events(log, 5)


def test_the_tree_as_json_is_node_link_and_reads_back(log):
    tree = DelegationTree.from_events(log, 0)
    text = tree.to_json()
    assert {"nodes", "edges", "directed"} <= json.loads(text).keys()
    again = DelegationTree.from_json(text)
    assert type(again) is DelegationTree
    assert nx.utils.graphs_equal(again, tree)


@pytest.mark.parametrize(
    "text",
    ['{"a": 1}', '{"directed": true, "multigraph": false, "graph": {}, '
     '"nodes": [{"id": 0}, {"id": 1}], "edges": []}'],
    ids=["no graph", "two roots"],
)  # fmt: skip
def test_json_that_is_no_tree_is_refused(text):
    with pytest.raises(ValueError, match="not a"):
        DelegationTree.from_json(text)


def test_names_of_live_agents_are_never_used_twice_in_an_episode(log):
    for row in range(5):
        names = [e.name for e in log if isinstance(e, events.Spawned) and e.row == row]
        assert len(set(names)) == len(names)
