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
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.archives import ArchiveError, checked_members, data_offset
from edgekit.data.formats.arrays import open_arrays
from edgekit.data.formats.format import Format
from edgekit.data.formats.npy import read_errors, read_header
from edgekit.data.store import RawDataset
from edgekit.data.stored import BLOCK_BYTES, OpenFile, StoredArray
from edgekit.errors import DataError
from edgekit.records import Array, Split

RESIDENT_BYTES = 32 << 20
"""What needs less is read into memory."""


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
            with read_errors(self.path, self.nbytes):
                file, offset = self._place()
                return file.mapped(offset, self.shape, self.dtype, "F" if self.fortran else "C")
        with read_errors(self.path, self.nbytes):
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
        with read_errors(self.path, self.nbytes):
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


def open_npz(path: Path, needed: Split | None = None) -> RawDataset:
    """Open an `.npz` file; large arrays stay in it and are read row by row.

    Args:
        path: The file.
        needed: The only split that will be read, if that is known. A large other one is left out,
            and a note says so.

    Raises:
        DataError: It cannot be read, or its arrays do not fit each other.
    """
    return open_arrays(read_members(path), path.stem, str(path), needed)


def read_members(path: Path) -> dict[str, Member]:
    """Read the headers of all arrays of an `.npz` file, by name; other members are passed over.

    Raises:
        DataError: It is not one, it is damaged, would unpack to too much, or holds pickled objects.
    """
    with read_errors(path):
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
        header = read_header(stream, info.filename, path, info.file_size)
    if header is None:
        return None
    stored = info.compress_type == zipfile.ZIP_STORED
    return Member(
        path=path,
        file=file,
        info=info,
        start=data_offset(archive, info) if stored else None,
        header=header.size,
        shape=header.shape,
        dtype=header.dtype,
        fortran=header.fortran,
    )


FORMAT = Format(
    recognizes=lambda argument: argument.is_file and argument.has_suffix(".npz"),
    open=lambda argument: open_npz(argument.path, argument.needed),
)
