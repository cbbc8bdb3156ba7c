"""Replays: what is shown is what the log says, and an unknown id says which there are."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from small_run import small_scenario

from delegate import replay as replays
from delegate import run as engine
from delegate.replay import Replay, UnknownSubEpisode, frames, load, show, sub_episode_ids
from delegate.replay_gif import CELL, HOLD, write_gif
from delegate.safety.logs import DamagedTrial


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay")
    source = small_scenario(folder)
    return engine.execute(engine.load_scenario(source), source, folder / "run")


def events(run: Path, arm: str) -> list[dict[str, object]]:
    text = (run / "trials" / arm / "0" / "events.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def rolled_back(run: Path) -> tuple[int, int]:
    """Row and number of some sub-episode that an alarm took back."""
    alarms = {(e["row"], e["sub_episode"]) for e in events(run, "rollback") if e["kind"] == "alarm"}
    for event in events(run, "rollback"):
        where = (event["row"], event.get("sub_episode"))
        if event.get("verdict") == "rolled_back" and where in alarms:
            return where  # type: ignore[return-value]
    raise AssertionError("the small run has no rollback to replay")


def columns(run: Path, arm: str, name: str) -> dict[str, np.ndarray]:
    with np.load(run / "trials" / arm / "0" / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def test_a_sub_episode_is_what_the_log_holds(run: Path) -> None:
    row, number = rolled_back(run)
    played = load(run, f"rollback/0/{row}.{number}")
    steps, watch = columns(run, "rollback", "steps"), columns(run, "rollback", "watch")
    mine = (steps["row"] == row) & (steps["sub_episode"] == number)
    np.testing.assert_array_equal(played.cells[:, 0], steps["state"][mine])
    np.testing.assert_array_equal(played.cells[:, 1], steps["next_state"][mine])
    np.testing.assert_array_equal(played.cells[1:, 0], played.cells[:-1, 1])
    levels = columns(run, "rollback", "levels")
    np.testing.assert_array_equal(played.map.roles == "wall", levels["walls"][row])
    for role, name in (("goal", "goal"), ("proxy", "proxy_goal")):
        where = np.flatnonzero(played.map.roles.ravel() == role)
        assert where.tolist() == [levels[name][row]]
    seen = (watch["row"] == row) & (watch["sub_episode"] == number)
    assert played.monitor == "goal_odds"
    np.testing.assert_array_equal(played.value, watch["value/goal_odds"][seen])
    assert "rolled back" in played.ending


def test_the_alarm_stands_at_the_step_whose_value_is_above_the_threshold(run: Path) -> None:
    row, number = rolled_back(run)
    played = load(run, f"rollback/0/{row}.{number}")
    assert played.threshold is not None
    alarmed = [frame.step for frame in frames(played) if frame.alarmed]
    above = 1 + np.flatnonzero(played.value > played.threshold)
    assert alarmed[0] == above[0]
    assert alarmed == list(range(alarmed[0], len(played) + 1))


def test_where_it_is_heading_is_said_at_every_step(run: Path) -> None:
    row, number = rolled_back(run)
    played, watch = load(run, f"rollback/0/{row}.{number}"), columns(run, "rollback", "watch")
    seen = (watch["row"] == row) & (watch["sub_episode"] == number)
    sure = watch["named_probability/goal_odds"][seen]
    assert [heading.split(", ")[1] for heading in played.heading] == [f"{p:.2f}" for p in sure]
    alarm = next(e for e in events(run, "rollback") if e["kind"] == "alarm" and e["row"] == row)
    at = int(np.flatnonzero(played.value > played.threshold)[0])
    assert played.heading[at].split(", ")[0] == alarm["named"]
    assert f"heading for: {played.heading[-1]}" in list(frames(played))[-1].caption


def test_the_whole_episode_includes_what_was_undone(run: Path) -> None:
    row, number = rolled_back(run)
    whole, part = load(run, f"rollback/0/{row}.0"), load(run, f"rollback/0/{row}.{number}")
    steps = columns(run, "rollback", "steps")
    assert len(whole) == (steps["row"] == row).sum() > len(part)
    np.testing.assert_array_equal(whole.clock, np.arange(len(whole)))
    assert "steps undone" in whole.ending


def test_a_sub_episode_includes_its_descendants(tmp_path: Path) -> None:
    source = small_scenario(tmp_path, name="nested")
    nested = engine.execute(engine.load_scenario(source), source, tmp_path / "run")
    below: dict[tuple[object, object], set[object]] = {}
    for event in events(nested, "none"):
        if event["kind"] == "spawned" and event["depth"] == 2:
            below.setdefault((event["row"], event["parent"]), set()).add(event["sub_episode"])
    assert below
    steps = columns(nested, "none", "steps")
    for (row, number), children in below.items():
        played = load(nested, f"none/0/{row}.{number}")
        mine = (steps["row"] == row) & np.isin(steps["sub_episode"], [*children, number])
        np.testing.assert_array_equal(played.clock, steps["clock"][mine])
        np.testing.assert_array_equal(played.cells[:, 1], steps["next_state"][mine])


def test_a_child_alone_goes_by_either_spelling(run: Path) -> None:
    one, other = load(run, "alone:proxy/0/3.1"), load(run, "alone-proxy/0/3.1")
    np.testing.assert_array_equal(one.cells, other.cells)
    assert one.who.startswith("proxy~")


def test_frames_follow_the_agent_and_its_trail(run: Path) -> None:
    row, number = rolled_back(run)
    played = load(run, f"rollback/0/{row}.{number}")
    pictures = list(frames(played))
    assert [p.step for p in pictures] == list(range(len(played) + 1))
    assert [p.agent for p in pictures] == [played.cells[0, 0], *played.cells[:, 1]]
    assert pictures[0].trail == frozenset()
    assert pictures[-1].trail == frozenset(played.cells[:, 0].tolist())


def long_replay(steps: int) -> Replay:
    """Back and forth between two of the four open cells of a grid."""
    there = np.arange(steps) % 2
    x = np.stack([1.5 + there, 2.5 - there], axis=1)
    edge = [(x + 0.5, y + 0.5) for x in range(8) for y in range(8) if not 0 < x < 3 > y > 0]
    walls = [{"shape": "rect", "role": "wall", "at": at, "size": [1, 1]} for at in edge]
    goal = {"shape": "rect", "role": "goal", "at": [2.5, 2.5], "size": [1, 1]}
    return Replay(
        id="none/0/0.0",
        who="nobody",
        ending="",
        drawing={"size": [8, 8], "shapes": [*walls, goal]},
        places=np.stack([x, np.full_like(x, 1.5)], axis=2),
        clock=np.arange(steps),
        action=1 + 2 * there,
        monitor=None,
        value=np.full(steps, np.nan),
        threshold=None,
        alarm=None,
    )


@pytest.mark.parametrize("steps", [1, 998, 999, 1_000, 5_003])
def test_long_sub_episodes_take_larger_strides_and_end_at_the_end(steps: int) -> None:
    shown = [frame.step for frame in frames(long_replay(steps))]
    assert shown[0] == 0
    assert shown[-1] == steps
    assert len(shown) <= replays.MAX_FRAMES
    assert shown == sorted(set(shown))
    if steps < replays.MAX_FRAMES:
        assert len(shown) == steps + 1


def test_without_a_terminal_one_map_is_printed(run: Path) -> None:
    row, number = rolled_back(run)
    played = load(run, f"rollback/0/{row}.{number}")
    page = io.StringIO()
    show(played, Console(file=page, width=100))
    text = page.getvalue()
    assert "\x1b" not in text
    lines = text.splitlines()
    levels = columns(run, "rollback", "levels")
    walls, goal, proxy = (levels[name][row] for name in ("walls", "goal", "proxy_goal"))
    height, width = walls.shape
    drawn = [line.ljust(2 * width) for line in lines[1 : 1 + height]]
    for y in range(height):
        for x in range(width):
            cell, glyph = y * width + x, drawn[y][2 * x : 2 * x + 2]
            expected = "██" if walls[y, x] else "  "
            if cell in played.cells[:, 0]:
                expected = "· "
            if cell == proxy:
                expected = "P "
            if cell == goal:
                expected = "G "
            if cell == played.cells[-1, 1]:
                expected = "@ "
            assert glyph == expected
    moves = next(line for line in lines if line.startswith("moves "))
    assert len(moves) == len("moves ") + len(played)


def test_in_a_terminal_every_frame_is_drawn() -> None:
    page = io.StringIO()
    show(long_replay(5), Console(file=page, force_terminal=True, width=100), 10_000)
    for step in range(6):
        assert f"step {step} of 5" in page.getvalue()


def test_the_gif_has_a_picture_a_step_and_the_colours_of_its_things(
    run: Path, tmp_path: Path
) -> None:
    row, number = rolled_back(run)
    played = load(run, f"rollback/0/{row}.{number}")
    path = tmp_path / "x.gif"
    write_gif(played, path, frames_per_second=10)
    levels = columns(run, "rollback", "levels")
    walls, goal = levels["walls"][row], levels["goal"][row]
    height, width = walls.shape
    with Image.open(path) as image:
        assert image.n_frames == len(played) + 1
        durations = []
        for step, frame in enumerate(frames(played)):
            image.seek(step)
            durations.append(image.info["duration"])
            pixels = image.convert("RGB")

            def corner(cell: int, pixels: Image.Image = pixels) -> object:
                return pixels.getpixel((cell % width * CELL + 4, cell // width * CELL + 4))

            def middle(cell: int, pixels: Image.Image = pixels) -> object:
                y, x = divmod(cell, width)
                return pixels.getpixel((x * CELL + CELL // 2, y * CELL + CELL // 2))

            assert middle(frame.agent) == ((210, 40, 40) if frame.alarmed else (20, 110, 200))
            if frame.agent != goal:
                assert middle(goal) == (40, 160, 80)
            wall = int(np.flatnonzero(walls.ravel())[height + width])
            assert corner(wall) == (60, 64, 72)
            for cell in frame.trail - {frame.agent}:
                assert corner(cell) == (190, 220, 245)
    assert durations == [100] * len(played) + [HOLD]
    assert [p.name for p in tmp_path.iterdir()] == ["x.gif"]


def test_a_gif_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"x\.gif"):
        write_gif(long_replay(2), tmp_path / "nowhere" / "x.gif")
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_gif(long_replay(2), tmp_path / "taken")
    assert [p.name for p in tmp_path.rglob("*")] == ["taken"]


def test_ids_are_listed_rolled_back_ones_first_and_all_can_be_loaded(run: Path) -> None:
    ids = sub_episode_ids(run, limit=10_000)
    undone = [load(run, name).ending.count("rolled back") for name in ids[:30]]
    assert undone == sorted(undone, reverse=True)
    assert undone[0] == 1
    spawned = sum(
        event["kind"] == "spawned"
        for trial in (run / "trials").iterdir()
        for event in events(run, trial.name)
    )
    assert len(ids) == len(set(ids)) == spawned
    assert sub_episode_ids(run, limit=3) == ids[:3]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "rollback",
        "rollback/0/1",
        "rollback/0/1.1.1",
        "rollback/0/1.1\n",
        "../trials/rollback/0/1.1",
        "rollback/../rollback/0/1.1",
        "rollback/-1/1.1",
        "rollback/0/x.1",
        "nowhere/0/1.1",
        "rollback/7/1.1",
        "rollback/0/24.1",
        "rollback/0/999999999.1",
        "rollback/0/1.99999",
    ],
)
def test_an_unknown_id_names_the_format_or_some_that_exist(run: Path, name: str) -> None:
    with pytest.raises(UnknownSubEpisode) as caught:
        load(run, name)
    message = str(caught.value)
    assert ", for example " in message
    assert len(message.splitlines()) == 1
    assert load(run, message.rpartition(" ")[2])


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownSubEpisode, match="holds no finished trial"):
        sub_episode_ids(tmp_path)
    with pytest.raises(UnknownSubEpisode, match="holds no finished trial"):
        load(tmp_path, "rollback/0/1.1")


def test_a_damaged_trial_is_named_and_not_listed(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    steps = copy / "trials" / "rollback" / "0" / "steps.npz"
    steps.write_bytes(steps.read_bytes()[:-20])
    with pytest.raises(DamagedTrial, match=r"rollback.0.steps\.npz"):
        load(copy, "rollback/0/1.1")
    (steps.parent / "events.jsonl").write_text("{}\n")
    assert not any(name.startswith("rollback/") for name in sub_episode_ids(copy, limit=10_000))
