"""Read and write flatbuffer tables by field number, for small schemas without generated code.

Layout: https://flatbuffers.dev/internals/.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TypeAlias

import flatbuffers
import numpy as np


class Byte(int):
    """A field of one byte: an enumeration, or the type of a union."""


class UInt(int):
    """A field of type uint32."""


# A list denotes a vector of tables, a tuple a vector of float32.
Field: TypeAlias = "str | Byte | UInt | tuple[float, ...] | Fields | list[Fields]"
Fields: TypeAlias = Mapping[int, Field]


def pack(root: Fields, identifier: bytes) -> bytes:
    """Serialize a table and its children, without fields that are 0, "" or empty lists."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(_packed(builder, root), file_identifier=identifier)
    return bytes(builder.Output())


def unpack(data: bytes, identifier: bytes) -> Table:
    """Return the root table.

    Raises:
        ValueError: The file identifier is not `identifier`.
    """
    if data[4:8] != identifier:
        raise ValueError(f"it begins with {data[:8]!r}, not as {identifier.decode()}")
    return Table(data, struct.unpack_from("<I", data)[0], [8 * len(data) + 4096])


class Table:
    """A table of an untrusted file.

    Every method raises ValueError or `struct.error` if the file is damaged. The bytes read are
    counted, so that many references to one large object cannot exhaust the memory.
    """

    def __init__(self, data: bytes, position: int, left: list[int]) -> None:
        self._data, self._position, self._left = data, position, left
        self._count(4)
        vtable = position - self._unpack("<i", position)
        # Python counts a negative index from the end.
        if min(position, vtable) < 0:
            raise ValueError("a table lies outside it")
        size = self._unpack("<H", vtable)
        self._fields = struct.unpack_from(f"<{max(0, size - 4) // 2}H", data, vtable + 4)

    def byte(self, field: int) -> int:
        """Return a field of one byte; 0 if absent."""
        place = self._place(field)
        return self._unpack("<B", place) if place else 0

    def number(self, field: int, kind: str = "<i") -> int:
        """Return an integer, as `struct` names its type; 0 if absent."""
        place = self._place(field)
        return self._unpack(kind, place) if place else 0

    def content(self, field: int) -> bytes:
        """Return a vector of bytes; empty if absent."""
        start, length = self._vector(field, 1)
        return self._data[start : start + length]

    def contents(self, field: int) -> list[bytes]:
        """Return a vector of strings as they are stored; empty if absent."""
        start, length = self._vector(field, 4)
        return [self._string(start + 4 * index) for index in range(length)]

    def text(self, field: int) -> str:
        """Return a string; "" if absent."""
        start, length = self._vector(field, 1)
        return self._data[start : start + length].decode("utf-8", errors="replace")

    def floats(self, field: int) -> tuple[float, ...]:
        """Return a vector of float32; empty if absent."""
        start, length = self._vector(field, 4)
        return struct.unpack_from(f"<{length}f", self._data, start)

    def table(self, field: int) -> Table | None:
        """Return a child table; None if absent."""
        place = self._place(field)
        return self._at(place) if place else None

    def tables(self, field: int) -> list[Table]:
        """Return a vector of tables; empty if absent."""
        start, length = self._vector(field, 4)
        return [self._at(start + 4 * index) for index in range(length)]

    def _place(self, field: int) -> int:
        offset = self._fields[field] if field < len(self._fields) else 0
        return self._position + offset if offset else 0

    def _at(self, place: int) -> Table:
        return Table(self._data, place + self._unpack("<I", place), self._left)

    def _string(self, place: int) -> bytes:
        start, length = self._vector_at(place, 1)
        return self._data[start : start + length]

    def _vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        place = self._place(field)
        return self._vector_at(place, item_bytes) if place else (0, 0)

    def _vector_at(self, place: int, item_bytes: int) -> tuple[int, int]:
        start = place + self._unpack("<I", place)
        length = self._unpack("<I", start)
        if start + 4 + item_bytes * length > len(self._data):
            raise ValueError("a list reaches beyond its end")
        self._count(item_bytes * length)
        return start + 4, length

    def _unpack(self, kind: str, place: int) -> int:
        value: int = struct.unpack_from(kind, self._data, place)[0]
        return value

    def _count(self, size: int) -> None:
        self._left[0] -= size
        if self._left[0] < 0:
            raise ValueError("its parts overlap")


def _packed(builder: flatbuffers.Builder, fields: Fields) -> int:
    # Children must be written before the table that refers to them is begun.
    kept = {n: v for n, v in fields.items() if v or isinstance(v, Mapping)}
    offsets = {number: _below(builder, value) for number, value in kept.items()}
    builder.StartObject(max(offsets, default=-1) + 1)
    for number, offset in offsets.items():
        value = fields[number]
        if isinstance(value, Byte):
            builder.PrependByteSlot(number, int(value), 0)
        elif isinstance(value, UInt):
            builder.PrependUint32Slot(number, int(value), 0)
        else:
            builder.PrependUOffsetTRelativeSlot(number, offset, 0)
    return int(builder.EndObject())


def _below(builder: flatbuffers.Builder, value: Field) -> int:
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, tuple):
        return int(builder.CreateNumpyVector(np.array(value, np.float32)))
    if isinstance(value, Mapping):
        return _packed(builder, value)
    if isinstance(value, list):
        tables = [_packed(builder, one) for one in value]
        builder.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            builder.PrependUOffsetTRelative(table)
        return int(builder.EndVector())
    return 0
