"""Verify that a file is a well-formed flatbuffer of a TFLite model, before it is read.

The generated reader trusts offsets and lengths. In a damaged or hostile file they can point
outside the file, or send thousands of entries to the same big table, which turns a small file into
gigabytes of objects. The verification visits every table, vector and string that the reader would,
checks that it lies inside the file, and counts the bytes visited: in a well-formed file, each byte
is visited about once.

Layout: https://flatbuffers.dev/internals/ and TFLite's `schema.fbs` (version 3).
"""

from __future__ import annotations

import struct
from typing import Final

from edgekit.errors import ModelError

# Table -> field number -> what the field points to: "[Table]" is a vector of tables, a plain
# number a vector of scalars of that many bytes, "string" a string. Fields that are scalars, and
# unions (one table of scalars each, which the reader bounds itself), are left out.
_POINTERS: Final[dict[str, dict[int, str | int]]] = {
    "Model": {
        1: "[OperatorCode]",
        2: "[SubGraph]",
        3: "string",
        4: "[Buffer]",
        5: 4,
        6: "[Metadata]",
        7: "[SignatureDef]",
        8: "[ExternalBufferGroup]",
        9: "[ExternalBuffer]",
    },
    "OperatorCode": {1: "string"},
    "SubGraph": {0: "[Tensor]", 1: 4, 2: 4, 3: "[Operator]", 4: "string"},
    "Tensor": {
        0: 4,
        3: "string",
        4: "QuantizationParameters",
        6: "SparsityParameters",
        7: 4,
        9: "[VariantSubType]",
    },
    "QuantizationParameters": {0: 4, 1: 4, 2: 4, 3: 8, 5: "union"},
    "SparsityParameters": {0: 4, 1: 4, 2: "[DimensionMetadata]"},
    "DimensionMetadata": {3: "union", 5: "union"},
    "VariantSubType": {0: 4},
    "Operator": {1: 4, 2: 4, 4: "union", 5: 1, 7: 1, 8: 4, 12: "union"},
    "Buffer": {0: 1},
    "Metadata": {0: "string"},
    "SignatureDef": {0: "[TensorMap]", 1: "[TensorMap]", 2: "string"},
    "TensorMap": {0: "string"},
    "ExternalBufferGroup": {0: "string"},
    "ExternalBuffer": {4: "string"},
    "union": {},
}
_IDENTIFIER: Final = b"TFL3"

_I32: Final = struct.Struct("<i").unpack_from
_U32: Final = struct.Struct("<I").unpack_from


class _Damage(Exception):  # noqa: N818  it never leaves this module
    """The verification failed; the message says where."""


def verify(data: bytes, name: str) -> None:
    """Raise unless every offset and length in `data` lies inside it.

    Args:
        data: The file's content.
        name: What to call it in the error.

    Raises:
        ModelError: The data are no TFLite file, or damaged.
    """
    if len(data) < 16 or data[4:8] != _IDENTIFIER:
        raise ModelError(
            f"{name} is not a TFLite file.",
            found="It is empty." if not data else f"It starts with {data[:8]!r}.",
            hint="Give a .tflite file as a converter wrote it.",
        )
    try:
        _Walk(data).table(struct.unpack_from("<I", data)[0], "Model")
    except (_Damage, struct.error) as error:
        raise ModelError(
            f"{name} is damaged: its structure is invalid.",
            found=f"{error}; the file has {len(data)} bytes.",
            hint="Copy or convert it again; it may have been truncated.",
        ) from error


class _Walk:
    """One pass over a file, with the number of bytes that may still be visited."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.field_lists: dict[int, tuple[int, int, tuple[int, ...]]] = {}
        # Only strings and quantization parameters may be shared: eight visits of every byte are far
        # more than in any well-formed file, and still linear.
        self.left = 8 * len(data) + 65536

    def table(self, position: int, kind: str) -> None:
        """Check the table at `position` and all that it refers to."""
        self._inside(position, 4, kind)
        vtable = position - _I32(self.data, position)[0]
        if vtable not in self.field_lists:
            self._field_list(vtable, kind)
        vtable_size, table_size, fields = self.field_lists[vtable]
        # Most tables share their field lists (vtables), which are read once but counted every time.
        self._count(vtable_size + 4, kind)
        self._inside(position, table_size, kind)
        for field, target in _POINTERS[kind].items():
            if field < len(fields) and fields[field]:
                self._pointer(position + fields[field], target, kind)

    def _field_list(self, vtable: int, kind: str) -> None:
        self._inside(vtable, 4, f"the field list of {kind}")
        vtable_size, table_size = struct.unpack_from("<HH", self.data, vtable)
        self._inside(vtable, vtable_size, f"the field list of {kind}")
        fields = struct.unpack_from(f"<{max(0, vtable_size - 4) // 2}H", self.data, vtable + 4)
        if any(offset and offset >= table_size for offset in fields):
            raise _Damage(f"a field of {kind} lies outside its table")
        self.field_lists[vtable] = (vtable_size, table_size, fields)

    def _pointer(self, position: int, target: str | int, owner: str) -> None:
        self._inside(position, 4, owner)
        goal = position + _U32(self.data, position)[0]
        if isinstance(target, int):
            self._vector(goal, target, owner)
        elif target == "string":
            self._vector(goal, 1, owner)
        elif target.startswith("["):
            length = self._vector(goal, 4, owner)
            offsets = struct.unpack_from(f"<{length}I", self.data, goal + 4)
            for index, offset in enumerate(offsets):
                self.table(goal + 4 + 4 * index + offset, target[1:-1])
        else:
            self.table(goal, target)

    def _vector(self, position: int, item_bytes: int, owner: str) -> int:
        self._inside(position, 4, owner, "a list of ")
        length: int = _U32(self.data, position)[0]
        self._inside(position + 4, length * item_bytes, owner, "a list of ")
        return length

    def _inside(self, position: int, size: int, what: str, of: str = "") -> None:
        if position < 0 or position + size > self.size:
            raise _Damage(f"{of}{what} would lie at byte {position}, {size} bytes long")
        self._count(size, what)

    def _count(self, size: int, what: str) -> None:
        self.left -= size
        if self.left < 0:
            raise _Damage(f"{what} overlaps other parts of the file")
