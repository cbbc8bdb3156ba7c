"""What goes wrong in an agent ends its sub-episode and nothing else: decisions that cannot be, and
whoever raises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from delegate.agents import Decision, Decisions
from delegate.backtrack.spaces import ActionCheck
from delegate.importing import cause


def unfit(decisions: Decisions, count: int, check: ActionCheck) -> np.ndarray:
    """Which of those decisions are none: an action that is not the world's, or no such kind.

    check: of the world's actions · returns bool [n]
    Raises ValueError where they have not one entry a row, or are of another type.
    """
    for field in fields(Decisions):
        found = np.shape(getattr(decisions, field.name))
        wanted: tuple[int, ...] = (count,)
        if field.name == "action":
            acts = bool((np.asarray(decisions.kind) == Decision.ACT).any())
            wanted = (count, *check.one) if acts else found
        if found != wanted:
            raise ValueError(f"decides {field.name} of shape {found}; it must be {wanted}")
    for name in ("kind", "child", "goal", "budget", "target"):
        if (dtype := getattr(decisions, name).dtype).kind not in "iu":
            raise ValueError(f"decides {name} of type {dtype}; give integers")
    acts = decisions.kind == Decision.ACT
    unknown = (decisions.kind < 0) | (decisions.kind > max(Decision))
    if not acts.any():
        return unknown
    return unknown | (acts & ~check.fits(decisions.action))


def attempt(
    call: Callable[[np.ndarray], Any], count: int
) -> Iterator[tuple[np.ndarray, Any, str | None]]:
    """Call with all `count` rows at once; where that raises, with each row alone.

    So one row that goes wrong takes no other along. Gives the rows asked, int [n], what came
    back, and None, or, where it raised, the cause in one line.
    """
    every = np.arange(count)
    try:
        answer = call(every)
    except Exception as error:
        if count == 1:
            yield every, None, cause(error)
            return
    else:
        yield every, answer, None
        return
    for row in every:
        some, answer, why = every[row : row + 1], None, None
        try:
            answer = call(some)
        except Exception as error:
            why = cause(error)
        yield some, answer, why
