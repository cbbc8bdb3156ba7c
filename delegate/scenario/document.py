"""A YAML file read safely, that still knows on which line each key stands."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from delegate.files import shown
from delegate.settings import shortened

MAX_BYTES = 1 << 20
"""largest scenario file that is read (bytes)"""

Location = tuple[str | int, ...]
"""keys and list positions from the root: ("arms", "rollback", "monitor")"""


class ScenarioError(ValueError):
    """A scenario that cannot be run: one or two lines that name file, line, key and remedy."""


@dataclass(frozen=True)
class Document:
    """What one YAML file says, and where.

    data: the root mapping, of plain dict, list, str, int, float, bool and None
    lines: location -> line, counted from 1; the root is `()`
    """

    path: Path
    data: dict[str, Any]
    lines: Mapping[Location, int]

    def line(self, location: Location) -> int:
        """The line of `location`, or of its nearest ancestor that is in the file."""
        while location not in self.lines:
            location = location[:-1]
        return self.lines[location]

    def error(self, location: Location, message: str) -> ScenarioError:
        """The error that blames `location`."""
        return ScenarioError(
            f"{place(self.path, self.line(location))}: {dotted(location)}{message}"
        )


def read(path: Path) -> Document:
    """Read one YAML file of plain values.

    YAML 1.2's core schema: `no` and `12:30` are text, `1e-3` is a number, `0o17` is 15.
    Raises ScenarioError for anything else than one mapping in readable UTF-8, for a key given
    twice, an alias, a tag that the core schema does not know or whose value is not of its kind,
    and more than `MAX_BYTES` bytes.
    """
    text = _read_text(path)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                raise ScenarioError(
                    f"{shown(path)}: the file is empty; `delegate schema` says what a scenario "
                    "holds"
                )
            lines: dict[Location, int] = {(): node.start_mark.line + 1}
            data = _Builder(path, loader, lines).build(node, ())
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise _syntax_error(path, text, error) from None
    except RecursionError:
        raise ScenarioError(f"{shown(path)}: nested too deeply; flatten it") from None
    if not isinstance(data, dict):
        raise ScenarioError(
            f"{place(path, lines[()])}: must be a mapping of keys to values, "
            f"not {kind_of(data)}; begin with `name:`"
        )
    return Document(path, data, lines)


def place(path: Path, line: int) -> str:
    """`corner.yaml:12`."""
    return f"{shown(path)}:{line}"


def dotted(location: Location) -> str:
    """`levels.test: `, or nothing for the root."""
    if not location:
        return ""
    parts = [_part(part) for part in location]
    return "".join(parts).removeprefix(".") + ": "


def brief(value: object) -> str:
    """`value` as it would be written, cut to stay on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return shortened(value)


def kind_of(value: object) -> str:
    """What sort of value that is, in the words of YAML."""
    kinds: dict[type, str] = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a mapping",
        type(None): "nothing",
    }
    return kinds.get(type(value), type(value).__name__)


def _part(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    plain = re.fullmatch(r"[\w~+-]{1,64}", part)
    return f".{part}" if plain else f".{brief(part)}"


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ScenarioError(
            f"{shown(path)}: no such file; `delegate list scenarios` shows those that ship"
        ) from None
    except IsADirectoryError:
        raise ScenarioError(f"{shown(path)}: is a folder; name the YAML file inside it") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ScenarioError(
            f"{shown(path)}: cannot be read ({reason}); name a readable YAML file"
        ) from None
    if len(raw) > MAX_BYTES:
        raise ScenarioError(
            f"{shown(path)}: larger than {MAX_BYTES:,} bytes; a scenario is a short YAML file"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ScenarioError(f"{place(path, line)}: is not UTF-8; save it as UTF-8") from None


def _syntax_error(path: Path, text: str, error: yaml.YAMLError) -> ScenarioError:
    """What the parser disliked, with a tab named as such: nobody sees it in an editor."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return ScenarioError(
            f"{place(path, line)}: holds the character U+{error.character:04X}, which YAML does "
            "not allow; remove it"
        )
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return ScenarioError(f"{shown(path)}: is not YAML; correct it")
    lines = text.splitlines()
    blamed = lines[mark.line] if mark.line < len(lines) else ""
    indent = blamed[: len(blamed) - len(blamed.lstrip())]
    if "\t" in indent or blamed[mark.column : mark.column + 1] == "\t":
        return ScenarioError(
            f"{place(path, mark.line + 1)}: a tab is not allowed here; use spaces to indent"
        )
    problem = " ".join(str(getattr(error, "problem", "") or "cannot be parsed").split())
    return ScenarioError(
        f"{place(path, mark.line + 1)}: column {mark.column + 1}: is not YAML: {problem}; "
        "correct this line or the one above"
    )


_CORE = "tag:yaml.org,2002:"

_SCALARS = {
    kind: (re.compile(rf"(?:{pattern})\Z"), first)
    for kind, pattern, first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
        (
            "float",
            r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
            r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
            "-+.0123456789",
        ),
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("str", r"(?s:.*)", ""),
    )
}
"""what a scalar of each kind looks like, and the characters it can begin with"""


class _Loader(yaml.SafeLoader):
    """Composes nodes with their marks; refuses aliases, which can grow without bound."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "an alias (*) is not accepted, write the value out", event.start_mark
            )
        node = super().compose_node(parent, index)
        if isinstance(node, yaml.ScalarNode) and event.tag == "!":
            node.tag = f"{_CORE}str"  # PyYAML reads `! 12` as a number, YAML as text
        return node


for _kind, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"{_CORE}{_kind}", _pattern, list(_first))


class _Builder:
    """Turns nodes into plain values and notes the line of each."""

    def __init__(self, path: Path, loader: _Loader, lines: dict[Location, int]) -> None:
        self.path = path
        self.loader = loader
        self.lines = lines

    def build(self, node: yaml.Node, location: Location) -> Any:
        if isinstance(node, yaml.MappingNode) and node.tag == f"{_CORE}map":
            return self._mapping(node, location)
        if isinstance(node, yaml.SequenceNode) and node.tag == f"{_CORE}seq":
            items = []
            for index, item in enumerate(node.value):
                self.lines[(*location, index)] = item.start_mark.line + 1
                items.append(self.build(item, (*location, index)))
            return items
        return self._scalar(node, location)

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(
                    key_node,
                    location,
                    "a key must be text, not a list or mapping; quote it if it holds brackets",
                )
            key = key_node.value
            inside = (*location, key)
            self._kind(key_node, inside)
            if key in values:
                raise self._error(
                    key_node,
                    inside,
                    f"given twice, first in line {self.lines[inside]}; keep one of the two",
                )
            self.lines[inside] = key_node.start_mark.line + 1
            values[key] = self.build(value_node, inside)
        return values

    def _scalar(self, node: yaml.Node, location: Location) -> Any:
        kind, text = self._kind(node, location), node.value
        try:
            if kind == "int":
                return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
            if kind == "float":
                return self._finite(text)
        except ValueError:
            message = f"{brief(text)} is not a number that can be used; give a finite one"
            raise self._error(node, location, message) from None
        return {"bool": text.lower() == "true", "null": None}.get(kind, text)

    def _kind(self, node: yaml.Node, location: Location) -> str:
        """Which of `_SCALARS` that is. Raises ScenarioError for a tag that is none of them, or
        that the value does not fit."""
        kind = node.tag.removeprefix(_CORE)
        if not isinstance(node, yaml.ScalarNode) or kind not in _SCALARS:
            tag = node.tag if kind == node.tag else f"!!{kind}"
            message = f"the tag {brief(tag)} is not accepted; write a plain value"
            raise self._error(node, location, message)
        if not _SCALARS[kind][0].match(node.value):
            wanted = {"bool": "true or false", "null": "null"}.get(kind, "a number")
            message = f"{brief(node.value)} is not {wanted}, as its tag !!{kind} says"
            raise self._error(node, location, f"{message}; leave the tag out")
        return kind

    def _error(self, node: yaml.Node, location: Location, message: str) -> ScenarioError:
        """The error that blames that node."""
        line = node.start_mark.line + 1
        return ScenarioError(f"{place(self.path, line)}: {dotted(location)}{message}")

    @staticmethod
    def _finite(text: str) -> float:
        number = float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        if not math.isfinite(number):
            raise ValueError(text)
        return number
