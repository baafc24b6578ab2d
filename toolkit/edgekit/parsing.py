"""Read untrusted TOML and JSON, with limits on size and nesting depth.

Every failure is a `ParseError` with a message of one line; the caller adds the file and a hint. A
document can then be traversed and printed without further checks: it is not nested deeper than
`DEPTH`, and in JSON every number is finite.
"""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from typing import Any, Final, NoReturn

from edgekit.fields import is_deeper

TOML_BYTES: Final = 4 << 20
JSON_BYTES: Final = 256 << 20
DEPTH: Final = 64


class ParseError(ValueError):
    """The text cannot be read; the message is one line, without a full stop."""


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        OSError: The file cannot be read.
        ParseError: It is not TOML, too large, or nested too deeply.
    """
    return parse_toml(read_text(path, TOML_BYTES))


def parse_toml(text: str) -> dict[str, Any]:
    """Read TOML.

    Raises:
        ParseError: It is not TOML, or nested too deeply.
    """
    try:
        document = tomllib.loads(text)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # also of int(), for thousands of digits
        raise ParseError(_line(error)) from error
    _check_depth(document)
    return document


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError: The file cannot be read.
        ParseError: It is not JSON, too large, nested too deeply, or holds NaN or infinity.
    """
    return parse_json(read_text(path, JSON_BYTES))


def parse_json(text: str | bytes) -> Any:
    """Read JSON.

    Raises:
        ParseError: It is not JSON, nested too deeply, or holds NaN or infinity.
    """
    try:
        document = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError as error:
        raise _too_deep() from error
    except ParseError:
        raise
    except ValueError as error:
        raise ParseError(_line(error)) from error
    _check_depth(document)
    return document


def read_text(path: Path, limit: int) -> str:
    """Read a UTF-8 file of `limit` bytes at most.

    Raises:
        OSError: The file cannot be read.
        ParseError: It is larger, or not UTF-8.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
        text = content.decode("utf-8") if len(content) <= limit else None
    except UnicodeDecodeError as error:
        raise ParseError("it is not UTF-8 text") from error
    except ValueError as error:  # a NUL in the path
        raise ParseError(_line(error)) from error
    if text is None:
        raise ParseError(f"it is larger than {limit >> 20} MB")
    return text


def _refuse_constant(word: str) -> NoReturn:
    raise ParseError(f"{word} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ParseError(f"the number {digits[:40]} is too large")
    return value


def _check_depth(document: Any) -> None:
    """Refuse nesting beyond `DEPTH`; dotted TOML keys nest without recursion."""
    if is_deeper(document, DEPTH):
        raise _too_deep()


def _too_deep() -> ParseError:
    return ParseError(f"it is nested more than {DEPTH} levels deep")


def _line(error: ValueError) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")[:200]
