"""What an adapted environment hands out, or is given, is never the live object; nor is it cast."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.spaces import Box, Dict, Discrete, Graph, GraphInstance, MultiBinary, Sequence, Tuple
from nasty_worlds import Walk

from delegate import Backtrack, envs
from delegate.backtrack import spaces
from delegate.envs import NotRestorable
from delegate.envs.adapted import RowFailed, row

STAY = np.ones(2, int)


@dataclass
class Note:
    text: list[int]


class Keeps(Walk):
    """Hands out one object for ever, and changes it in place."""

    def __init__(self, space: gymnasium.Space[Any], kept: Any, grow: Callable[[Any], None]) -> None:
        super().__init__()
        self.observation_space, self.first, self.grow = copy.deepcopy(space), kept, grow
        self.info: dict[str, Any] = {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.kept, self.options = copy.deepcopy(self.first), options
        self.info |= {"list": [0], "deep": {"array": np.zeros(2)}, "note": Note([0]), "n": 0}
        return self.kept, self.info

    def step(self, action: Any) -> Any:
        self.grow(self.kept)
        self.info["list"].append(1)
        self.info["deep"]["array"] += 1
        self.info["note"].text.append(1)
        self.info["n"] += 1
        return self.kept, 0.0, False, False, self.info


def grow_nodes(graph: GraphInstance) -> None:
    graph.nodes[:] += 1


def grow_parts(parts: Any) -> None:
    parts["seen"].append(1)
    parts["pair"][0][:] += 1


NODES = GraphInstance(np.zeros((2, 1), np.float32), None, None)
PARTS: dict[str, Any] = {"seen": [0], "pair": (np.zeros(1, np.float32), 0)}
KEPT: dict[str, tuple[gymnasium.Space[Any], Any, Callable[[Any], None]]] = {
    "Sequence": (Sequence(Discrete(9)), [0], lambda kept: kept.append(1)),
    "Graph": (Graph(Box(-9, 999, (1,)), None), NODES, grow_nodes),
    "Box": (Box(-9, 999, (2,)), np.zeros(2, np.float32), lambda kept: np.add(kept, 1, out=kept)),
    "Dict": (
        Dict({"seen": Sequence(Discrete(9)), "pair": Tuple((Box(-9, 999, (1,)), Discrete(9)))}),
        PARTS,
        grow_parts,
    ),
}


def told(value: Any) -> str:
    """What a value says now."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.tolist()
    return repr(value)


def check_handed_out(name: str) -> None:
    env = envs.adapt(lambda: Keeps(*KEPT[name]), 2, autoreset_mode="Disabled")
    given = [*env.reset(seed=0)]
    observation, _, _, _, info = env.step(STAY)
    given += [observation, info, env.observe()]
    saved, shown = env.snapshot(), told(env.observe())
    before = [told(each) for each in given]
    for _ in range(3):
        env.step(STAY)
    assert [told(each) for each in given] == before, "later steps changed it"
    env.restore(saved)
    assert told(env.observe()) == shown
    assert told(env.envs[0].kept) == told(envs_own(env, 0))
    for each in given:
        spoil(each)
    assert told(env.observe()) == shown, "writing to it changed the batch"
    env.step(STAY)
    env.restore(saved)
    assert told(env.observe()) == shown, "writing to it changed a snapshot"
    assert env.envs[0].info["n"] == 1
    assert env.envs[0].info["list"] == [0, 1]


def envs_own(env: Any, row: int) -> Any:
    """What the batch shows of a row, as the environment gave it."""
    shown = env.observe()
    if isinstance(shown, dict):
        return {"seen": shown["seen"][row], "pair": (shown["pair"][0][row], 0)}
    return shown[row]


def spoil(value: Any) -> None:
    """Write to everything that can be written to."""
    if isinstance(value, dict):
        for part in value.values():
            spoil(part)
    elif isinstance(value, Note):
        value.text.append(-1)
    elif isinstance(value, list):
        value.append(-1)
    elif isinstance(value, tuple) or (isinstance(value, np.ndarray) and value.dtype == object):
        for part in value:
            spoil(part)
    elif isinstance(value, np.ndarray) and value.dtype.kind in "iuf":
        value += 7


@pytest.mark.parametrize("name", KEPT)
def test_nothing_handed_out_is_live(name: str) -> None:
    check_handed_out(name)


@pytest.mark.parametrize("name", ["Sequence", "Graph", "Dict"])
def test_handing_out_the_live_object_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spaces, "_copied", lambda value: value)
    monkeypatch.setattr(row, "copy", SimpleNamespace(deepcopy=lambda value: value))
    with pytest.raises((AssertionError, NotRestorable)):
        check_handed_out(name)


def test_a_graph_is_what_it_was_after_going_back() -> None:
    inner = envs.adapt(lambda: Keeps(*KEPT["Graph"]), autoreset_mode="Disabled")
    env = Backtrack(inner, depths=(1,), cost=1.0, observe=())
    env.reset(seed=0)
    shown = [env.step(0)[0] for _ in range(3)]
    back = env.step(3)[0]
    assert [float(each.nodes[0, 0]) for each in shown] == [1, 2, 3]
    assert float(back.nodes[0, 0]) == 2 == float(inner.envs[0].kept.nodes[0, 0])


def test_every_row_is_given_options_of_its_own() -> None:
    env, options = envs.adapt(lambda: Keeps(*KEPT["Box"]), 2), {"start": [1, 2]}
    env.reset(seed=0, options=options)
    env.envs[0].options["start"].append(3)
    assert env.envs[1].options == options == {"start": [1, 2]}


class Shows(Walk):
    """Shows the same at every step, and something else later."""

    def __init__(self, space: gymnasium.Space[Any], first: Any, later: Any = None) -> None:
        super().__init__()
        self.observation_space, self.first, self.later = space, first, later

    def reset(self, **given: Any) -> Any:
        super().reset(**given)
        return self.first, {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        late = self.later is not None and self.steps > 3
        return self.later if late else self.first, 0.0, False, False, {}


PICTURE = Box(0, 255, (2,), np.uint8)


@pytest.mark.parametrize(
    ("space", "shows", "words"),
    [
        (PICTURE, np.array([0.25, 1.0], np.float32), r"is float32 \[0.25, 1.0\], .* as uint8"),
        (PICTURE, np.array([270, 0]), r"is int64 \[270, 0\], which would change as uint8"),
        (PICTURE, np.array([-1, 0]), r"is int64 \[-1, 0\]"),
        (PICTURE, [3, 270], r"is int64 \[3, 270\]"),
        (Discrete(5), 0.7, r"is float64 \[0.7\], which would change as int64"),
        (Discrete(5), np.float32(2), r"is float32 \[2.0\]"),
        (MultiBinary(2), np.array([0, 300]), r"is int64 \[0, 300\], which would change as int8"),
        (Box(-1, 1, (1,), np.float32), np.array([1e300]), r"is float64 \[1e\+300\]"),
        (Box(-1, 1, (1,), np.float32), np.array(["x"]), r"is <U1"),
        (Tuple((PICTURE, Discrete(2))), (np.zeros(2, np.uint8), 0.5), r"is float64 \[0.5\]"),
    ],
)
def test_what_its_space_cannot_hold_is_refused(
    space: gymnasium.Space[Any], shows: Any, words: str
) -> None:
    with pytest.raises(
        NotRestorable, match=rf"Shows cannot be restored: .*space .*{words}.*correct the"
    ):
        envs.adapt(lambda: Shows(space, shows))


@pytest.mark.parametrize(
    ("space", "shows"),
    [
        (PICTURE, np.array([255, 0])),
        (Discrete(5), np.int8(4)),
        (MultiBinary(2), np.array([True, False])),
        (Box(-np.inf, np.inf, (2,), np.float32), np.array([1 / 3, np.inf])),
        (Box(-9, 9, (1,), np.float32), [3]),
    ],
)
def test_what_it_can_hold_is_taken(space: gymnasium.Space[Any], shows: Any) -> None:
    env = envs.adapt(lambda: Shows(space, shows))
    np.testing.assert_array_equal(env.reset(seed=0)[0][0], np.asarray(shows, space.dtype))


def test_a_cast_that_comes_later_names_row_and_environment() -> None:
    env = envs.adapt(lambda: Shows(PICTURE, np.zeros(2, np.uint8)), 2)
    env.reset(seed=0)
    env.envs[1].later = np.array([0.5, 0.5])
    for _ in range(3):
        env.step(STAY)
    with pytest.raises(RowFailed, match=r"row 1: ValueError: Shows: the observation is float64"):
        env.step(STAY)


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_batch_is_not_copied(copier: Callable[[Any], Any]) -> None:
    """A copy would share its environments, or begin anew."""
    env = envs.adapt("CartPole-v1", 2)
    with pytest.raises(TypeError, match=r"make another"):
        copier(env)


def test_a_snapshot_is_its_own_copy_and_no_pickle() -> None:
    env = envs.adapt("CartPole-v1", 2)
    env.reset(seed=0)
    saved = env.snapshot()
    env.step(STAY)
    env.restore(copy.deepcopy(saved))
    assert env.envs[0].unwrapped.state is not None
    np.testing.assert_array_equal(env.observe(), saved.arrays["observation"])
    with pytest.raises(TypeError, match="hold Python objects and live in memory"):
        pickle.dumps(saved)
    assert saved.arrays["objects"][0].nbytes > 100


def limited(*limits: int | None) -> Callable[[], Any]:
    """A walk with time limits, the innermost first; None stands for a wrapper that takes four
    steps in one."""

    def make() -> Any:
        env: Any = gymnasium.make("MountainCar-v0", max_episode_steps=limits[0])
        for limit in limits[1:]:
            skipped = wrappers.MaxAndSkipObservation(env, 4) if limit is None else None
            env = skipped or wrappers.TimeLimit(env, limit)
        return env

    return make


@pytest.mark.parametrize("limits", [(20, 60), (60, 20), (20,), (20, None), (20, None, 4)])
def test_the_nearest_time_limit_is_the_one_that_counts(limits: Any) -> None:
    env = envs.adapt(limited(*limits), 1, autoreset_mode="Disabled")
    env.reset(seed=0)
    steps, truncated = 0, np.array([False])
    while not truncated[0]:
        _, _, _, truncated, _ = env.step(np.zeros(1, int))
        steps += 1
    assert env.max_steps == steps


def test_statistics_under_any_key_lose_the_clock() -> None:
    def make() -> Any:
        inner = wrappers.RecordEpisodeStatistics(limited(5)(), stats_key="inner")
        return wrappers.RecordEpisodeStatistics(inner, stats_key="outer")

    env = envs.adapt(make, 1, autoreset_mode="Disabled")
    env.reset(seed=0)
    for _ in range(5):
        *_, info = env.step(np.zeros(1, int))
    for key in ("inner", "outer"):
        assert info[key].keys() == {"r", "_r", "l", "_l"}
        assert info[key]["l"].tolist() == [5]
