"""Both engines of the physics against a plain loop over MjData, to the last bit."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

from delegate.envs.mujoco import physics as physics_module
from delegate.envs.mujoco.physics import (
    STATE,
    BatchPhysics,
    Layout,
    Physics,
    ThreadedPhysics,
    available,
    make_physics,
)
from delegate.envs.mujoco.profiler import unprofiled
from delegate.envs.mujoco.random_rows import RandomRows
from delegate.envs.mujoco.task import ASSETS, NO_ISLANDS

FIELDS = ("xpos", "cvel", "qfrc_actuator")

needs_batch = pytest.mark.skipif(not available(), reason="needs mujoco.batch, of MuJoCo 3.17")
ENGINES = [
    pytest.param(lambda *args: BatchPhysics(*args), marks=needs_batch, id="batch"),
    pytest.param(lambda *args: ThreadedPhysics(*args, contact_forces=False), id="threads"),
    pytest.param(lambda *args: ThreadedPhysics(*args, contact_forces=True), id="contact_forces"),
]


def load(name: str) -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_path(str(ASSETS[0] / name))


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("name", ["hopper.xml", "ant.xml"])
@pytest.mark.parametrize("engine", ENGINES)
def test_equal_to_a_plain_loop(engine: Callable[..., Physics], name: str, threads: int) -> None:
    model, rows = load(name), 4
    fields = (*FIELDS, "cfrc_ext")
    physics = engine(model, rows, threads, fields)
    plain = [mujoco.MjData(model) for _ in range(rows)]
    rng = np.random.default_rng(0)
    contact_forces = getattr(physics, "_contact_forces", False)
    compared = fields if contact_forces else FIELDS

    def check(chosen: np.ndarray, names: tuple[str, ...] = FIELDS) -> None:
        state = np.zeros(mujoco.mj_stateSize(model, STATE))
        for row in chosen:
            mujoco.mj_getState(model, plain[row], state, STATE)
            np.testing.assert_array_equal(physics.state[row], state)
            for name in names:
                field = physics.field(name)[row]
                np.testing.assert_array_equal(field, getattr(plain[row], name))

    everyone = np.arange(rows)
    for time in range(40):
        if time in (0, 20):
            begun = everyone if time == 0 else np.array([1, 2])
            qpos = model.qpos0 + rng.uniform(-0.05, 0.05, (len(begun), model.nq))
            qvel = rng.normal(size=(len(begun), model.nv))
            physics.begin(begun, list(zip(qpos, qvel, strict=True)))
            for place, row in enumerate(begun):
                mujoco.mj_resetData(model, plain[row])
                plain[row].qpos[:], plain[row].qvel[:] = qpos[place], qvel[place]
                mujoco.mj_forward(model, plain[row])
            check(begun, compared)
        if time in (10, 30):
            chosen = np.array([0, 3])
            qvel = rng.normal(size=(2, model.nv))
            physics.forward(chosen, qvel)
            for place, row in enumerate(chosen):
                plain[row].qvel[:] = qvel[place]
                mujoco.mj_forward(model, plain[row])
            check(chosen)
        control = rng.uniform(-1, 1, (rows, model.nu))
        moving = np.array([0, 2, 3]) if time % 3 == 2 else None
        stepped = everyone if moving is None else moving
        assert physics.step(moving, control, 3) == {}
        for row in stepped:
            plain[row].ctrl[:] = control[row]
            mujoco.mj_step(model, plain[row], 3)
            if contact_forces:
                mujoco.mj_rnePostConstraint(model, plain[row])
        check(stepped, compared)
    if contact_forces:
        assert physics.field("cfrc_ext").any(), "no contact was ever felt"
    physics.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_failure_names_its_rows_alone(
    engine: Callable[..., Physics], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo logs its warnings where it runs
    model = load("hopper.xml")
    physics = engine(model, 5, 2, ())
    place = (model.qpos0, np.zeros(model.nv))
    physics.begin(np.arange(5), [place] * 5)
    layout = Layout(model)
    physics.state[1, layout.qvel] = 1e7
    physics.state[4, layout.qpos.start] = np.nan
    healthy = physics.state[[0, 2, 3]].copy()
    failed = physics.step(None, np.zeros((5, model.nu)), 4)
    assert sorted(failed) == [1, 4]
    assert "BADQACC" in failed[1]
    assert "BADQPOS" in failed[4]
    alone = engine(model, 3, 1, ())
    alone.state[:] = healthy
    assert alone.step(None, np.zeros((3, model.nu)), 4) == {}
    np.testing.assert_array_equal(physics.state[[0, 2, 3]], alone.state)
    physics.begin(np.array([1, 4]), [place] * 2)
    assert physics.step(None, np.zeros((5, model.nu)), 4) == {}, "an old warning was kept"


def test_contact_forces_need_the_threads() -> None:
    model = load("ant.xml")
    assert isinstance(make_physics(model, 2, 2, (), contact_forces=True), ThreadedPhysics)
    without = make_physics(model, 2, 2, ())
    assert isinstance(without, BatchPhysics if available() else ThreadedPhysics)


@pytest.mark.parametrize("name", ["half_cheetah", "hopper", "walker2d_v5", "ant", "humanoid"])
def test_looking_for_islands_changes_nothing_where_there_is_one(name: str) -> None:
    """Why the tasks may leave it out: with one kinematic tree, every bit stays the same."""
    islands, none = load(f"{name}.xml"), load(f"{name}.xml")
    assert islands.ntree == 1
    none.opt.disableflags |= NO_ISLANDS
    one, other = mujoco.MjData(islands), mujoco.MjData(none)
    rng = np.random.default_rng(0)
    constrained = 0
    for time in range(1_500):
        one.ctrl[:] = other.ctrl[:] = rng.uniform(-1, 1, islands.nu)
        mujoco.mj_step(islands, one)
        mujoco.mj_step(none, other)
        if time % 50 == 0:
            mujoco.mj_rnePostConstraint(islands, one)
            mujoco.mj_rnePostConstraint(none, other)
            np.testing.assert_array_equal(one.cfrc_ext, other.cfrc_ext)
        constrained += one.nefc > 0
        for field in ("qpos", "qvel", "qacc_warmstart", "qfrc_constraint"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    assert constrained > 200, "hardly any contact, so this tests nothing"


def timed(data: mujoco.MjData) -> bool:
    """Whether MuJoCo's profiler looked at the clock when that simulation was stepped."""
    return any(timer.duration for timer in data.timer)


def profiled_elsewhere() -> bool:
    """Whether it does so for a simulation that is not ours."""
    model = load("hopper.xml")
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, 20)
    return timed(data)


needs_profiler = pytest.mark.skipif(
    not profiled_elsewhere(), reason="these bindings start no profiler"
)


def step_threads() -> ThreadedPhysics:
    physics = ThreadedPhysics(load("hopper.xml"), 1, 1, (), contact_forces=False)
    for timer in physics._main.data.timer:
        timer.duration = 0
    physics.step(None, np.zeros((1, 3)), 20)
    return physics


@needs_profiler
def test_the_profiler_stands_still_in_our_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not timed(step_threads()._main.data)
    assert profiled_elsewhere(), "what others step is timed as before"
    monkeypatch.setattr(physics_module, "unprofiled", lambda call, *args: call(*args))
    assert timed(step_threads()._main.data), "negative control: without the pause it is timed"


@needs_profiler
@needs_batch
def test_the_profiler_stands_still_on_the_threads_of_mujoco() -> None:
    physics = BatchPhysics(load("hopper.xml"), 2, 2, ())
    seen, step = [], physics._batch.step

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(batch, name)

        def step(self, *args: Any) -> None:
            seen.append(profiled_elsewhere())
            step(*args)

    batch, physics._batch = physics._batch, Watched()
    physics.step(None, np.zeros((2, 3)), 1)
    assert seen == [False]
    assert profiled_elsewhere()


@needs_profiler
def test_the_profiler_runs_again_after_a_step_that_raised() -> None:
    physics = ThreadedPhysics(load("hopper.xml"), 1, 1, (), contact_forces=False)
    with pytest.raises(ValueError, match="broadcast"):
        physics.step(None, np.zeros((1, 4)), 1)
    with pytest.raises(TypeError):
        physics.step(None, np.zeros((1, 3)), "four")  # type: ignore[arg-type]
    assert profiled_elsewhere()


def test_a_clock_of_the_users_own_is_left_alone() -> None:
    calls = 0

    def clock() -> float:
        nonlocal calls
        calls += 1
        return 0.0

    mujoco.set_mjcb_time(clock)
    try:
        step_threads()
        assert calls > 0
        assert mujoco.get_mjcb_time() is clock
    finally:
        mujoco.set_mjcb_time(None)


@needs_profiler
def test_a_step_inside_a_step_does_not_start_the_profiler() -> None:
    def inner() -> bool:
        return unprofiled(profiled_elsewhere) or profiled_elsewhere()

    assert not unprofiled(inner), "it runs again while the outer call lasts"
    assert profiled_elsewhere()


def test_threads_end_with_their_physics() -> None:
    before = set(threading.enumerate())
    physics = ThreadedPhysics(load("hopper.xml"), 6, 4, (), contact_forces=False)
    other = ThreadedPhysics(load("hopper.xml"), 6, 4, (), contact_forces=False)
    started = set(threading.enumerate()) - before
    assert len(started) == 6
    physics.step(None, np.zeros((6, 3)), 1)
    physics.close()
    physics.step(None, np.zeros((6, 3)), 1)
    del other
    gc.collect()
    for thread in started:
        thread.join(timeout=5)
        assert not thread.is_alive()


def test_random_rows_draw_what_gymnasium_draws() -> None:
    rows = RandomRows(3)
    for row in range(3):
        rows.seed(row, 40 + row)
    for row in range(3):
        known, _ = gymnasium.utils.seeding.np_random(40 + row)
        for draw in _draws():
            np.testing.assert_array_equal(draw(rows.generator(row)), draw(known))


def test_random_rows_go_back() -> None:
    """Also in the middle of a word: a small integer takes half of one."""
    rows = RandomRows(2)
    rows.seed(0, 1)
    rows.seed(1, 2)
    rows.generator(0).integers(5)
    rows.save()
    assert rows.words[0, 4] == 1, "no half word is left over, so this tests nothing"
    saved = rows.words.copy()
    first = [draw(rows.generator(0)) for draw in _draws()]
    rows.save()
    moved = rows.words.copy()
    rows.words[:] = saved[[1, 0]]
    rows.written(np.array([0, 1]))
    again = [draw(rows.generator(1)) for draw in _draws()]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    rows.save()
    np.testing.assert_array_equal(rows.words[1], moved[0])


def _draws() -> list[Callable[[np.random.Generator], Any]]:
    return [
        lambda rng: rng.uniform(-1, 1, 5),
        lambda rng: rng.integers(7),
        lambda rng: rng.standard_normal(9),
        lambda rng: rng.integers(2, size=3),
    ]
