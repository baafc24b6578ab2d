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
from collections.abc import Iterator
from typing import Final

import numpy as np

from edgekit.errors import ModelError
from edgekit.records import Array

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

_AT_ONCE: Final = 1 << 16


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
        _Walk(data).tables(np.array(struct.unpack_from("<I", data)), "Model")
    except (_Damage, struct.error) as error:
        raise ModelError(
            f"{name} is damaged: its structure is invalid.",
            found=f"{error}; the file has {len(data)} bytes.",
            hint="Copy or convert it again; it may have been truncated.",
        ) from error


class _Walk:
    """One pass over a file, with the number of bytes that may still be visited.

    Tables that many entries point to are checked together, `_AT_ONCE` at a time: places are
    arrays `[n]` of int64. A graph of 300,000 operators has a million tables.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        # The number that begins at each byte, aligned or not; no copy.
        self.numbers = np.ndarray((self.size - 3,), "<u4", data, strides=(1,))
        self.field_lists: dict[int, tuple[int, int, tuple[int, ...]]] = {}
        # Only strings and quantization parameters may be shared: eight visits of every byte are far
        # more than in any well-formed file, and still linear.
        self.left = 8 * len(data) + 65536

    def tables(self, places: Array, kind: str) -> None:
        """Check the tables at these positions and all that they refer to."""
        self._inside(places, 4, kind)
        vtables, which = np.unique(
            places - self._numbers(places).astype(np.int32), return_inverse=True
        )
        lists = [self._field_list(vtable, kind) for vtable in vtables.tolist()]
        vtable_sizes, table_sizes = (
            np.array([one[side] for one in lists], np.int64)[which] for side in (0, 1)
        )
        # Most tables share their field lists (vtables), which are read once but counted every time.
        self._count(int(vtable_sizes.sum()) + 4 * len(places), kind)
        self._inside(places, table_sizes, kind)
        for field, target in _POINTERS[kind].items():
            offsets = [one[2][field] if field < len(one[2]) else 0 for one in lists]
            if any(offsets):
                offset = np.array(offsets, np.int64)[which]
                self._pointers((places + offset)[offset > 0], target, kind)

    def _field_list(self, vtable: int, kind: str) -> tuple[int, int, tuple[int, ...]]:
        found = self.field_lists.get(vtable)
        if found is not None:
            return found
        place = np.array([vtable])
        self._inside(place, 4, f"the field list of {kind}")
        vtable_size, table_size = struct.unpack_from("<HH", self.data, vtable)
        self._inside(place, vtable_size, f"the field list of {kind}")
        fields = struct.unpack_from(f"<{max(0, vtable_size - 4) // 2}H", self.data, vtable + 4)
        if any(offset and offset >= table_size for offset in fields):
            raise _Damage(f"a field of {kind} lies outside its table")
        self.field_lists[vtable] = (vtable_size, table_size, fields)
        return self.field_lists[vtable]

    def _pointers(self, places: Array, target: str | int, owner: str) -> None:
        self._inside(places, 4, owner)
        goals = places + self._numbers(places)
        if isinstance(target, int):
            self._vectors(goals, target, owner)
        elif target == "string":
            self._vectors(goals, 1, owner)
        elif target.startswith("["):
            lengths = self._vectors(goals, 4, owner)
            for entries in _entries(goals + 4, lengths):
                self.tables(entries + self._numbers(entries), target[1:-1])
        else:
            self.tables(goals, target)

    def _vectors(self, places: Array, item_bytes: int, owner: str) -> Array:
        """Check vectors; return their lengths `[n]`."""
        self._inside(places, 4, owner, "a list of ")
        lengths = self._numbers(places)
        self._inside(places + 4, lengths * item_bytes, owner, "a list of ")
        return lengths

    def _numbers(self, places: Array) -> Array:
        return self.numbers[places].astype(np.int64)

    def _inside(self, places: Array, sizes: Array | int, what: str, of: str = "") -> None:
        wrong = (places < 0) | (places + sizes > self.size)
        if wrong.any():
            first = int(wrong.argmax())
            size = int(np.broadcast_to(sizes, places.shape)[first])
            raise _Damage(f"{of}{what} would lie at byte {places[first]}, {size} bytes long")
        self._count(int(np.sum(sizes)) * (1 if np.ndim(sizes) else len(places)), what)

    def _count(self, size: int, what: str) -> None:
        self.left -= size
        if self.left < 0:
            raise _Damage(f"{what} overlaps other parts of the file")


def _entries(starts: Array, lengths: Array) -> Iterator[Array]:
    """Yield the places of the entries of vectors of offsets, `_AT_ONCE` at a time."""
    ends = np.cumsum(lengths)
    for first in range(0, int(ends[-1]) if len(ends) else 0, _AT_ONCE):
        number = np.arange(first, min(first + _AT_ONCE, int(ends[-1])))
        vector = np.searchsorted(ends, number, side="right")
        yield starts[vector] + 4 * (number - ends[vector] + lengths[vector])
