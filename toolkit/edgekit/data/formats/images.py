"""Folders of images, in class folders or without, decoded one by one when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data.formats.class_folders import FileKind, Listing, list_folder, split_stores
from edgekit.data.formats.format import Format
from edgekit.data.preprocessing import check_preprocessing, read_preprocessing
from edgekit.data.store import RawDataset, Rows, Store
from edgekit.errors import DataError
from edgekit.files import MISSING, what_is
from edgekit.records import Array
from edgekit_runner import (
    PICTURES,
    PictureError,
    decode_picture,
    open_picture,
    picture_orientation,
)

SUFFIXES = frozenset(PICTURES)
_TRANSPOSED_FROM = 5
"""From this Exif orientation on, rows and columns change places."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageStore:
    """Image files, by path.

    Attributes:
        files: Paths, class by class.
        targets: Class of each file, `[n]`; None without class folders.
        sha256: Digest over relative names and contents.
        contents: Digest of each file's content.
        empty: Classes without a picture in any split.
    """

    files: tuple[str, ...]
    targets: Array | None
    sha256: str
    contents: tuple[bytes, ...]
    empty: tuple[str, ...] = ()
    groups: Array | None = None
    sequences: Array | None = None

    def __len__(self) -> int:
        return len(self.files)

    def fetch(self, rows: Rows) -> dict[str, Iterable[Any]]:
        """Return the images at `rows`, each opened when the iterator reaches it."""
        return {"x": (open_picture(self.files[row]) for row in rows)}

    def digests(self) -> list[bytes]:
        """Return one digest a file."""
        return list(self.contents)

    def first_unusable(self) -> tuple[str, int] | None:
        """Return None: pixels are bytes, and always finite."""
        return None

    def sizes(self, rows: Rows, *, upright: bool) -> Array:
        """Return height and width of the images at `rows`, `[n, 2]`, as they are read."""
        found = np.empty((len(rows), 2), np.int64)
        for place, row in enumerate(rows):
            image = open_picture(self.files[row])
            turned = upright and picture_orientation(image) >= _TRANSPOSED_FROM
            found[place] = image.size if turned else image.size[::-1]
        return found

    def blamed(self, row: int) -> tuple[str, str | None]:
        """Return the file to look at where a target is wrong, and a hint if it explains that."""
        return self.files[row], None

    def firsts(self) -> list[int]:
        """Return the row of the first image of each class; the first where there are no classes."""
        if self.targets is None or self.targets.ndim > 1:
            return [0] if self.files else []
        return [int(row) for row in np.unique(self.targets, return_index=True)[1]]


@contextmanager
def naming_files(store: Store, rows: Rows | None = None) -> Iterator[None]:
    """Name the file of the sample that a `DataError` blames, where samples are files.

    Args:
        store: Where the samples are.
        rows: Row in the store of each sample, where they are some of it.
    """
    try:
        yield
    except DataError as error:
        if error.sample is None or not isinstance(store, ImageStore):
            raise
        file, hint = store.blamed(error.sample if rows is None else int(rows[error.sample]))
        found = f"The file is {file}. {error.found or ''}"
        raise DataError(error.what, found=found.rstrip(), hint=hint or error.hint) from error


def open_folder(root: Path, preprocessing: Mapping[str, Any] | None) -> RawDataset:
    """Open a folder with `train/<class>/<image>` and `test/<class>/<image>`.

    A `preprocessing.toml` in it says how images become inputs, a `labels.txt` the order of the
    classes. Without class folders the images have no targets, and without split folders they are
    in no split.

    Raises:
        DataError: There are no such folders or images, or the spec is invalid.
    """
    folder = list_folder(root, IMAGES)
    spec = image_spec(root, preprocessing)

    def store(listing: Listing) -> ImageStore:
        return ImageStore(
            files=tuple(listing.files),
            targets=folder.targets(listing),
            sha256=listing.digest(),
            contents=tuple(listing.contents),
            empty=folder.empty,
        )

    stores = split_stores(folder, store)
    return RawDataset(
        name=root.resolve().name,
        train=stores.get("train"),
        test=stores.get("test"),
        pool=stores.get("pool"),
        labels=folder.labels,
        preprocessing=spec,
        notes=folder.notes,
    )


def image_spec(root: Path, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the spec of a folder of pictures: the user's, or that of its `preprocessing.toml`.

    Raises:
        DataError: It is of another kind than "image", or invalid.
    """
    path = root / "preprocessing.toml"
    place = "preprocessing"
    if given is None and what_is(path) != MISSING:
        given, place = read_preprocessing(path), str(path)
    given = {"kind": "image"} if given is None else given
    spec = check_preprocessing(given, place)
    if spec["kind"] != "image":
        raise DataError(
            f"{root}: preprocessing of kind {spec['kind']!r} takes no image files.",
            hint='Write kind = "image".',
        )
    return spec


NOT_PLAIN = "not plainly whole"


def _check(file: str) -> tuple[bytes, str]:
    """Return the digest of a file's content, and a reason not to take it, or `NOT_PLAIN`."""
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        return b"", error.strerror or "not readable"
    reason = "empty" if not content else "" if is_plainly_whole(content) else NOT_PLAIN
    return hashlib.sha256(content).digest(), reason


def is_plainly_whole(content: bytes) -> bool:
    """Tell whether a PNG or JPEG has its first and its last bytes: it was not cut short.

    Other pictures, and those with something behind their end, must be decoded to know it.
    """
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content[-8:-4] == b"IEND"
    return content.startswith(b"\xff\xd8\xff") and content.endswith(b"\xff\xd9")


def _reason_not_to_decode(file: str) -> str:
    try:
        decode_picture(open_picture(file), {})
    except (OSError, PictureError) as error:
        return str(error)
    return ""


IMAGES = FileKind(
    plural="pictures",
    suffixes=SUFFIXES,
    check=_check,
    doubt=NOT_PLAIN,
    decides=_reason_not_to_decode,
)

FORMAT = Format(
    recognizes=lambda argument: argument.is_folder,  # tried after the other folders
    open=lambda argument: open_folder(argument.path, argument.preprocessing),
)
