"""Snapshots: copies by name, that go to disk and back and only fit where they belong."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chain_world import ChainWorld
from gymnasium.vector import AutoresetMode

from delegate import Backtrack, VectorBacktrack, envs
from delegate.backtrack import Snapshot, SnapshotMismatch, StatefulVectorEnv
from delegate.envs.grid.vector import GridVectorEnv


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


def test_objects_are_counted_with_all_they_hold_and_once() -> None:
    table = np.zeros((100, 100))
    column = np.full(2, None)
    column[0], column[1] = {"table": table, "again": [table]}, (table, "text")
    held = Snapshot("world", {"objects": column}).nbytes
    assert table.nbytes < held < table.nbytes + 2_000
    column[1] = table.copy()
    assert Snapshot("world", {"objects": column}).nbytes > 2 * table.nbytes

    class SaysItself:
        nbytes = 12_345

    column[:] = SaysItself(), None
    assert 12_345 <= Snapshot("world", {"objects": column}).nbytes < 12_500
    nested = np.full(1, None)
    nested[0] = column
    assert Snapshot("world", {"objects": nested}).nbytes > 12_345


def test_a_snapshot_of_an_adapted_world_counts_its_arrays() -> None:
    env = envs.adapt("CartPole-v1", 2)
    env.reset(seed=0)
    assert env.snapshot().nbytes > env.snapshot(np.array([0])).nbytes > 500


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


@pytest.mark.parametrize("name", ["snap", "snap.npz", "snap.v2", "snap.npy"])
def test_the_name_given_is_the_name_written(env: ChainWorld, tmp_path: Path, name: str) -> None:
    for path in (tmp_path / name, str(tmp_path / name)):
        env.snapshot().save(path)
        assert [file.name for file in tmp_path.iterdir()] == [name]
        assert Snapshot.load(path).rows == 4


def test_a_file_is_there_whole_or_as_it_was(
    env: ChainWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env.snapshot().save(tmp_path / "snap")
    env.step(np.array([1, 0, 1, 0]))

    def breaks(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", breaks)
    with pytest.raises(OSError, match=r"No space left on device: .*snap"):
        env.snapshot().save(tmp_path / "snap")
    assert [file.name for file in tmp_path.iterdir()] == ["snap"]
    assert Snapshot.load(tmp_path / "snap").arrays["clock"].tolist() == [0, 0, 0, 0]


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


BATCHES: dict[str, Callable[[], Any]] = {
    "chain": lambda: ChainWorld(2),
    "grid": lambda: envs.make("Corner", 2),
    "mujoco": lambda: envs.make("Hopper-v5", 2),
    "adapted": lambda: envs.adapt("CartPole-v1", 2),
    "backtrack": lambda: VectorBacktrack(ChainWorld(2)),
    "single": lambda: Backtrack(ChainWorld(1)),
}


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_batches_are_neither_copied_nor_pickled(name: str, copier: Callable[[Any], Any]) -> None:
    env = BATCHES[name]()
    if name == "single" and copier is copy.copy:
        return  # a second name for the same environment, as of any Python object
    with pytest.raises(TypeError, match=r"is not copied or pickled.*other.restore\(env.snapshot"):
        copier(env)


@pytest.mark.parametrize("name", [name for name in BATCHES if name != "single"])
def test_what_the_refusal_advises_gives_a_copy(name: str) -> None:
    env, other = BATCHES[name](), BATCHES[name]()
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(10)]
    for action in actions[:5]:
        env.step(action)
    other.restore(env.snapshot())
    for action in actions[5:]:
        for first, second in zip(env.step(action)[:4], other.step(action)[:4], strict=True):
            np.testing.assert_equal(first, second)


def test_a_copy_without_the_refusal_would_go_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: views of one array fall apart, without a word."""
    monkeypatch.setattr(StatefulVectorEnv, "__reduce_ex__", object.__reduce_ex__)
    env = envs.make("Corner", 4, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    other: GridVectorEnv = copy.deepcopy(env)
    differs = False
    for action in (0, 1, 2, 3):
        first, second = env.step(np.full(4, action))[0], other.step(np.full(4, action))[0]
        differs |= not np.array_equal(first, second)
    assert differs


class Diary(ChainWorld):
    """Chains that also keep a list a row."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.diary = np.array([[row] for row in range(rows)] + [None], object)[:-1]

    def state_arrays(self) -> dict[str, np.ndarray]:
        return {**super().state_arrays(), "diary": self.diary}


@pytest.mark.parametrize("rows", [None, [1]])
def test_a_snapshot_shares_no_list_with_the_world(rows: list[int] | None) -> None:
    env = Diary(2)
    saved = env.snapshot(rows)
    for page in ("lost", "lost again"):
        env.diary[1].append(page)
        env.restore(saved, rows)
        assert env.diary[1] == [1]
