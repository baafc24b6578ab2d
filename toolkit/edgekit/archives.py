"""Read zip archives and gzip files, checking declared sizes before anything is inflated.

A few megabytes of deflate can unpack to gigabytes. The declared size is therefore compared with a
limit first, and no member is read beyond it. The limit is `$EDGEKIT_MAX_UNPACKED` in bytes
(`unpacked_limit` sets it, for child processes too); without it, a file may unpack to a hundred
times its size, at least 256 MB and at most 4 GB.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

T = TypeVar("T")

VARIABLE: Final = "EDGEKIT_MAX_UNPACKED"
OPTION: Final = "--max-unpacked"
LEAST: Final = 256 << 20
RATIO: Final = 100
MOST: Final = 4 << 30
MEMBERS: Final = 10_000
MEMBER_BYTES: Final = 64 << 20
"""Largest size of a member with text: a configuration, notes."""
WEIGHTS: Final = "model.weights.h5"
"""Name of the weights in a `.keras` file."""

DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""Exceptions of zipfile and the decompressors for a damaged archive."""

_HDF5_DAMAGE: Final = (OSError, KeyError, TypeError, ValueError, RuntimeError)

_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")
_ENCRYPTED: Final = 0x1
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class ArchiveError(ValueError):
    """An archive is refused; holds what was found, and a hint."""

    def __init__(self, found: str, hint: str) -> None:
        super().__init__(found)
        self.found = found
        self.hint = hint


def parse_size(text: str) -> int:
    """Read a number of bytes: `500M`, `8G`, `8GB`, `1.5 GiB` or a plain number.

    >>> parse_size("8G"), parse_size("1.5 KiB"), parse_size("700")
    (8589934592, 1536, 700)

    Raises:
        ValueError: The text is no size.
    """
    found = re.fullmatch(
        r"(\d{1,15}(?:\.\d{1,3})?) ?([KMGT]?)(?:i?B)?", text.strip(), re.ASCII | re.IGNORECASE
    )
    size = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if not 0 < size < 1 << 60:
        raise ValueError(f"{text[:40]!r} is not a size, such as 500M or 8G.")
    return size


@contextmanager
def unpacked_limit(size: int | None) -> Iterator[None]:
    """Set the limit to `size` bytes, in this process and its children; None keeps it."""
    before = os.environ.get(VARIABLE)
    if size is not None:
        os.environ[VARIABLE] = str(size)
    try:
        yield
    finally:
        if size is not None:
            os.environ.pop(VARIABLE)
            if before is not None:
                os.environ[VARIABLE] = before


def allowed_bytes(packed: int) -> int:
    """Return how many bytes a file of `packed` bytes may unpack to.

    Raises:
        ArchiveError: The value of the environment variable is no size.
    """
    text = os.environ.get(VARIABLE)
    if text:
        try:
            return parse_size(text)
        except ValueError as error:
            raise ArchiveError(
                f"The environment variable {VARIABLE} is {text[:40]!r}.",
                "Set it to a size such as 8G, or unset it.",
            ) from error
    return max(LEAST, min(MOST, RATIO * packed))


def refuse_larger(unpacked: int, packed: int) -> None:
    """Raise if the declared size of a file of `packed` bytes exceeds the limit.

    Raises:
        ArchiveError: It exceeds the limit.
    """
    allowed = allowed_bytes(packed)
    if unpacked > allowed:
        raise ArchiveError(
            f"Its {_words(packed)} would unpack to {_words(unpacked)}; the limit is "
            f"{_words(allowed)}.",
            f"If the file can be trusted, allow that with {OPTION} {-(-unpacked // (1 << 20))}M.",
        )


def checked_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the members of an archive, after checking what they declare.

    Stored members are no larger than the file; only deflated ones count towards the limit.

    Raises:
        ArchiveError: There are too many members or bytes, or members that have the same name,
            overlap, are encrypted, or use another compression.
    """
    members = archive.infolist()
    if len(members) > MEMBERS:
        raise ArchiveError(
            f"It has {len(members):,} members; {MEMBERS:,} are the most.", "Write it again."
        )
    twice = [name for name, count in Counter(m.filename for m in members).items() if count > 1]
    if twice:
        raise ArchiveError(f"It holds {twice[0]!r:.80} twice.", "Write it again.")
    for member in members:
        if member.flag_bits & _ENCRYPTED:
            raise ArchiveError(f"{member.filename!r:.80} is encrypted.", "Write it unencrypted.")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArchiveError(
                f"{member.filename!r:.80} is compressed by method {member.compress_type}.",
                "Write it stored or deflated, as numpy and Keras do.",
            )
        if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
            raise ArchiveError(
                f"{member.filename!r:.80} declares two sizes.",
                "The file is damaged: write it anew.",
            )
    _refuse_overlaps(members, archive.start_dir)
    packed = sum(member.compress_size for member in members)
    refuse_larger(
        sum(m.file_size for m in members if m.compress_type == zipfile.ZIP_DEFLATED), packed
    )
    return members


def _refuse_overlaps(members: Sequence[zipfile.ZipInfo], end: int) -> None:
    """Refuse overlapping members, which can multiply one deflated block (Fifield 2019)."""
    ordered = sorted(members, key=lambda member: member.header_offset)
    starts = [member.header_offset for member in ordered[1:]]
    for member, following in zip(ordered, [*starts, end], strict=True):
        if member.header_offset + _LOCAL_HEADER.size + member.compress_size > following:
            raise ArchiveError(
                f"{member.filename!r:.80} overlaps the next member.",
                "The file is damaged: write it anew.",
            )


def data_offset(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Return where the bytes of a stored member begin in the file.

    Raises:
        ArchiveError: There is no such member at that place.
    """
    stream = archive.fp
    assert stream is not None, "asked of an open archive"
    stream.seek(member.header_offset)
    header = stream.read(_LOCAL_HEADER.size)
    if len(header) == _LOCAL_HEADER.size:
        signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        start = member.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        if signature == b"PK\x03\x04" and start + member.compress_size <= archive.start_dir:
            return int(start)
    raise ArchiveError(
        f"{member.filename!r:.80} is not where the archive says.",
        "The file is damaged: write it anew.",
    )


def check_weights(path: Path) -> list[str]:
    """Refuse a `.keras` or HDF5 file whose weights declare more bytes than the limit.

    A chunked HDF5 dataset may be compressed, or declare a shape without any stored chunk: a few
        kilobytes then take as much memory as the shape implies. A file that HDF5 cannot read is
        accepted here: Keras reports what is wrong with it.

    Returns:
        Names of other files that the weights would be taken from.

    Raises:
        ArchiveError: The weights, or the archive, declare more.
    """
    import h5py

    declared = 0
    others: list[str] = []
    try:
        with _weights(path) as content, h5py.File(content) as file:
            for found in walk_hdf5(file):
                if isinstance(found, str):
                    others.append(found)
                elif found.shape is not None:
                    declared += int(found.size) * found.dtype.itemsize
    except ArchiveError:
        raise
    except _HDF5_DAMAGE:
        return others
    refuse_larger(declared, path.stat().st_size)
    return others


def walk_hdf5(file: Any) -> Iterator[Any]:
    """Yield the datasets of an HDF5 file, and the names of other files it takes contents from.

    Those are the files of external links, of datasets stored outside and of virtual datasets.
    Nothing outside the file is opened. Damaged entries are passed over.
    """
    import h5py

    todo, seen = [file], set()
    while todo:
        for item in _entries(todo.pop()):
            if isinstance(item, str):
                yield item
            elif item.id not in seen:
                seen.add(item.id)  # hard links may lead in circles
                if isinstance(item, h5py.Group):
                    todo.append(item)
                elif isinstance(item, h5py.Dataset):
                    yield item


def _entries(group: Any) -> Iterator[Any]:
    """Yield what a group holds itself, and the names of other files."""
    import h5py

    no_names: list[str] = []
    names = _read(partial(list, group), no_names)
    for name in names:
        link = _read(partial(group.get, name, getlink=True), None)
        if isinstance(link, h5py.ExternalLink):
            yield link.filename
        if not isinstance(link, h5py.HardLink):
            continue  # a soft link leads to what is seen anyway
        item = _read(partial(group.__getitem__, name), None)
        if isinstance(item, h5py.Dataset):
            yield from _read(partial(_outside, item), no_names)
        if item is not None:
            yield item


def _outside(dataset: Any) -> list[str]:
    """Files that a dataset's values are in, but for the one that it is in."""
    virtual = dataset.virtual_sources() if dataset.is_virtual else ()
    return [
        *(str(source[0]) for source in dataset.external or ()),
        *(source.file_name for source in virtual),
    ]


def _read(part: Callable[[], T], otherwise: T) -> T:
    """Read a part of an HDF5 file; `otherwise` where it is damaged, which Keras will say."""
    try:
        return part()
    except _HDF5_DAMAGE:
        return otherwise


@contextmanager
def _weights(path: Path) -> Iterator[Path | io.BytesIO]:
    if not zipfile.is_zipfile(path):
        yield path
        return
    with zipfile.ZipFile(path) as archive:
        checked_members(archive)
        content = io.BytesIO(archive.read(WEIGHTS))
    yield content


def read_member(path: Path, name: str, limit: int = MEMBER_BYTES) -> bytes:
    """Return one member of an archive, of `limit` bytes at most.

    Raises:
        KeyError: There is no member of that name.
        OSError: The file cannot be read.
        ValueError: The file is no archive or damaged, or the member is larger.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            checked_members(archive)
            return _read_up_to(limit, archive, name)
    except ArchiveError:
        raise
    except DAMAGE as error:
        raise ArchiveError(f"{error}.", "The file is damaged: write it anew.") from error


def _read_up_to(limit: int, archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > limit:
        raise ArchiveError(f"{name} would unpack to {_words(size)}.", "Write it again.")
    return archive.read(name)


def read_gzip(path: Path) -> bytearray:
    """Return the content of a gzip file, which declares no size, up to the limit.

    Raises:
        OSError: The file cannot be read, or is no gzip file.
        ArchiveError: It is damaged, or holds more.
    """
    packed = path.stat().st_size
    allowed = allowed_bytes(packed)
    content = bytearray()
    try:
        with gzip.open(path) as stream:
            while len(content) <= allowed and (block := stream.read(1 << 20)):
                content += block
    except (EOFError, zlib.error) as error:
        raise ArchiveError(f"{error}.", "The file is damaged: fetch it anew.") from error
    if len(content) > allowed:
        raise ArchiveError(
            f"Its {_words(packed)} unpack to more than {_words(allowed)}.",
            f"If the file can be trusted, allow more with {OPTION} {allowed >> 18}M.",
        )
    return content


def _words(size: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size / 1000:,.1f} kB"
