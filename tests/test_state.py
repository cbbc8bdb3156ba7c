"""Snapshots: copies by name, that go to disk and back and only fit where they belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from chain_world import ChainWorld

from delegate.backtrack import Snapshot, SnapshotMismatch


@pytest.fixture
def env() -> ChainWorld:
    world = ChainWorld(4)
    world.reset(seed=3)
    return world


def test_a_snapshot_is_a_copy(env: ChainWorld) -> None:
    snapshot = env.snapshot()
    before = snapshot.arrays["cell"].copy()
    env.step(np.array([1, 0, 1, 0]))
    np.testing.assert_array_equal(snapshot.arrays["cell"], before)
    env.restore(snapshot)
    np.testing.assert_array_equal(env.state["cell"], before)
    env.step(np.array([1, 0, 1, 0]))
    np.testing.assert_array_equal(snapshot.arrays["cell"], before)


def test_only_the_named_rows_are_restored(env: ChainWorld) -> None:
    start = env.snapshot()
    env.step(np.array([2, 2, 2, 2]))
    env.restore(start.take(np.array([1, 3])), np.array([1, 3]))
    assert env.state["clock"].tolist() == [1, 0, 1, 0]
    env.restore(start.take(np.array([0])), np.array([True, False, False, False]))
    assert env.state["clock"].tolist() == [0, 0, 1, 0]


def test_fresh_noise_and_kept_effects(env: ChainWorld) -> None:
    start = env.snapshot()
    env.step(np.array([2, 2, 1, 0]))
    moved = env.state["key"].copy()
    env.restore(start, rng="fresh", keep={"holes"})
    np.testing.assert_array_equal(env.state["key"], moved)
    assert env.state["holes"].tolist() == [1, 1, 0, 0]
    assert env.state["clock"].tolist() == [0, 0, 0, 0]
    env.restore(start)
    assert env.state["holes"].tolist() == [0, 0, 0, 0]
    assert (env.state["key"][:, 1] < moved[:, 1]).all()


def test_size_and_rows(env: ChainWorld) -> None:
    snapshot = env.snapshot(np.array([0, 2]))
    assert snapshot.rows == 2
    assert snapshot.nbytes == 2 * (4 * 4 + 2 * 1 + 16)


def test_to_disk_and_back(env: ChainWorld, tmp_path: Path) -> None:
    snapshot = env.snapshot()
    snapshot.save(tmp_path / "moment.npz")
    loaded = Snapshot.load(tmp_path / "moment.npz")
    assert loaded.world == snapshot.world
    assert list(loaded.arrays) == list(snapshot.arrays)
    for name, array in snapshot.arrays.items():
        assert loaded.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded.arrays[name], array)
    env.step(np.array([1, 1, 1, 1]))
    env.restore(loaded)
    np.testing.assert_array_equal(env.state["cell"], snapshot.arrays["cell"])


def test_pickled_objects_are_neither_written_nor_loaded(tmp_path: Path) -> None:
    objects = np.array([{"any": "object"}], dtype=object)
    with pytest.raises(ValueError, match="objects holds Python objects, which only a pickle"):
        Snapshot("world", {"objects": objects}).save(tmp_path / "bad.npz")
    assert not list(tmp_path.iterdir())
    np.savez(tmp_path / "worse.npz", __world__=np.array("world"), objects=objects)
    with pytest.raises(SnapshotMismatch, match="not a snapshot"):
        Snapshot.load(tmp_path / "worse.npz")


def test_any_other_file_is_no_snapshot(env: ChainWorld, tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", cell=np.zeros(3))
    np.save(tmp_path / "array.npz.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("cell: 3")
    (tmp_path / "empty.npz").write_bytes(b"")
    env.snapshot().save(tmp_path / "cut.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-40])
    assert len(list(tmp_path.iterdir())) == 5
    for path in tmp_path.iterdir():
        with pytest.raises(SnapshotMismatch, match=f"{path.name}: not a snapshot; write one with"):
            Snapshot.load(path)
    with pytest.raises(FileNotFoundError):
        Snapshot.load(tmp_path / "missing.npz")


def test_a_file_whose_arrays_differ_in_rows_is_refused(env: ChainWorld, tmp_path: Path) -> None:
    saved = env.snapshot()
    Snapshot(saved.world, {**saved.arrays, "clock": saved.arrays["clock"][:2]}).save(
        tmp_path / "short.npz"
    )
    with pytest.raises(SnapshotMismatch, match=r"short.npz: its arrays differ in rows"):
        Snapshot.load(tmp_path / "short.npz")


def test_misfits_are_refused_and_change_nothing(env: ChainWorld) -> None:
    start = env.snapshot()
    env.step(np.array([2, 2, 2, 2]))
    other = ChainWorld(4, size=9)
    other.reset(seed=0)
    fewer = Snapshot(start.world, {n: a for n, a in start.arrays.items() if n != "wind"})
    for misfit, why in (
        (other.snapshot(), r"ChainWorld\(9, .* cannot be restored into ChainWorld\(7, "),
        (fewer, "differ in wind"),
        (start.take(np.array([0, 1])), "holds 2 rows and 4 were named"),
    ):
        with pytest.raises(SnapshotMismatch, match=why):
            env.restore(misfit)
    assert env.state["clock"].tolist() == [1, 1, 1, 1]


def test_rows_that_are_not_there(env: ChainWorld) -> None:
    with pytest.raises(IndexError, match=r"row 4 does not exist.*rows 0 to 3"):
        env.snapshot(np.array([0, 4]))
    with pytest.raises(IndexError, match="row -1 does not exist"):
        env.snapshot(np.array([-1]))
    with pytest.raises(IndexError, match=r"row mask has shape \(3,\)"):
        env.snapshot(np.array([True, False, True]))
    with pytest.raises(IndexError, match="give integers"):
        env.snapshot(np.array([0.0, 1.5]))
