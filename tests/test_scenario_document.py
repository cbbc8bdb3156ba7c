"""The line-aware YAML loader: what it reads, and what it will not."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delegate.scenario.document import MAX_BYTES, ScenarioError, read


def document(folder: Path, content: str | bytes) -> Path:
    path = folder / "s.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(folder: Path, content: str | bytes) -> str:
    with pytest.raises(ScenarioError) as caught:
        read(document(folder, content))
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message.replace(f"{folder}/", "")


def test_every_key_knows_its_line(tmp_path: Path) -> None:
    text = "# first\na:\n  b: 1\n  c:\n    - x\n    -\n      y: 2\nd: {e: 3,\n    f: 4}\n"
    read_back = read(document(tmp_path, text))
    assert read_back.data == {"a": {"b": 1, "c": ["x", {"y": 2}]}, "d": {"e": 3, "f": 4}}
    assert read_back.lines == {
        (): 2,
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c"): 4,
        ("a", "c", 0): 5,
        ("a", "c", 1): 7,
        ("a", "c", 1, "y"): 7,
        ("d",): 8,
        ("d", "e"): 8,
        ("d", "f"): 9,
    }
    assert read_back.line(("a", "c", 1, "nowhere", 3)) == 7


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("+3", 3),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("0o8", "0o8"),
        ("-0x1F", "-0x1F"),
        ("1e-3", 1e-3),
        ("2.5E2", 250.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("on", "on"),
        ("12:30:45", "12:30:45"),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("! 12", "12"),
        ("!!bool 'True'", True),
        ("!!int '0o17'", 15),
        ("!!float 1", 1.0),
        ("!!null ~", None),
        ("!!null", None),
        ("!<tag:yaml.org,2002:int> 3", 3),
        ("!!map {b: 1}", {"b": 1}),
        ("!!seq [1]", [1]),
        ("<<", "<<"),
    ],
)
def test_scalars_follow_the_core_schema(tmp_path: Path, text: str, value: object) -> None:
    found = read(document(tmp_path, f"a: {text}\n")).data["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!bool yes", "a: 'yes' is not true or false, as its tag !!bool says"),
        ("a: !!bool on", "a: 'on' is not true"),
        ("a: !!bool nonsense", "a: 'nonsense' is not true"),
        ("a: !!bool", "a: '' is not true"),
        ("a: !<tag:yaml.org,2002:bool> no", "a: 'no' is not true"),
        ("%TAG !y! tag:yaml.org,2002:\n---\na: !y!bool yes", "a: 'yes' is not true"),
        ("a: !!null something", "a: 'something' is not null"),
        ("a: !!int 1.5", "a: '1.5' is not a number, as its tag !!int says"),
        ("a: !!int 1_000", "a: '1_000' is not a number"),
        ("a: !!int 1:30", "a: '1:30' is not a number"),
        ("a: !!float one", "a: 'one' is not a number"),
        ("a: !!timestamp 2001-01-01", "a: the tag '!!timestamp' is not accepted"),
        ("a: !!str {b: 1}", "a: the tag '!!str' is not accepted"),
        ("a: !!str [1]", "a: the tag '!!str' is not accepted"),
        ("a: !!bool {b: 1}", "a: the tag '!!bool' is not accepted"),
        ("a: !!null [1]", "a: the tag '!!null' is not accepted"),
        ("a: !!map [1]", "a: the tag '!!map' is not accepted"),
        ("a: !!seq {b: 1}", "a: the tag '!!seq' is not accepted"),
        ("a: !!omap [b: 1]", "a: the tag '!!omap' is not accepted"),
        ("a: !mine 1", "a: the tag '!mine' is not accepted"),
        ("a: {b: [0, !!bool yes]}", "a.b[1]: 'yes' is not true"),
        ("!!bool yes: 1", "yes: 'yes' is not true"),
        ("!!binary aGk=: 1", "the tag '!!binary' is not accepted"),
        ("!!set {a}", "the tag '!!set' is not accepted"),
    ],
)
def test_a_tag_that_its_value_does_not_fit_is_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    """The same text without the tag is read: what is refused is the tag."""
    assert words in refusal(tmp_path, text)
    plain = re.sub(r"(?m)^%TAG.*\n|!(<\S+>|\S*) ?", "", text)
    assert "!" not in plain
    read(document(tmp_path, plain))


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    assert read(document(tmp_path, "\ufeffa: 1\n")).data == {"a": 1}


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("C",))),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text("abcxyz_", min_size=1), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(value=st.dictionaries(st.text("abc", min_size=1), PLAIN, min_size=1, max_size=4))
def test_json_is_read_as_json(
    tmp_path_factory: pytest.TempPathFactory, value: dict[str, object]
) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert read(document(tmp_path_factory.mktemp("yaml"), text)).data == json.loads(text)


@pytest.mark.parametrize(
    ("content", "start", "words"),
    [
        ("", "s.yaml: ", ["empty", "delegate schema"]),
        ("# only a comment\n", "s.yaml: ", ["empty"]),
        ("---\n", "s.yaml:", ["mapping", "nothing"]),
        ("- a\n- b\n", "s.yaml:1: ", ["mapping", "a list"]),
        ("\n\njust text\n", "s.yaml:3: ", ["mapping", "text"]),
        ("a: 1\n\tb: 2\n", "s.yaml:2: ", ["tab", "spaces"]),
        ("a:\n\tb: 2\n", "s.yaml:2: ", ["tab", "spaces"]),
        ("a: 1\nb:\tc\n", "s.yaml:2: ", ["tab"]),
        ("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", "s.yaml:5: b.c: ", ["line 3", "keep one"]),
        ("a: 1\n'a': 2\n", "s.yaml:2: a: ", ["line 1"]),
        ("a: &x 1\nb: *x\n", "s.yaml:2: ", ["alias"]),
        ("a: &a [*a]\n", "s.yaml:1: ", ["alias"]),
        ("a: !!python/object/apply:os.system [x]\n", "s.yaml:1: a: ", ["tag", "plain"]),
        ("a: !!binary aGk=\n", "s.yaml:1: a: ", ["tag"]),
        ("a: !!set {x, y}\n", "s.yaml:1: a: ", ["tag"]),
        ("a: !!int x\n", "s.yaml:1: a: ", ["number"]),
        ("a: .inf\n", "s.yaml:1: a: ", ["finite"]),
        ("a: 1e999\n", "s.yaml:1: a: ", ["finite"]),
        ("a: " + "9" * 10_000, "s.yaml:1: a: ", ["number"]),
        ("? [a, b]\n: 1\n", "s.yaml:1: ", ["key must be text"]),
        ("a: [1, 2\n", "s.yaml:", ["not YAML"]),
        ("a: 'x\n", "s.yaml:", ["not YAML"]),
        ("a: 1\n---\nb: 2\n", "s.yaml:2: ", ["another document"]),
        ("a: 1\nb: \x07\n", "s.yaml:2: ", ["U+0007"]),
        ("[" * 50_000, "s.yaml: ", ["nested too deeply"]),
        (b"a: 1\nb: \xff\xfe\n", "s.yaml:2: ", ["UTF-8"]),
        ("a: 1\n".encode("utf-16"), "s.yaml:1: ", ["UTF-8"]),
        (b"a: 1\n" + b"#" * MAX_BYTES, "s.yaml: ", ["larger than"]),
    ],
)
def test_what_is_not_a_plain_mapping_is_refused(
    tmp_path: Path, content: str | bytes, start: str, words: list[str]
) -> None:
    message = refusal(tmp_path, content)
    assert message.startswith(start)
    assert len(message) < 300
    for word in words:
        assert word in message


def test_a_file_of_just_the_greatest_size_is_read(tmp_path: Path) -> None:
    start = b"a: 1\n#"
    assert read(document(tmp_path, start + b"x" * (MAX_BYTES - len(start)))).data == {"a": 1}


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"nowhere\.yaml: no such file"):
        read(tmp_path / "nowhere.yaml")
    with pytest.raises(ScenarioError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(ScenarioError, match="cannot be read"):
        read(document(tmp_path, "a: 1") / "below")
    with pytest.raises(ScenarioError, match="cannot be read"):
        read(Path("a\0b"))


def test_a_message_stays_on_one_line_whatever_the_path(tmp_path: Path) -> None:
    path = tmp_path / "two\nlines\x1b[31m.yaml"
    with pytest.raises(ScenarioError) as caught:
        read(path)
    assert str(caught.value).isprintable()
    os.makedirs(path)
    with pytest.raises(ScenarioError) as caught:
        read(path)
    assert str(caught.value).isprintable()
