"""The proof that an environment can be restored: save, act, restore, act again, all is equal."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np

from delegate.backtrack.spaces import empty
from delegate.envs.adapted import outside
from delegate.envs.adapted.batch import write
from delegate.envs.adapted.equality import difference
from delegate.envs.adapted.refusal import NotRestorable
from delegate.envs.adapted.row import OBJECTS, Row, Saved, name_of

SAVE_AFTER = (0, 3, 8)
"""steps from one saved moment to the next: just reset, and further on"""
LENGTH = 10
"""steps replayed from each"""
RESET_AFTER = 6
"""replayed steps before a reset in the middle, which draws from the random generators"""
SEED = 20260

Moment = dict[str, Any]
"""what one reset or step gave"""


def prove(row: Row, other: Row | None = None) -> None:
    """Play `row`, restore it, and play it again; raise NotRestorable unless all comes again.

    other: another environment made like it, which must do the same from the same saved moments
    Observations, rewards, endings and infos are compared to the bit, through endings and resets.
    Both are left anywhere: an environment still wanted is saved before and restored after.
    """
    name = name_of(row.env)
    try:
        _prove(row, other, name)
    except NotRestorable:
        raise
    except Exception as error:
        raise NotRestorable(
            f"{name} cannot be proved: it raised {type(error).__name__} ({error}) while it was "
            "played with random actions of its action_space; mend it, or narrow that space"
        ) from error


def _prove(row: Row, other: Row | None, name: str) -> None:
    actions = _actions(row)
    observation, _ = row.reset(SEED)
    try:
        write(empty(row.env.observation_space, 1), 0, observation)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise NotRestorable(
            f"{name} cannot be batched: what reset returns is not in its observation space "
            f"({error}); correct the space"
        ) from error
    _play(row, actions[:LENGTH])  # what happens only once, on the first use, has happened
    if other is not None:
        other.reset(SEED + 1)
        _play(other, actions[:LENGTH])
    before = outside.read(row.classes)
    row.reset(SEED)
    start = 0
    for steps in SAVE_AFTER:
        _play(row, actions[start : start + steps])
        start += steps
        saved = row.save()
        replayed = actions[start : start + LENGTH]
        first = _play(row, replayed, RESET_AFTER)
        for again in (row, row) if other is None else (row, other, row):
            again.load(saved)
            _check_same(again, saved, name)
            if (where := difference(first, _play(again, replayed, RESET_AFTER))) is not None:
                raise NotRestorable(f"{name} cannot be restored: {_why(row, actions, where)}")
        row.load(saved)
    if touched := outside.changed(before, outside.read(row.classes)):
        raise NotRestorable(f"{name} cannot be restored: {_shared(touched)}")


def _actions(row: Row) -> list[Any]:
    """Random actions, without drawing from the environment's own spaces."""
    space: gymnasium.Space[Any] = copy.deepcopy(row.env.action_space)
    space.seed(SEED)
    return [space.sample() for _ in range(sum(SAVE_AFTER) + LENGTH)]


def _play(row: Row, actions: list[Any], reset_after: int | None = None) -> list[Moment]:
    """Step with those actions, reset where an episode ends and after `reset_after` steps."""
    moments, ended = list[Moment](), False
    for step, action in enumerate(actions):
        if ended or step == reset_after:
            observation, info = row.reset()
            moments.append(_kept({"reset": observation, "info": info}))
        observation, reward, terminated, truncated, info = row.step(copy.deepcopy(action))
        ended = terminated or truncated
        moment = {"observation": observation, "reward": reward, "info": info}
        moments.append(_kept({**moment, "terminated": terminated, "truncated": truncated}))
    if ended:
        row.reset()
    return moments


def _kept(value: Any) -> Any:
    """A copy that later steps do not change; objects other than arrays are left out of it."""
    if isinstance(value, dict):
        return {key: _kept(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_kept(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.copy()
    plain = isinstance(value, bool | int | float | complex | str | bytes | type(None) | np.generic)
    return value if plain else type(value).__qualname__


def _check_same(row: Row, saved: Saved, name: str) -> None:
    """Just restored, the row must hold what was saved."""
    now = row.save()
    if (where := saved[OBJECTS].difference(now[OBJECTS])) is not None:
        raise NotRestorable(
            f"{name} cannot be restored: its attribute {where.lstrip('.')} right after a restore; "
            "a property or a copy hook changes it"
        )


def _why(row: Row, actions: list[Any], where: str) -> str:
    """The reason why a replay came out differently, as far as it can be found."""
    before = outside.read(row.classes)

    def play() -> list[Moment]:
        row.reset(SEED)
        return _play(row, actions[:LENGTH], RESET_AFTER)

    first, again = play(), play()
    if touched := outside.changed(before, outside.read(row.classes)):
        return _shared(touched)
    anew = difference(first, again) is not None
    if anew and (clocks := outside.clock_calls(play)):
        return (
            f"it depends on the clock or the operating system ({', '.join(clocks[:3])}); "
            "draw from self.np_random and count steps instead"
        )
    also = f", nor does it repeat itself from reset(seed={SEED})" if anew else ""
    return (
        f"played again from a saved moment, {_step(where)}{also}; it keeps state where no snapshot "
        "reaches (a library's own memory, another process, a copy hook that loses some); keep it "
        "in attributes, or give the object that holds it a __deepcopy__"
    )


def _shared(touched: list[str]) -> str:
    return (
        f"it changes {', '.join(touched[:3])}, which all environments of this process share; "
        "draw from self.np_random and keep state in attributes of the environment"
    )


def _step(where: str) -> str:
    """ ".3.observation[2] was ..." as words."""
    number, _, rest = where.lstrip(".").partition(".")
    return f"{rest or where} (moment {number})"
