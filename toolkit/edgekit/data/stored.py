"""Arrays that stay in their file: rows are read where they lie, when they are asked for."""

from __future__ import annotations

import mmap
import os
import weakref
import zlib
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.errors import DataError
from edgekit.records import Array

BLOCK_BYTES = 4 << 20


class OpenFile:
    """A file that stays open as long as something is read from it.

    It is read by position (`pread`), never through a shared offset, so forked children may read it
    at the same time.

    Args:
        descriptor: An open descriptor, which this object takes over.
        name: The file in messages.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor = descriptor
        self.name = name
        weakref.finalize(self, os.close, descriptor)

    def read_into(self, values: Array, offset: int) -> None:
        """Fill a contiguous array with the bytes from `offset`.

        Raises:
            DataError: The file ends before, because it was changed, or it cannot be read.
        """
        rest = values.reshape(-1).view(np.uint8).data
        try:
            while rest.nbytes and (count := os.preadv(self.descriptor, [rest], offset)):
                rest = rest[count:]
                offset += count
        except OSError as error:
            raise _unreadable(self.name, error.strerror or str(error)) from error
        if rest.nbytes:
            raise _unreadable(self.name, "It has become shorter")

    def checksum(self, offset: int, size: int) -> int:
        """Return the CRC-32 of `size` bytes from `offset`."""
        crc = 0
        block = np.empty(min(size, BLOCK_BYTES), np.uint8)
        for start in range(0, size, BLOCK_BYTES):
            part = block[: min(BLOCK_BYTES, size - start)]
            self.read_into(part, offset + start)
            crc = zlib.crc32(part.data, crc)
        return crc

    def mapped(
        self, offset: int, shape: tuple[int, ...], dtype: np.dtype, order: Literal["C", "F"]
    ) -> Array:
        """Return a read-only array over the file's pages."""
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        start = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        pages = mmap.mmap(
            self.descriptor, offset - start + size, access=mmap.ACCESS_READ, offset=start
        )
        return np.ndarray(shape, dtype, buffer=pages, offset=offset - start, order=order)


class StoredArray:
    """An array `[n, ...]` in a file, in C order; what is indexed is read.

    Attributes:
        shape: As of numpy's arrays.
        dtype: As of numpy's arrays.
    """

    def __init__(
        self, file: OpenFile, offset: int, shape: tuple[int, ...], dtype: np.dtype
    ) -> None:
        self._file = file
        self._offset = offset
        self.shape = shape
        self.dtype = dtype
        self._row_bytes = int(np.prod(shape[1:], dtype=object)) * dtype.itemsize

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return len(self) * self._row_bytes

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> Array:
        """Read the rows of a slice, or those at integer indices from 0."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"a row out of {rows} of {len(self)}")
        values = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for first, last in _runs(rows):
            place = self._offset + int(rows[first]) * self._row_bytes
            self._file.read_into(values[first:last], place)
        return values


def _unreadable(name: str, found: str) -> DataError:
    return DataError(
        f"{name} changed or became unreadable while it was read.",
        found=f"{found}.",
        hint="Leave the file alone until the command has ended.",
    )


def _runs(rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each run of consecutive rows, which one read can fetch.

    >>> list(_runs(np.array([4, 5, 6, 2, 3, 9])))
    [(0, 3), (3, 5), (5, 6)]
    """
    if len(rows):
        ends = [*(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        yield from zip([0, *ends[:-1]], ends, strict=True)
