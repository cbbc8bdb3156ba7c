"""What cannot be restored exactly is refused, with the reason and the remedy; the rest is not."""

from __future__ import annotations

from typing import Any

import gymnasium
import nasty_worlds as nasty
import numpy as np
import pytest
from gymnasium.wrappers import RecordVideo

from delegate import envs
from delegate.envs import NotRestorable
from delegate.envs.adapted.graph import Graph, differences

REFUSED: list[tuple[type[gymnasium.Env[Any, Any]], str]] = [
    (nasty.HoldsAGenerator, r"env\.plan is a builtins\.generator, which .*running generator"),
    (nasty.HoldsALock, r"env\.parts\['guards'\]\[0\] is a _thread\.lock, which .*keep it out"),
    (nasty.HoldsAFile, r"env\.log is a _io\.TextIOWrapper, which .*open file"),
    (nasty.HoldsMemoryOfC, r"env\.digest is a _hashlib\.HASH.*give .*__deepcopy__"),
    (nasty.HoldsAFinaliser, r"env\.part is a nasty_worlds\.Finaliser, which .*a finaliser\)"),
    (nasty.HoldsASetOfObjects, r"env\.others is a set of objects, whose order.*use a list"),
    (nasty.SystemRandomHeld, r"env\.dice is a random\.SystemRandom, which .* cannot be read"),
    (nasty.CopiesBadly, r"a copy hook that loses some"),
    (
        nasty.ReusesAMachine,
        r"it changes nasty_worlds\.MACHINES\[\d+\]\[0\], which all environments",
    ),
    (nasty.CountsInAGlobal, r"it changes nasty_worlds\.TURNS, which all environments"),
    (nasty.CountsInItsClass, r"it changes nasty_worlds\.CountsInItsClass\.total, which all"),
    (nasty.DrawsFromNumpysGlobal, r"it changes numpy's global random generator.*self\.np_random"),
    (nasty.DrawsFromPythonsGlobal, r"it changes Python's global random generator"),
    (nasty.DrawsFromItsModule, r"it changes nasty_worlds\.SHARED"),
    (
        nasty.ReadsTheClock,
        r"played again .*it depends on .*the clock, .*draw from self\.np_random",
    ),
    (nasty.AsksTheSystem, r"it depends on .*the operating system, .*draw from self\.np_random"),
    (nasty.BreaksAt, r"raised ZeroDivisionError \(the third step\) while .*mend it, or narrow"),
    (nasty.ShowsAnotherShape, r"shape \(3,\); its space says \(2,\)\); correct the space"),
]


@pytest.mark.parametrize("how", ["factory", "instance"])
@pytest.mark.parametrize(("world", "reason"), REFUSED, ids=[w.__name__ for w, _ in REFUSED])
def test_refused_with_the_reason(
    world: type[gymnasium.Env[Any, Any]], reason: str, how: str
) -> None:
    made = world() if how == "instance" else world
    with pytest.raises(NotRestorable, match=reason) as refusal:
        envs.adapt(made)
    assert str(refusal.value).startswith(world.__name__)
    assert "\n" not in str(refusal.value)


def test_what_an_environment_raised_is_the_cause() -> None:
    with pytest.raises(NotRestorable) as refusal:
        envs.adapt(nasty.BreaksAt, 2)
    assert isinstance(refusal.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("world", [nasty.Walk, nasty.HoldsMemoryOfCWell, nasty.EzPickled])
def test_their_honest_kin_are_not_refused(world: type[gymnasium.Env[Any, Any]]) -> None:
    assert envs.adapt(world, 2).codec == "copy"


@pytest.mark.filterwarnings("ignore:.*swig.*:DeprecationWarning")
@pytest.mark.parametrize(
    "id", ["LunarLander-v3", "LunarLanderContinuous-v3", "BipedalWalker-v3", "CarRacing-v3"]
)
def test_box2d_is_refused(id: str) -> None:
    with pytest.raises(
        NotRestorable, match=rf"{id} cannot be restored: .*[bB]ox2[dD].*, which .*memory of C"
    ):
        envs.adapt(id)


def test_a_writer_of_files_is_refused() -> None:
    recorder = object.__new__(RecordVideo)  # making one needs a video encoder
    recorder.env = nasty.Walk()
    with pytest.raises(
        NotRestorable, match=r"Walk cannot be restored: env is a gymnasium\..*RecordVideo, which"
    ):
        envs.adapt(recorder)


def test_a_refused_environment_is_left_as_it_was() -> None:
    env = nasty.CountsInItsClass()
    env.reset(seed=5)
    env.step(1)
    before = env.position, env.steps, env.np_random.bit_generator.state
    with pytest.raises(NotRestorable):
        envs.adapt(env)
    assert (env.position, env.steps, env.np_random.bit_generator.state) == before


def test_an_accepted_environment_is_left_as_it_was() -> None:
    env, twin = nasty.Walk(), nasty.Walk()
    for each in (env, twin):
        each.reset(seed=5)
        each.step(2)
    adapted = envs.adapt(env)
    assert adapted.envs == (env,)
    for action in (0, 1, 2, 0, 1):
        np.testing.assert_array_equal(env.step(action)[0], twin.step(action)[0])


def test_one_that_was_never_reset_is_left_unseeded() -> None:
    env = nasty.Walk()
    envs.adapt(env)
    assert env._np_random is None
    assert env.steps == 0


def test_a_cache_that_only_grows_is_no_hidden_state() -> None:
    def changed(before: Any, after: Any) -> list[str]:
        one, two = Graph(before, lenient=True), Graph(after, lenient=True)
        return [where.partition(" was ")[0] for where in differences(one, two, grown=True)]

    before = {"cache": {"a": 1}, "pairs": {(0, 1): 1}, "count": 1, "list": [1]}
    grown = {"cache": {"a": 1, "b": 2}, "pairs": {(0, 1): 1, (1, 1): 2}, "count": 1, "list": [1]}
    assert changed(before, grown) == []
    overwritten = {"cache": {"a": 2}, "pairs": {(0, 1): 2}, "count": 2, "list": [1, 2]}
    found = changed(before, overwritten)
    assert found[:2] == ["['count']", "['cache']['a']"], found
    assert len(found) == 4


@pytest.mark.parametrize(
    ("given", "rows", "settings", "error", "words"),
    [
        (nasty.Walk(), 2, {}, TypeError, "one row as it is; give its id to have 2 rows"),
        (nasty.Walk(), 1, {"size": 3}, TypeError, "give its id to have settings"),
        (nasty.Walk, 1, {"size": 3}, TypeError, "go with an id; put them in the factory"),
        (3, 1, {}, TypeError, "int is no environment; give an id"),
        (lambda: 3, 1, {}, TypeError, "the factory made a int; it must make a gymnasium.Env"),
        (nasty.Walk, 0, {}, ValueError, "num_envs is 0; give 1 to"),
        (nasty.Walk, True, {}, ValueError, "num_envs is True; give an integer"),
        (nasty.Walk, 1.5, {}, ValueError, "num_envs is 1.5; give an integer"),
        (nasty.Walk, np.True_, {}, ValueError, "give an integer"),
        (nasty.Walk, np.int64(0), {}, ValueError, "num_envs is 0; give 1 to"),
        (
            nasty.Walk,
            1,
            {"autoreset_mode": "bogus"},
            ValueError,
            "autoreset_mode is 'bogus'; give one of NextStep, SameStep, Disabled",
        ),
    ],
)
def test_what_is_accepted_is_said(
    given: Any, rows: Any, settings: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        envs.adapt(given, rows, **settings)


def test_numpys_integers_count_rows() -> None:
    env = envs.adapt(nasty.Walk, np.int64(2))
    assert env.num_envs == 2
    assert type(env.num_envs) is int


def test_a_factory_must_make_new_ones_and_the_same_ones() -> None:
    one = nasty.Walk()
    with pytest.raises(TypeError, match="one environment twice; it must make new ones"):
        envs.adapt(lambda: one)
    kinds = iter([nasty.Walk, nasty.EzPickled, nasty.Walk, nasty.Walk])
    with pytest.raises(ValueError, match=r"row 1: .*must make the same environment every time"):
        envs.adapt(lambda: next(kinds)(), 2)
