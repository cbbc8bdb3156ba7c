"""Settings by name: one clear error where they are not what they should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Settings = TypeVar("Settings", bound=BaseModel)

LONGEST = 60
"""characters of a value that a message shows"""


def checked(
    place: str, settings: type[Settings], given: Mapping[str, Any], also: Iterable[str] = ()
) -> Settings:
    """The settings that were given, and defaults for the others.

    place: whose they are, for the message · also: names that are accepted elsewhere, likewise
    Raises ValueError for a name that is not known, with the nearest one and all there are, and for
    a value that cannot be.
    """
    for name in given:
        if name not in settings.model_fields:
            others = [other for other in also if other != name]
            known(f"{place}: setting", name, [*settings.model_fields, *others])
    try:
        return settings(**given)
    except ValidationError as error:
        raise ValueError(f"{place}: {message(error)}") from None


def message(error: ValidationError) -> str:
    """The first thing that pydantic found wrong: `size is 4; input should be at least 5`."""
    first = error.errors(include_url=False)[0]
    words = first["msg"].removeprefix("Value error, ")
    name, *inside = first["loc"] or ("",)
    # words among them are pydantic's own, such as which type of a union it had tried
    where = str(name) + "".join(f"[{part}]" for part in inside if isinstance(part, int))
    if not where:
        return words
    if first["type"] == "missing":
        return f"{where} is missing; give it"
    return f"{where} is {shortened(first['input'])}; {words[0].lower()}{words[1:]}"


def shortened(value: object) -> str:
    """How a value is shown in a message: on one line, and not too long."""
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def known(kind: str, name: str, names: Iterable[str]) -> str:
    """That name. Raises ValueError, with the nearest one and all there are, if it is not there."""
    names = list(names)
    if name in names:
        return name
    if not names:
        raise ValueError(f'{kind} "{name}" is not known; there are none, so leave it out')
    raise ValueError(
        f'{kind} "{name}" is not known; did you mean "{nearest(name, names)}"? '
        f"There are: {', '.join(names)}"
    )


def nearest(name: str, names: Iterable[str], alike: float = 0.0) -> str | None:
    """The name that looks most like it, whatever the case of its letters.

    alike: how much it must, 0 to 1; None where no name does
    """
    folded = {choice.casefold(): choice for choice in names}
    found = get_close_matches(str(name).casefold(), folded, n=1, cutoff=alike)
    return folded[found[0]] if found else None
