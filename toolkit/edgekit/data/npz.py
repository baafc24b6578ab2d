"""`.npz` files: checked as archives, then read array by array, the large ones never as a whole.

A stored member (`numpy.savez`) is read in place, by position. A deflated one
(`numpy.savez_compressed`) is inflated once, into memory where it is small, else into a temporary
file without a name, which is gone when the process is. Members nobody asks for are not inflated.
"""

from __future__ import annotations

import math
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from edgekit.archives import ArchiveError, checked_members, data_offset
from edgekit.data.stored import BLOCK_BYTES, OpenFile, StoredArray
from edgekit.errors import DataError
from edgekit.records import Array

RESIDENT_BYTES = 32 << 20
"""What needs less is read into memory."""

_MAGIC = np.lib.format.MAGIC_PREFIX
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One array of an `.npz`, of which only the header was read.

    Attributes:
        path: The `.npz` file.
        file: The same, open.
        info: What the archive says of the member.
        start: Where the member's bytes begin in the file, if it is stored.
        header: Bytes before the values.
        shape: `[n, ...]`.
        dtype: Type of the values.
        fortran: Whether the first axis runs fastest.
    """

    path: Path
    file: OpenFile
    info: zipfile.ZipInfo
    start: int | None
    header: int
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize

    def in_memory(self) -> Array:
        """Return the array as numpy's own: read, or mapped where it is large.

        Raises:
            DataError: It is damaged, or there is no room for it.
        """
        if self.nbytes > RESIDENT_BYTES:
            with _refusals(self.path, self.nbytes):
                file, offset = self._place()
                return file.mapped(offset, self.shape, self.dtype, "F" if self.fortran else "C")
        with _refusals(self.path, self.nbytes):
            with zipfile.ZipFile(self.path) as archive, archive.open(self.info) as stream:
                stream.read(self.header)
                content = stream.read(self.nbytes + 1)  # to the end: it compares the checksum
            if len(content) != self.nbytes:
                raise ArchiveError(
                    "A member ends too early.", "The file is damaged: write it anew."
                )
            values = np.frombuffer(bytearray(content), self.dtype)
            return values.reshape(self.shape, order="F" if self.fortran else "C")

    def by_rows(self) -> Array | StoredArray:
        """Return the array for reading rows: in memory where it is small, else in its file.

        Raises:
            DataError: It is damaged, or there is no room for it.
        """
        if self.nbytes <= RESIDENT_BYTES or (self.fortran and self.ndim > 1):
            return self.in_memory()
        with _refusals(self.path, self.nbytes):
            return StoredArray(*self._place(), self.shape, self.dtype)

    def _place(self) -> tuple[OpenFile, int]:
        """Return a file that holds the values, and where, once their checksum was compared."""
        if self.start is None:
            return self._inflated(), 0
        if self.file.checksum(self.start, self.info.file_size) != self.info.CRC:
            raise ArchiveError(
                f"{self.info.filename!r} does not match its checksum.",
                "The file is damaged: write it anew.",
            )
        return self.file, self.start + self.header

    def _inflated(self) -> OpenFile:
        descriptor, name = tempfile.mkstemp(prefix="edgekit-")
        unpacked = OpenFile(descriptor, str(self.path))
        # Without a name it cannot outlive the process, however that ends.
        Path(name).unlink()
        with zipfile.ZipFile(self.path) as archive, archive.open(self.info) as stream:
            stream.read(self.header)
            while block := stream.read(BLOCK_BYTES):
                rest = memoryview(block)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
        return unpacked


def read_members(path: Path) -> dict[str, Member]:
    """Read the headers of all arrays of an `.npz` file, by name; other members are passed over.

    Raises:
        DataError: It is not one, it is damaged, would unpack to too much, or holds pickled objects.
    """
    with _refusals(path):
        file = OpenFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC), str(path))
        if os.pread(file.descriptor, 2, 0) != b"PK":
            raise DataError(
                f"{path} is not an .npz file.",
                found="It does not begin like a zip archive.",
                hint="Write it with numpy.savez(path, x_train=..., y_train=..., ...).",
            )
        members: dict[str, Member] = {}
        with path.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            for info in checked_members(archive):
                name = info.filename.removesuffix(".npy")
                member = _member(path, file, archive, info)
                if member is not None and name in members:
                    raise ArchiveError(f"It holds {name!r:.80} twice.", "Write it again.")
                if member is not None:
                    members[name] = member
        return members


def read_npz(path: Path) -> dict[str, Array]:
    """Read all arrays of an `.npz` file.

    Raises:
        DataError: As `read_members`, or there is no room for them.
    """
    return {name: member.in_memory() for name, member in read_members(path).items()}


def _member(
    path: Path, file: OpenFile, archive: zipfile.ZipFile, info: zipfile.ZipInfo
) -> Member | None:
    with archive.open(info) as stream:
        described = _header(stream, info.filename)
        if described is None:
            return None
        shape, fortran, dtype = described
        header = stream.tell()
    if dtype.hasobject:
        raise DataError(
            f"{path} holds an array of Python objects.",
            found="Reading it would run code from the file.",
            hint="Save arrays of numbers of equal shape (numpy.stack), and labels as texts.",
        )
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or not dtype.itemsize or info.file_size != header + size:
        raise ArchiveError(
            f"{info.filename!r:.80} declares {'x'.join(map(str, shape))} {dtype}, but holds "
            f"{info.file_size - header:,} bytes.",
            "The file is damaged: write it anew.",
        )
    stored = info.compress_type == zipfile.ZIP_STORED
    return Member(
        path=path,
        file=file,
        info=info,
        start=data_offset(archive, info) if stored else None,
        header=header,
        shape=shape,
        dtype=dtype,
        fortran=fortran,
    )


def _header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype] | None:
    """Return shape, order and type of an array; None where this is no array."""
    magic = stream.read(len(_MAGIC) + 2)
    if not magic.startswith(_MAGIC):
        return None
    version = (magic[-2], magic[-1])
    try:
        return _HEADERS[version](stream)
    except Exception as error:  # the parser of a Python literal raises what it likes
        raise ArchiveError(
            f"The header of {name!r:.80} cannot be read.", "The file is damaged: write it anew."
        ) from error


@contextmanager
def _refusals(path: Path, size: int = 0) -> Iterator[None]:
    """Turn whatever reading an archive raises into a `DataError` that says what it was."""
    try:
        yield
    except DataError:
        raise
    except ArchiveError as error:
        raise DataError(f"{path} cannot be read.", found=error.found, hint=error.hint) from error
    except MemoryError as error:
        raise DataError(
            f"There is not enough memory to read {path}.",
            found=f"An array of it takes {size / 1e6:,.0f} MB.",
            hint="Free memory or raise the limit (ulimit -v), or save fewer or smaller samples.",
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read.",
            found=f"The system says: {error.strerror or error}.",
            hint=f"Compressed arrays are unpacked below {tempfile.gettempdir()}: free "
            f"{size / 1e6:,.0f} MB, set TMPDIR, or save with numpy.savez."
            if size
            else "Check the path and the rights.",
        ) from error
    except Exception as error:  # a damaged archive makes zipfile and numpy raise what they like
        raise DataError(
            f"{path} cannot be read.",
            found=f"{str(error).splitlines()[0] if str(error) else type(error).__name__}.",
            hint="The file is damaged: write it anew.",
        ) from error
