"""Settings by name: one clear error where they are not what they should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

Settings = TypeVar("Settings", bound=BaseModel)


class NoSettings(BaseModel):
    """Settings of what has none; the base of those that plugins give."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    """The first thing that pydantic found wrong: `size is 4; give at least 5`."""
    faults = error.errors(include_url=False)
    fault = faults[0]
    if not fault["loc"]:
        return remedy(fault)
    where = _place(fault)
    if fault["type"] == "missing":
        return f"{where} is missing; give it"
    # a value that may be of several types has a fault for each, in the same place
    remedies = [remedy(other) for other in faults if other["loc"] and _place(other) == where]
    return f"{where} is {shortened(fault['input'])}; {', or '.join(dict.fromkeys(remedies))}"


def _place(fault: ErrorDetails) -> str:
    """`maze_map[0][1]`: the setting, and where in its lists; other parts are names of types."""
    name, *inside = fault["loc"]
    return str(name) + "".join(f"[{part}]" for part in inside if isinstance(part, int))


WANTED = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping of keys to values",
    "mapping": "a mapping of keys to values",
    "model": "a mapping of keys to values",
}
"""what pydantic calls a type, which begins the names of its faults, in words"""

_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
_TYPE_FAULTS = ("type", "parsing", "from_float", "attributes_type")


def wanted(fault: ErrorDetails) -> str | None:
    """The sort of value that a fault of type asks for; None for any other fault."""
    kind, _, what = fault["type"].partition("_")
    return WANTED.get(kind) if what in _TYPE_FAULTS else None


def remedy(fault: ErrorDetails) -> str:
    """What to give instead of what pydantic found wrong, in a few words."""
    kind, context = fault["type"], fault.get("ctx", {})
    match kind:
        case "greater_than_equal" | "greater_than" | "less_than_equal" | "less_than":
            bounds = [f"{_BOUNDS[key]} {context[key]:,.10g}" for key in _BOUNDS if key in context]
            return f"give {' and '.join(bounds)}"
        case "finite_number":
            return "give a finite number"
        case "int_parsing_size":
            return "give a smaller whole number"
        case "literal_error":
            return f"give {context['expected']}"
        case "too_short" | "string_too_short":
            return f"give at least {context['min_length']}"
        case "too_long" | "string_too_long":
            return f"give at most {context['max_length']}"
    if (sort := wanted(fault)) is not None:
        return f"give {sort}"
    text = fault["msg"].removeprefix("Value error, ")
    return text[:1].lower() + text[1:] if fault["loc"] else text


def shortened(value: object) -> str:
    """How a value is shown in a message: on one line, and not too long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes out no integer of more than some thousand digits
        return "a number of thousands of digits"
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
