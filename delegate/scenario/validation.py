"""What is wrong with a document, in words: the line, the key, and what would be accepted."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from delegate.scenario.document import Document, Location, ScenarioError, brief, kind_of
from delegate.settings import nearest, remedy, wanted

ALIKE = 0.4
"""how much an accepted name must look like an unknown one to be suggested (0 to 1)"""

Problem = tuple[Location, str]
"""where, and what is wrong there with its remedy"""

Settings = dict[str, Any]
"""keyword settings of a world, a policy or a monitor, as the scenario gives them"""


def scenario_error(document: Document, problems: Iterable[Problem]) -> ScenarioError:
    """One error for all `problems`: the first in the file, and how many more there are."""
    found = sorted(dict.fromkeys(problems), key=lambda problem: document.line(problem[0]))
    error = document.error(*found[0])
    more = len(found) - 1
    if not more:
        return error
    return ScenarioError(f"{error}\n(and {more} more {'problems' if more > 1 else 'problem'})")


def describe(error: ValidationError, model: type[BaseModel] | None) -> list[Problem]:
    """Every fault pydantic found; `model` is what it was validating, for the accepted keys.

    Left out is what only follows from another fault: a key missing beside an unknown one, which
    is most likely that one misspelt, and a list too short because its entries are bad.
    """
    details = error.errors(include_url=False)
    misspelt = {fault["loc"][:-1] for fault in details if fault["type"] == "extra_forbidden"}
    inside = {fault["loc"][:-1] for fault in details}
    return [
        _describe(fault, model)
        for fault in details
        if not (fault["type"] == "missing" and fault["loc"][:-1] in misspelt)
        and not (fault["type"] == "too_short" and fault["loc"] in inside)
    ]


def refuse(title: str, problems: Iterable[Problem], value: object) -> None:
    """Raise `problems`, if there are any, as a ValidationError with each at its place."""
    faults = [
        InitErrorDetails(
            type=PydanticCustomError("scenario", "{message}", {"message": message}),
            loc=location,
            input=value,
        )
        for location, message in problems
    ]
    if faults:
        raise ValidationError.from_exception_data(title, faults)


def unknown(what: str, name: str, accepted: Collection[str], remedy: str = "remove it") -> str:
    """`unknown world 'Cornr'; did you mean 'Corner'? (accepted: Corner, FourRooms)`.

    remedy: what helps where nothing is accepted
    """
    return f"unknown {what} {brief(name)}{_suggestion(name, accepted, remedy)}"


def settings_problems(target: Callable[..., object], settings: Mapping[str, Any]) -> list[Problem]:
    """What `target(**settings)` would refuse, located by the key of the setting.

    target: a pydantic model, checked strictly, or any callable whose signature names its
        settings, which is called
    """
    if isinstance(target, type) and issubclass(target, BaseModel):
        try:
            target.model_validate(dict(settings), strict=True)
        except ValidationError as error:
            return [
                (where or _named_in(message, settings), message)
                for where, message in describe(error, target)
            ]
        return []
    parameters = inspect.signature(target).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        strange = [key for key in settings if key not in parameters]
        if strange:
            return [((key,), _unknown_key(key, parameters)) for key in strange]
    try:
        target(**settings)
    except ValidationError as error:
        return describe(error, None)
    except (ValueError, TypeError) as error:
        message = " ".join(str(error).split())
        return [(_named_in(message, settings), message)]
    return []


def _named_in(message: str, settings: Mapping[str, Any]) -> Location:
    """The setting that a complaint about several of them mentions first."""
    return next(((word,) for word in re.findall(r"\w+", message) if word in settings), ())


def _describe(error: ErrorDetails, model: type[BaseModel] | None) -> Problem:
    location, _ = _walk(error["loc"], model)
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    match kind:
        case "extra_forbidden":
            return location, _unknown_key(
                str(location[-1]), list(_fields(_walk(error["loc"][:-1], model)[1]))
            )
        case "missing":
            return location, f"missing; add it{_purpose(error['loc'], model)}"
        case "missing_tag":
            return (*location, context["key"]), "missing; add it"
        case "literal_error":
            choices = [
                name.strip("'") for name in context["expected"].replace(" or ", ", ").split(", ")
            ]
            return location, f"{brief(value)} is not accepted{_suggestion(value, choices)}"
        case "string_pattern_mismatch":
            return location, (
                f"{brief(value)} is not a safe name; use 1 to 64 of a-z, 0-9, _ and -, "
                "beginning with a letter or digit"
            )
        case "greater_than_equal" | "greater_than" | "less_than_equal" | "less_than":
            return location, f"{brief(value)} is out of range; {remedy(error)}"
        case "finite_number":
            return location, f"{brief(value)} is not finite; {remedy(error)}"
        case "too_short" | "too_long":
            return location, f"has {context['actual_length']} entries; {remedy(error)}"
        case "string_too_long" | "string_too_short":
            length = len(value) if isinstance(value, str) else 0
            return location, f"has {length} characters; {remedy(error)}"
        case "scenario":
            return location, error["msg"]
    if (sort := wanted(error)) is not None:
        return location, f"must be {sort}, not {_was(value)}"
    return location, remedy(error)


def _was(value: object) -> str:
    return kind_of(value) if value is None else f"{brief(value)} ({kind_of(value)})"


def _unknown_key(key: str, accepted: Collection[str]) -> str:
    return f"unknown key{_suggestion(key, accepted)}"


def _suggestion(name: object, accepted: Collection[str], remedy: str = "remove it") -> str:
    if not accepted:
        return f"; {remedy}"
    near = nearest(str(name)[:80], accepted, ALIKE)
    guess = f"; did you mean '{near}'?" if near else "; use one that is"
    return f"{guess} (accepted: {', '.join(accepted)})"


def _purpose(location: Location, model: type[BaseModel] | None) -> str:
    """What a missing key is for, taken from its field's own description."""
    _, parent = _walk(location[:-1], model)
    field = _fields(parent).get(str(location[-1]))
    return f": {field.description.splitlines()[0]}" if field and field.description else ""


def _fields(annotation: Any) -> dict[str, FieldInfo]:
    """The fields of a model; none for any other annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {field.alias or name: field for name, field in annotation.model_fields.items()}
    return {}


def _walk(path: Location, model: type[BaseModel] | None) -> tuple[Location, Any]:
    """Follow pydantic's path: the same without the union tags and markers it puts in, and
    the annotation of what stands there, None when it is not ours.
    """
    location: Location = ()
    annotation: Any = model
    for part in path:
        if part == "[key]":
            continue
        members = [a for a in _members(annotation) if a is not NoneType]
        tagged = [a for a in members if Tag(str(part)) in get_args(a)[1:]]
        if tagged:
            annotation = get_args(tagged[0])[0]
            continue
        location = (*location, part)
        annotation = _inside(members[0], part) if len(members) == 1 else None
    return location, annotation


def _members(annotation: Any) -> tuple[Any, ...]:
    """What a union may be; for anything else the annotation itself."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _inside(annotation: Any, part: str | int) -> Any:
    """The annotation of what stands under `part`."""
    if part in (fields := _fields(annotation)):
        return fields[str(part)].annotation
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return arguments[1]
    return arguments[0] if get_origin(annotation) in (list, tuple) else None
