"""Reading any TOML or JSON file gives a document or an error of one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.parsing import (
    DEPTH,
    ParseError,
    parse_json,
    parse_toml,
    read_json,
    read_text,
    read_toml,
)

DEEP = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * DEEP + "]" * DEEP,
        "a = " + "{a = " * DEEP + "1" + "}" * DEEP,
        ".".join("a" * (DEPTH + 1)) + " = 1",
        "[" + ".".join("a" * (DEPTH + 1)) + "]",
    ],
    ids=["arrays", "tables", "dotted key", "dotted table"],
)
def test_nested_toml(text):
    with pytest.raises(ParseError, match=f"more than {DEPTH} levels"):
        parse_toml(text)


@pytest.mark.parametrize("text", ["[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP])
def test_nested_json(text):
    with pytest.raises(ParseError, match=f"more than {DEPTH} levels"):
        parse_json(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": NaN}', "NaN is no JSON number"),
        ("[-Infinity]", "-Infinity is no JSON number"),
        ("[1e999]", "the number 1e999 is too large"),
        ("[" + "9" * 5000 + "]", "4300 digits"),
        ("{", "Expecting property name"),
        ("", "Expecting value"),
    ],
)
def test_json_that_is_none(text, says):
    with pytest.raises(ParseError, match=says) as no:
        parse_json(text)

    assert len(str(no.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["a", "a = 1\na = 2", "a = " + "9" * 5000, "a = 1979-13-41"])
def test_toml_that_is_none(text):
    with pytest.raises(ParseError) as no:
        parse_toml(text)

    assert len(str(no.value).splitlines()) == 1


def test_files(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b'a = "\xff"')
    with pytest.raises(ParseError, match="not UTF-8"):
        read_toml(path)
    path.write_bytes(b"a = 1\r\n[b]\r\nc = 'd'\r\n")
    assert read_toml(path) == {"a": 1, "b": {"c": "d"}}
    with pytest.raises(ParseError, match="larger than 0 MB"):
        read_text(path, 10)
    with pytest.raises(OSError, match="No such file"):
        read_json(tmp_path / "b")
    with pytest.raises(OSError, match="too long"):
        read_json(tmp_path / ("b" * 300))
    with pytest.raises(ParseError, match="null"):
        read_json(tmp_path / "b\0")


@given(st.text() | st.binary())
def test_any_text(text):
    said = ""
    try:
        parse_json(text)
    except ParseError as error:
        said = str(error)

    assert len(said.splitlines()) <= 1
