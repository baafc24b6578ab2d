"""Read fields of a protocol buffer without its schema, and so without TensorFlow.

Whatever TensorFlow's own parser would not accept is an error, so that both parsers see the same
contents in every file that is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT: Final = 10
_LONGEST_TAG: Final = 5


def messages(data: bytes | memoryview, *path: int) -> Iterator[memoryview]:
    """Yield the contents of all length-delimited fields at a path of field numbers.

    Every occurrence of a field is yielded, even if the schema does not repeat it: parsers take the
        last one, or merge them.

    Raises:
        ValueError: It is no protocol buffer.
    """
    view = memoryview(data)
    if not path:
        yield view
        return
    for number, content in fields(view):
        if number == path[0]:
            yield from messages(content, *path[1:])


def strings(data: bytes | memoryview, *path: int) -> Iterator[str]:
    """Yield the text of all fields at a path of field numbers; see `messages`."""
    for content in messages(data, *path):
        yield bytes(content).decode(errors="replace")


def fields(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of the length-delimited fields of one message.

    Raises:
        ValueError: It is no protocol buffer.
    """
    at, end = 0, len(view)
    while at < end:
        tag, at = _varint(view, at, _LONGEST_TAG)
        number, kind = tag >> 3, tag & 7
        if number == 0 or tag >= 1 << 32:
            raise ValueError("a field has no valid number")
        if kind == _VARINT:
            _, at = _varint(view, at, _LONGEST_VARINT)
        elif kind == _BYTES:
            size, at = _varint(view, at, _LONGEST_TAG)
            if size > end - at:
                raise ValueError("a field ends after its message")
            yield number, view[at : at + size]
            at += size
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
            if at > end:
                raise ValueError("a field ends after its message")
        else:
            raise ValueError(f"wire type {kind} is not used by TensorFlow")


def _varint(view: memoryview, at: int, longest: int) -> tuple[int, int]:
    if at < len(view) and view[at] < 0x80:  # a length below 128, the common case
        return view[at], at + 1
    value = 0
    for n, byte in enumerate(view[at : at + longest]):
        value |= (byte & 0x7F) << 7 * n
        if byte < 0x80:
            return value, at + n + 1
    raise ValueError("a number does not end")
