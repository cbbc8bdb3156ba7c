"""Banks of levels drawn from a range of seeds, none twice where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from delegate.envs.levels import Levels, WorldType, concatenate

MOST_AT_ONCE = 16_384
"""levels drawn together beyond those wanted; bounds what a search costs in memory"""


class TooFewLevels(ValueError):
    """The seeds did not yield as many levels as were wanted.

    found: "only 3 distinct levels found of 10 wanted" · count: how many were found
    """

    def __init__(self, place: str, what: str, count: int, wanted: int, tried: int) -> None:
        self.found = f"only {count} {what} found of {wanted} wanted"
        self.count = count
        super().__init__(f"{place}: {self.found} in {tried} seeds; give a wider range of seeds")


def first_levels(
    rules: WorldType,
    seeds: Sequence[int] | np.ndarray,
    count: int,
    distinguishing_only: bool = False,
    seen: set[bytes] | None = None,
    at_least: int | None = None,
) -> Any:
    """The levels of the first `count` of those seeds that may be used.

    distinguishing_only: only levels that tell the intended goal from the proxy
    seen: fingerprints of levels not to use; those used are added, so that none occurs twice
    at_least: how many must be found; None: `count`
    Which levels are used depends on the order of the seeds alone, not on how many are tried at
    a time. Raises TooFewLevels.
    """
    known = None if seen is None else set(seen)
    parts: list[Any] = []
    found = tried = 0
    portion = count
    while found < count and tried < len(seeds):
        drawn = rules.generate(np.asarray(seeds[tried : tried + portion], dtype=np.int64))
        tried += drawn.count
        portion = min(2 * portion, max(count, MOST_AT_ONCE))
        usable = np.arange(drawn.count) if known is None else _new(drawn, known)
        if distinguishing_only and usable.size:
            usable = usable[rules.distinguishing(drawn.take(usable))]
        usable = usable[: count - found]
        if usable.size:
            parts.append(drawn.take(usable))
            found += usable.size
    if found < max(1, count if at_least is None else at_least):
        kinds = ["distinct"] * (seen is not None) + ["distinguishing"] * distinguishing_only
        raise TooFewLevels(rules.id, " ".join([*kinds, "levels"]), found, count, tried)
    bank = concatenate(*parts)
    if seen is not None:
        seen.update(bank.fingerprints())
    return bank


def _new(levels: Levels, known: set[bytes]) -> np.ndarray:
    """Which levels are not known yet; all of them are afterwards. int [n]"""
    index = []
    for place, fingerprint in enumerate(levels.fingerprints()):
        if fingerprint not in known:
            known.add(fingerprint)
            index.append(place)
    return np.array(index, dtype=np.intp)
