"""Settings by name: one clear error where they are not what they should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Settings = TypeVar("Settings", bound=BaseModel)


def checked(place: str, settings: type[Settings], given: Mapping[str, Any]) -> Settings:
    """The settings that were given, and defaults for the others.

    place: whose they are, for the message
    Raises ValueError for a name that is not known, with the nearest one and all there are, and for
    a value that cannot be.
    """
    for name in given:
        known(f"{place}: setting", name, settings.model_fields)
    try:
        return settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if first["loc"]:
            message = f"{first['loc'][0]} is {first['input']!r}; {message[0].lower()}{message[1:]}"
        raise ValueError(f"{place}: {message}") from None


def known(kind: str, name: str, names: Iterable[str]) -> str:
    """That name. Raises ValueError, with the nearest one and all there are, if it is not there."""
    names = list(names)
    if name in names:
        return name
    if not names:
        raise ValueError(f'{kind} "{name}" is not known; there are none, so leave it out')
    near = get_close_matches(name, names, n=1, cutoff=0.0)
    raise ValueError(
        f'{kind} "{name}" is not known; did you mean "{near[0]}"? There are: {", ".join(names)}'
    )
