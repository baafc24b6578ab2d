"""Folders of class folders of images, decoded one by one when they are asked for."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data.digest import digest_files
from edgekit.data.formats.format import Format
from edgekit.data.labels import read_labels
from edgekit.data.preprocessing import check_preprocessing, read_preprocessing
from edgekit.data.store import RawDataset, Rows
from edgekit.errors import DataError
from edgekit.files import MISSING, what_is
from edgekit.records import Array
from edgekit_runner import PICTURES, PictureError, decode_picture, left_out_note, open_picture

SUFFIXES = frozenset(PICTURES)
SPLITS = ("train", "test")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageStore:
    """Image files, by path.

    Attributes:
        files: Paths, class by class.
        targets: Class of each file, `[n]`.
        sha256: Digest over relative names and contents.
        contents: Digest of each file's content.
        empty: Classes without a picture in any split.
    """

    files: tuple[str, ...]
    targets: Array
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

    def firsts(self) -> list[int]:
        """Return the row of the first image of each class."""
        return [int(row) for row in np.unique(self.targets, return_index=True)[1]]


def open_folder(root: Path, preprocessing: Mapping[str, Any] | None) -> RawDataset:
    """Open a folder with `train/<class>/<image>` and `test/<class>/<image>`.

    A `preprocessing.toml` in it says how images become inputs, a `labels.txt` the order of the
    classes (else they are sorted). A class folder is read with its subfolders, as Keras reads it;
    one without pictures is a class too. What cannot be read is left out, and named in a note.

    Raises:
        DataError: There are no such folders or images, or the spec is invalid.
    """
    classes = {split: _folders(root / split) for split in SPLITS if (root / split).is_dir()}
    if not any(classes.values()):
        inside = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "nothing"
        raise DataError(
            f"{root} has no class folders under train/ or test/.",
            found=f"It holds {inside}.",
            hint="Put images into train/<class>/ and test/<class>/ (or give .npz, IDX, .csv).",
        )
    found = sorted({name for names in classes.values() for name in names})
    spec, notes = _spec(root, preprocessing), list[str]()
    listings = {split: _list_split(root / split, names) for split, names in classes.items()}
    for split, listing in listings.items():
        notes += _left_out_notes(listing, root, split)
    held = {name for listing in listings.values() for name in listing.classes}
    empty = tuple(name for name in found if name not in held)
    declared = read_labels(root)
    labels = declared or tuple(found)
    strangers = [name for name in found if name not in labels and name not in empty]
    if strangers:
        raise DataError(
            f"{root}: the class folder {strangers[0]!r} is not in labels.txt.",
            hint="Name every class folder there, one a line, in the model's order.",
        )
    if empty:
        kept = "labels.txt decides" if declared else "each keeps its place, as in Keras"
        notes.append(f"Class folders without pictures: {', '.join(empty)} ({kept}).")
    stores = {
        split: _store(listing, root / split, labels, empty) for split, listing in listings.items()
    }
    return RawDataset(
        name=root.resolve().name,
        train=stores.get("train"),
        test=stores.get("test"),
        labels=labels,
        preprocessing=spec,
        notes=tuple(notes),
    )


def _spec(root: Path, given: Mapping[str, Any] | None) -> dict[str, Any]:
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


def _folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and _is_folder(e))


@dataclass(slots=True)
class Listing:
    """What is in the class folders of one split.

    Attributes:
        files: Pictures, class by class in the order in which Keras lists them.
        classes: Class of each picture, by name.
        contents: Digest of each picture's content.
        left_out: Path and reason of each picture that cannot be read.
        others: Files that are no pictures by their names.
    """

    files: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def _list_split(folder: Path, names: Iterable[str]) -> Listing:
    listing = Listing()
    with os.scandir(folder) as entries:
        broken = sorted(e.path for e in entries if e.is_symlink() and not Path(e.path).exists())
    listing.left_out += [(path, "broken link") for path in broken]
    listed: list[tuple[str, str]] = []
    for name in names:
        for place in _subfolders(str(folder / name), listing):
            listed += [(file, name) for file in _pictures(place, listing)]
    # hashlib lets go of the interpreter lock, so two threads keep both cores and the disk busy.
    with ThreadPoolExecutor(max_workers=2) as pool:
        checked = pool.map(_check, [file for file, _ in listed])
        for (file, name), (content, doubt) in zip(listed, checked, strict=True):
            # In this thread only: how warnings are filtered belongs to the whole process.
            reason = _reason_not_to_decode(file) if doubt == NOT_PLAIN else doubt
            if reason:
                listing.left_out.append((file, reason))
            else:
                listing.files.append(file)
                listing.classes.append(name)
                listing.contents.append(content)
    return listing


def _subfolders(top: str, listing: Listing) -> list[str]:
    """Return a class folder and all folders below it, sorted; hidden ones are skipped.

    Links to folders are followed; a folder that is reached twice is read once.
    """
    seen: set[tuple[int, int]] = set()
    found = []
    pending = [top]
    while pending:
        folder = pending.pop()
        try:
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                below = [e.path for e in entries if not e.name.startswith(".") and _is_folder(e)]
        except OSError as error:
            listing.left_out.append((folder, error.strerror or "not readable"))
            continue
        found.append(folder)
        pending += sorted(below, reverse=True)
    return sorted(found)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _pictures(folder: str, listing: Listing) -> list[str]:
    """Return the pictures in a folder, sorted; what else there is goes into the listing."""
    found = []
    with os.scandir(folder) as entries:
        named = sorted(entries, key=lambda entry: entry.name)
    for entry in named:
        if entry.name.startswith("."):
            continue
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            reason = "broken link" if entry.is_symlink() else error.strerror
            listing.left_out.append((entry.path, reason or "not readable"))
            continue
        if stat.S_ISDIR(mode):
            continue
        if Path(entry.name).suffix.lower() not in SUFFIXES:
            listing.others.append(entry.path)
        elif stat.S_ISREG(mode):
            found.append(entry.path)
        else:
            listing.left_out.append((entry.path, "no regular file"))
    return found


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


def _left_out_notes(listing: Listing, root: Path, split: str) -> list[str]:
    notes = []
    if listing.left_out:
        total = len(listing.files) + len(listing.left_out)
        named = [(os.path.relpath(path, root / split), why) for path, why in listing.left_out]
        said = left_out_note(named, total, split)
        if not listing.files:
            raise DataError(f"{root}: {said}", hint="Give pictures that can be read.")
        notes.append(said)
    if listing.others:
        first = os.path.relpath(listing.others[0], root)
        notes.append(f"Files that are no images were skipped: {len(listing.others)} ({first}).")
    return notes


def _store(
    listing: Listing, folder: Path, labels: Sequence[str], empty: tuple[str, ...]
) -> ImageStore:
    numbers = {name: number for number, name in enumerate(labels)}
    names = [Path(file).relative_to(folder).as_posix() for file in listing.files]
    return ImageStore(
        files=tuple(listing.files),
        targets=np.array([numbers[name] for name in listing.classes], np.int64),
        sha256=digest_files(names, listing.contents),
        contents=tuple(listing.contents),
        empty=empty,
    )


FORMAT = Format(
    recognizes=lambda argument: argument.is_folder,  # tried after the other folders
    open=lambda argument: open_folder(argument.path, argument.preprocessing),
)
