"""VectorBacktrack in lockstep with a plain list-based implementation: everything is equal."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from chain_world import ChainWorld, PlainChain
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_backtrack import PlainBacktrack

import delegate
from delegate.backtrack import BacktrackConfig, VectorBacktrack

pytestmark = pytest.mark.filterwarnings("ignore::delegate.backtrack.FreeRefundWarning")

ROWS = 3
EVENTS = ("backtracked", "undone_steps", "refusal", "do_undo_loop")


@st.composite
def configs(draw: st.DrawFn) -> BacktrackConfig:
    depths = draw(st.sets(st.integers(1, 5), min_size=1, max_size=3))
    discounted = draw(st.booleans())
    return BacktrackConfig(
        depths=tuple(sorted(depths)),
        budget=draw(st.integers(0, 4)),
        horizon=draw(st.integers(max(depths), 8)),
        cost=draw(st.sampled_from([0.0, 0.25, 0.5])),
        refused_cost=draw(st.sampled_from([0.0, 0.125])),
        refund="discounted" if discounted else "sum",
        gamma=0.5 if discounted else None,
        observe=draw(
            st.lists(
                st.sampled_from(["flag", "depth", "action", "origin", "budget", "held"]),
                unique=True,
            )
        ),
        time_limit=draw(st.none() | st.integers(1, 30)),
    )


@st.composite
def plays(draw: st.DrawFn) -> tuple[BacktrackConfig, np.ndarray, int]:
    config = draw(configs())
    steps = draw(st.integers(1, 60))
    seed = draw(st.integers(0, 2**20))
    rng = np.random.default_rng(seed)
    # Mostly to the right and back again, so that paths get long and backtracks succeed.
    weights = np.array([1, 3, 1, *[2 / len(config.depths)] * len(config.depths)])
    actions = rng.choice(len(weights), (steps, ROWS), p=weights / weights.sum())
    return config, actions, seed % 1_000


def compare(plain: PlainBacktrack, row: int, env: VectorBacktrack, out: dict[str, Any]) -> None:
    info = out["info"]
    assert out["observation"][row] == plain.observation()
    assert info["clock"][row] == plain.clock
    assert info["path_clock"][row] == len(plain.path)
    assert info["budget_left"][row] == plain.budget_left
    assert info["held"][row] == plain.held
    assert env.action_masks()[row].tolist() == plain.masks()
    for name, array in env.ledger.state_arrays().items():
        assert array[row] == plain.ledger[name], name


@pytest.mark.parametrize("mode", list(AutoresetMode))
@settings(max_examples=40, deadline=None)
@given(play=plays(), noise=st.booleans(), max_steps=st.none() | st.integers(5, 20))
def test_equals_the_plain_implementation(
    mode: AutoresetMode,
    play: tuple[BacktrackConfig, np.ndarray, int],
    noise: bool,
    max_steps: int | None,
) -> None:
    config, actions, seed = play
    world = ChainWorld(ROWS, size=6, max_steps=max_steps, noise=noise)
    env = VectorBacktrack(world, config, autoreset_mode=mode)
    limit = config.time_limit or max_steps
    plains = []
    observation, info = env.reset(seed=seed)
    for row in range(ROWS):
        plain = PlainBacktrack(PlainChain(6, max_steps, noise, -0.125), config, limit)
        plain.world.seed = 1_000 * seed + row
        plain.reset()
        compare(plain, row, env, {"observation": observation, "info": info})
        plains.append(plain)

    for tick, action in enumerate(actions):
        had_ended = [plain.ended for plain in plains]
        observation, reward, terminated, truncated, info = env.step(action)
        for row, plain in enumerate(plains):
            expected = plain.step(int(action[row]))
            if mode == AutoresetMode.NEXT_STEP and had_ended[row]:
                plain.reset()
            assert reward[row] == expected["reward"]
            assert terminated[row] == plain.terminated
            assert truncated[row] == plain.truncated
            events = info
            if mode == AutoresetMode.SAME_STEP and plain.ended:
                assert info["final_obs"][row] == plain.observation()
                assert info["_final_obs"][row]
                assert info["_final_info"][row]
                events = info["final_info"]
                assert events["clock"][row] == plain.clock
                plain.reset()
            for name in (*EVENTS, "refund", "undone_reward"):
                assert events[name][row] == expected[name], name
            assert events["backtrack_refused"][row] == bool(expected["refusal"])
            assert events["effects_kept"]["holes"][row] == expected["holes_kept"]
            compare(plain, row, env, {"observation": observation, "info": info})
        if mode == AutoresetMode.DISABLED and tick % 5 == 4:
            ended = np.array([plain.ended for plain in plains])
            if ended.any():
                observation, info = env.reset(options={"reset_mask": ended})
                for row, plain in enumerate(plains):
                    if ended[row]:
                        plain.reset()
                    compare(plain, row, env, {"observation": observation, "info": info})


def test_such_plays_reach_every_branch() -> None:
    """The comparison is worth as much as what happens in it."""
    config = BacktrackConfig(depths=(1, 3), budget=4, horizon=4, cost=0.75, time_limit=25)
    env = VectorBacktrack(ChainWorld(ROWS, size=6, max_steps=20), config)
    env.reset(seed=0)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(400):
        *_, terminated, truncated, info = env.step(rng.choice(5, ROWS, p=[0.1, 0.3, 0.2, 0.2, 0.2]))
        seen |= {f"refused: {reason}" for reason in info["refusal"] if reason}
        seen |= {name for name in ("held", "backtracked", "do_undo_loop") if info[name].any()}
        seen |= {f"undone: {depth}" for depth in info["undone_steps"]}
        flags = {"terminated": terminated, "truncated": truncated}
        flags["kept"] = info["effects_kept"]["holes"] > 0
        seen |= {name for name, flag in flags.items() if flag.any()}
    assert seen >= {"refused: budget", "refused: path", "refused: horizon", "held", "kept"}
    assert seen >= {"backtracked", "do_undo_loop", "undone: 1", "undone: 3"}
    assert seen >= {"terminated", "truncated"}


def test_the_lockstep_comparison_can_fail() -> None:
    """Negative control: an oracle with one coin less in its budget is told apart."""
    env = VectorBacktrack(ChainWorld(1, noise=False), budget=2, cost=0.5)
    plain = PlainBacktrack(PlainChain(7, 40, False, -0.125), BacktrackConfig(budget=1), 40)
    observation, info = env.reset(seed=0)
    plain.reset()
    with pytest.raises(AssertionError):
        compare(plain, 0, env, {"observation": observation, "info": info})


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_step_reads_through_five_files(mode: AutoresetMode) -> None:
    """The class, where rows are in their episodes, the spaces, and the face of every world."""
    env = VectorBacktrack(ChainWorld(ROWS, size=6), depths=(1, 3), cost=1.0, autoreset_mode=mode)
    env.reset(seed=0)
    rng, files = np.random.default_rng(0), set[str]()

    def see(frame: FrameType, event: str, argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(Path(delegate.__file__).parent):
            files.add(path.name)

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        for _ in range(200):
            env.step(rng.integers(0, 5, ROWS))
    finally:
        sys.setprofile(before)
    assert env.ledger.restores.sum() > 5
    autoreset = {"autoreset.py"} if mode == AutoresetMode.SAME_STEP else set()
    assert files == {"vector.py", "progress.py", "spaces.py", "state.py", "infos.py"} | autoreset
